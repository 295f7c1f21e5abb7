/** How high a priority members may give their jobs: what the namespace says, written by the operator. On a real API server, without the operator. */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { jobPriorityAnnotation } from '../organization.ts';
import { accounts, namespace, type Organization, refusal, startOrganization } from './testing/organization.ts';

jest.setTimeout(60_000);
const jobs = `/apis/xtreemos.io/v1alpha1/namespaces/${namespace}/gridjobs`;
const rbac = 'rbac.authorization.k8s.io';
const merge = 'application/merge-patch+json';

let organization: Organization;

beforeAll(async () => {
  organization = await startOrganization({ name: 'job-priority' });
  const at = `/apis/${rbac}/v1/namespaces/${namespace}`;
  const rules = [{ apiGroups: ['xtreemos.io'], resources: ['gridjobs'], verbs: ['create', 'patch', 'delete'] }];
  await organization.admin.json('POST', `${at}/roles`, { body: { metadata: { name: 'submits' }, rules } });
  const roleRef = { apiGroup: rbac, kind: 'Role', name: 'submits' };
  const subjects = [{ kind: 'ServiceAccount', name: accounts.alice, namespace }];
  const binding = { metadata: { name: 'submits' }, roleRef, subjects };
  await organization.admin.json('POST', `${at}/rolebindings`, { body: binding });
}, 120_000);
afterAll(async () => organization.stop());

const aJob = (priority?: number): object => ({
  apiVersion: 'xtreemos.io/v1alpha1',
  kind: 'GridJob',
  metadata: { name: 'job' },
  spec: { template: { image: 'busybox' }, ...(priority === undefined ? {} : { priority }) },
});
const allow = async (priorityMax: string | null): Promise<unknown> =>
  organization.admin.json('PATCH', `/api/v1/namespaces/${namespace}`, {
    body: { metadata: { annotations: { [jobPriorityAnnotation]: priorityMax } } },
    contentType: merge,
  });
const refused = (priority: number, max: string): RegExp =>
  new RegExp(
    `spec\\.priority: ${priority} is more than the ${max} that members may give here: .*spec\\.jobs\\.priorityMax`,
  );

describe('the priority of a job', () => {
  const submit = async (priority?: number): Promise<string> => refusal(organization.as('alice'), jobs, aJob(priority));

  test('is 0 at most where the namespace says nothing, and nothing that is a number', async () => {
    for (const priority of [undefined, 0, -1_000]) expect(await submit(priority)).toBe('');
    expect(await submit(1)).toMatch(refused(1, '0'));
    await allow('as high as you like');
    expect(await submit(1)).not.toBe('');
    expect(await submit(0)).toBe('');
    await allow(null);
  });

  test('is what the virtual organization lets members give, when it is submitted and later', async () => {
    await allow('100');
    expect(await submit(100)).toBe('');
    expect(await submit(101)).toMatch(refused(101, '100'));
    await organization.as('alice').json('POST', jobs, { body: aJob(50) });
    const change = async (spec: object): Promise<string> =>
      refusal(organization.as('alice'), `${jobs}/job`, { spec }, 'PATCH');
    expect(await change({ priority: 101 })).toMatch(refused(101, '100'));
    expect(await change({ priority: 100 })).toBe('');
    await allow('10');
    // What it has it keeps, and it may become less.
    expect(await change({ suspend: true })).toBe('');
    expect(await change({ priority: 40 })).toBe('');
    expect(await change({ priority: 51 })).toMatch(refused(51, '10'));
    await organization.as('alice').json('DELETE', `${jobs}/job`);
  });

  test('is any for who administrates the virtual organization, also for the job of a member', async () => {
    await allow('10');
    const job = { ...aJob(1_000), spec: { template: { image: 'busybox' }, priority: 1_000, owner: accounts.alice } };
    expect(await refusal(organization.admin, jobs, job)).toBe('');
  });
});

/** What the policies keep for the operator alone: parents of jobs, and the one token that a pod may have. On a real API server. */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { KubeClient } from '#sites/kube-client.ts';
import { gatewayVolume, jobRoomPrefix, jobTreeLabel, taskTokenAudience, taskTokenSeconds } from '../grid-access.ts';
import {
  accounts,
  aPod,
  completeSpec,
  namespace,
  type Organization,
  pods,
  refusal,
  startOrganization,
  workloads,
} from './testing/organization.ts';

jest.setTimeout(60_000);
const rbac = 'rbac.authorization.k8s.io';
const jobs = `/apis/xtreemos.io/v1alpha1/namespaces/${namespace}/gridjobs`;
const system = 'xtreemos-system';

let organization: Organization;
let operator: KubeClient;

beforeAll(async () => {
  organization = await startOrganization({ name: 'grid-access' });
  const { admin, plane } = organization;
  await admin.json('POST', '/api/v1/namespaces', { body: { metadata: { name: system } } });
  const account = `/api/v1/namespaces/${system}/serviceaccounts`;
  await admin.json('POST', account, { body: { metadata: { name: 'xtreemos' } } });
  // By RBAC everybody here may do more than any role of ours gives.
  const subjects = [
    { kind: 'ServiceAccount', name: 'xtreemos', namespace: system },
    { kind: 'ServiceAccount', name: accounts.alice, namespace },
  ];
  await admin.json('POST', `/apis/${rbac}/v1/clusterrolebindings`, {
    body: {
      metadata: { name: 'everything' },
      roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: 'cluster-admin' },
      subjects,
    },
  });
  const { status } = await admin.json('POST', `${account}/xtreemos/token`, { body: { spec: {} } });
  operator = new KubeClient({ ...plane.credentials, token: status?.token as string });
}, 120_000);
afterAll(async () => {
  operator.close();
  await organization.stop();
});

describe('the parent of a job', () => {
  const aJob = (spec: object = {}, labels: object = {}): object => ({
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'GridJob',
    metadata: { name: 'job', labels },
    spec: { template: { image: 'busybox' }, ...spec },
  });
  const parent = { job: 'other', uid: '00000000-0000-0000-0000-000000000000' };
  const owner = accounts.alice;

  test('is not for members to name, nor for who may do everything else', async () => {
    const refused = /spec\.parent: other can not be chosen: leave it out/;
    expect(await refusal(organization.as('alice'), jobs, aJob())).toBe('');
    expect(await refusal(organization.as('alice'), jobs, aJob({ parent }))).toMatch(refused);
    expect(await refusal(organization.admin, jobs, aJob({ parent, owner }))).toMatch(refused);
    expect(await refusal(operator, jobs, aJob({ parent, owner }))).toBe('');
  });

  test('nor is the label of its tree, when it is made and later', async () => {
    const label = { [jobTreeLabel]: parent.uid };
    const refused = /metadata\.labels\[xtreemos\.io\/job-tree\]: is written by the gateway only/;
    expect(await refusal(organization.as('alice'), jobs, aJob({}, label))).toMatch(refused);
    await operator.json('POST', jobs, { body: aJob({ parent, owner }, label) });
    const change = async (labels: object): Promise<string> =>
      refusal(organization.as('alice'), `${jobs}/job`, { metadata: { labels } }, 'PATCH');
    for (const other of [null, 'x']) expect(await change({ [jobTreeLabel]: other })).toMatch(refused);
    expect(await change({ mine: 'x' })).toBe('');
    await organization.as('alice').json('DELETE', `${jobs}/job`);
  });

  test('nor is the room that is taken in it, for whoever makes or changes the job', async () => {
    const room = `${jobRoomPrefix}1234`;
    const refused =
      /metadata\.annotations: those that begin with job-room\.xtreemos\.io\/ are written by the gateway only/;
    const made = { ...aJob(), metadata: { name: 'job', annotations: { [room]: 'x' } } };
    expect(await refusal(organization.as('alice'), jobs, made)).toMatch(refused);
    await operator.json('POST', jobs, { body: { ...made, spec: { template: { image: 'busybox' }, owner } } });
    const change = async (annotations: object): Promise<string> =>
      refusal(organization.as('alice'), `${jobs}/job`, { metadata: { annotations } }, 'PATCH');
    for (const other of [{ [room]: null }, { [room]: 'y' }, { [`${jobRoomPrefix}5`]: 'x' }]) {
      expect(await change(other)).toMatch(refused);
    }
    expect(await change({ mine: 'x' })).toBe('');
    await organization.as('alice').json('DELETE', `${jobs}/job`);
  });
});

describe('threat 3: the token of a task', () => {
  const token = { audience: taskTokenAudience, expirationSeconds: taskTokenSeconds, path: 'token' };
  const spec = (source: object = token, name = gatewayVolume): Record<string, unknown> => {
    const complete = completeSpec(accounts.alice);
    const volume = { name, projected: { sources: [{ serviceAccountToken: source }] } };
    return { ...complete, volumes: [...(complete.volumes as object[]), volume] };
  };
  const refused = /source serviceAccountToken is not allowed/;

  test.each(workloads)('is not for a %s of a member', async (_, at, build) => {
    expect(await refusal(organization.as('alice'), at, build('mine', spec()))).toMatch(refused);
  });

  test('is for pods that the operator makes, and for no template of pods', async () => {
    expect(await refusal(operator, pods(), aPod('task', spec()))).toBe('');
    for (const [kind, at, build] of workloads.slice(1)) {
      expect([kind, await refusal(operator, at, build('mine', spec()))]).toEqual([
        kind,
        expect.stringMatching(refused),
      ]);
    }
  });

  test.each<[string, object, string]>([
    ['the API server', { path: 'token', expirationSeconds: taskTokenSeconds }, gatewayVolume],
    ['somebody else', { ...token, audience: 'https://kubernetes.default.svc' }, gatewayVolume],
    ['longer', { ...token, expirationSeconds: 3_600 }, gatewayVolume],
    ['another volume', token, 'mine'],
  ])('is not for %s', async (_, source, name) => {
    expect(await refusal(operator, pods(), aPod('task', spec(source, name)))).toMatch(refused);
  });

  test('leaves its pod open to what a member may change in a pod', async () => {
    await operator.json('POST', pods(), { body: aPod('task', { ...spec(), activeDeadlineSeconds: 600 }) });
    const shorter = { spec: { activeDeadlineSeconds: 60 } };
    expect(await refusal(organization.as('alice'), pods('task'), shorter, 'PATCH')).toBe('');
    const debug = { spec: { ephemeralContainers: [{ name: 'debug', image: 'busybox' }] } };
    expect(await refusal(organization.as('alice'), `${pods('task')}/ephemeralcontainers`, debug, 'PATCH')).toBe('');
  });
});

/** Destructive acts on a virtual organization, asked for and approved by two administrators; no operator runs (threat 67). */
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { accounts, type Organization, type Person, refusal, startOrganization } from './testing/organization.ts';

jest.setTimeout(90_000);
const at = '/apis/xtreemos.io/v1alpha1/virtualorganizations';
const user = (person: Person): string => `system:serviceaccount:vo-physics:${accounts[person]}`;
const [first, second] = ['1', '2'].map((subject) => ({ issuer: 'https://id.example.org', subject }));
let organization: Organization;

beforeAll(async () => {
  organization = await startOrganization({ name: 'governance' });
  const { admin } = organization;
  const role = { apiVersion: 'rbac.authorization.k8s.io/v1', metadata: { name: 'owners' } };
  const rbac = '/apis/rbac.authorization.k8s.io/v1';
  await admin.apply(`${rbac}/clusterroles/owners`, {
    ...role,
    kind: 'ClusterRole',
    rules: [{ apiGroups: ['xtreemos.io'], resources: ['virtualorganizations'], verbs: ['get', 'patch'] }],
  });
  await admin.apply(`${rbac}/clusterrolebindings/owners`, {
    ...role,
    kind: 'ClusterRoleBinding',
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'owners' },
    subjects: [{ kind: 'Group', apiGroup: 'rbac.authorization.k8s.io', name: 'system:serviceaccounts:vo-physics' }],
  });
}, 120_000);
afterAll(async () => organization.stop());

let count = 0;

/** A virtual organization with governance, in which a dissolution may have been asked for. */
async function governed(dissolution?: object): Promise<string> {
  const name = `governed-${++count}`;
  const spec = { administrators: [first, second], governance: { secondAdministrator: true, delaySeconds: 3600 } };
  const body = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'VirtualOrganization', metadata: { name }, spec };
  await organization.admin.json('POST', at, { body });
  if (dissolution !== undefined) await change('bob', name, { dissolution: { data: 'Export', ...dissolution } });
  return name;
}

async function change(person: Person, name: string, spec: object): Promise<Readonly<Record<string, unknown>>> {
  const client = organization.as(person);
  const contentType = 'application/merge-patch+json';
  return await client.json('PATCH', `${at}/${name}`, { body: { spec }, contentType });
}

const says = async (person: Person, name: string, spec: object): Promise<string> =>
  refusal(organization.as(person), `${at}/${name}`, { spec }, 'PATCH');

test('who asks is filled in, and nobody asks in the name of another', async () => {
  const name = await governed();
  expect(await says('bob', name, { dissolution: { data: 'Erase', requestedBy: user('carol') } })).toContain(
    'is not you',
  );
  const { spec } = await change('bob', name, { dissolution: { data: 'Erase' } });
  expect(spec).toMatchObject({ dissolution: { requestedBy: user('bob') } });
});

test('nobody approves in the name of another, nor their own request', async () => {
  const name = await governed({});
  expect(await says('bob', name, { dissolution: { approvedBy: user('carol') } })).toContain('is not you');
  expect(await says('bob', name, { dissolution: { approvedBy: user('bob') } })).toContain('another administrator');
  expect(await says('carol', name, { dissolution: { approvedBy: user('carol') } })).toBe('');
});

test('what was approved does not change under the approval, and is withdrawn by anyone', async () => {
  const name = await governed({});
  await change('carol', name, { dissolution: { approvedBy: user('carol') } });
  expect(await says('bob', name, { dissolution: { data: 'Erase' } })).toContain('was approved as Export');
  expect(await says('alice', name, { dissolution: null })).toBe('');
});

test('the act itself is for the operator, also once it is approved', async () => {
  const name = await governed({});
  await change('carol', name, { dissolution: { approvedBy: user('carol') } });
  expect(await says('carol', name, { state: 'Dissolved' })).toContain('set spec.dissolution instead');
});

test('an administrator is not dropped, and a removal is asked for and approved by two', async () => {
  const name = await governed();
  expect(await says('bob', name, { administrators: [first] })).toContain('protect');
  const removal = (fields: object) => ({ administrators: [first, { ...second, removal: fields }] });
  expect(await says('bob', name, removal({ requestedBy: user('carol') }))).toContain('is not you');
  await change('bob', name, removal({ requestedBy: user('bob') }));
  const approved = removal({ requestedBy: user('bob'), approvedBy: user('carol') });
  expect(await says('bob', name, approved)).toContain('is not you');
  await change('carol', name, approved);
  expect(await says('carol', name, { administrators: [first] })).toContain('the operator removes it');
});

test('without governance one administrator suffices', async () => {
  const name = `plain-${++count}`;
  const body = {
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'VirtualOrganization',
    metadata: { name },
    spec: { administrators: [first, second] },
  };
  await organization.admin.json('POST', at, { body });
  expect(await says('bob', name, { administrators: [first] })).toBe('');
  expect(await says('bob', name, { state: 'Dissolved' })).toBe('');
});

/** Who may write what is recorded of virtual organizations, asked of a real API server without an operator. */
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { KubeClient } from '#sites/kube-client.ts';
import { namespace, type Organization, refusal, startOrganization } from './testing/organization.ts';

jest.setTimeout(60_000);
const api = '/apis/xtreemos.io/v1alpha1';
const memberships = `${api}/namespaces/${namespace}/vomemberships`;
const carol = 'carol@example.org';
let organization: Organization;
let client: KubeClient;

beforeAll(async () => {
  organization = await startOrganization({ name: 'records', users: [{ name: carol, groups: ['administrators'] }] });
  client = new KubeClient(organization.plane.credentialsOf(carol));
  const rbac = 'rbac.authorization.k8s.io';
  await organization.admin.json('POST', `/apis/${rbac}/v1/clusterroles`, {
    body: {
      metadata: { name: 'administrators' },
      rules: [
        {
          apiGroups: ['xtreemos.io'],
          resources: ['virtualorganizations', 'vomemberships', 'identityslices'],
          verbs: ['*'],
        },
      ],
    },
  });
  await organization.admin.json('POST', `/apis/${rbac}/v1/clusterrolebindings`, {
    body: {
      metadata: { name: 'administrators' },
      roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: 'administrators' },
      subjects: [{ apiGroup: rbac, kind: 'Group', name: 'administrators' }],
    },
  });
}, 120_000);
afterAll(async () => {
  client.close();
  await organization.stop();
});

const membership = (spec: object): object => ({
  apiVersion: 'xtreemos.io/v1alpha1',
  kind: 'VOMembership',
  metadata: { name: 'eve' },
  spec: { principal: { issuer: 'https://id.example.org', subject: 'eve' }, ...spec },
});

test('threat 59: an administrator can not choose the id of a member, nor accept in its name', async () => {
  expect(await refusal(client, memberships, membership({}))).toBe('');
  expect(await refusal(client, memberships, membership({ identity: { slice: 0, localId: 1080 } }))).toMatch(
    /spec\.identity: of VOMembership eve.*the operator issues it/,
  );
  expect(await refusal(client, memberships, membership({ acceptedUse: `sha256:${'a'.repeat(64)}` }))).toMatch(
    /spec\.acceptedUse: .*at the gateway/,
  );
});

test('threat 42: nobody but the operator and the owner of the site writes which ids are issued', async () => {
  const slice = {
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'IdentitySlice',
    metadata: { name: 'slice-0007' },
    spec: {
      number: 7,
      virtualOrganization: { name: 'physics', uid: '00000000-0000-0000-0000-000000000000' },
      state: 'InUse',
    },
  };
  expect(await refusal(client, `${api}/identityslices`, slice)).toMatch(/IdentitySlice.*operator only/);
  expect(await refusal(organization.admin, `${api}/identityslices`, slice)).not.toMatch(/operator only/);
});

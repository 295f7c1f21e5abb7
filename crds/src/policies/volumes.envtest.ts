/** Whose Volumes are whose, and what claims may name, asked of a real API server without an operator. */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { waitFor } from '#sites/kube-client.ts';
import {
  accounts,
  namespace,
  type Organization,
  type Person,
  refusal,
  startOrganization,
} from './testing/organization.ts';

jest.setTimeout(60_000);
const at = `/apis/xtreemos.io/v1alpha1/namespaces/${namespace}/volumes`;
const claims = `/api/v1/namespaces/${namespace}/persistentvolumeclaims`;
let organization: Organization;

beforeAll(async () => {
  organization = await startOrganization({ name: 'volumes', withControllers: true });
  const { admin } = organization;
  const rbac = 'rbac.authorization.k8s.io';
  await admin.json('POST', `/apis/${rbac}/v1/clusterroles`, {
    body: {
      metadata: { name: 'volumes' },
      rules: [{ apiGroups: ['xtreemos.io'], resources: ['volumes'], verbs: ['*'] }],
    },
  });
  await admin.json('POST', `/apis/${rbac}/v1/namespaces/${namespace}/rolebindings`, {
    body: {
      metadata: { name: 'volumes' },
      roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: 'volumes' },
      subjects: [{ apiGroup: rbac, kind: 'Group', name: `system:serviceaccounts:${namespace}` }],
    },
  });
  // Rights and policies that were just made act a little later.
  await waitFor('rights act', async () => (await asked('alice', at, volume())) === '', { limitMs: 30_000 });
  await admin.json('POST', at, { body: volume({ owner: accounts.alice }, { name: 'of-alice' }) });
  await admin.json('POST', at, { body: volume({}, { name: 'of-nobody' }) });
  await admin.json('POST', claims, { body: claim({}, { name: 'of-alice' }) });
}, 120_000);
afterAll(async () => organization.stop());

const volume = (spec: object = {}, metadata: object = {}): object => ({
  apiVersion: 'xtreemos.io/v1alpha1',
  kind: 'Volume',
  metadata: { name: 'new', ...metadata },
  spec: { size: '1Gi', ...spec },
});

/** Of Alice, in a class that nobody serves. */
const claim = (spec: object = {}, metadata: object = {}): object => ({
  apiVersion: 'v1',
  kind: 'PersistentVolumeClaim',
  metadata: { name: 'new', labels: { 'xtreemos.io/owner': accounts.alice }, ...metadata },
  spec: {
    accessModes: ['ReadWriteOnce'],
    storageClassName: 'nobody-serves-this',
    resources: { requests: { storage: '1Gi' } },
    ...spec,
  },
});

async function asked(person: Person, where: string, body: unknown, method = 'POST'): Promise<string> {
  return refusal(organization.as(person), where, body, method);
}

describe('a Volume', () => {
  test('belongs to the member who makes it, whom the API server writes into it', async () => {
    const made = await organization.as('bob').json('POST', `${at}?dryRun=All`, { body: volume() });
    expect(made.spec?.owner).toBe(accounts.bob);
  });

  test('is made in the name of others by administrators only', async () => {
    expect(await asked('bob', at, volume({ owner: accounts.alice }))).toMatch(
      new RegExp(`spec\\.owner: ${accounts.alice} is not who asks.*leave spec\\.owner out`),
    );
    expect(await asked('carol', at, volume({ owner: accounts.alice }))).toBe('');
    expect(await refusal(organization.admin, at, volume())).toBe('');
  });

  test.each<[string, Person, string, object, string, boolean]>([
    ['its owner may let it grow', 'alice', 'of-alice', { spec: { size: '2Gi' } }, 'PATCH', true],
    ['its owner may delete it', 'alice', 'of-alice', {}, 'DELETE', true],
    ['an administrator may delete it', 'carol', 'of-alice', {}, 'DELETE', true],
    ['another member may not delete it', 'bob', 'of-alice', {}, 'DELETE', false],
    ['one of nobody is for administrators', 'bob', 'of-nobody', { spec: { owner: accounts.bob } }, 'PATCH', false],
    [
      'threat 16: another member may not grant it to another virtual organization',
      'bob',
      'of-alice',
      { spec: { grants: [{ virtualOrganization: 'chemistry', access: 'Write' }] } },
      'PATCH',
      false,
    ],
  ])('%s', async (_, person, name, body, method, isAllowed) => {
    const answer = await asked(person, `${at}/${name}`, method === 'DELETE' ? undefined : body, method);
    if (isAllowed) expect(answer).toBe('');
    else expect(answer).toMatch(new RegExp(`metadata\\.name: Volume ${name} belongs to .*only its owner`));
  });

  test('keeps its labels, owners and finalizers, which the operator relies on', async () => {
    const label = { labels: { 'xtreemos.io/provisioned': 'true' } };
    expect(await asked('alice', at, volume({}, label))).toMatch(
      /metadata\.labels: xtreemos\.io\/provisioned is written by XtreemOS only/,
    );
    expect(await asked('alice', at, volume({}, { finalizers: ['example.org/x'] }))).toMatch(/metadata\.finalizers/);
  });
});

describe('the name of a home', () => {
  const home = `home-${accounts.alice}`;

  test.each<[string, Person, object]>([
    ['another member may not make it theirs', 'bob', { mode: '0700' }],
    ['an administrator may not own it', 'carol', { owner: accounts.carol, mode: '0700' }],
    ['nor open it to others', 'carol', { owner: accounts.alice, mode: '0770' }],
    [
      'its owner grants it to nobody',
      'alice',
      { mode: '0700', grants: [{ virtualOrganization: 'chemistry', access: 'Read' }] },
    ],
  ])('%s', async (_, person, spec) => {
    expect(await asked(person, at, volume(spec, { name: home }))).toMatch(/is the home of that member: make it with/);
  });

  test('is its owner’s to take', async () => {
    expect(await asked('alice', `${at}?dryRun=All`, volume({ mode: '0700' }, { name: home }))).toBe('');
  });

  test('is not to be had for a claim of one’s own, which would be mounted in its place', async () => {
    const labels = { 'xtreemos.io/owner': accounts.bob };
    expect(await asked('bob', claims, claim({}, { name: home, labels }))).toMatch(
      /metadata\.name: .* is kept for the claim of a home/,
    );
  });
});

describe('threats 20 and 21: a claim of a member', () => {
  test('may be made empty', async () => {
    expect(await asked('alice', claims, claim())).toBe('');
  });

  test.each<[string, object]>([
    ['volumeName', { volumeName: 'released' }],
    ['selector', { selector: { matchLabels: { a: 'b' } } }],
    ['dataSource', { dataSource: { kind: 'PersistentVolumeClaim', name: 'of-bob' } }],
    ['dataSource', { dataSource: { apiGroup: 'snapshot.storage.k8s.io', kind: 'VolumeSnapshot', name: 'x' } }],
    // Our driver would be asked, and it refuses to clone.
    ['dataSource', { storageClassName: 'xtreemos', dataSource: { kind: 'PersistentVolumeClaim', name: 'of-bob' } }],
    // Where it names the own namespace, the API server writes it into dataSource too.
    ['dataSource', { dataSourceRef: { apiGroup: 'example.org', kind: 'Populator', name: 'x' } }],
  ])('does not name data: %s of %j', async (field, spec) => {
    const problem = new RegExp(`spec\\.${field}: of PersistentVolumeClaim new names data that is there already`);
    expect(await asked('alice', claims, claim(spec))).toMatch(problem);
  });

  test('may begin with a snapshot where our driver is asked whose that is', async () => {
    const dataSource = { apiGroup: 'snapshot.storage.k8s.io', kind: 'VolumeSnapshot', name: 'x' };
    expect(await asked('alice', `${claims}?dryRun=All`, claim({ storageClassName: 'xtreemos', dataSource }))).toBe('');
  });

  test('does not name a PersistentVolume later either', async () => {
    const answer = await asked('alice', `${claims}/of-alice`, { spec: { volumeName: 'released' } }, 'PATCH');
    expect(answer).toMatch(/spec\.volumeName: of PersistentVolumeClaim of-alice/);
  });

  test('names one when the owner of the site says so', async () => {
    expect(await refusal(organization.admin, claims, claim({ volumeName: 'released' }))).toBe('');
  });

  test('names none when a controller makes it from the template of a member', async () => {
    const template = claim({ volumeName: 'released' }, { name: 'data' });
    const labels = { app: 'x' };
    const statefulSets = `/apis/apps/v1/namespaces/${namespace}/statefulsets`;
    const main = { name: 'main', image: 'xtreemos.io/busybox:1' };
    await organization.as('alice').json('POST', statefulSets, {
      body: {
        metadata: { name: 'thief' },
        spec: {
          selector: { matchLabels: labels },
          serviceName: 'thief',
          template: { metadata: { labels }, spec: { containers: [main] } },
          volumeClaimTemplates: [template],
        },
      },
    });
    const events = `/api/v1/namespaces/${namespace}/events`;
    const isRefused = async (): Promise<boolean> =>
      JSON.stringify(await organization.admin.json('GET', events)).includes(
        'spec.volumeName: of PersistentVolumeClaim',
      );
    await waitFor('the controller is refused', isRefused, { limitMs: 45_000 });
  });

  test('is bound by controllers as before', async () => {
    const { admin } = organization;
    await admin.json('POST', '/api/v1/persistentvolumes', {
      body: {
        metadata: { name: 'fresh' },
        spec: {
          capacity: { storage: '1Gi' },
          accessModes: ['ReadWriteOnce'],
          storageClassName: 'nobody-serves-this',
          hostPath: { path: '/nowhere' },
        },
      },
    });
    const isBound = async (): Promise<boolean> =>
      (await admin.json('GET', `${claims}/of-alice`)).spec?.volumeName === 'fresh';
    await waitFor('the claim is bound', isBound, { limitMs: 45_000 });
  });
});

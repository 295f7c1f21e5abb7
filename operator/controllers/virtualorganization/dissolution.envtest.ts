/** The end of virtual organizations: what is left, what the receipt says, and operators that die on the way. */
import { afterAll, afterEach, beforeAll, expect, jest, test } from '@jest/globals';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { readReceipt } from '#operator/identity/testing/authority-compliance.ts';
import type { Stored } from '#runtime/types.ts';
import { waitFor } from '#sites/kube-client.ts';
import type { Killer, RunningOperator } from './testing/bench.ts';
import { inNamespace, organizations, root, World } from './testing/world.ts';

jest.setTimeout(90_000);

let world: World;
let operator: RunningOperator;

beforeAll(async () => {
  world = await World.open('dissolution');
  operator = world.start();
}, 600_000);

afterAll(async () => world.close());

afterEach(() => world.expectNothingForbidden());

async function slice(number: number, vo: Stored<VirtualOrganization>): Promise<string> {
  const name = `slice-${String(number).padStart(4, '0')}`;
  const { name: organization, uid } = vo.metadata;
  await world.create(`${root}/identityslices`, {
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'IdentitySlice',
    metadata: { name },
    spec: { number, virtualOrganization: { name: organization, uid } },
  });
  return `${root}/identityslices/${name}`;
}

/** A virtual organization with a pod, an account and a slice. */
async function full(
  number: number,
  spec: object = {},
): Promise<{ vo: Stored<VirtualOrganization>; slicePath: string }> {
  const vo = await world.form(spec);
  world.bench.authority.found(vo);
  const { name } = vo.metadata;
  await world.accept({ name });
  await world.reason(name, 'Ready', 'Operational');
  await world.createPod(name, 'work');
  await world.create(inNamespace(name, 'serviceaccounts'), {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: 'u-carol-2013266944', labels: { 'xtreemos.io/member': 'true' } },
  });
  return { vo, slicePath: await slice(number, vo) };
}

async function expectNothingLeft(name: string): Promise<void> {
  expect(await world.bench.client.find(`/api/v1/namespaces/vo-${name}`)).toBeUndefined();
  for (const kind of ['clusterroles', 'clusterrolebindings'])
    expect(
      await world.bench.client.find(`/apis/rbac.authorization.k8s.io/v1/${kind}/xtreemos:vo:${name}`),
    ).toBeUndefined();
}

test('a dissolution leaves nothing but a tombstone with a signed receipt, and the same name gets nothing of it (threats 66, 68)', async () => {
  const { vo, slicePath } = await full(1);
  const { name, uid } = vo.metadata;
  await world.patch(`${organizations}/${name}`, { spec: { dissolution: { data: 'Erase', requestedBy: 'alice' } } });
  const done = await world.reason(name, 'Dissolved', 'Complete');
  expect(done.status).toMatchObject({ state: 'Dissolved' });
  await expectNothingLeft(name);
  const receipt = done.status?.sites?.[0]?.receipt ?? '';
  expect(readReceipt(receipt)).toMatchObject({
    vo: { name, uid },
    site: 'home',
    data: 'Erase',
    slices: [1],
    removed: expect.arrayContaining([
      { resource: 'pods', count: 1 },
      { resource: 'serviceaccounts', count: 1 },
    ]),
  });
  const tombstone = await world.bench.client.json('GET', slicePath);
  expect(tombstone.spec).toMatchObject({ state: 'Retired', virtualOrganization: { uid } });
  expect(JSON.stringify(tombstone.metadata)).toContain(receipt);
  await expect(world.bench.authority.signReceipt(vo, readReceipt(receipt))).rejects.toThrow('gone');

  await world.bench.client.json('DELETE', `${organizations}/${name}`);
  await waitFor('the object is gone', async () => (await world.read(name)) === undefined);
  const again = await world.form({}, name);
  await world.reason(name, 'Ready', 'Operational');
  expect(again.metadata.uid).not.toBe(uid);
  expect((await world.bench.client.list(inNamespace(name, 'pods'))).items).toEqual([]);
  const accounts = (await world.bench.client.list(inNamespace(name, 'serviceaccounts'))).items;
  expect(accounts.map((each) => each.metadata?.name)).toEqual(['default']);
  expect((await world.bench.client.json('GET', slicePath)).spec).toMatchObject({
    state: 'Retired',
    virtualOrganization: { uid },
  });
});

test('an object that is deleted is dissolved first, and says so; its volumes are set aside', async () => {
  const { vo, slicePath } = await full(2);
  const { name } = vo.metadata;
  await world.bench.client.json('DELETE', `${organizations}/${name}`);
  await waitFor('the object is gone', async () => (await world.read(name)) === undefined, { limitMs: 30_000 });
  await expectNothingLeft(name);
  const { metadata } = await world.bench.client.json('GET', slicePath);
  const annotations = (metadata as { annotations: Record<string, string> }).annotations;
  expect(readReceipt(annotations['xtreemos.io/dissolution-receipt'] ?? '').data).toBe('Export');
  const { items } = await world.bench.client.list('/apis/events.k8s.io/v1/namespaces/default/events');
  const ours = items.filter((each) => (each.regarding as { name: string }).name === name);
  expect(ours.map((each) => each.reason)).toEqual(expect.arrayContaining(['Deleting', 'Complete']));
});

test.each(['Erase', 'Export'] as const)(
  '%s: volumes are told what becomes of them before their claims go',
  async (data) => {
    const { vo } = await full(data === 'Erase' ? 3 : 4);
    const { name } = vo.metadata;
    const volume = `volume-${name}`;
    await world.create('/api/v1/persistentvolumes', {
      apiVersion: 'v1',
      kind: 'PersistentVolume',
      metadata: { name: volume },
      spec: {
        capacity: { storage: '1Gi' },
        accessModes: ['ReadWriteOnce'],
        persistentVolumeReclaimPolicy: 'Retain',
        claimRef: { namespace: `vo-${name}`, name: 'data' },
        csi: { driver: 'none.example.org', volumeHandle: name },
        storageClassName: '',
      },
    });
    await world.create(inNamespace(name, 'persistentvolumeclaims'), {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name: 'data' },
      spec: {
        accessModes: ['ReadWriteOnce'],
        resources: { requests: { storage: '1Gi' } },
        storageClassName: '',
        volumeName: volume,
      },
    });
    await waitFor('the claim is bound', async () => {
      const claim = await world.bench.client.json('GET', inNamespace(name, 'persistentvolumeclaims/data'));
      return (claim.status as { phase: string }).phase === 'Bound';
    });
    await world.patch(`${organizations}/${name}`, { spec: { dissolution: { data } } });
    if (data === 'Erase') {
      // No provisioner of that name runs here: the owner of the site is told which volume waits for it.
      const waiting = await world.reason(name, 'Dissolved', 'ClearingData');
      expect(waiting.status?.dissolution?.volumes).toEqual([{ name: volume, claim: 'data', size: '1Gi' }]);
      const found = await world.bench.client.json('GET', `/api/v1/persistentvolumes/${volume}`);
      expect(found.spec).toMatchObject({ persistentVolumeReclaimPolicy: 'Delete' });
      await world.patch(`/api/v1/persistentvolumes/${volume}`, { metadata: { finalizers: null } });
      await world.bench.client.json('DELETE', `/api/v1/persistentvolumes/${volume}`);
    }
    const done = await world.reason(name, 'Dissolved', 'Complete');
    expect(readReceipt(done.status?.sites?.[0]?.receipt ?? '').volumes[0]?.name).toBe(volume);
    const left = await world.bench.client.find(`/api/v1/persistentvolumes/${volume}`);
    if (data === 'Erase') expect(left).toBeUndefined();
    else {
      expect(left?.spec).toMatchObject({ persistentVolumeReclaimPolicy: 'Retain' });
      expect(left?.metadata?.labels).toMatchObject({ 'xtreemos.io/exported-from': name });
    }
  },
);

test.each(['Erase', 'Export'] as const)(
  '%s: homes and other Volumes go as their reclaim policy says, and the receipt tells where kept files are',
  async (data) => {
    const { vo } = await full(data === 'Erase' ? 5 : 6);
    const { name } = vo.metadata;
    const group = { apiVersion: 'xtreemos.io/v1alpha1' };
    const fileSystems = `${root}/namespaces/default/filesystems`;
    const fileSystem = `main-${data.toLowerCase()}`;
    await world.create(fileSystems, { ...group, kind: 'FileSystem', metadata: { name: fileSystem }, spec: {} });
    const volumes = `${root}/namespaces/vo-${name}/volumes`;
    const make = async (volume: string, reclaimPolicy: string): Promise<string> => {
      const owner = volume.replace(/^home-/, '');
      const where = { name: fileSystem, namespace: 'default' };
      const spec = { size: '1Gi', owner, mode: '0700', reclaimPolicy, fileSystem: where };
      const made = await world.create(volumes, { ...group, kind: 'Volume', metadata: { name: volume }, spec });
      return made.metadata?.uid ?? '';
    };
    const kept = await make('home-u-carol-2013266944', 'Retain');
    const erased = await make('home-u-dave-2013266945', 'Delete');
    await world.patch(`${organizations}/${name}`, { spec: { dissolution: { data } } });
    const done = await world.reason(name, 'Dissolved', 'Complete');
    const receipt = readReceipt(done.status?.sites?.[0]?.receipt ?? '');
    const location = `vol-${kept} on FileSystem default/${fileSystem}`;
    expect(receipt.volumes).toEqual([
      {
        ...{ name: `xtreemos-${kept}`, claim: 'home-u-carol-2013266944', size: '1Gi' },
        ...(data === 'Erase' ? { outcome: 'Erased' } : { outcome: 'Retained', location }),
      },
      { name: `xtreemos-${erased}`, claim: 'home-u-dave-2013266945', size: '1Gi', outcome: 'Erased' },
    ]);
    expect(receipt.removed).toContainEqual({ resource: 'volumes.xtreemos.io', count: 2 });
    await expectNothingLeft(name);
  },
);

test.each(['before', 'after'] as const)(
  'a dissolution goes on where it was when the operator is killed %s each of its steps',
  async (moment) => {
    const { vo, slicePath } = await full(moment === 'before' ? 10 : 11);
    const { name } = vo.metadata;
    await operator.stop();
    const seen = new Set<string>();
    const killer: Killer = (write) => {
      const what = write
        .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'T')
        .replace(/"resourceVersion":"\d+"/, '')
        .replace(/eyJ[\w.-]+/g, 'JWS');
      if (seen.has(what)) return undefined;
      seen.add(what);
      return moment;
    };
    await world.bench.client.json('DELETE', `${organizations}/${name}`);
    let deaths = 0;
    for (; deaths < 100; deaths++) {
      const mortal = world.bench.start(killer);
      const gone = waitFor('it is gone', async () => (await world.read(name)) === undefined, {
        limitMs: 20_000,
        pauseMs: 50,
      });
      const end = await Promise.race([mortal.killed.then(() => 'killed'), gone.then(() => 'gone')]);
      gone.catch(() => undefined);
      await mortal.stop();
      if (end === 'gone' && (await world.read(name)) === undefined) break;
    }
    expect(deaths).toBeGreaterThan(8);
    await expectNothingLeft(name);
    const { spec, metadata } = await world.bench.client.json('GET', slicePath);
    expect(spec).toMatchObject({ state: 'Retired' });
    const annotations = (metadata as { annotations: Record<string, string> }).annotations;
    expect(readReceipt(annotations['xtreemos.io/dissolution-receipt'] ?? '')).toMatchObject({
      vo: { name },
      removed: expect.arrayContaining([{ resource: 'pods', count: 1 }]),
    });
    operator = world.start();
  },
);

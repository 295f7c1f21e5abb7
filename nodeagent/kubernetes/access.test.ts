import { describe, expect, test } from '@jest/globals';
import { status } from '@grpc/grpc-js';
import { type AccessView, checkContext, decideAccess, demandReadOnly, findVolume } from './access.ts';

const uids = {
  fileSystem: '11111111-1111-4111-8111-111111111111',
  volume: '22222222-2222-4222-8222-222222222222',
  pod: '33333333-3333-4333-8333-333333333333',
};
const handle = `${uids.fileSystem}/${uids.volume}`;

interface World {
  /** Namespace of the pod. */
  namespace?: string;
  /** Uid that the namespace's owner reference names. */
  ownerUid?: string;
  state?: string;
  grants?: { virtualOrganization: string; access: string }[];
  allowed?: string[];
  volumeNamespace?: string;
  fileSystemName?: string;
  tls?: string;
  address?: string;
  volumeName?: string;
  account?: string;
  /** Of the Volume: the site that keeps it. */
  remote?: object;
  relay?: string;
}

/** A site with the organizations `physics` (whose the Volume is) and `biology`, and one pod on this node. */
function view(world: World = {}): AccessView {
  const { namespace = 'vo-physics', volumeNamespace = 'vo-physics' } = world;
  const objects = {
    volume: {
      metadata: { name: world.volumeName ?? 'results', namespace: volumeNamespace, uid: uids.volume },
      spec: {
        ...(world.remote === undefined
          ? { fileSystem: { name: world.fileSystemName ?? 'main', namespace: 'xtreemos' } }
          : { remote: world.remote }),
        grants: world.grants ?? [],
      },
    },
    fileSystem: {
      metadata: { name: 'main', namespace: 'xtreemos', uid: uids.fileSystem },
      spec: { tls: world.tls ?? 'Required', allowedVirtualOrganizations: world.allowed ?? ['physics'] },
      status: { dir: { address: world.address ?? 'main-dir.xtreemos.svc:32638', ready: true } },
    },
    pod: {
      metadata: { name: 'pod', namespace, uid: uids.pod },
      spec: { nodeName: 'node', serviceAccountName: world.account },
    },
    namespace: {
      metadata: {
        name: namespace,
        uid: 'n',
        ownerReferences: [{ uid: world.ownerUid ?? `uid-${namespace.slice(3)}`, controller: true }],
      },
    },
  };
  const given = {
    relay: world.relay ?? '',
    volume: (uid: string) => (uid === uids.volume ? objects.volume : undefined),
    fileSystem: (uid: string) => (uid === uids.fileSystem ? objects.fileSystem : undefined),
    organization: (name: string) => ({
      metadata: { name, uid: `uid-${name}` },
      status: { state: world.state ?? 'Operational' },
    }),
    pod: async (_: string, name: string, uid: string) =>
      Promise.resolve(name === 'pod' && uid === uids.pod ? objects.pod : undefined),
    namespace: async () => Promise.resolve(objects.namespace),
  };
  return given as unknown as AccessView;
}

const podContext = (namespace = 'vo-physics', uid = uids.pod): Record<string, string> => ({
  'csi.storage.k8s.io/pod.name': 'pod',
  'csi.storage.k8s.io/pod.namespace': namespace,
  'csi.storage.k8s.io/pod.uid': uid,
  'csi.storage.k8s.io/serviceAccount.name': 'u-alice',
  'csi.storage.k8s.io/ephemeral': 'false',
});

async function decide(world: World, context = podContext(world.namespace)): Promise<boolean> {
  const seen = view(world);
  const { volume } = findVolume(handle, seen);
  return (await decideAccess(volume, context, seen)).isReadOnly;
}

describe('Access to a Volume', () => {
  test('pods of its own organization may write', async () => {
    await expect(decide({})).resolves.toBe(false);
  });

  test.each([
    ['Read', true],
    ['Write', false],
  ])('pods of an organization with a grant to %s: read-only is %p', async (access, isReadOnly) => {
    const grants = [{ virtualOrganization: 'biology', access }];
    await expect(decide({ namespace: 'vo-biology', grants })).resolves.toBe(isReadOnly);
  });

  test.each<[string, World, Record<string, string> | undefined]>([
    ['a pod of another organization', { namespace: 'vo-biology' }, undefined],
    ['a pod of a plain namespace', { namespace: 'default' }, undefined],
    ['a pod whose namespace only bears the name of the organization', { ownerUid: 'uid-of-nobody' }, undefined],
    ['a pod of an organization that is dissolved', { state: 'Dissolved' }, undefined],
    ['a pod with the name but not the uid', {}, podContext('vo-physics', '44444444-4444-4444-8444-444444444444')],
    ['a call that names no pod', {}, {}],
  ])('threat 16: refuses %s', async (_, world, context) => {
    await expect(decide(world, context ?? podContext(world.namespace))).rejects.toMatchObject({
      code: status.PERMISSION_DENIED,
    });
  });

  test('a home goes to the pods of its owner only', async () => {
    const volumeName = 'home-u-alice-2013300123';
    await expect(decide({ volumeName, account: 'u-alice-2013300123' })).resolves.toBe(false);
    for (const account of ['u-bob-2013300124', 'u-alice-2013300124', 'default', undefined]) {
      await expect(decide({ volumeName, ...(account === undefined ? {} : { account }) })).rejects.toMatchObject({
        code: status.PERMISSION_DENIED,
        message: expect.stringMatching(/is the home of u-alice-2013300123: only their own pods/),
      });
    }
  });

  test('threat 16: refuses a handle whose parts do not belong together, and an organization that the owner of the site took off the list', () => {
    expect(() => findVolume(handle, view({ fileSystemName: 'other' }))).toThrow(/is not on FileSystem/);
    expect(() => findVolume(handle, view({ allowed: [] }))).toThrow(/does not let namespace vo-physics/);
    expect(() => findVolume(`${uids.volume}/${uids.fileSystem}`, view())).toThrow(/no Volume has the handle/);
    expect(() => findVolume('../../etc', view())).toThrow(/no Volume has the handle/);
  });

  test('says where the volume is by the objects alone', () => {
    const { source } = findVolume(handle, view());
    expect(source).toEqual({
      scheme: 'pbrpcs',
      dirs: [{ host: 'main-dir.xtreemos.svc', port: 32_638 }],
      volumeName: `vol-${uids.volume}`,
    });
    expect(() => findVolume(handle, view({ address: 'a b/../c' }))).toThrow(/is not HOST:PORT/);
  });

  test('says that a volume of another site is behind the relay, by its name there', async () => {
    const remote = {
      site: 'rennes',
      volumeUID: '55555555-5555-4555-8555-555555555555',
      fileSystemUID: uids.fileSystem,
    };
    const relay = 'relay.xtreemos.svc:7444';
    const { source, volume } = findVolume(handle, view({ remote, relay }));
    expect(source).toEqual({
      scheme: 'pbrpcs',
      dirs: [{ host: 'dir', port: 32_638 }],
      volumeName: `vol-${remote.volumeUID}`,
      relay: { host: 'relay.xtreemos.svc', port: 7444 },
    });
    const stranger = view({ remote, relay, namespace: 'vo-biology' });
    await expect(decideAccess(volume, podContext('vo-biology'), stranger)).rejects.toMatchObject({
      code: status.PERMISSION_DENIED,
    });
    expect(() => findVolume(handle, view({ remote }))).toThrow(/kept by site rennes.*set --relay/);
    const other = { ...remote, fileSystemUID: uids.pod };
    expect(() => findVolume(handle, view({ remote: other, relay }))).toThrow(/not on the FileSystem of its handle/);
  });

  test.each([
    'user',
    'uid',
    'server',
    'dirs',
    'mountOptions',
    'volumeName',
    'csi.storage.k8s.io/serviceAccount.tokens',
  ])('threat 17: refuses the volume attribute %s', (key) => {
    expect(() => checkContext({ ...podContext(), [key]: 'x' })).toThrow(/is not known/);
  });

  test('threat 17: refuses inline volumes; takes what the kubelet and external-provisioner add', () => {
    expect(() => checkContext({ ...podContext(), 'csi.storage.k8s.io/ephemeral': 'true' })).toThrow(/inline/);
    expect(() => checkContext({ ...podContext(), 'storage.kubernetes.io/csiProvisionerIdentity': '1' })).not.toThrow();
  });
});

test('threat 16: what may only be read is refused to a pod that does not say so, for its container could write', () => {
  const volume = { metadata: { name: 'results' } } as Parameters<typeof demandReadOnly>[0];
  for (const [isSaid, isNeeded] of [
    [true, true],
    [true, false],
    [false, false],
  ] as const) {
    demandReadOnly(volume, isSaid, isNeeded);
  }
  expect(() => demandReadOnly(volume, false, true)).toThrow(
    /Volume results may only be read here: write readOnly: true/,
  );
});

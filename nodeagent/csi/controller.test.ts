import { beforeEach, describe, expect, test } from '@jest/globals';
import { status } from '@grpc/grpc-js';
import { VirtualClock } from '#common/clock.ts';
import type { CreateVolumeRequest } from '#proto/csi/wire.ts';
import type { Client } from '#runtime/contracts.ts';
import { AlreadyExistsError } from '#runtime/errors.ts';
import { controllerService } from './controller.ts';

const namespace = 'vo-physics';
const fileSystemUID = '11111111-1111-4111-8111-111111111111';
const sourceUid = '22222222-2222-4222-8222-222222222222';
const claimUid = '33333333-3333-4333-8333-333333333333';
const snapshotId = `${fileSystemUID}/${sourceUid}@monday`;
const owned = (owner: string | undefined): object => (owner === undefined ? {} : { 'xtreemos.io/owner': owner });

/** Of Alice, with a snapshot. */
const source = {
  metadata: { name: 'data', namespace, uid: sourceUid },
  spec: { size: '1Gi', owner: 'u-alice', snapshots: [{ name: 'monday' }] },
  status: {
    fileSystemUID,
    snapshots: [{ name: 'monday', ready: true, takenAt: '2026-11-27T00:00:00Z', sizeBytes: 10 }],
  },
};
let claim: object | undefined;
let made: { metadata: { labels: object }; spec: { source?: object } }[];

/** The API server, as far as the Controller service asks it. */
const client = {
  of: ({ kind }: { kind: string }) => ({
    list: async () => ({ items: [source, ...made] }),
    find: async () => (kind === 'PersistentVolumeClaim' ? claim : made[0]),
    get: async () => made[0],
    create: async (object: (typeof made)[number]) => {
      if (made.length > 0) throw Object.create(AlreadyExistsError.prototype) as Error;
      const ready = [{ type: 'Ready', status: 'True' }];
      const stored = { ...object, status: { fileSystemUID, conditions: ready } };
      Object.assign(stored.metadata, { uid: 'new' });
      made.push(stored);
      return stored;
    },
  }),
} as unknown as Client;

const create = async (changes: Partial<CreateVolumeRequest> = {}): Promise<unknown> =>
  controllerService({ client, clock: new VirtualClock(), waitMs: 1_000 }).CreateVolume({
    name: `pvc-${claimUid}`,
    volumeCapabilities: [
      { mount: { fsType: '', mountFlags: [], volumeMountGroup: '' }, accessMode: { mode: 'MULTI_NODE_MULTI_WRITER' } },
    ],
    parameters: { 'csi.storage.k8s.io/pvc/namespace': namespace, 'csi.storage.k8s.io/pvc/name': 'restored' },
    volumeContentSource: { snapshot: { snapshotId } },
    ...changes,
  });
const aClaim = (owner: string | undefined, uid = claimUid): object => ({ metadata: { uid, labels: owned(owner) } });

beforeEach(() => {
  claim = aClaim('u-alice');
  made = [];
});

describe('threat 20: a volume that begins with a snapshot', () => {
  test.each<[string, object]>([
    ['of who owns the Volume', aClaim('u-alice')],
    ['of the owner of the site, who has no account in the organization', aClaim(undefined)],
  ])('is made for a claim %s', async (_, given) => {
    claim = given;
    await create();
    expect(made).toMatchObject([{ spec: { source: { volume: 'data', snapshot: 'monday' } } }]);
  });

  test.each<[string, object | undefined, Partial<CreateVolumeRequest>, number]>([
    ['of another member', aClaim('u-bob'), {}, status.PERMISSION_DENIED],
    ['that is gone', undefined, {}, status.FAILED_PRECONDITION],
    ['whose name another one has now', aClaim('u-alice', 'other'), {}, status.FAILED_PRECONDITION],
    [
      'that wants a clone',
      aClaim('u-alice'),
      { volumeContentSource: { volume: { volumeId: `${fileSystemUID}/${sourceUid}` } } },
      status.INVALID_ARGUMENT,
    ],
    [
      'in another namespace',
      aClaim('u-alice'),
      { parameters: { 'csi.storage.k8s.io/pvc/namespace': 'vo-biology', 'csi.storage.k8s.io/pvc/name': 'restored' } },
      status.PERMISSION_DENIED,
    ],
    [
      'that is too small',
      aClaim('u-alice'),
      { capacityRange: { requiredBytes: 5, limitBytes: 0 } },
      status.OUT_OF_RANGE,
    ],
  ])('is not made for a claim %s', async (_, given, changes, code) => {
    claim = given;
    await expect(create(changes)).rejects.toMatchObject({ code });
    expect(made).toEqual([]);
  });

  test('that was made is told of, though its claim is gone meanwhile', async () => {
    await create();
    claim = undefined;
    await create();
    expect(made).toHaveLength(1);
  });
});

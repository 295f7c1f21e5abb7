import { beforeEach, describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import type { FileCredentials } from '#proto/generated/xtreemfs/global-types.ts';
import { LeaseState } from '#proto/generated/xtreemfs/global-types.ts';
import type { ReplicaStatus } from '#proto/generated/xtreemfs/osd.ts';
import { changeKey } from '../core/keys.ts';
import type { XlocRecord } from '../core/records.ts';
import { aCaller, aWorld, anOsd, makeTestVolume, root } from '../testing/fixtures.ts';
import { Harness } from '../testing/harness.ts';
import type { World } from '../testing/fixtures.ts';
import { updateFileSize } from '../core/files.ts';
import { unlink } from '../core/names.ts';
import { purgeOrphans } from '../core/removal.ts';
import { authoritativeState } from './authoritative-state.ts';
import type { FileRef } from './coordinator.ts';
import { Coordinator } from './coordinator.ts';
import type { OsdCalls } from './osd-calls.ts';

const ann = aCaller('ann', ['staff']);
let world: World;
let fs: Harness;
let coordinator: Coordinator;
let file: FileRef;
let calls: string[];
let down: Set<string>;
let lease: LeaseState;
let copyProgress: 'complete' | 'failed';
let tellsHoldings: boolean;

const status = (objects: [number, number][]): ReplicaStatus => ({
  truncateEpoch: 0,
  fileSize: 0,
  maxObjVersion: 0,
  primaryEpoch: 0,
  objectVersions: objects.map(([objectNumber, objectVersion]) => ({ objectNumber, objectVersion })),
  truncateLog: { records: [] },
});

/** OSDs that answer at once unless they are down. */
function fakeOsds(): OsdCalls {
  const ask = (what: string, osd: string, creds: FileCredentials): void => {
    if (down.has(osd)) throw new Error(`${osd} is down`);
    calls.push(`${what} ${osd} v${creds.xlocs.version}`);
    if (world.keys.check(creds.xcap, world.clock.now()) !== 'valid') throw new Error('bad capability');
  };
  return {
    invalidate: async (osd, creds) => {
      ask('invalidate', osd, creds);
      return {
        leaseState: lease,
        ...(tellsHoldings || creds.xlocs.replicaUpdatePolicy.startsWith('W')
          ? { replicaStatus: status([[0, 1]]) }
          : {}),
      };
    },
    install: async (osd, creds) => {
      ask('install', osd, creds);
      return false;
    },
    isInstalled: async (osd, creds) => {
      ask('poll', osd, creds);
      return true;
    },
    installing: async (osd, creds) => {
      ask('poll', osd, creds);
      return copyProgress;
    },
    sync: async (osd, creds) => ask('sync', osd, creds),
    touch: async (osd, creds, objectNumber) => ask(`touch ${objectNumber}`, osd, creds),
    lookAtSnapshots: async () => undefined,
    unlink: async (osd, creds) => ask('unlink', osd, creds),
  };
}

beforeEach(async () => {
  const clock = new VirtualClock();
  world = aWorld({ clock });
  world.osds.replace(['osd1', 'osd2', 'osd3', 'osd4'].map((uuid) => anOsd(uuid)));
  const volume = await makeTestVolume(world.engine);
  fs = new Harness(world.engine);
  calls = [];
  down = new Set();
  lease = LeaseState.IDLE;
  copyProgress = 'complete';
  tellsHoldings = false;
  coordinator = new Coordinator({
    engine: world.engine,
    osds: fakeOsds(),
    clock,
    logger: silentLogger,
    leaseTimeoutMs: 14_000,
    pollMs: 500,
    triesMax: 3,
  });
  const { inode } = await fs.open(ann, 'f');
  file = { volume, ino: inode.ino };
});

const xlocs = (): XlocRecord | undefined => world.engine.runNow(root, (op) => op.tx.inode(1, file.ino).xlocs);
const heads = (): (string | undefined)[] => (xlocs()?.replicas ?? []).map((replica) => replica.osds[0]);
const isLocked = (): boolean => world.engine.runNow(root, (op) => op.tx.get(changeKey(1, file.ino)) !== undefined);

/** Lets the changes under way run to their end, moving time when they wait for it. */
async function settle(): Promise<void> {
  for (let i = 0; coordinator.runningCount > 0 && i < 500; i++) await world.clock.advanceAsync(500);
  await coordinator.settle();
}

const one = (osds: string[]): { osds: string[]; flags: number; striping: { stripeSizeKb: number; width: number } } => ({
  osds,
  flags: 0,
  striping: { stripeSizeKb: 128, width: 1 },
});

async function makeReplicated(policy: string, count: number): Promise<void> {
  await coordinator.setPolicy(ann, file, policy);
  await settle();
  for (let i = 1; i < count; i++) {
    await coordinator.add(ann, file, one([]));
    await settle();
  }
  calls = [];
}

describe('adding a replica', () => {
  test('ends the old view first, fills the new replica, then stores the set under the next version', async () => {
    await makeReplicated('WqRq', 1);
    const [old] = heads();
    const version = await coordinator.add(ann, file, one([]));
    expect(isLocked()).toBe(true);
    expect(await fs.codeOf(ann, fs.opening('f'))).toBe('EAGAIN');
    await settle();
    const [, fresh] = heads();
    expect(calls).toEqual([`invalidate ${old} v1`, `install ${fresh} v1`, `poll ${fresh} v1`]);
    expect(xlocs()).toMatchObject({ version, policy: 'WqRq' });
    expect(isLocked()).toBe(false);
    expect((await fs.open(ann, 'f')).xlocs.version).toBe(version);
  });

  test('waits for the lease when a replica held one', async () => {
    await makeReplicated('WqRq', 1);
    lease = LeaseState.PRIMARY;
    await coordinator.add(ann, file, one([]));
    await world.clock.advanceAsync(13_900);
    expect(isLocked()).toBe(true);
    await settle();
    expect(heads()).toHaveLength(2);
  });

  test.each<[string, string, string[], number]>([
    ['EPERM', '', [], 128],
    ['EINVAL', 'WqRq', [], 64],
    ['EINVAL', 'WqRq', ['osd1', 'osd2'], 128],
  ])('answers %s under policy %p for OSDs %p with objects of %i kB', async (code, policy, osds, stripeSizeKb) => {
    if (policy !== '') await makeReplicated(policy, 1);
    const wanted = { osds, flags: 0, striping: { stripeSizeKb, width: 1 } };
    await expect(coordinator.add(ann, file, wanted)).rejects.toMatchObject({ code });
    expect(isLocked()).toBe(false);
  });

  test('an OSD that has a replica gets no second one', async () => {
    await makeReplicated('WqRq', 1);
    await expect(coordinator.add(ann, file, one([heads()[0] ?? '']))).rejects.toMatchObject({ code: 'EINVAL' });
  });
});

describe('moving a file off an OSD', () => {
  const move = async (...leaving: string[]): Promise<void> => {
    const state = { isOver: false };
    const moving = coordinator.move(file, new Set(leaving)).finally(() => (state.isOver = true));
    moving.catch(() => undefined);
    for (let i = 0; !state.isOver && i < 500; i++) await world.clock.advanceAsync(500);
    await moving;
  };

  beforeEach(() => {
    tellsHoldings = true;
  });

  test('ends the old view, has the other OSD forget and copy, and makes that durable under the next version', async () => {
    const [old = ''] = heads();
    await move(old);
    const [fresh] = heads();
    expect(fresh).not.toBe(old);
    expect(calls).toEqual([
      `invalidate ${old} v0`,
      `unlink ${fresh} v0`,
      `invalidate ${fresh} v0`,
      `install ${fresh} v0`,
      `poll ${fresh} v0`,
      `sync ${fresh} v1`,
    ]);
    expect(xlocs()).toMatchObject({ version: 1, policy: '' });
  });

  test('leaves the other stripes where they are, and ends the view at each', async () => {
    await fs.set('', 'xtreemfs.default_sp', '{"pattern":"STRIPING_POLICY_RAID0","size":128,"width":3}');
    const { inode } = await fs.open(ann, 'wide');
    file = { ...file, ino: inode.ino };
    const before = xlocs()?.replicas[0]?.osds ?? [];
    calls = [];
    await move(before[1] ?? '');
    const after = xlocs()?.replicas[0]?.osds ?? [];
    expect([after[0], after[2]]).toEqual([before[0], before[2]]);
    expect(before).not.toContain(after[1]);
    expect(calls.filter((call) => call.endsWith('v0')).slice(0, 3)).toEqual(
      before.map((osd) => `invalidate ${osd} v0`),
    );
  });

  test('a file that is read only keeps its other replicas, also when their OSDs are down', async () => {
    await makeReplicated('ronly', 2);
    const [old = '', other = ''] = heads();
    down.add(other);
    await move(old);
    expect(heads()).not.toContain(old);
    expect(heads()).toContain(other);
    expect(xlocs()?.replicas.map(({ flags }) => flags)).toContain(3);
  });

  test('a replicated file gets a replica elsewhere in the same step', async () => {
    await makeReplicated('WqRq', 3);
    const [old = ''] = heads();
    await move(old);
    expect(heads()).toHaveLength(3);
    expect(heads()).not.toContain(old);
  });

  test.each<[string, () => void, RegExp]>([
    ['the OSD does not answer', () => down.add(heads()[0] ?? ''), /is down/],
    ['the copy fails', () => (copyProgress = 'failed'), /could not copy/],
    ['the OSD does not tell what it holds', () => (tellsHoldings = false), /does not tell/],
  ])('stays where it is, under a new version, when %s', async (_, fail, problem) => {
    const before = heads();
    fail();
    await expect(move(before[0] ?? '')).rejects.toThrow(problem);
    expect(heads()).toEqual(before);
    expect(xlocs()?.version).toBe(1);
    expect(isLocked()).toBe(false);
  });

  test('is refused when no other OSD is usable', async () => {
    await expect(move('osd1', 'osd2', 'osd3', 'osd4')).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(isLocked()).toBe(false);
  });

  test('has the copy deleted later when the file is deleted meanwhile, for who deleted it knew of the old OSD only', async () => {
    const [old = ''] = heads();
    const moving = move(old);
    await fs.as(ann, (op) => unlink(op, 'vol', 'f', { erases: true }));
    await moving;
    const places = heads();
    expect(places).not.toContain(old);
    await world.clock.advanceAsync(700_000);
    const { toErase } = await fs.as(root, (op) => purgeOrphans(op, 10));
    expect(toErase.flatMap(({ xlocs: { replicas } }) => replicas.map(({ osdUuids }) => osdUuids))).toEqual([places]);
  });
});

describe('when OSDs are down', () => {
  test('a majority of three replicas is enough', async () => {
    await makeReplicated('WqRq', 3);
    down.add(heads()[2] ?? '');
    await coordinator.remove(ann, file, heads()[2] ?? '');
    await settle();
    expect(heads()).toHaveLength(2);
  });

  test('WaR1 needs every replica: otherwise the old set stays, under a new version', async () => {
    await makeReplicated('WaR1', 2);
    const before = heads();
    const version = xlocs()?.version ?? 0;
    down.add(before[1] ?? '');
    await coordinator.add(ann, file, one([]));
    await settle();
    expect(heads()).toEqual(before);
    expect(xlocs()?.version).toBe(version + 1);
    expect(isLocked()).toBe(false);
  });
});

test('a removed replica is told with what deletes its objects', async () => {
  await makeReplicated('WqRq', 2);
  const gone = heads()[1] ?? '';
  const { creds, version } = await coordinator.remove(ann, file, gone);
  await settle();
  expect(creds.xlocs.replicas.map((replica) => replica.osdUuids)).toEqual([[gone]]);
  expect(creds.xcap.accessMode).toBe(0x20_0000);
  expect(xlocs()?.version).toBe(version);
});

test('a lock that an earlier run left behind is broken at the next open, under a new version', async () => {
  await fs.as(root, (op) => op.tx.put(changeKey(1, file.ino), Buffer.from('an earlier run')));
  expect((await fs.open(ann, 'f')).xlocs.version).toBe(1);
  expect(isLocked()).toBe(false);
});

test.each([
  ['EINVAL', 'ronly', 'WqRq'],
  ['EINVAL', 'WqRq', 'ronly'],
  ['EINVAL', 'WqRq', 'else'],
])('answers %s for a change from %s to %s', async (code, from, to) => {
  await makeReplicated(from, 1);
  await expect(coordinator.setPolicy(ann, file, to)).rejects.toMatchObject({ code });
});

test('the policy ronly makes the file read-only and its replica complete', async () => {
  await makeReplicated('ronly', 1);
  expect(xlocs()?.replicas[0]?.flags).toBe(3);
  expect(await fs.codeOf(ann, fs.opening('f'))).toBe('EPERM');
  await coordinator.setPolicy(ann, file, '');
  await settle();
  expect(await fs.codeOf(ann, fs.opening('f'))).toBe('done');
});

test('a file closed under a ronly default gets its replicas, and they are started', async () => {
  await fs.set('', 'xtreemfs.default_rp', '{"update-policy":"ronly","replication-factor":3,"replication-flags":1}');
  const { cap, inode } = await fs.open(ann, 'g');
  expect(cap.replicateOnClose).toBe(true);
  const update = { cap, sizeBytes: 10, epoch: 0, closes: true };
  const { replicate } = await fs.as(ann, (op) => updateFileSize(op, update));
  expect(replicate).toBe(true);
  file = { ...file, ino: inode.ino };
  await coordinator.replicateOnClose(file);
  const [first, second, third] = heads();
  expect(xlocs()).toMatchObject({ version: 1, policy: 'ronly' });
  expect(xlocs()?.replicas.map((replica) => replica.flags)).toEqual([3 | 8, 1 | 8, 1 | 8]);
  expect(new Set([first, second, third]).size).toBe(3);
  expect(calls).toEqual([`touch 0 ${second} v1`, `touch 0 ${third} v1`]);
});

describe('authoritativeState', () => {
  test('takes the newest version of each object, and drops what was cut off later', () => {
    const a = {
      ...status([
        [0, 5],
        [1, 3],
        [2, 3],
      ]),
      truncateEpoch: 1,
    };
    const b = {
      ...status([
        [0, 4],
        [1, 3],
        [3, 9],
      ]),
      truncateEpoch: 2,
      truncateLog: { records: [{ version: 7, lastObjectNumber: 1 }] },
    };
    expect(
      authoritativeState(
        new Map([
          ['a', a],
          ['b', b],
        ]),
      ),
    ).toEqual({
      truncateEpoch: 2,
      maxObjVersion: 9,
      truncateLog: { records: [{ version: 7, lastObjectNumber: 1 }] },
      objectVersions: [
        { objectNumber: 0, objectVersion: 5, osdUuids: ['a'] },
        { objectNumber: 1, objectVersion: 3, osdUuids: ['a', 'b'] },
        { objectNumber: 3, objectVersion: 9, osdUuids: ['b'] },
      ],
    });
  });
});

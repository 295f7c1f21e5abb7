import { beforeEach, describe, expect, test } from '@jest/globals';
import { silentLogger } from '#common/logger.ts';
import { VirtualClock } from '#common/clock.ts';
import { snapshotNameOf, type Volume, volumeDefinition, volumeNameOf } from '#crds/volume.ts';
import type { Installation } from '#operator/storage/installation.ts';
import { MemoryInstallation } from '#operator/storage/testing/memory-installation.ts';
import type { Stored } from '#runtime/types.ts';
import { VolumeCopies } from './copies.ts';
import { keepSnapshots, type SnapshotStatus } from './snapshots.ts';

const { signal } = new AbortController();
const report = { quotaBytes: 1000, usedBytes: 10, files: 1 };
const layout = { width: 1, stripeKib: 128, policy: 'None', replicas: 1 } as const;
const terms = { owner: 'root', group: 'root', mode: 0o770, quotaBytes: 1000, layout };
const name = volumeNameOf('uid');
let installation: MemoryInstallation;

const aVolume = (snapshots: string[], before: readonly SnapshotStatus[] = [], spec: object = {}): Stored<Volume> => ({
  metadata: {
    ...{ name: 'data', namespace: 'vo-physics', uid: 'uid', resourceVersion: '1' },
    creationTimestamp: '2026-01-01T00:00:00Z',
  },
  spec: volumeDefinition.spec.parse({ size: '1k', snapshots: snapshots.map((each) => ({ name: each })), ...spec }),
  status: { snapshots: [...before] },
});
const keep = async (volume: Stored<Volume>, usedBytes = 10): Promise<readonly SnapshotStatus[]> =>
  keepSnapshots(volume, installation, { ...report, usedBytes }, signal);
const atMrc = async (): Promise<string[]> => (await installation.snapshots(name)).map((each) => each.name);

beforeEach(async () => {
  installation = new MemoryInstallation();
  await installation.make({ ...terms, name });
});

describe('the snapshots of a Volume', () => {
  test('are taken and removed as it names them, and their size is that of their time', async () => {
    const first = await keep(aVolume(['a']));
    expect(first).toEqual([{ name: 'a', ready: true, takenAt: expect.stringMatching(/^2026-11-27T/), sizeBytes: 10 }]);
    const second = await keep(aVolume(['a', 'b'], first), 500);
    expect(second.map(({ name: each, sizeBytes }) => [each, sizeBytes])).toEqual([
      ['a', 10],
      ['b', 500],
    ]);
    expect(await keep(aVolume(['b'], second))).toEqual([second[1]]);
    expect(await atMrc()).toEqual([snapshotNameOf('b')]);
    expect(await keep(aVolume([], second))).toEqual([]);
  });

  test('are found again by an operator that knows nothing, and those made by hand are left alone', async () => {
    await installation.takeSnapshot(name, 'by-hand');
    await installation.takeSnapshot(name, snapshotNameOf('a'));
    await installation.takeSnapshot(name, snapshotNameOf('old'));
    expect(await keep(aVolume(['a']))).toMatchObject([{ name: 'a', ready: true }]);
    expect(await atMrc()).toEqual(['by-hand', snapshotNameOf('a')]);
  });

  test('can not be had where a copy that is made anew does not know what files were', async () => {
    const volume = aVolume(['a'], [], { replication: { policy: 'Quorum', replicas: 3 } });
    expect(await keep(volume)).toEqual([
      { name: 'a', ready: false, message: expect.stringMatching(/only Volumes with replication policy None/) },
    ]);
    expect(await atMrc()).toEqual([]);
  });

  test('say why the MRC does not take them', async () => {
    installation.takeSnapshot = async () =>
      Promise.reject(Object.assign(new Error('OSD main-osd-1 does not answer'), { name: 'RpcError' }));
    expect(await keep(aVolume(['a']))).toEqual([
      { name: 'a', ready: false, message: expect.stringMatching(/main-osd-1/) },
    ]);
  });
});

describe('copies of snapshots', () => {
  const clock = new VirtualClock();
  const copies = new VolumeCopies({ clock, log: silentLogger });
  const order = (uid: string, snapshot = 's'): Parameters<VolumeCopies['ask']>[0] => ({
    ...{ uid, from: { name, snapshot }, to: volumeNameOf(uid) },
  });
  const settled = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) await Promise.resolve();
  };

  test('run once, tell how far they are, and are tried again after a failure', async () => {
    await installation.make({ ...terms, name: volumeNameOf('new') });
    await installation.takeSnapshot(name, 's');
    installation.isDown = true;
    expect(copies.ask(order('new'), installation, signal).isDone).toBe(false);
    await settled();
    expect(copies.ask(order('new'), installation, signal).problem).toMatch(/servers are away/);
    installation.isDown = false;
    clock.advance(10_000);
    await settled();
    expect(copies.ask(order('new'), installation, signal)).toEqual({
      ...{ isDone: true, problem: undefined, progress: { files: 0, bytes: 0 } },
    });
  });

  test('run two at a time, and end when nobody wants them', async () => {
    const running = new Set<string>();
    const slow: Pick<Installation, 'copy'> = {
      copy: async (_from, to, _report, ends) => {
        running.add(to);
        await new Promise((_resolve, reject) => ends.addEventListener('abort', () => reject(new Error('ended'))));
      },
    };
    for (const uid of ['1', '2', '3']) copies.ask(order(uid), slow, signal);
    await settled();
    expect([...running]).toEqual(['vol-1', 'vol-2']);
    copies.forget('1');
    await settled();
    expect([...running]).toEqual(['vol-1', 'vol-2', 'vol-3']);
    for (const uid of ['2', '3']) copies.forget(uid);
  });
});

import { beforeEach, describe, expect, test } from '@jest/globals';
import { silentLogger } from '#common/logger.ts';
import { aCaller, anOsd, aWorld, makeTestVolume, type World } from '../testing/fixtures.ts';
import { Harness } from '../testing/harness.ts';
import type { FileRef } from './coordinator.ts';
import { type DrainProgress, Drains } from './drain.ts';

const ann = aCaller('ann', ['staff']);
let world: World;
let fs: Harness;
let drains: Drains;
/** Files that do not move, by number. */
let stuck: Set<number>;
let dirIsDown: boolean;

/** Status of each OSD as the DIR has it. */
let statuses: Record<string, number>;

beforeEach(async () => {
  world = aWorld();
  await makeTestVolume(world.engine);
  fs = new Harness(world.engine);
  stuck = new Set();
  statuses = { osd1: 0 };
  dirIsDown = false;
  world.osds.replace([anOsd('osd1')]);
  const { engine, osds: catalogue } = world;
  drains = new Drains({
    engine,
    catalogue,
    logger: silentLogger,
    coordinator: { move },
    refresh: async () => {
      if (dirIsDown) throw new Error('the DIR is down');
      catalogue.replace(Object.entries(statuses).map(([uuid, status]) => anOsd(uuid, { status })));
    },
  });
});

/** Moves a file to osd2 as the coordinator would. */
async function move({ volume, ino }: FileRef, leaving: ReadonlySet<string>): Promise<void> {
  if (stuck.has(ino)) throw new Error(`file ${ino} is stuck`);
  await world.engine.run(ann, (op) => {
    const inode = op.tx.inode(volume.number, ino);
    const replicas = inode.xlocs?.replicas.map((replica) => ({
      ...replica,
      osds: replica.osds.map((osd) => (leaving.has(osd) ? 'osd2' : osd)),
    }));
    inode.xlocs = { version: 1, policy: '', replicas: replicas ?? [] };
    op.tx.touch(inode);
  });
}

/** Asks until what a run found is `expected`. */
async function until(expected: Partial<DrainProgress>): Promise<DrainProgress> {
  for (let asked = 0; ; asked++) {
    const progress = drains.ask('osd1', '1');
    const isThere = Object.entries(expected).every(([key, value]) => progress[key as keyof DrainProgress] === value);
    if (isThere || asked === 500) return progress;
    await new Promise((resolve) => void setImmediate(resolve));
  }
}

describe('an OSD that is to go', () => {
  test('is emptied, and found empty by a look that came after', async () => {
    for (const name of ['a', 'b', 'c']) await fs.open(ann, name);
    statuses = { osd1: 1, osd2: 0 };
    expect(await until({ isEmpty: true })).toEqual({ isEmpty: true, filesLeft: 0, problem: '' });
  });

  test('is not empty while it takes new files', async () => {
    const problem = 'OSD osd1 takes new files: set its status to locked first';
    expect(await until({ problem })).toMatchObject({ isEmpty: false, problem });
  });

  test('is not empty while the DIR does not tell its status', async () => {
    statuses = { osd1: 1 };
    dirIsDown = true;
    const problem = 'the DIR is down';
    expect(await until({ problem })).toMatchObject({ isEmpty: false, problem });
  });

  test('keeps what can not move, and says why; the rest moves', async () => {
    const { inode } = await fs.open(ann, 'a');
    await fs.open(ann, 'b');
    stuck.add(inode.ino);
    statuses = { osd1: 1, osd2: 0 };
    const problem = `file ${inode.ino} is stuck`;
    expect(await until({ filesLeft: 1, problem })).toEqual({ isEmpty: false, filesLeft: 1, problem });
    stuck.clear();
    expect(await until({ isEmpty: true })).toEqual({ isEmpty: true, filesLeft: 0, problem: '' });
  });

  test('what was found for one wish is not told for another', async () => {
    statuses = { osd1: 1, osd2: 0 };
    drains.ask('osd1', '1');
    for (let i = 0; i < 50; i++) await new Promise((resolve) => void setImmediate(resolve));
    expect(drains.ask('osd1', '2')).toEqual({ isEmpty: false, filesLeft: undefined, problem: '' });
  });

  test('leaves files that were made meanwhile to the next look', async () => {
    await fs.open(ann, 'a');
    statuses = { osd1: 1, osd2: 0 };
    drains.ask('osd1', '1');
    await fs.open(ann, 'late');
    expect(await until({ isEmpty: true })).toMatchObject({ isEmpty: true });
    const { xlocs } = await fs.open(ann, 'late');
    expect(xlocs.replicas[0]?.osdUuids).toEqual(['osd2']);
  });
});

test('files of a snapshot stay, and it is named', async () => {
  await fs.open(ann, 'a');
  await world.engine.run(ann, (op) => {
    const volume = world.engine.listVolumes()[0];
    if (volume === undefined) throw new Error('no volume');
    const snapshotOf = { volume: volume.number, name: 'monday', timeMs: 1, rootIno: 1, isComplete: true };
    op.tx.putVolume({ ...volume, number: 77, snapshotOf });
    const inode = op.tx.inode(volume.number, 2);
    op.tx.touch({ ...inode, volume: 77 });
  });
  statuses = { osd1: 1, osd2: 0 };
  const problem = 'Snapshot monday of volume vol has files there, and they can not move: delete it first';
  expect(await until({ problem, filesLeft: 1 })).toEqual({ isEmpty: false, problem, filesLeft: 1 });
});

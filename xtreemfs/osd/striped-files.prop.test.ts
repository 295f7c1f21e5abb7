import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { SeededRandom } from '#common/random.ts';
import { blocks } from '#xtreemfs/rpc/blocks.ts';
import { FaultDisk } from './store/testing/fault-disk.ts';
import { aReplica, OsdCluster, TestFile, xlocsOf } from './testing/osd-cluster.ts';

// A buffer that is given back too early shows as wrong bytes.
blocks.poisons = true;

const fileBytesMax = 40_000;
const effort = Number(process.env.XTREEMOS_PROPERTY_EFFORT ?? 1);

type Step =
  | { kind: 'write'; offset: number; length: number; fill: number }
  | { kind: 'truncate'; bytes: number }
  | { kind: 'read'; offset: number; length: number }
  | { kind: 'restart'; osd: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      offset: fc.nat(fileBytesMax),
      length: fc.integer({ min: 1, max: 6000 }),
      fill: fc.integer({ min: 1, max: 255 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('truncate' as const), bytes: fc.nat(fileBytesMax) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('read' as const),
      offset: fc.nat(fileBytesMax),
      length: fc.integer({ min: 1, max: 12_000 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const), osd: fc.nat(7) }) },
);

/** The same steps on a byte array. */
class ModelFile {
  bytes = Buffer.alloc(0);

  write(offset: number, data: Buffer): void {
    if (offset + data.length > this.bytes.length) this.truncate(offset + data.length);
    data.copy(this.bytes, offset);
  }

  truncate(bytes: number): void {
    const next = Buffer.alloc(bytes);
    this.bytes.copy(next);
    this.bytes = next;
  }
}

async function runSteps(steps: readonly Step[], width: number): Promise<void> {
  const disks = Array.from({ length: width }, (_, i) => new FaultDisk(new SeededRandom(i)));
  const uuids = disks.map((_, i) => `osd-${i}`);
  const cluster = new OsdCluster({ osd: { store: { segmentBytes: 20_000, checkpointRecords: 10 } } });
  try {
    for (const [i, uuid] of uuids.entries()) await cluster.start(uuid, disks[i]!.mount());
    const file = new TestFile(cluster, 'volume:7', xlocsOf([aReplica(uuids, 1)]));
    const model = new ModelFile();
    for (const change of steps) {
      if (change.kind === 'write') {
        const data = Buffer.alloc(change.length, change.fill);
        await file.write(change.offset, data);
        model.write(change.offset, data);
      } else if (change.kind === 'truncate') {
        const told = await file.truncate(change.bytes);
        expect(told).toEqual({ sizeInBytes: change.bytes, truncateEpoch: file.epoch });
        model.truncate(change.bytes);
      } else if (change.kind === 'read') {
        const got = await file.read(change.offset, change.length);
        expect(got.equals(model.bytes.subarray(change.offset, change.offset + change.length))).toBe(true);
      } else {
        const i = change.osd % width;
        await cluster.cutOff(uuids[i]!);
        disks[i]!.restart('everything');
        await cluster.start(uuids[i]!, disks[i]!.mount());
      }
    }
    expect(await file.size()).toBe(model.bytes.length);
    expect((await file.read(0, fileBytesMax * 2)).equals(model.bytes)).toBe(true);
  } finally {
    await cluster.stop();
  }
}

test.each([1, 2, 3, 5])(
  'a file over %i OSDs equals a byte array, also when OSDs are killed in between',
  async (width) => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), (steps) => runSteps(steps, width)),
      { numRuns: 12 * effort, interruptAfterTimeLimit: 60_000 * effort },
    );
  },
);

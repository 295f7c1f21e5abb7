import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { SeededRandom } from '#common/random.ts';
import { CorruptionError } from './disk.ts';
import { compact } from './compaction.ts';
import type { FileLog } from './file-log.ts';
import { ObjectStore } from './object-store.ts';
import { encodeAttributes, flagOwned, recordType, type RecordBody } from './record.ts';
import { FaultDisk, type PowerLoss } from './testing/fault-disk.ts';

const objectBytes = 40_000;
const objectCount = 5;
const fileId = 'volume:1';
/** XTREEMOS_PROPERTY_EFFORT multiplies the runs of each property. */
const effort = Number(process.env.XTREEMOS_PROPERTY_EFFORT ?? 1);
/** Small segments and early tidying, so that short runs pass every path. */
const storeOptions = {
  segmentBytes: 150_000,
  checkpointRecords: 12,
  compaction: { garbageBytes: 60_000, garbageRatio: 1 },
  openFilesMax: 2,
};

type Step =
  | { kind: 'write'; object: number; offset: number; length: number; fill: number }
  | { kind: 'truncate'; object: number; length: number; epoch: number }
  | { kind: 'remove'; object: number }
  | { kind: 'sync' | 'compact' | 'reopen' };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      object: fc.nat(objectCount - 1),
      offset: fc.oneof(fc.constant(0), fc.nat(objectBytes - 1)),
      length: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: objectBytes })),
      fill: fc.integer({ min: 1, max: 255 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('truncate' as const),
      object: fc.integer({ min: -1, max: objectCount - 1 }),
      length: fc.integer({ min: 1, max: objectBytes }),
      epoch: fc.integer({ min: 1, max: 1000 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('remove' as const), object: fc.nat(objectCount - 1) }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constantFrom('sync' as const, 'compact' as const, 'reopen' as const) }),
  },
);

/** Objects as byte arrays, and the epoch: what the store must equal. */
interface Model {
  objects: (Buffer | undefined)[];
  epoch: number;
}

const emptyModel = (): Model => ({ objects: Array.from({ length: objectCount }, () => undefined), epoch: 0 });

function applyToModel(model: Model, change: Step): Model {
  const objects = [...model.objects];
  if (change.kind === 'write') {
    const length = Math.min(change.length, objectBytes - change.offset);
    const before = objects[change.object] ?? Buffer.alloc(0);
    const after = Buffer.alloc(Math.max(before.length, change.offset + length));
    before.copy(after);
    after.fill(change.fill, change.offset, change.offset + length);
    objects[change.object] = after;
  } else if (change.kind === 'truncate') {
    for (let i = change.object + 1; i < objectCount; i++) objects[i] = undefined;
    if (change.object >= 0) {
      const after = Buffer.alloc(change.length);
      objects[change.object]?.copy(after, 0, 0, change.length);
      objects[change.object] = after;
    }
    return { objects, epoch: change.epoch };
  } else if (change.kind === 'remove') {
    objects[change.object] = undefined;
  }
  return { ...model, objects };
}

async function applyToLog(log: FileLog, change: Step): Promise<void> {
  const body: RecordBody = { type: recordType.write, flags: 0, object: 0, version: 1, offset: 0, objectLength: 0 };
  if (change.kind === 'write') {
    const length = Math.min(change.length, objectBytes - change.offset);
    await log.append({ ...body, object: change.object, offset: change.offset }, Buffer.alloc(length, change.fill));
  } else if (change.kind === 'truncate') {
    const epoch = Buffer.alloc(4);
    epoch.writeUInt32LE(change.epoch);
    const flags = change.object >= 0 ? flagOwned : 0;
    await log.append(
      { ...body, type: recordType.truncate, flags, object: change.object, objectLength: change.length },
      encodeAttributes(new Map([['epoch', epoch]])),
    );
  } else if (change.kind === 'remove') {
    await log.append({ ...body, type: recordType.remove, object: change.object });
  } else if (change.kind === 'sync') {
    await log.sync();
  } else if (change.kind === 'compact') {
    await compact(log);
  }
}

async function readAll(log: FileLog): Promise<Model> {
  const model = emptyModel();
  for (let i = 0; i < objectCount; i++) {
    const bytes = await log.read(i, 0, objectBytes);
    if (bytes !== undefined) model.objects[i] = Buffer.concat([bytes.data, Buffer.alloc(bytes.zeros)]);
  }
  model.epoch = log.state.attributes.get('epoch')?.readUInt32LE() ?? 0;
  return model;
}

function isSameBytes(a: Buffer | undefined, b: Buffer | undefined): boolean {
  return a === undefined || b === undefined ? a === b : a.equals(b);
}

function isSame(a: Model, b: Model): boolean {
  return a.epoch === b.epoch && a.objects.every((bytes, i) => isSameBytes(bytes, b.objects[i]));
}

interface Run {
  /** The model after each change, from the empty one. */
  readonly history: Model[];
  /** Index in `history` that was acknowledged, and that was acknowledged as durable. */
  acknowledged: number;
  durable: number;
}

/** Runs the steps until one fails. */
async function runSteps(disk: FaultDisk, steps: readonly Step[]): Promise<Run> {
  const run: Run = { history: [emptyModel()], acknowledged: 0, durable: 0 };
  let store = await ObjectStore.open(disk.mount(), storeOptions);
  for (const change of steps) {
    try {
      if (change.kind === 'reopen') {
        await store.close();
        run.durable = run.acknowledged;
        store = await ObjectStore.open(disk.mount(), storeOptions);
        continue;
      }
      const isChange = change.kind !== 'sync' && change.kind !== 'compact';
      if (isChange) run.history.push(applyToModel(run.history.at(-1)!, change));
      await store.use(fileId, (log) => applyToLog(log, change));
      if (isChange) run.acknowledged = run.history.length - 1;
      else if (change.kind === 'sync') run.durable = run.acknowledged;
    } catch {
      break;
    }
  }
  await store.close().catch(() => undefined);
  return run;
}

async function expectPrefix(disk: FaultDisk, run: Run, from: number): Promise<void> {
  const store = await ObjectStore.open(disk.mount(), storeOptions);
  const found = await store.use(fileId, readAll);
  const isPrefix = run.history.slice(from).some((model) => isSame(model, found));
  if (!isPrefix) throw new Error(`the store equals no state from ${from} to ${run.history.length - 1}`);
  await store.close();
}

test('equals byte arrays through writes, truncates, removals, compaction and reopening', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.integer(), async (steps, seed) => {
      const disk = new FaultDisk(new SeededRandom(seed));
      const run = await runSteps(disk, steps);
      expect(run.acknowledged).toBe(run.history.length - 1);
      await expectPrefix(disk, run, run.acknowledged);
    }),
    { numRuns: 60 * effort },
  );
});

test('loses nothing acknowledged as durable when power fails at any call, and always starts again', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 4, maxLength: 50 }),
      fc.integer(),
      fc.nat(400),
      fc.constantFrom<PowerLoss>('nothing', 'some', 'everything'),
      async (steps, seed, crashAt, loss) => {
        const disk = new FaultDisk(new SeededRandom(seed));
        await (await ObjectStore.open(disk.mount(), storeOptions)).close();
        disk.callsUntilCrash = crashAt + 4;
        const run = await runSteps(disk, steps);
        disk.restart(loss);
        await expectPrefix(disk, run, loss === 'everything' ? run.acknowledged : run.durable);
      },
    ),
    { numRuns: 250 * effort },
  );
});

test('loses nothing durable when power fails again during recovery', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 10, maxLength: 40 }),
      fc.integer(),
      fc.nat(200),
      fc.nat(12),
      async (steps, seed, crashAt, secondCrash) => {
        const disk = new FaultDisk(new SeededRandom(seed));
        await (await ObjectStore.open(disk.mount(), storeOptions)).close();
        disk.callsUntilCrash = crashAt + 4;
        const run = await runSteps(disk, steps);
        disk.restart('some');
        disk.callsUntilCrash = secondCrash + 1;
        await ObjectStore.open(disk.mount(), storeOptions)
          .then((store) => store.use(fileId, readAll))
          .catch(() => undefined);
        disk.restart('some');
        await expectPrefix(disk, run, run.durable);
      },
    ),
    { numRuns: 120 * effort },
  );
});

test('reports a full disk and goes on with what was there', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60 }), fc.nat(200_000), async (steps, free) => {
      const disk = new FaultDisk(new SeededRandom(7));
      let store = await ObjectStore.open(disk.mount(), storeOptions);
      disk.freeBytes = free;
      let model = emptyModel();
      for (const change of steps) {
        if (change.kind === 'reopen' || change.kind === 'compact' || change.kind === 'sync') continue;
        try {
          await store.use(fileId, (log) => applyToLog(log, change));
          model = applyToModel(model, change);
        } catch (error) {
          expect((error as { code?: string }).code).toBe('ENOSPC');
        }
      }
      expect(isSame(await store.use(fileId, readAll), model)).toBe(true);
      disk.freeBytes = Number.MAX_SAFE_INTEGER;
      await store.close();
      store = await ObjectStore.open(disk.mount(), storeOptions);
      expect(isSame(await store.use(fileId, readAll), model)).toBe(true);
      await store.close();
    }),
    { numRuns: 60 * effort },
  );
});

test('refuses changes after a failed sync instead of pretending, and keeps what was durable', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 6, maxLength: 40 }), fc.integer(), async (steps, seed) => {
      const disk = new FaultDisk(new SeededRandom(seed));
      await (await ObjectStore.open(disk.mount(), storeOptions)).close();
      disk.failureChance = 0.08;
      const run = await runSteps(disk, steps);
      disk.restart('some');
      await expectPrefix(disk, run, run.durable);
    }),
    { numRuns: 120 * effort },
  );
});

test('never serves a flipped bit: a read gives the right bytes or fails', async () => {
  let detected = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 6, maxLength: 40 }), fc.integer(), async (steps, seed) => {
      const disk = new FaultDisk(new SeededRandom(seed));
      const run = await runSteps(disk, [...steps, { kind: 'reopen' }]);
      const model = run.history.at(-1)!;
      if (disk.flipBit(/\.(s\d+|ck)$/) === undefined) return;
      const store = await ObjectStore.open(disk.mount(), storeOptions);
      await store.use(fileId, async (log) => {
        for (let i = 0; i < objectCount; i++) {
          try {
            const bytes = await log.read(i, 0, objectBytes);
            const whole = bytes === undefined ? undefined : Buffer.concat([bytes.data, Buffer.alloc(bytes.zeros)]);
            if (!isSameBytes(whole, model.objects[i])) throw new Error(`object ${i} was served wrong`);
          } catch (error) {
            if (!(error instanceof CorruptionError)) throw error;
            detected++;
          }
        }
      });
    }),
    { numRuns: 150 * effort },
  );
  expect(detected).toBeGreaterThan(0);
});

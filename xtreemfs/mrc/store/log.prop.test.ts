import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { LogDisk, LogFile } from './log.ts';
import { RecordWriter, WriteAheadLog } from './log.ts';

const sectorBytes = 512;

/** A disk that loses power during its n-th write: of that one only some sectors arrive, and no later one does. */
function dyingDisk(files: Map<string, Buffer>, cut: { atWrite: number; sectors: readonly boolean[] }): LogDisk {
  let writes = 0;
  const fileOf = (name: string): LogFile => ({
    sizeBytes: files.get(name)?.length ?? 0,
    read: async () => Buffer.from(files.get(name) ?? ''),
    write: async (data, offset) => {
      const file = files.get(name);
      if (file === undefined || writes > cut.atWrite) throw new Error('no power');
      if (writes++ < cut.atWrite) {
        file.set(data, offset);
        return;
      }
      const first = Math.floor(offset / sectorBytes);
      const last = Math.floor((offset + data.length - 1) / sectorBytes);
      for (let sector = first; sector <= last; sector++) {
        if (cut.sectors[(sector - first) % cut.sectors.length] !== true) continue;
        const from = Math.max(offset, sector * sectorBytes);
        const to = Math.min(offset + data.length, (sector + 1) * sectorBytes);
        file.set(data.subarray(from - offset, to - offset), from);
      }
      throw new Error('no power');
    },
    close: async () => undefined,
  });
  return {
    list: async () => [...files.keys()],
    open: async (name) => fileOf(name),
    create: async (name, sizeBytes) => {
      files.set(name, Buffer.alloc(sizeBytes));
      return fileOf(name);
    },
  };
}

test('whatever sectors of the last write a power cut leaves, every acknowledged record is there and nothing else', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 60 }),
      fc.nat(60),
      fc.array(fc.boolean(), { minLength: 1, maxLength: 8 }),
      fc.integer({ min: 1, max: 10 }),
      async (sizes, atWrite, sectors, lag) => {
        const files = new Map<string, Buffer>();
        const settings = { segmentBytes: 16 * 1024, segmentsMax: 64, applied: 0, replay: () => undefined };
        const { log } = await WriteAheadLog.open(dyingDisk(files, { atWrite, sectors }), settings);
        let acknowledged = 0;
        let applied = 0;
        for (const [at, size] of sizes.entries()) {
          const writer = new RecordWriter();
          writer.add(`k${at + 1}`, Buffer.alloc(size, at + 1));
          try {
            await log.append(at + 1, writer.finish());
          } catch {
            break;
          }
          acknowledged = at + 1;
          if (acknowledged % 7 === 0) log.release((applied = Math.max(applied, acknowledged - lag)));
        }
        const seen: number[] = [];
        const healthy = dyingDisk(files, { atWrite: Infinity, sectors: [true] });
        const { lastNumber } = await WriteAheadLog.open(healthy, {
          ...settings,
          applied,
          replay: ({ number, writes }) => {
            expect(writes.get(`k${number}`)).toEqual(Buffer.alloc(sizes[number - 1] ?? 0, number));
            seen.push(number);
          },
        });
        // The record that was being written may have arrived whole.
        expect([acknowledged, acknowledged + 1]).toContain(lastNumber);
        expect(seen).toEqual(Array.from({ length: lastNumber - applied }, (_, at) => applied + at + 1));
      },
    ),
    { numRuns: 100 },
  );
}, 60_000);

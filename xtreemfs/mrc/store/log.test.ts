import { describe, expect, test } from '@jest/globals';
import type { LogDisk, LogFile } from './log.ts';
import { LogDamageError, RecordWriter, WriteAheadLog } from './log.ts';

/** Segments in memory; `files` is what would be on the disk. */
function memoryDisk(): LogDisk & { files: Map<string, Buffer> } {
  const files = new Map<string, Buffer>();
  const fileOf = (name: string): LogFile => ({
    sizeBytes: files.get(name)?.length ?? 0,
    read: async () => Buffer.from(files.get(name) ?? ''),
    write: async (data, offset) => files.get(name)?.set(data, offset),
    close: async () => undefined,
  });
  return {
    files,
    list: async () => [...files.keys()],
    open: async (name) => fileOf(name),
    create: async (name, sizeBytes) => {
      files.set(name, Buffer.alloc(sizeBytes));
      return fileOf(name);
    },
  };
}

const segmentBytes = 1024;

async function openLog(
  disk: LogDisk,
  applied = 0,
): Promise<{ log: WriteAheadLog; lastNumber: number; found: string[] }> {
  const found: string[] = [];
  const opened = await WriteAheadLog.open(disk, {
    segmentBytes,
    segmentsMax: 4,
    applied,
    replay: ({ number, writes }) => {
      for (const [key, value] of writes)
        found.push(`${number} ${key}=${value === undefined ? '-' : Buffer.from(value).toString()}`);
    },
  });
  return { ...opened, found };
}

function aRecord(key: string, value: string | undefined): Buffer {
  const writer = new RecordWriter();
  writer.add(key, value === undefined ? undefined : Buffer.from(value));
  return writer.finish();
}

async function fill(log: WriteAheadLog, from: number, to: number, text = 'value'): Promise<void> {
  for (let number = from; number <= to; number++) await log.append(number, aRecord(`k${number}`, text));
}

describe('WriteAheadLog', () => {
  test('gives back every record in order, deletions too', async () => {
    const disk = memoryDisk();
    const { log } = await openLog(disk);
    await log.append(1, aRecord('a', 'one'));
    await log.append(2, aRecord('a', undefined));
    expect((await openLog(disk)).found).toEqual(['1 a=one', '2 a=-']);
  });

  test('goes over several segments, and replays only what is not applied', async () => {
    const disk = memoryDisk();
    const { log } = await openLog(disk);
    await fill(log, 1, 40);
    expect(disk.files.size).toBeGreaterThan(1);
    const { found, lastNumber } = await openLog(disk, 37);
    expect(found).toEqual(['38 k38=value', '39 k39=value', '40 k40=value']);
    expect(lastNumber).toBe(40);
  });

  test('uses released segments again, whose old records never count', async () => {
    const disk = memoryDisk();
    const { log } = await openLog(disk);
    for (let round = 0; round < 20; round++) {
      await fill(log, round * 10 + 1, round * 10 + 10);
      log.release(round * 10 + 5);
    }
    expect(disk.files.size).toBeLessThanOrEqual(4);
    const { found, lastNumber } = await openLog(disk, 195);
    expect(lastNumber).toBe(200);
    expect(found).toHaveLength(5);
  });

  test('refuses to grow without bound when nothing is released', async () => {
    const { log } = await openLog(memoryDisk());
    await expect(fill(log, 1, 200)).rejects.toThrow('all 4 segments hold changes');
  });

  test('a torn last record is as if it had not been written', async () => {
    const disk = memoryDisk();
    const { log } = await openLog(disk);
    await fill(log, 1, 3);
    const file = disk.files.get('0000.log')!;
    const last = file.lastIndexOf(Buffer.from('XRM1'));
    for (let cut = last; cut < last + 24 + 10; cut++) {
      const torn = memoryDisk();
      const copy = Buffer.from(file);
      copy.fill(0, cut);
      torn.files.set('0000.log', copy);
      expect((await openLog(torn)).found).toEqual(['1 k1=value', '2 k2=value']);
    }
  });

  test('a flipped bit before intact records is reported, never skipped', async () => {
    const disk = memoryDisk();
    const { log } = await openLog(disk);
    await fill(log, 1, 30);
    const file = disk.files.get('0000.log')!;
    const second = file.indexOf(Buffer.from('XRM1'), 8);
    for (const offset of [second, second + 5, second + 9, second + 17, second + 26]) {
      const bad = memoryDisk();
      for (const [name, content] of disk.files) bad.files.set(name, Buffer.from(content));
      const copy = bad.files.get('0000.log')!;
      copy.writeUInt8(copy.readUInt8(offset) ^ 0x10, offset);
      await expect(openLog(bad)).rejects.toThrow(LogDamageError);
    }
  });

  test('a missing segment is reported', async () => {
    const disk = memoryDisk();
    const { log } = await openLog(disk);
    await fill(log, 1, 40);
    disk.files.delete('0000.log');
    await expect(openLog(disk)).rejects.toThrow('damaged or missing');
  });
});

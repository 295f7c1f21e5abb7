import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { DurableStore } from './durable-store.ts';
import type { DurableStoreOptions } from './durable-store.ts';
import { folderDisk } from './log.ts';
import type { LogDisk } from './log.ts';
import { describeKvStore, put, scan } from '../testing/store-compliance.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'xtreemfs-mrc-store-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

const openStore = async (overrides: Partial<DurableStoreOptions> = {}): Promise<DurableStore> =>
  DurableStore.open({
    path: folder,
    clock: systemClock,
    logger: silentLogger,
    bucketOf: (key) => key.slice(0, 1),
    onFailure: () => undefined,
    segmentBytes: 64 * 1024,
    ...overrides,
  });

describeKvStore('DurableStore', () => ({
  open: async (limits) => await openStore({ segmentsMax: 64, ...limits }),
  close: async (store) => await store.close(),
}));

describe('DurableStore', () => {
  test('a second process is refused the folder', async () => {
    const store = await openStore();
    await expect(openStore()).rejects.toThrow('another process has it open');
    await store.close();
  });

  test('a disk that fails stops the store before anything more is acknowledged', async () => {
    const real = folderDisk(join(folder, 'log'));
    let isBroken = false;
    const disk: LogDisk = {
      ...real,
      create: async (name, size) => {
        const file = await real.create(name, size);
        const write: typeof file.write = async (data, offset, isLone) => {
          if (isBroken) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
          await file.write(data, offset, isLone);
        };
        return { sizeBytes: file.sizeBytes, read: () => file.read(), write, close: () => file.close() };
      },
    };
    const failures: Error[] = [];
    const store = await openStore({ logDisk: disk, onFailure: (error) => failures.push(error) });
    await store.durable(put(store, { a1: 'kept' }));
    isBroken = true;
    await expect(store.durable(put(store, { a2: 'lost' }))).rejects.toThrow('Write to the log');
    expect(failures).toHaveLength(1);
    expect(() => put(store, { a3: 'refused' })).toThrow('Write to the log');
    await store.close();
    const again = await openStore();
    expect(scan(again, 'a')).toEqual(['a1=kept']);
    await again.close();
  });
});

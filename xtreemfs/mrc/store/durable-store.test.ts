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
const put = (store: DurableStore, entries: Record<string, string | undefined>): number =>
  store.apply(
    new Map(Object.entries(entries).map(([key, value]) => [key, value === undefined ? value : Buffer.from(value)])),
  );
const scan = (store: Pick<DurableStore, 'scan'>, prefix: string, after?: string): string[] =>
  store
    .scan({ prefix, limit: 100, ...(after === undefined ? {} : { after }) })
    .map(({ key, value }) => `${key}=${Buffer.from(value).toString()}`);

describe('DurableStore', () => {
  test('reads see changes at once, from memory and from LMDB alike', async () => {
    const store = await openStore();
    put(store, { a1: 'x', a3: 'z', b1: 'other' });
    await store.checkpoint();
    put(store, { a2: 'y', a3: undefined, a4: 'w' });
    expect(scan(store, 'a')).toEqual(['a1=x', 'a2=y', 'a4=w']);
    expect(scan(store, 'a', 'a1')).toEqual(['a2=y', 'a4=w']);
    expect(store.get('a3')).toBeUndefined();
    await store.close();
  });

  test('keeps everything over a restart', async () => {
    let store = await openStore();
    for (let i = 0; i < 50; i++) await store.durable(put(store, { [`a${String(i).padStart(2, '0')}`]: String(i) }));
    await store.close();
    store = await openStore();
    expect(scan(store, 'a')).toHaveLength(50);
    await store.close();
  });

  test('a view does not see later changes', async () => {
    const store = await openStore();
    put(store, { a1: 'old' });
    const view = await store.view();
    put(store, { a1: 'new', a2: 'more' });
    await store.checkpoint();
    expect(scan(view as unknown as DurableStore, 'a')).toEqual(['a1=old']);
    expect(scan(store, 'a')).toEqual(['a1=new', 'a2=more']);
    view.close();
    await store.close();
  });

  test('checkpoints in the background leave no change behind', async () => {
    const store = await openStore({ memtableBytes: 4096, segmentsMax: 64 });
    const expected = new Map<string, string>();
    const waits: Promise<void>[] = [];
    for (let i = 0; i < 3000; i++) {
      const key = `a${String((i * 7) % 97).padStart(2, '0')}`;
      expected.set(key, String(i));
      waits.push(store.durable(put(store, { [key]: String(i) })));
      if (i % 100 === 0) await Promise.all(waits.splice(0));
    }
    await Promise.all(waits);
    expect(scan(store, 'a')).toEqual([...expected].sort().map(([key, value]) => `${key}=${value}`));
    expect(store.stats().records).toBeGreaterThan(0);
    await store.close();
  });

  test('an answer waits for what it saw: the read ticket names unsynced values only', async () => {
    const store = await openStore();
    const ticket = put(store, { a1: 'x' });
    store.get('a1');
    expect(store.takeReadTicket()).toBe(ticket);
    await store.durable(ticket);
    store.get('a1');
    expect(store.takeReadTicket()).toBeLessThanOrEqual(store.durableTicket);
    await store.close();
  });

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

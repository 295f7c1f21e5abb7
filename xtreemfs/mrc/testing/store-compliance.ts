import { describe, expect, test } from '@jest/globals';
import type { DurableStore } from '../store/durable-store.ts';

/** Values that take so much memory are moved to the database. */
export interface StoreLimits {
  readonly memtableBytes?: number;
}

/** How a kind of store is opened, again and again with what it had. */
export interface StoreMaker {
  open(limits?: StoreLimits): Promise<DurableStore>;
  close(store: DurableStore): Promise<void>;
}

/** Applies changes given as texts. @returns the ticket. */
export function put(store: DurableStore, entries: Record<string, string | undefined>): number {
  return store.apply(
    new Map(Object.entries(entries).map(([key, value]) => [key, value === undefined ? value : Buffer.from(value)])),
  );
}

/** Entries of a range, as `key=value`. */
export function scan(store: Pick<DurableStore, 'scan'>, prefix: string, after?: string): string[] {
  return store
    .scan({ prefix, limit: 100, ...(after === undefined ? {} : { after }) })
    .map(({ key, value }) => `${key}=${Buffer.from(value).toString()}`);
}

/** What every store of the MRC promises, wherever its log is. */
export function describeKvStore(name: string, maker: () => StoreMaker): void {
  describe(`${name}, as every store of the MRC`, () => {
    test('reads see changes at once, from memory and from LMDB alike', async () => {
      const store = await maker().open();
      put(store, { a1: 'x', a3: 'z', b1: 'other' });
      await store.checkpoint();
      put(store, { a2: 'y', a3: undefined, a4: 'w' });
      expect(scan(store, 'a')).toEqual(['a1=x', 'a2=y', 'a4=w']);
      expect(scan(store, 'a', 'a1')).toEqual(['a2=y', 'a4=w']);
      expect(store.get('a3')).toBeUndefined();
      await maker().close(store);
    });

    test('keeps everything over a restart', async () => {
      let store = await maker().open();
      for (let i = 0; i < 50; i++) await store.durable(put(store, { [`a${String(i).padStart(2, '0')}`]: String(i) }));
      await maker().close(store);
      store = await maker().open();
      expect(scan(store, 'a')).toHaveLength(50);
      await maker().close(store);
    });

    test('a view does not see later changes', async () => {
      const store = await maker().open();
      put(store, { a1: 'old' });
      const view = await store.view();
      put(store, { a1: 'new', a2: 'more' });
      await store.checkpoint();
      expect(scan(view as unknown as DurableStore, 'a')).toEqual(['a1=old']);
      expect(scan(store, 'a')).toEqual(['a1=new', 'a2=more']);
      view.close();
      await maker().close(store);
    });

    test('checkpoints in the background leave no change behind', async () => {
      const store = await maker().open({ memtableBytes: 4096 });
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
      await maker().close(store);
    });

    test('an answer waits for what it saw: the read ticket names unsynced values only', async () => {
      const store = await maker().open();
      const ticket = put(store, { a1: 'x' });
      store.get('a1');
      expect(store.takeReadTicket()).toBe(ticket);
      await store.durable(ticket);
      store.get('a1');
      expect(store.takeReadTicket()).toBeLessThanOrEqual(store.durableTicket);
      await maker().close(store);
    });
  });
}

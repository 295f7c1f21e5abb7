import type { Key, KvEntry, KvStore, KvView, ScanOptions, WriteSet } from './kv.ts';
import { mergeScan } from './layers.ts';
import { Memtable } from './memtable.ts';

const empty = (): Iterator<KvEntry> => [][Symbol.iterator]();

/** A store that forgets when the process ends: for tests of the operations, and the model of the durable one. */
export class MemoryStore implements KvStore {
  private readonly table: Memtable;
  readonly durableTicket = 0;

  constructor(bucketOf: (key: Key) => Key | undefined) {
    this.table = new Memtable(bucketOf);
  }

  get(key: Key): Uint8Array | undefined {
    return this.table.values.get(key)?.value;
  }

  scan(options: ScanOptions): KvEntry[] {
    return mergeScan([this.table], empty(), options, () => undefined);
  }

  apply(writes: WriteSet): number {
    this.table.apply(writes, 0);
    return 0;
  }

  async durable(): Promise<void> {
    return undefined;
  }

  takeReadTicket(): number {
    return 0;
  }

  async view(): Promise<KvView> {
    const copy = new Map(this.table.values);
    const keys = [...copy.keys()].filter((key) => copy.get(key)?.value !== undefined).sort();
    return {
      get: (key) => copy.get(key)?.value,
      scan: ({ prefix, after, limit }) =>
        keys
          .filter((key) => key.startsWith(prefix) && (after === undefined || key > after))
          .slice(0, limit)
          .map((key) => ({ key, value: copy.get(key)?.value ?? new Uint8Array() })),
      close: () => undefined,
    };
  }

  async close(): Promise<void> {
    return undefined;
  }
}

import type { Database, RootDatabase } from 'lmdb';
import { openLmdb } from '#xtreemfs/service/lmdb.ts';
import { dirTables, type DirRecord, type DirStore, type DirTable } from './store.ts';

const mapBytesMax = 4 * 1024 * 1024 * 1024;

/**
 * Keeps the records of one DIR in LMDB. Each write is in a transaction that is on the disk before it resolves; writes
 * that come at the same time share one (group commit).
 */
export class LmdbDirStore implements DirStore {
  private readonly root: RootDatabase;
  private readonly tables: ReadonlyMap<DirTable, Database<Buffer, string>>;

  private constructor(root: RootDatabase) {
    this.root = root;
    this.tables = new Map(
      dirTables.map((table) => [table, this.root.openDB<Buffer, string>({ name: table, encoding: 'binary' })]),
    );
  }

  /** @param folder - made when it does not exist. One process may use it at a time. */
  static async open(folder: string): Promise<LmdbDirStore> {
    return new LmdbDirStore(await openLmdb(folder, 'data.mdb', { maxDbs: dirTables.length, mapSize: mapBytesMax }));
  }

  async get(table: DirTable, key: string): Promise<DirRecord | undefined> {
    return decodeRecord(this.table(table).get(key));
  }

  async list(table: DirTable): Promise<ReadonlyMap<string, DirRecord>> {
    const records = new Map<string, DirRecord>();
    for (const { key, value } of this.table(table).getRange()) {
      const record = decodeRecord(value);
      if (record !== undefined) records.set(key, record);
    }
    return records;
  }

  async replace(table: DirTable, key: string, expectedVersion: number, record: DirRecord): Promise<boolean> {
    const db = this.table(table);
    return db.transaction(() => {
      const stored = decodeRecord(db.get(key));
      if ((stored?.version ?? 0) !== expectedVersion) return false;
      void db.put(key, encodeRecord(record));
      return true;
    });
  }

  async remove(table: DirTable, key: string): Promise<void> {
    await this.table(table).remove(key);
  }

  async close(): Promise<void> {
    await this.root.close();
  }

  private table(table: DirTable): Database<Buffer, string> {
    const db = this.tables.get(table);
    if (db === undefined) throw new TypeError(`There is no table ${table}`);
    return db;
  }
}

/** Version in 8 bytes, then the message. */
export function encodeRecord(record: DirRecord): Buffer {
  const bytes = Buffer.allocUnsafe(8 + record.value.length);
  bytes.writeBigInt64BE(BigInt(record.version));
  record.value.copy(bytes, 8);
  return bytes;
}

/** The record that {@link encodeRecord} made the bytes of; undefined when there are none. */
export function decodeRecord(bytes: Buffer | undefined): DirRecord | undefined {
  if (bytes === undefined || bytes.length < 8) return undefined;
  return { version: Number(bytes.readBigInt64BE()), value: Buffer.from(bytes.subarray(8)) };
}

import { dirTables, type DirRecord, type DirStore, type DirTable } from '../store.ts';

/** Keeps records in memory: for tests and for trying things out. Nothing survives the process. */
export class MemoryDirStore implements DirStore {
  private readonly tables = new Map(dirTables.map((table) => [table, new Map<string, DirRecord>()]));

  async get(table: DirTable, key: string): Promise<DirRecord | undefined> {
    return this.tables.get(table)?.get(key);
  }

  async list(table: DirTable): Promise<ReadonlyMap<string, DirRecord>> {
    return new Map(this.tables.get(table));
  }

  async replace(table: DirTable, key: string, expectedVersion: number, record: DirRecord): Promise<boolean> {
    const records = this.tables.get(table);
    if ((records?.get(key)?.version ?? 0) !== expectedVersion) return false;
    records?.set(key, record);
    return true;
  }

  async remove(table: DirTable, key: string): Promise<void> {
    this.tables.get(table)?.delete(key);
  }

  async close(): Promise<void> {
    // Nothing to close.
  }
}

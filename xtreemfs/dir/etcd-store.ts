import type { Etcd3 } from 'etcd3';
import { etcdClient, type EtcdOptions } from '../service/etcd.ts';
import { decodeRecord, encodeRecord } from './lmdb-store.ts';
import type { DirRecord, DirStore, DirTable } from './store.ts';

/** How the store is set up. */
export interface EtcdStoreOptions extends EtcdOptions {
  /** Put before every key; one installation, one prefix. Default `/xtreemfs/dir`. */
  readonly prefix?: string;
}

/**
 * Keeps the records of several DIRs in one etcd: each DIR reads and writes through to it and holds nothing itself, so
 * any of them may die at any time. Reads are linearizable; a write is a transaction on the revision that was read.
 */
export class EtcdDirStore implements DirStore {
  private readonly client: Etcd3;
  private readonly prefix: string;

  constructor(options: EtcdStoreOptions) {
    this.client = etcdClient(options);
    this.prefix = options.prefix ?? '/xtreemfs/dir';
  }

  async get(table: DirTable, key: string): Promise<DirRecord | undefined> {
    const { record } = await this.read(table, key);
    return record;
  }

  async list(table: DirTable): Promise<ReadonlyMap<string, DirRecord>> {
    const prefix = this.key(table, '');
    const found = await this.client.getAll().prefix(prefix).buffers();
    const records = new Map<string, DirRecord>();
    for (const [key, bytes] of Object.entries(found)) {
      const record = decodeRecord(bytes);
      if (record !== undefined) records.set(key.slice(prefix.length), record);
    }
    return records;
  }

  async replace(table: DirTable, key: string, expectedVersion: number, record: DirRecord): Promise<boolean> {
    const { record: stored, revision } = await this.read(table, key);
    if ((stored?.version ?? 0) !== expectedVersion) return false;
    const name = this.key(table, key);
    const result = await this.client
      .if(name, 'Mod', '==', revision)
      .then(this.client.put(name).value(encodeRecord(record)))
      .commit();
    return result.succeeded;
  }

  async remove(table: DirTable, key: string): Promise<void> {
    await this.client.delete().key(this.key(table, key));
  }

  async close(): Promise<void> {
    this.client.close();
  }

  private async read(table: DirTable, key: string): Promise<{ record: DirRecord | undefined; revision: string }> {
    const { kvs } = await this.client.get(this.key(table, key)).exec();
    const [found] = kvs;
    return { record: decodeRecord(found?.value), revision: found?.mod_revision ?? '0' };
  }

  private key(table: DirTable, key: string): string {
    return `${this.prefix}/${table}/${key}`;
  }
}

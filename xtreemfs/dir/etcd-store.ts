import { readFileSync } from 'node:fs';
import { Etcd3, type IOptions } from 'etcd3';
import { decodeRecord, encodeRecord } from './lmdb-store.ts';
import type { DirRecord, DirStore, DirTable } from './store.ts';

/** How to reach an etcd. */
export interface EtcdStoreOptions {
  /** URLs of members, for example `https://etcd-0:2379`. */
  readonly endpoints: readonly string[];
  /** Put before every key; one installation, one prefix. Default `/xtreemfs/dir`. */
  readonly prefix?: string;
  /** PEM files: trust anchors, and the certificate to show. */
  readonly tls?: { readonly caPath: string; readonly certificatePath: string; readonly privateKeyPath: string };
  /** Default 5,000 ms. */
  readonly timeoutMs?: number;
}

/**
 * Keeps the records of several DIRs in one etcd: each DIR reads and writes through to it and holds nothing itself, so
 * any of them may die at any time. Reads are linearizable; a write is a transaction on the revision that was read.
 */
export class EtcdDirStore implements DirStore {
  private readonly client: Etcd3;
  private readonly prefix: string;

  constructor(options: EtcdStoreOptions) {
    const timeoutMs = options.timeoutMs ?? 5_000;
    const settings: IOptions = {
      hosts: [...options.endpoints],
      dialTimeout: timeoutMs,
      defaultCallOptions: () => ({ deadline: Date.now() + timeoutMs }),
      ...(options.tls === undefined
        ? {}
        : {
            credentials: {
              rootCertificate: readFileSync(options.tls.caPath),
              certChain: readFileSync(options.tls.certificatePath),
              privateKey: readFileSync(options.tls.privateKeyPath),
            },
          }),
    };
    this.client = new Etcd3(settings);
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

import type { Key, KvEntry, KvReader, ScanOptions, WriteSet } from '../store/kv.ts';
import { refuse } from './errno.ts';
import { aclKey, countersKey, entryKey, inodeKey, quotaKey, volumeKey } from './keys.ts';
import type { AclRecord, Counters, EntryRecord, Inode, QuotaRecord } from './records.ts';
import {
  decodeAcl,
  decodeCounters,
  decodeEntry,
  decodeInode,
  decodeQuota,
  encodeAcl,
  encodeCounters,
  encodeEntry,
  encodeInode,
  encodeQuota,
} from './records.ts';
import type { Volume } from './volume.ts';
import { decodeVolume, encodeVolume } from './volume.ts';

interface Loaded<T> {
  readonly value: T;
  isDirty: boolean;
}

/**
 * One operation's view of the store: reads see its own changes, and the changes leave as one write set.
 * Operations run from start to end without waiting, one after the other, so that a transaction needs no lock; throwing
 * leaves no trace.
 */
export class Tx {
  private readonly store: KvReader;
  private readonly volumeOf: (number: number) => Volume | undefined;
  private readonly writes = new Map<Key, Uint8Array | undefined>();
  private readonly inodes = new Map<Key, Loaded<Inode> | undefined>();
  private readonly counts = new Map<number, Loaded<Counters>>();
  private readonly quotas = new Map<Key, Loaded<QuotaRecord>>();
  /** Volumes that this operation changed (undefined: removed), by number. */
  readonly volumeChanges = new Map<number, Volume | undefined>();
  /** Directories whose entries this operation changed, each with its etag before. */
  readonly changedDirectories = new Map<Inode, number>();
  /** Time of the operation, nanoseconds since 1970. */
  readonly nowNs: bigint;

  constructor(store: KvReader, nowNs: bigint, volumeOf: (number: number) => Volume | undefined) {
    this.store = store;
    this.nowNs = nowNs;
    this.volumeOf = volumeOf;
  }

  get nowMs(): number {
    return Number(this.nowNs / 1_000_000n);
  }

  get(key: Key): Uint8Array | undefined {
    return this.writes.has(key) ? this.writes.get(key) : this.store.get(key);
  }

  put(key: Key, value: Uint8Array): void {
    this.writes.set(key, value);
  }

  remove(key: Key): void {
    this.writes.set(key, undefined);
  }

  /** Entries in key order; changes of this operation are counted in. */
  scan(options: ScanOptions): KvEntry[] {
    const own = [...this.writes].filter(
      ([key]) => key.startsWith(options.prefix) && (options.after === undefined || key > options.after),
    );
    if (own.length === 0) return this.store.scan(options);
    const merged = new Map<Key, Uint8Array | undefined>();
    // Each own change may hide one stored entry, so this many are enough.
    const wanted = Math.min(options.limit + own.length, Number.MAX_SAFE_INTEGER);
    for (const { key, value } of this.store.scan({ ...options, limit: wanted })) merged.set(key, value);
    for (const [key, value] of own) merged.set(key, value);
    return [...merged]
      .filter((pair): pair is [Key, Uint8Array] => pair[1] !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .slice(0, options.limit)
      .map(([key, value]) => ({ key, value }));
  }

  volume(number: number): Volume | undefined {
    if (this.volumeChanges.has(number)) return this.volumeChanges.get(number);
    return this.volumeOf(number);
  }

  putVolume(volume: Volume): void {
    this.volumeChanges.set(volume.number, volume);
    this.put(volumeKey(volume.number), encodeVolume(volume));
  }

  removeVolume(number: number): void {
    this.volumeChanges.set(number, undefined);
    this.remove(volumeKey(number));
  }

  /** The inode, to read or to change (then call `touch`). Undefined when there is none. */
  findInode(volume: number, ino: number): Inode | undefined {
    const key = inodeKey(volume, ino);
    const loaded = this.inodes.get(key);
    if (loaded !== undefined) return loaded.value;
    if (this.inodes.has(key)) return undefined;
    const bytes = this.get(key);
    const value = bytes === undefined ? undefined : decodeInode(volume, ino, bytes);
    this.inodes.set(key, value === undefined ? undefined : { value, isDirty: false });
    return value;
  }

  /** @throws {PosixError} ENOENT when the file is gone. */
  inode(volume: number, ino: number): Inode {
    return this.findInode(volume, ino) ?? refuse('ENOENT', `File ${ino} does not exist`);
  }

  /** Marks a changed (or new) inode to be written. */
  touch(inode: Inode): void {
    this.inodes.set(inodeKey(inode.volume, inode.ino), { value: inode, isDirty: true });
  }

  removeInode(inode: Inode): void {
    const key = inodeKey(inode.volume, inode.ino);
    this.inodes.set(key, undefined);
    this.remove(key);
  }

  findEntry(volume: number, parent: number, name: string): EntryRecord | undefined {
    const bytes = this.get(entryKey(volume, parent, name));
    return bytes === undefined ? undefined : decodeEntry(bytes);
  }

  putEntry(parent: Inode, name: string, entry: EntryRecord): void {
    this.put(entryKey(parent.volume, parent.ino, name), encodeEntry(entry));
  }

  removeEntry(parent: Inode, name: string): void {
    this.remove(entryKey(parent.volume, parent.ino, name));
  }

  acl(inode: Inode): AclRecord | undefined {
    const bytes = this.get(aclKey(inode.volume, inode.ino));
    return bytes === undefined ? undefined : decodeAcl(bytes);
  }

  putAcl(inode: Inode, acl: AclRecord | undefined): void {
    const key = aclKey(inode.volume, inode.ino);
    if (acl === undefined) this.remove(key);
    else this.put(key, encodeAcl(acl));
  }

  /** The counters of a volume, to change in place. */
  counters(volume: number): Counters {
    const loaded = this.counts.get(volume);
    if (loaded !== undefined) {
      loaded.isDirty = true;
      return loaded.value;
    }
    const bytes = this.get(countersKey(volume));
    const value =
      bytes === undefined
        ? { nextIno: 2, files: 0, directories: 0, usedBytes: 0, blockedBytes: 0 }
        : decodeCounters(bytes);
    this.counts.set(volume, { value, isDirty: true });
    return value;
  }

  /** The counters of a volume, to read. */
  readCounters(volume: number): Readonly<Counters> {
    const loaded = this.counts.get(volume);
    if (loaded !== undefined) return loaded.value;
    const value = this.counters(volume);
    this.counts.set(volume, { value, isDirty: false });
    return value;
  }

  /** Quota and use of a user or group, to change in place. */
  quota(volume: number, kind: 'u' | 'g', name: string): QuotaRecord {
    const key = quotaKey(volume, kind, name);
    const loaded = this.quotas.get(key);
    if (loaded !== undefined) return loaded.value;
    const bytes = this.get(key);
    const value = bytes === undefined ? { quotaBytes: 0, usedBytes: 0, blockedBytes: 0 } : decodeQuota(bytes);
    this.quotas.set(key, { value, isDirty: true });
    return value;
  }

  /** Everything that changed, encoded. */
  takeWrites(): WriteSet {
    for (const [key, loaded] of this.inodes) if (loaded?.isDirty === true) this.put(key, encodeInode(loaded.value));
    for (const [volume, loaded] of this.counts) {
      if (loaded.isDirty) this.put(countersKey(volume), encodeCounters(loaded.value));
    }
    for (const [key, { value }] of this.quotas) {
      const isEmpty = value.quotaBytes === 0 && value.usedBytes === 0 && value.blockedBytes === 0;
      if (isEmpty) this.remove(key);
      else this.put(key, encodeQuota(value));
    }
    return this.writes;
  }
}

/** All volumes (snapshots too) of a store. */
export function readVolumes(store: KvReader): Volume[] {
  const volumes: Volume[] = [];
  let after: Key | undefined;
  for (;;) {
    const page = store.scan({ prefix: 'V', limit: 256, ...(after === undefined ? {} : { after }) });
    for (const { value } of page) volumes.push(decodeVolume(value));
    after = page.at(-1)?.key;
    if (page.length < 256) return volumes;
  }
}

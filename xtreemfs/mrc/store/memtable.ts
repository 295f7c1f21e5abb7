import type { Key, WriteSet } from './kv.ts';
import { prefixEnd } from './kv.ts';

/** A value in memory and the ticket that makes it durable. `value` undefined: the key was deleted. */
export interface MemValue {
  readonly value: Uint8Array | undefined;
  readonly ticket: number;
}

/** Sorted keys of one bucket; keys that came since the last scan wait in `fresh`. */
interface Bucket {
  sorted: Key[];
  fresh: Key[];
}

/** Bytes that one entry costs beside key and value (map slot, object, buffer header), measured roughly. */
const entryOverheadBytes = 160;

/**
 * The newest values of keys, in memory. Keys are kept in order per bucket (a directory, an object's attributes), and
 * sorted only when a bucket is scanned: a create costs two map entries and no tree.
 * @param bucketOf - the bucket of a key, or undefined for a key that nobody scans.
 */
export class Memtable {
  readonly values = new Map<Key, MemValue>();
  private readonly buckets = new Map<Key, Bucket>();
  private readonly bucketOf: (key: Key) => Key | undefined;
  /** Estimated memory of all entries. */
  sizeBytes = 0;

  constructor(bucketOf: (key: Key) => Key | undefined) {
    this.bucketOf = bucketOf;
  }

  apply(writes: WriteSet, ticket: number): void {
    for (const [key, value] of writes) {
      const before = this.values.get(key);
      if (before === undefined) {
        this.sizeBytes += entryOverheadBytes + key.length;
        this.addToBucket(key);
      }
      this.sizeBytes += (value?.length ?? 0) - (before?.value?.length ?? 0);
      this.values.set(key, { value, ticket });
    }
  }

  /** Keys (deleted ones too) that start with `prefix` and lie behind `after`, in order, from `position` on. */
  range(prefix: Key, after: Key | undefined): { keys: readonly Key[]; start: number; end: number } {
    const name = this.bucketOf(prefix);
    const bucket = name === undefined ? undefined : this.buckets.get(name);
    if (bucket === undefined) return { keys: [], start: 0, end: 0 };
    settle(bucket);
    const from =
      after !== undefined && after >= prefix ? upperBound(bucket.sorted, after) : lowerBound(bucket.sorted, prefix);
    return { keys: bucket.sorted, start: from, end: lowerBound(bucket.sorted, prefixEnd(prefix)) };
  }

  private addToBucket(key: Key): void {
    const name = this.bucketOf(key);
    if (name === undefined) return;
    const bucket = this.buckets.get(name);
    if (bucket === undefined) this.buckets.set(name, { sorted: [key], fresh: [] });
    else bucket.fresh.push(key);
  }
}

/** Merges the fresh keys into the sorted ones. */
function settle(bucket: Bucket): void {
  const { sorted, fresh } = bucket;
  if (fresh.length === 0) return;
  fresh.sort(compareKeys);
  const merged: Key[] = [];
  let i = 0;
  for (const key of fresh) {
    for (let next = sorted[i]; next !== undefined && next < key; next = sorted[i]) {
      merged.push(next);
      i++;
    }
    merged.push(key);
  }
  bucket.sorted = i === 0 ? merged.concat(sorted) : merged.concat(sorted.slice(i));
  bucket.fresh = [];
}

/** Byte order of binary strings. */
export function compareKeys(a: Key, b: Key): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Index of the first key ≥ `key`. */
function lowerBound(keys: readonly Key[], key: Key): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const at = keys[middle];
    if (at !== undefined && at < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Index of the first key > `key`. */
function upperBound(keys: readonly Key[], key: Key): number {
  const at = lowerBound(keys, key);
  return keys[at] === key ? at + 1 : at;
}

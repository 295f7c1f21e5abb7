/**
 * The ordered key-value store under the MRC, seen from the operations.
 *
 * Keys are «binary strings»: one character per byte (latin1), so that comparing strings orders them as bytes and a
 * key can index a `Map`. `keys.ts` builds them.
 */
export type Key = string;

/** One entry. The value must not be changed by who receives it. */
export interface KvEntry {
  readonly key: Key;
  readonly value: Uint8Array;
}

/** Which part of a range to read. */
export interface ScanOptions {
  /** Only keys that start with this. */
  readonly prefix: Key;
  /** Start behind this key. */
  readonly after?: Key;
  /** At most so many entries. */
  readonly limit: number;
}

/** Reads of one consistent state. */
export interface KvReader {
  get(key: Key): Uint8Array | undefined;
  /** Entries in key order. */
  scan(options: ScanOptions): KvEntry[];
}

/** Changes of one operation: a value, or undefined to delete. Applied all together or not at all. */
export type WriteSet = ReadonlyMap<Key, Uint8Array | undefined>;

/** A frozen state, for dumps and snapshots. Keeps old pages alive: close it soon. */
export interface KvView extends KvReader {
  close(): void;
}

/**
 * A store with one writer. `apply` is seen by later reads at once; `durable` says when it also survives a crash.
 * Answering a client before that promise resolves would acknowledge what may be lost.
 */
export interface KvStore extends KvReader {
  /** Makes the changes visible and queues them for the log. @returns the ticket to wait for. */
  apply(writes: WriteSet): number;
  /** Resolves when everything up to `ticket` is on disk. Rejects when the store failed. */
  durable(ticket: number): Promise<void>;
  /** Highest ticket among the values that were read since the last call: what an answer made of them waits for. */
  takeReadTicket(): number;
  /** The highest ticket that is on disk. */
  readonly durableTicket: number;
  /** A frozen copy of the present state. */
  view(): Promise<KvView>;
  close(): Promise<void>;
}

/** The least string greater than every string that starts with `prefix`. */
export function prefixEnd(prefix: Key): Key {
  for (let length = prefix.length; length > 0; length--) {
    const last = prefix.charCodeAt(length - 1);
    if (last < 0xff) return prefix.slice(0, length - 1) + String.fromCharCode(last + 1);
  }
  return '\u0100';
}

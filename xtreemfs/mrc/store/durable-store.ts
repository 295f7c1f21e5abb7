import { join } from 'node:path';
import type { RootDatabase, Transaction } from 'lmdb';
import type { Clock, Timer } from '#common/clock.ts';
import { makeFolder } from '#common/durable-files.ts';
import { assert, TerminalError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { openLmdb } from '#xtreemfs/service/lmdb.ts';
import type { Key, KvEntry, KvStore, KvView, ScanOptions, WriteSet } from './kv.ts';
import { prefixEnd } from './kv.ts';
import { mergeScan } from './layers.ts';
import { lockFolder } from './lock.ts';
import type { CommitLog, LogDisk, RecoveredRecord } from './log.ts';
import { folderDisk, RecordWriter, WriteAheadLog } from './log.ts';
import { compareKeys, Memtable } from './memtable.ts';

/** What keys of facts about the database itself begin with: no key of the MRC does. */
const markPrefix = '!';
/** Key under which LMDB holds the number of the last log record whose changes it has. */
export const appliedKey = Buffer.from(`${markPrefix}applied`);
/** Key of the name of the history that the database of one of several MRCs is a part of. */
export const historyKey = Buffer.from(`${markPrefix}history`);
/** A batch that grew to this is closed, so that a record always fits a log segment. */
const batchBytesMax = 4 * 2 ** 20;
/** Changes of one operation, encoded, at most. */
const writeSetBytesMax = 8 * 2 ** 20;
/** Keys put into LMDB between two turns of the event loop: about half a millisecond of work. */
const keysPerTurn = 128;
const lmdbCommitDelayMs = 100;

/** How a `DurableStore` is set up. */
export interface DurableStoreOptions {
  /** Folder of the store; made when missing. */
  readonly path: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly bucketOf: (key: Key) => Key | undefined;
  /** Told once, when the store can't go on (disk full or broken): the process should end and start again. */
  readonly onFailure: (error: Error) => void;
  /** Upper bound of the database file, bytes. Address space only; the file grows as needed. */
  readonly mapSizeBytes?: number;
  /** Memory that changes may take before they are moved to LMDB, bytes. */
  readonly memtableBytes?: number;
  /** Longest that changes stay out of LMDB, milliseconds. */
  readonly checkpointAfterMs?: number;
  /** Size of one log file, bytes, and how many there may be. */
  readonly segmentBytes?: number;
  readonly segmentsMax?: number;
  /** Replaces the folder `log` (tests). */
  readonly logDisk?: LogDisk;
  /** Replaces the log on this machine's disk; what it has behind `applied` comes by `follow` then. */
  readonly log?: CommitLog;
}

/** A view that says which record is the last one in it. */
export type NumberedView = KvView & { readonly number: number };

interface Waiter {
  readonly ticket: number;
  resolve(): void;
  reject(error: Error): void;
}

/** Waits for a view. */
interface Viewer {
  resolve(view: NumberedView): void;
  reject(error: Error | undefined): void;
}

/**
 * A write-ahead log for durability, memory for the newest changes, LMDB for everything else.
 *
 * A change is applied to memory at once and joins the open batch; one write (O_DSYNC) makes a batch durable and
 * resolves everyone who waits for it, while the next batch fills: group commit without a timer. Memory is moved to
 * LMDB in the background, a frozen table at a time, ending with one synced transaction that also says which log
 * record is covered; only then are the log files used again. Recovery replays what LMDB lacks: puts are absolute, so doing one twice is
 * harmless. See docs/adr/0045-mrc-store.md for why not LMDB's own commits.
 */
export class DurableStore implements KvStore {
  private readonly options: DurableStoreOptions;
  private readonly db: RootDatabase<Buffer, Buffer>;
  private readonly log: CommitLog;
  private readonly unlock: () => Promise<void>;
  private active: Memtable;
  private frozen: Memtable | undefined;
  private batch = new RecordWriter();
  /** An empty one for the next batch. */
  private spareBatch: RecordWriter | undefined;
  /** Full batches that wait to be written, oldest first; the open batch comes after them. */
  private fullBatches: { number: number; batch: RecordWriter }[] = [];
  private batchNumber: number;
  private syncedNumber: number;
  private movedNumber: number;
  private readTicket = 0;
  private waiters: Waiter[] = [];
  private isFlushing = false;
  private isFlushQueued = false;
  private failure: Error | undefined;
  private checkpointTimer: Timer | undefined;
  private checkpointWanted = false;
  private checkpointRun: Promise<void> | undefined;
  private viewers: Viewer[] = [];

  private constructor(
    options: DurableStoreOptions,
    opened: {
      db: RootDatabase<Buffer, Buffer>;
      log: CommitLog;
      table: Memtable;
      applied: number;
      lastNumber: number;
      unlock: () => Promise<void>;
    },
  ) {
    this.options = options;
    this.db = opened.db;
    this.log = opened.log;
    this.unlock = opened.unlock;
    this.active = opened.table;
    this.syncedNumber = opened.lastNumber;
    this.movedNumber = opened.applied;
    this.batchNumber = opened.lastNumber + 1;
  }

  /**
   * Opens or makes the store and takes over what the log has and LMDB lacks.
   * @throws {LogDamageError} when acknowledged changes can't be read back.
   * @throws {TerminalError} when another process holds the folder.
   */
  static async open(options: DurableStoreOptions): Promise<DurableStore> {
    await makeFolder(options.path, 0o750);
    const unlock = await lockFolder(options.path);
    try {
      const db = await openDatabase(options.path, options.mapSizeBytes);
      if (options.log === undefined && db.get(historyKey) !== undefined) {
        throw new TerminalError(
          `--etcd: is missing; the database in ${options.path} is that of one of several MRCs, and changes made alone would be lost. ` +
            'To go on with one MRC restore a dump into an empty folder',
        );
      }
      const applied = readApplied(db);
      const table = new Memtable(options.bucketOf);
      const replay = ({ number, writes }: RecoveredRecord): void => table.apply(writes, number);
      const { log, lastNumber } =
        options.log === undefined ? await openLog(options, applied, replay) : { log: options.log, lastNumber: applied };
      if (lastNumber > applied) {
        options.logger.info('Recovered changes from the log', {
          from: applied + 1,
          to: lastNumber,
          keys: table.values.size,
        });
      }
      const store = new DurableStore(options, { db, log, table, applied, lastNumber, unlock });
      if (table.values.size > 0) store.requestCheckpoint();
      return store;
    } catch (error) {
      await unlock();
      throw error;
    }
  }

  get(key: Key): Uint8Array | undefined {
    const held = this.active.values.get(key) ?? this.frozen?.values.get(key);
    if (held !== undefined) {
      if (held.ticket > this.readTicket) this.readTicket = held.ticket;
      return held.value;
    }
    return this.db.getBinary(Buffer.from(key, 'latin1'));
  }

  scan(options: ScanOptions): KvEntry[] {
    const tables = this.frozen === undefined ? [this.active] : [this.active, this.frozen];
    return mergeScan(tables, scanLmdb(this.db, options), options, (ticket) => {
      if (ticket > this.readTicket) this.readTicket = ticket;
    });
  }

  apply(writes: WriteSet): number {
    if (this.failure !== undefined) throw this.failure;
    if (writes.size === 0) return this.syncedNumber;
    const bytes = encodedBytes(writes);
    assert(bytes <= writeSetBytesMax, `one operation writes at most ${writeSetBytesMax} bytes, not ${bytes}`);
    if (this.batch.sizeBytes > 0 && this.batch.sizeBytes + bytes > batchBytesMax) {
      this.fullBatches.push({ number: this.batchNumber++, batch: this.batch });
      this.batch = new RecordWriter();
    }
    this.active.apply(writes, this.batchNumber);
    for (const [key, value] of writes) this.batch.add(key, value);
    if (this.active.sizeBytes > this.memtableBytes) this.requestCheckpoint();
    else this.checkpointTimer ??= this.startTimer();
    this.queueFlush();
    return this.batchNumber;
  }

  /**
   * Takes over a record of the log that another process acknowledged; only while this store writes none itself.
   * @param number - one more than that of the record before.
   */
  follow(number: number, writes: WriteSet): void {
    if (this.failure !== undefined) throw this.failure;
    assert(number === this.batchNumber && this.batch.sizeBytes === 0, `record ${number} follows in its turn`);
    this.active.apply(writes, number);
    this.syncedNumber = number;
    this.batchNumber = number + 1;
    if (this.active.sizeBytes > this.memtableBytes) this.requestCheckpoint();
    else this.checkpointTimer ??= this.startTimer();
  }

  /** Resolves when there is room in memory for more records to follow. */
  async hasRoom(): Promise<void> {
    if (this.frozen !== undefined && this.active.sizeBytes > this.memtableBytes) await this.checkpointRun;
  }

  async durable(ticket: number): Promise<void> {
    if (ticket <= this.syncedNumber) return;
    if (this.failure !== undefined) throw this.failure;
    await new Promise<void>((resolve, reject) => this.waiters.push({ ticket, resolve, reject }));
  }

  takeReadTicket(): number {
    const ticket = this.readTicket;
    this.readTicket = 0;
    return ticket;
  }

  get durableTicket(): number {
    return this.syncedNumber;
  }

  /** Every record up to this one is in LMDB. */
  get movedTicket(): number {
    return this.movedNumber;
  }

  /** A frozen copy of the present state, and the number of the last record in it. */
  async view(): Promise<NumberedView> {
    return new Promise((resolve, reject) => {
      if (this.failure !== undefined) {
        reject(this.failure);
        return;
      }
      this.viewers.push({ resolve, reject });
      this.requestCheckpoint();
    });
  }

  /** What the status page and the metrics show. */
  stats(): { memtableBytes: number; memtableKeys: number; logSegments: number; records: number; lastRecord: number } {
    return {
      memtableBytes: this.active.sizeBytes + (this.frozen?.sizeBytes ?? 0),
      memtableKeys: this.active.values.size + (this.frozen?.values.size ?? 0),
      logSegments: this.log.busySegments,
      records: (this.db.getStats() as { entryCount?: number }).entryCount ?? 0,
      lastRecord: this.syncedNumber,
    };
  }

  /** Moves everything to LMDB, so that the next start has nothing to replay. */
  async checkpoint(): Promise<void> {
    const view = await this.view();
    view.close();
  }

  /** Resolves when everything that was applied so far is durable. */
  async settle(): Promise<void> {
    await this.durable(this.batch.sizeBytes > 0 ? this.batchNumber : this.batchNumber - 1);
  }

  async close(): Promise<void> {
    if (this.failure === undefined) {
      await this.settle();
      await this.checkpoint();
    }
    this.checkpointTimer?.cancel();
    this.failure ??= new Error('The store is closed');
    await this.checkpointRun;
    await this.log.close();
    await this.db.close();
    await this.unlock();
  }

  private get memtableBytes(): number {
    return this.options.memtableBytes ?? 24 * 2 ** 20;
  }

  private startTimer(): Timer {
    const start = (): void => this.requestCheckpoint();
    return this.options.clock.after(this.options.checkpointAfterMs ?? 10_000, start, { unref: true });
  }

  private queueFlush(): void {
    if (this.isFlushing || this.isFlushQueued) return;
    this.isFlushQueued = true;
    // Behind everything that this turn of the event loop has read from its sockets: it all joins one write.
    setImmediate(() => {
      this.isFlushQueued = false;
      void this.flushLoop();
    });
  }

  /** One write at a time until the open batch stays empty. */
  private async flushLoop(): Promise<void> {
    if (this.isFlushing || this.failure !== undefined) return;
    this.isFlushing = true;
    try {
      for (let next = this.nextBatch(); next !== undefined; next = this.nextBatch()) {
        const { number, batch } = next;
        // Only here does the memory table hold exactly the changes up to a record: nothing waits behind it.
        if (this.fullBatches.length === 0) this.freezeIfWanted(number);
        // Writers that outrun LMDB wait here, with their clients, instead of filling the memory.
        if (this.frozen !== undefined && this.active.sizeBytes > 4 * this.memtableBytes) await this.checkpointRun;
        await this.log.append(number, batch.finish(), this.waiters.length === 1);
        this.recycle(batch);
        this.syncedNumber = number;
        this.resolveWaiters();
      }
    } catch (error) {
      this.fail('Write to the log', error);
    } finally {
      this.isFlushing = false;
      if (this.batch.sizeBytes === 0) this.freezeIfWanted(this.batchNumber - 1);
    }
  }

  /** The oldest batch that is not written. Taking the open one opens another. */
  private nextBatch(): { number: number; batch: RecordWriter } | undefined {
    const full = this.fullBatches.shift();
    if (full !== undefined) return full;
    if (this.batch.sizeBytes === 0) return undefined;
    const { batch } = this;
    this.batch = this.spareBatch ?? new RecordWriter();
    this.spareBatch = undefined;
    return { number: this.batchNumber++, batch };
  }

  private recycle(batch: RecordWriter): void {
    batch.reset();
    this.spareBatch = batch;
  }

  private resolveWaiters(): void {
    const waiting = this.waiters;
    this.waiters = [];
    for (const waiter of waiting) {
      if (waiter.ticket <= this.syncedNumber) waiter.resolve();
      else this.waiters.push(waiter);
    }
  }

  private requestCheckpoint(): void {
    this.checkpointWanted = true;
    if (this.batch.sizeBytes === 0 && !this.isFlushing) this.freezeIfWanted(this.batchNumber - 1);
  }

  /** Freezes the memory table at a batch boundary: it then holds exactly the changes up to record `number`. */
  private freezeIfWanted(number: number): void {
    if (!this.checkpointWanted || this.frozen !== undefined || this.failure !== undefined) return;
    this.checkpointWanted = false;
    this.checkpointTimer?.cancel();
    this.checkpointTimer = undefined;
    this.frozen = this.active;
    this.active = new Memtable(this.options.bucketOf);
    const viewers = this.viewers;
    this.viewers = [];
    this.checkpointRun = this.moveToLmdb(this.frozen, number, viewers).catch((error: unknown) => {
      this.fail('Move changes to the database', error);
      for (const viewer of viewers) viewer.reject(this.failure);
    });
  }

  private async moveToLmdb(table: Memtable, number: number, viewers: readonly Viewer[]): Promise<void> {
    await this.durable(number);
    const puts = new Set<Promise<boolean>>();
    let count = 0;
    // In key order a page that many changes fall on is written once (measured: a third of the bytes on the disk).
    const sorted = [...table.values].sort(([a], [b]) => compareKeys(a, b));
    for (const [key, { value }] of sorted) {
      const bytes = Buffer.from(key, 'latin1');
      puts.add(value === undefined ? this.db.remove(bytes) : this.db.put(bytes, asBuffer(value)));
      if (++count % keysPerTurn === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(puts); // before the mark: a failed transaction must not be covered by it
    await this.db.put(appliedKey, appliedMark(number));
    this.movedNumber = number;
    this.db.resetReadTxn();
    for (const viewer of viewers) viewer.resolve({ ...lmdbView(this.db), number });
    this.frozen = undefined;
    this.log.release(number);
    if (this.checkpointWanted) this.requestCheckpoint();
  }

  private fail(attempt: string, cause: unknown): void {
    if (this.failure !== undefined) return;
    const failure = new TerminalError(`${attempt}: the store stops to keep what it acknowledged`, { cause });
    this.failure = failure;
    for (const waiter of [...this.waiters.splice(0), ...this.viewers.splice(0)]) waiter.reject(failure);
    this.options.onFailure(failure);
  }
}

/** Opens the database without the log before it: for the store itself, and for who fills it before the store is opened. */
export async function openDatabase(path: string, mapSizeBytes = 256 * 2 ** 30): Promise<RootDatabase<Buffer, Buffer>> {
  return await openLmdb<Buffer, Buffer>(path, 'db.mdb', {
    encoding: 'binary',
    keyEncoding: 'binary',
    mapSize: mapSizeBytes,
    // Puts of many turns join one transaction: each page is written once, not once a turn.
    commitDelay: lmdbCommitDelayMs,
    noMemInit: true,
  });
}

/** Number of the last record whose changes the database has. */
export function readApplied(db: RootDatabase<Buffer, Buffer>): number {
  return Number(db.get(appliedKey)?.readBigUInt64LE() ?? 0n);
}

/** The value of `appliedKey`. */
export function appliedMark(number: number): Buffer {
  const mark = Buffer.alloc(8);
  mark.writeBigUInt64LE(BigInt(number));
  return mark;
}

async function openLog(
  options: DurableStoreOptions,
  applied: number,
  replay: (record: RecoveredRecord) => void,
): Promise<{ log: CommitLog; lastNumber: number }> {
  const folder = join(options.path, 'log');
  await makeFolder(folder, 0o750);
  return await WriteAheadLog.open(options.logDisk ?? folderDisk(folder), {
    segmentBytes: options.segmentBytes ?? 16 * 2 ** 20,
    segmentsMax: options.segmentsMax ?? 64,
    applied,
    replay,
  });
}

function encodedBytes(writes: WriteSet): number {
  let bytes = 0;
  for (const [key, value] of writes) bytes += 6 + key.length + (value?.length ?? 0);
  return bytes;
}

function asBuffer(value: Uint8Array): Buffer {
  return Buffer.isBuffer(value) ? value : Buffer.from(value.buffer, value.byteOffset, value.byteLength);
}

function* scanLmdb(
  db: RootDatabase<Buffer, Buffer>,
  options: ScanOptions,
  transaction?: Transaction,
): Generator<KvEntry> {
  const { prefix, after } = options;
  const start = Buffer.from(after !== undefined && after > prefix ? after : prefix, 'latin1');
  // The empty prefix has no end.
  const end = prefix === '' ? {} : { end: Buffer.from(prefixEnd(prefix), 'latin1') };
  const range = db.getRange({ start, ...end, ...(transaction === undefined ? {} : { transaction }) });
  for (const { key, value } of range) {
    const text = key.toString('latin1');
    if (text !== after && !text.startsWith(markPrefix)) yield { key: text, value };
  }
}

function lmdbView(db: RootDatabase<Buffer, Buffer>): KvView {
  const transaction = db.useReadTransaction();
  return {
    get: (key) => {
      const value: unknown = db.get(Buffer.from(key, 'latin1'), { transaction });
      return value as Buffer | undefined;
    },
    scan: (options) => {
      const entries: KvEntry[] = [];
      for (const entry of scanLmdb(db, options, transaction)) {
        if (entries.length >= options.limit) break;
        entries.push(entry);
      }
      return entries;
    },
    close: () => transaction.done(),
  };
}

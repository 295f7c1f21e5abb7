import { constants, writeSync } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { syncFolder } from '#common/durable-files.ts';
import { assert, TerminalError } from '#common/errors.ts';
import type { Key, WriteSet } from './kv.ts';

/**
 * The write-ahead log: what is acknowledged is here, synced, before the answer leaves.
 *
 * Files of a fixed size are written full of zeros once and then overwritten with O_DSYNC, so that a commit is one
 * write without a change of the file's metadata. One record is one group commit. A record is taken at recovery only if its
 * checksum holds and its number is one more than that of the record before, so a recycled file's old content never
 * counts. At most one write is in flight, hence a damaged record with an intact later one behind it is disk damage and not a
 * torn write: that is reported, never skipped.
 *
 * Record: magic u32, payload length u32, number u64, CRC-32 of number and payload u32, zero u32; then entries of
 * key length u16, value length u32 (0xffffffff: deleted), key, value. Little-endian. Records start at multiples of 8.
 */
const magic = 0x314d5258; // «XRM1»
const headerBytes = 24;
const deletedMark = 0xffffffff;

/** Thrown when the log is damaged before its end: acknowledged changes would be lost by going on. */
export class LogDamageError extends TerminalError {
  override readonly name = 'LogDamageError';
}

/** The disk as the log needs it; tests put a failing or forgetting one here. */
export interface LogDisk {
  /** Names of the segment files in the log's folder. */
  list(): Promise<string[]>;
  open(name: string): Promise<LogFile>;
  /** Makes a segment of `sizeBytes` zeros that survives a crash. */
  create(name: string, sizeBytes: number): Promise<LogFile>;
}

/** One segment file. */
export interface LogFile {
  readonly sizeBytes: number;
  read(): Promise<Buffer>;
  /**
   * Resolves when the bytes are on the disk.
   * @param isLone - one caller waits and nothing else is to do: it may hold up everything else for a moment.
   */
  write(data: Uint8Array, offset: number, isLone: boolean): Promise<void>;
  close(): Promise<void>;
}

interface Segment {
  readonly name: string;
  readonly file: LogFile;
  /** Number of the last record in it; 0 when it holds none that matters. */
  lastNumber: number;
}

/** What `WriteAheadLog.open` found. */
export interface RecoveredRecord {
  readonly number: number;
  readonly writes: WriteSet;
}

/** Where changes survive before they are acknowledged. */
export interface CommitLog {
  /**
   * Resolves when the record survives. Calls do not overlap.
   * @param payload - of a `RecordWriter`. @param isLone - see `LogFile.write`.
   */
  append(number: number, payload: Buffer, isLone: boolean): Promise<void>;
  /** Says that every record up to `number` is in the main store. */
  release(number: number): void;
  /** Files that hold records which the main store lacks. */
  readonly busySegments: number;
  close(): Promise<void>;
}

/** See the head of this file. Calls of `append` must not overlap. */
export class WriteAheadLog implements CommitLog {
  private readonly disk: LogDisk;
  private readonly segmentBytes: number;
  private readonly segments: Segment[];
  private current: Segment | undefined;
  private offset = 0;
  private spare: Promise<Segment> | undefined;
  private readonly segmentsMax: number;

  private constructor(disk: LogDisk, segments: Segment[], options: { segmentBytes: number; segmentsMax: number }) {
    this.disk = disk;
    this.segments = segments;
    this.segmentBytes = options.segmentBytes;
    this.segmentsMax = options.segmentsMax;
  }

  /**
   * Opens the log and gives each record behind `applied` to `replay`, in order.
   * @returns the log and the number of its last record (`applied` when there is none).
   * @throws {LogDamageError} when records are missing or damaged before the end.
   */
  static async open(
    disk: LogDisk,
    options: { segmentBytes: number; segmentsMax: number; applied: number; replay: (record: RecoveredRecord) => void },
  ): Promise<{ log: WriteAheadLog; lastNumber: number }> {
    const names = (await disk.list()).sort();
    const segments: Segment[] = [];
    const found: { first: number; last: number; segment: Segment; data: Buffer }[] = [];
    for (const name of names) {
      const file = await disk.open(name);
      const data = await file.read();
      const segment = { name, file, lastNumber: 0 };
      segments.push(segment);
      const span = spanOf(data);
      if (span !== undefined) {
        segment.lastNumber = span.last;
        if (span.last > options.applied) found.push({ ...span, segment, data });
      }
    }
    found.sort((a, b) => a.first - b.first);
    let lastNumber = options.applied;
    for (const part of found) lastNumber = replaySegment(part, lastNumber, options.replay);
    const log = new WriteAheadLog(disk, segments, options);
    log.release(options.applied);
    return { log, lastNumber };
  }

  /** Writes one record; resolves when it is on the disk. @param isLone - see `LogFile.write`. */
  async append(number: number, payload: Buffer, isLone = false): Promise<void> {
    const record = frame(number, payload);
    assert(record.length <= this.segmentBytes, 'a log record fits a segment');
    if (this.current === undefined || this.offset + record.length > this.current.file.sizeBytes) {
      this.current = await this.nextSegment();
      this.offset = 0;
    }
    await this.current.file.write(record, this.offset, isLone);
    this.current.lastNumber = number;
    this.offset += record.length;
    if (this.offset > this.segmentBytes / 2) this.prepareSpare();
  }

  /** Says that every record up to `number` is in the main store: files holding only such are used again. */
  release(number: number): void {
    for (const segment of this.segments) {
      if (segment !== this.current && segment.lastNumber <= number) segment.lastNumber = 0;
    }
  }

  /** Segments that still hold records that the main store lacks. */
  get busySegments(): number {
    return this.segments.filter((segment) => segment.lastNumber > 0).length;
  }

  async close(): Promise<void> {
    await this.spare?.catch(() => undefined);
    for (const segment of this.segments) await segment.file.close();
  }

  private async nextSegment(): Promise<Segment> {
    this.prepareSpare();
    const next = await this.spare;
    this.spare = undefined;
    assert(next !== undefined, 'a spare log segment is there');
    return next;
  }

  private prepareSpare(): void {
    if (this.spare !== undefined) return;
    const free = this.segments.find((segment) => segment !== this.current && segment.lastNumber === 0);
    this.spare = free === undefined ? this.makeSegment() : Promise.resolve(free);
    this.spare.catch(() => undefined); // seen by nextSegment
  }

  private async makeSegment(): Promise<Segment> {
    if (this.segments.length >= this.segmentsMax) {
      throw new TerminalError(
        `Write to the log: all ${this.segmentsMax} segments hold changes that the database has not taken over; is its disk full?`,
      );
    }
    const name = `${String(this.segments.length).padStart(4, '0')}.log`;
    const segment = { name, file: await this.disk.create(name, this.segmentBytes), lastNumber: 0 };
    this.segments.push(segment);
    return segment;
  }
}

const bufferBytes = 16 * 1024;
const keptBytesMax = 256 * 1024;

/** Collects the changes of many operations for one record. */
export class RecordWriter {
  private buffer = Buffer.allocUnsafe(bufferBytes);
  private length = headerBytes;

  /** Bytes of entries so far. */
  get sizeBytes(): number {
    return this.length - headerBytes;
  }

  add(key: Key, value: Uint8Array | undefined): void {
    this.reserve(6 + key.length + (value?.length ?? 0));
    const { buffer } = this;
    buffer.writeUInt16LE(key.length, this.length);
    buffer.writeUInt32LE(value?.length ?? deletedMark, this.length + 2);
    this.length += 6;
    this.length += buffer.write(key, this.length, 'latin1');
    if (value !== undefined) {
      buffer.set(value, this.length);
      this.length += value.length;
    }
  }

  /** The record's room for the header and its entries; valid until `reset`. */
  finish(): Buffer {
    return this.buffer.subarray(0, this.length);
  }

  /** The entries alone, in a buffer of their own. */
  entries(): Buffer {
    return Buffer.from(this.buffer.subarray(headerBytes, this.length));
  }

  /** Begins anew. A buffer that grew large is not kept. */
  reset(): void {
    this.length = headerBytes;
    if (this.buffer.length > keptBytesMax) this.buffer = Buffer.allocUnsafe(bufferBytes);
  }

  private reserve(bytes: number): void {
    if (this.length + bytes + 8 <= this.buffer.length) return;
    const bigger = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, this.length + bytes + 8));
    this.buffer.copy(bigger, 0, 0, this.length);
    this.buffer = bigger;
  }
}

/** Fills the header of a `RecordWriter`'s buffer and pads to 8 bytes. */
export function frame(number: number, record: Buffer): Buffer {
  record.writeUInt32LE(magic, 0);
  record.writeUInt32LE(record.length - headerBytes, 4);
  record.writeBigUInt64LE(BigInt(number), 8);
  record.writeUInt32LE(checksum(record, record.length), 16);
  record.writeUInt32LE(0, 20);
  const padded = (record.length + 7) & ~7;
  if (padded === record.length) return record;
  const whole = Buffer.alloc(padded);
  record.copy(whole);
  return whole;
}

function checksum(record: Buffer, end: number): number {
  return crc32(record.subarray(headerBytes, end), crc32(record.subarray(8, 16)));
}

/** The number of the intact record at `offset`, and where it ends. */
function recordAt(data: Buffer, offset: number): { number: number; end: number; next: number } | undefined {
  if (offset + headerBytes > data.length || data.readUInt32LE(offset) !== magic) return undefined;
  const end = offset + headerBytes + data.readUInt32LE(offset + 4);
  if (end > data.length) return undefined;
  const record = data.subarray(offset, end);
  if (record.readUInt32LE(16) !== checksum(record, record.length)) return undefined;
  return { number: Number(record.readBigUInt64LE(8)), end, next: (end + 7) & ~7 };
}

/** First and last number of the unbroken run of records at the head of a segment. */
function spanOf(data: Buffer): { first: number; last: number } | undefined {
  const first = recordAt(data, 0);
  if (first === undefined) {
    // Damage at the very start: if anything intact follows, it is not a torn first write.
    const later = findLater(data, 8, 0);
    return later === undefined ? undefined : { first: later, last: later };
  }
  let last = first.number;
  let offset = first.next;
  for (let next = recordAt(data, offset); next?.number === last + 1; next = recordAt(data, offset)) {
    last = next.number;
    offset = next.next;
  }
  const later = findLater(data, offset, last);
  return { first: first.number, last: later ?? last };
}

/** The number of an intact record greater than `number` at or behind `offset`, if any. */
function findLater(data: Buffer, offset: number, number: number): number | undefined {
  let highest: number | undefined;
  for (let at = offset; at + headerBytes <= data.length; at += 8) {
    if (data.readUInt32LE(at) !== magic) continue;
    const record = recordAt(data, at);
    if (record !== undefined && record.number > Math.max(number, highest ?? 0)) highest = record.number;
  }
  return highest;
}

function replaySegment(
  part: { first: number; last: number; segment: Segment; data: Buffer },
  after: number,
  replay: (record: RecoveredRecord) => void,
): number {
  let last = after;
  let offset = 0;
  for (let next = recordAt(part.data, offset); next !== undefined; next = recordAt(part.data, offset)) {
    if (next.number > last + 1 || (offset > 0 && next.number <= part.first)) break;
    if (next.number > last) {
      replay({ number: next.number, writes: decodeEntries(part.data.subarray(offset + headerBytes, next.end)) });
      last = next.number;
    }
    offset = next.next;
  }
  if (last < part.last) {
    throw new LogDamageError(
      `Recover ${part.segment.name}: record ${last + 1} is damaged or missing, but record ${part.last} is there. ` +
        'The disk lost acknowledged changes: restore from a dump, or move the log folder away to go on without them',
    );
  }
  return last;
}

/** What `frame` made. @throws {LogDamageError} when it is not the intact record of that number. */
export function readFrame(number: number, record: Buffer): WriteSet {
  const found = recordAt(record, 0);
  if (found?.number !== number) throw new LogDamageError(`Record ${number} of the log is damaged: restore from a dump`);
  return decodeEntries(record.subarray(headerBytes, found.end));
}

/** What a `RecordWriter` collected, without the room for a header. */
export function decodeEntries(payload: Buffer): WriteSet {
  const writes = new Map<Key, Uint8Array | undefined>();
  let offset = 0;
  while (offset < payload.length) {
    const keyLength = payload.readUInt16LE(offset);
    const valueLength = payload.readUInt32LE(offset + 2);
    const valueAt = offset + 6 + keyLength;
    const key = payload.toString('latin1', offset + 6, valueAt);
    const isDeleted = valueLength === deletedMark;
    const end = isDeleted ? valueAt : valueAt + valueLength;
    writes.set(key, isDeleted ? undefined : Buffer.from(payload.subarray(valueAt, end)));
    offset = end;
  }
  return writes;
}

/** Segment files in one folder of the machine. */
export function folderDisk(folder: string): LogDisk {
  const pace = new Pace();
  const openSegment = async (name: string): Promise<LogFile> => {
    const handle = await open(join(folder, name), constants.O_RDWR | constants.O_DSYNC);
    return segmentFile(handle, (await handle.stat()).size, pace);
  };
  return {
    list: async () => (await readdir(folder)).filter((name) => name.endsWith('.log')),
    open: openSegment,
    create: async (name, sizeBytes) => {
      const handle = await open(join(folder, name), 'w');
      const zeros = Buffer.alloc(1024 * 1024);
      for (let at = 0; at < sizeBytes; at += zeros.length) {
        await writeAll(handle, zeros.subarray(0, Math.min(zeros.length, sizeBytes - at)), at);
      }
      await handle.sync();
      await handle.close();
      await syncFolder(folder);
      return openSegment(name);
    },
  };
}

/** A write that holds up the process longer than this, milliseconds, is a reason not to do so again for a while. */
const holdUpMaxMs = 2;
const cautiousMs = 1_000;

/**
 * Whether the disk is quick enough that a write from the JavaScript thread itself pays. Handing a write to another
 * thread and being told of its end costs two changes of thread, about as much as a fast disk takes for the write.
 */
class Pace {
  private cautiousUntilMs = 0;

  get isQuick(): boolean {
    return performance.now() >= this.cautiousUntilMs;
  }

  time(write: () => void): void {
    const began = performance.now();
    write();
    const ended = performance.now();
    if (ended - began > holdUpMaxMs) this.cautiousUntilMs = ended + cautiousMs;
  }
}

function segmentFile(handle: FileHandle, sizeBytes: number, pace: Pace): LogFile {
  return {
    sizeBytes,
    read: () => handle.readFile(),
    write: async (data, offset, isLone) => {
      if (isLone && pace.isQuick) pace.time(() => writeAllNow(handle.fd, data, offset));
      else await writeAll(handle, data, offset);
    },
    close: () => handle.close(),
  };
}

function writeAllNow(descriptor: number, data: Uint8Array, offset: number): void {
  for (let written = 0; written < data.length;) {
    written += writeSync(descriptor, data, written, data.length - written, offset + written);
  }
}

async function writeAll(handle: FileHandle, data: Uint8Array, offset: number): Promise<void> {
  let written = 0;
  while (written < data.length) {
    const { bytesWritten } = await handle.write(data, written, data.length - written, offset + written);
    written += bytesWritten;
  }
}

import { decodeCheckpoint } from './checkpoint.ts';
import { isMissing, type Disk, type DiskFile } from './disk.ts';
import { FileState } from './file-state.ts';
import { checkpointPath, seedOf, segmentPath, type FoundRecord, type LogPaths } from './log-paths.ts';
import { LogScanner } from './log-scanner.ts';
import { firstLink, recordType, type RecordHeader, type RecordLink } from './record.ts';
import { SegmentFile } from './segment-files.ts';

/** What a log starts with after it was read from disk. */
export interface RecoveredLog {
  readonly state: FileState;
  readonly seq: number;
  readonly link: RecordLink;
  /** All records up to this one are known to be durable. */
  readonly durableSeq: number;
  readonly segments: SegmentFile[];
  readonly tail: SegmentFile | undefined;
  readonly nextNumber: number;
  /** Records read behind the checkpoint. */
  readonly replayed: number;
  /** Bytes of records that were never acknowledged as durable and were not whole. */
  readonly droppedBytes: number;
  readonly isDamaged: boolean;
}

/**
 * Brings a file's log back from disk after any stop: reads the checkpoint, replays what follows, and cuts off what was
 * torn and never acknowledged as durable. Damage inside of what was durable is kept and reported on reading, never
 * papered over with older bytes.
 *
 * Order of trust: a record is taken when its header checksum, sequence number and link fit. Behind the highest durable
 * sequence number that any record mentions, payloads are verified too, and the first bad one ends the log.
 */
export async function recoverLog(disk: Disk, paths: LogPaths): Promise<RecoveredLog> {
  const base = await readBase(disk, paths);
  await removeReclaimed(disk, paths, base.reclaimed);
  const segments = base.segments;
  const scanner = new LogScanner(disk, paths);
  let isDamaged = base.isDamaged;
  try {
    const found = await scanner.scan(base.tail, base.tailPosition, base.nextNumber, base.seq, base.link);
    let durableSeq = base.seq;
    for (const record of found) durableSeq = Math.max(durableSeq, record.header.durableSeq);
    const kept = await keepWhole(scanner, found, durableSeq);
    let { seq, link } = base;
    for (const record of found.slice(0, kept)) {
      if (record.lost > 0) isDamaged = noteLoss(base.state, record) || isDamaged;
      isDamaged = !(await applyFound(base.state, scanner, record)) || isDamaged;
      seq = record.header.seq;
      link = linkOf(record.header);
    }
    const cut = await scanner.cutBehind(found[kept - 1], base.tail, base.tailPosition);
    for (const segment of scanner.segmentsKept) if (!segments.includes(segment)) segments.push(segment);
    const tail = scanner.segmentsKept.at(-1) ?? base.tail;
    const nextNumber = Math.max(base.nextNumber, (tail?.number ?? 0) + 1);
    for (const record of found.slice(0, kept)) if (record.header.seq > durableSeq) record.segment.isDirty = true;
    base.state.recountLive(segments);
    return {
      state: base.state,
      seq,
      link,
      durableSeq: Math.min(durableSeq, seq),
      segments,
      tail,
      nextNumber,
      replayed: kept,
      droppedBytes: cut,
      isDamaged,
    };
  } finally {
    await scanner.close();
  }
}

/** The link that the record after `header` carries. */
export function linkOf(header: RecordHeader): RecordLink {
  const isData = header.type === recordType.write;
  return {
    crc: header.headerCrc,
    object: isData ? header.object : -1,
    offset: header.offset,
    length: isData ? header.length : 0,
  };
}

interface Base {
  readonly state: FileState;
  readonly seq: number;
  readonly link: RecordLink;
  readonly segments: SegmentFile[];
  readonly tail: SegmentFile | undefined;
  readonly tailPosition: number;
  readonly nextNumber: number;
  readonly reclaimed: readonly number[];
  readonly isDamaged: boolean;
}

async function readBase(disk: Disk, paths: LogPaths): Promise<Base> {
  const bytes = await readWhole(disk, checkpointPath(paths));
  const make = (number: number): SegmentFile => new SegmentFile(segmentPath(paths, number), number);
  const checkpoint = bytes === undefined ? undefined : decodeCheckpoint(bytes, seedOf(paths.fileId, 0), make);
  if (checkpoint === undefined) {
    // A checkpoint whose both copies are bad: what older segments were overruled by is not known any more.
    const isDamaged = bytes !== undefined;
    return {
      state: new FileState(),
      seq: 0,
      link: firstLink,
      segments: [],
      tail: undefined,
      tailPosition: 0,
      nextNumber: 1,
      reclaimed: [],
      isDamaged,
    };
  }
  const segments = [...checkpoint.segments];
  const tail = segments.find((segment) => segment.number === checkpoint.tailNumber);
  return { ...checkpoint, segments, tail };
}

async function readWhole(disk: Disk, path: string): Promise<Buffer | undefined> {
  let file: DiskFile;
  try {
    file = await disk.open(path, 'existing');
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
  try {
    const bytes = Buffer.allocUnsafe(await file.sizeBytes());
    const got = await file.read(bytes, 0);
    return bytes.subarray(0, got);
  } finally {
    await file.close();
  }
}

async function removeReclaimed(disk: Disk, paths: LogPaths, numbers: readonly number[]): Promise<void> {
  for (const number of numbers) {
    try {
      await disk.unlink(segmentPath(paths, number));
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  }
}

/** How many of the found records may be kept. */
async function keepWhole(scanner: LogScanner, found: readonly FoundRecord[], durableSeq: number): Promise<number> {
  for (const [i, record] of found.entries()) {
    const firstLost = record.header.seq - record.lost;
    if (record.lost > 0 && firstLost > durableSeq) return i;
    if (record.header.seq > durableSeq && !(await scanner.isPayloadWhole(record))) return i;
  }
  return found.length;
}

/** Marks what a lost record covered. @returns true when that is not known. */
function noteLoss(state: FileState, record: FoundRecord): boolean {
  const { previous } = record.header;
  if (record.lost > 1 || previous.length === 0 || previous.object < 0) return true;
  state.apply(
    { type: recordType.write, flags: 0, object: previous.object, version: 0, offset: previous.offset, objectLength: 0 },
    { segment: undefined, position: 0, length: previous.length, crcs: new Uint32Array(0) },
    undefined,
    record.header.timeMs,
  );
  return false;
}

/** @returns false when the record carries attributes that are damaged: what it changed is not known then. */
async function applyFound(state: FileState, scanner: LogScanner, record: FoundRecord): Promise<boolean> {
  const { header, segment } = record;
  const isData = header.type === recordType.write;
  if (!isData && !(await scanner.isPayloadWhole(record))) return false;
  const payload = isData ? undefined : await scanner.payload(record);
  const position = record.position + header.headerBytes;
  state.apply(header, { segment, position, length: header.length, crcs: header.crcs }, payload, header.timeMs);
  return true;
}

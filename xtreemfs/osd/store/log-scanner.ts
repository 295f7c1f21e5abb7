import { isMissing, type Disk, type DiskFile } from './disk.ts';
import { seedOf, segmentPath, type FoundRecord, type LogPaths } from './log-paths.ts';
import {
  chunkChecksums,
  decodeHeader,
  recordAlign,
  recordMagic,
  type RecordHeader,
  type RecordLink,
} from './record.ts';

import { SegmentFile } from './segment-files.ts';

const windowBytes = 256 * 1024;

/** A segment opened for scanning, with the part of it that was read last. */
interface OpenSegment {
  readonly segment: SegmentFile;
  readonly file: DiskFile;
  readonly size: number;
  readonly seed: number;
  window: Buffer;
  windowAt: number;
}

/** Walks the records of a log on disk. Used once, at recovery; `close` gives back its handles. */
export class LogScanner {
  private readonly disk: Disk;
  private readonly paths: LogPaths;
  private readonly open = new Map<SegmentFile, OpenSegment>();
  /** Segments that were read and hold what was kept, ascending. */
  segmentsKept: SegmentFile[] = [];

  constructor(disk: Disk, paths: LogPaths) {
    this.disk = disk;
    this.paths = paths;
  }

  /** All records behind a position, across segments, with a note where some are missing in between. */
  async scan(
    tail: SegmentFile | undefined,
    tailPosition: number,
    nextNumber: number,
    seq: number,
    link: RecordLink,
  ): Promise<FoundRecord[]> {
    const found: FoundRecord[] = [];
    let expected = { seq: seq + 1, crc: link.crc };
    let position = tailPosition;
    let next = nextNumber;
    for (let segment = tail; ; position = 0) {
      segment ??= new SegmentFile(segmentPath(this.paths, next), next);
      const opened = await this.openSegment(segment);
      if (opened === undefined && segment !== tail) break;
      if (segment !== tail) next++;
      if (opened !== undefined) {
        this.segmentsKept.push(segment);
        expected = await this.scanSegment(opened, position, expected, found);
      }
      segment = undefined;
    }
    return found;
  }

  /** Whether a record's payload matches its checksums. */
  async isPayloadWhole(record: FoundRecord): Promise<boolean> {
    const payload = await this.payload(record);
    if (payload.length < record.header.length) return false;
    const crcs = chunkChecksums(payload);
    return crcs.every((crc, i) => crc === record.header.crcs[i]);
  }

  /** The payload of a record; shorter than it should be when the segment ends before. */
  async payload(record: FoundRecord): Promise<Buffer> {
    const opened = this.open.get(record.segment);
    if (opened === undefined || record.header.length === 0) return Buffer.alloc(0);
    return this.bytesAt(opened, record.position + record.header.headerBytes, record.header.length);
  }

  /**
   * Removes everything behind the last record to keep, so that nothing stale follows what is appended next.
   * @returns bytes dropped.
   */
  async cutBehind(last: FoundRecord | undefined, tail: SegmentFile | undefined, tailPosition: number): Promise<number> {
    const keepIn = last?.segment ?? tail;
    const end = last === undefined ? tailPosition : last.position + last.header.totalBytes;
    let dropped = 0;
    const kept: SegmentFile[] = [];
    for (const segment of this.segmentsKept) {
      const opened = this.open.get(segment);
      if (opened === undefined) continue;
      if (keepIn !== undefined && segment.number <= keepIn.number) {
        kept.push(segment);
        segment.size = segment === keepIn ? end : opened.size;
        if (segment !== keepIn || opened.size <= end) continue;
        dropped += opened.size - end;
        await opened.file.truncate(end);
      } else {
        dropped += opened.size;
        await this.disk.unlink(segment.path);
      }
    }
    this.segmentsKept = kept;
    return dropped;
  }

  async close(): Promise<void> {
    for (const opened of this.open.values()) await opened.file.close();
    this.open.clear();
  }

  private async openSegment(segment: SegmentFile): Promise<OpenSegment | undefined> {
    try {
      const file = await this.disk.open(segment.path, 'existing');
      const size = await file.sizeBytes();
      const seed = seedOf(this.paths.fileId, segment.number);
      const opened = { segment, file, size, seed, window: Buffer.alloc(0), windowAt: 0 };
      this.open.set(segment, opened);
      return opened;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  private async scanSegment(
    opened: OpenSegment,
    from: number,
    start: { seq: number; crc: number },
    found: FoundRecord[],
  ): Promise<{ seq: number; crc: number }> {
    let expected = start;
    let position = from;
    while (position < opened.size) {
      let header = await this.headerAt(opened, position);
      let lost = 0;
      if (header?.seq !== expected.seq || header.previous.crc !== expected.crc) {
        const later = await this.search(opened, position, expected.seq);
        if (later === undefined) break;
        ({ header, position } = later);
        lost = header.seq - expected.seq;
      }
      found.push({ header, segment: opened.segment, position, lost });
      position += header.totalBytes;
      expected = { seq: header.seq + 1, crc: header.headerCrc };
    }
    return expected;
  }

  /** The next valid header behind damage, with a sequence number above the one expected. */
  private async search(
    opened: OpenSegment,
    from: number,
    expectedSeq: number,
  ): Promise<{ header: RecordHeader; position: number } | undefined> {
    for (let position = from; position < opened.size; position += recordAlign) {
      const bytes = await this.bytesAt(opened, position, 4);
      if (bytes.length < 4 || bytes.readUInt32LE(0) !== recordMagic) continue;
      const header = await this.headerAt(opened, position);
      if (header !== undefined && header.seq > expectedSeq) return { header, position };
    }
    return undefined;
  }

  private async headerAt(opened: OpenSegment, position: number): Promise<RecordHeader | undefined> {
    let need = 128;
    for (;;) {
      const bytes = await this.bytesAt(opened, position, need);
      const header = decodeHeader(bytes, 0, opened.seed);
      if (typeof header !== 'number') return header;
      if (bytes.length < need) return undefined;
      need = header;
    }
  }

  /** Up to `length` bytes, from the window that is in memory where possible. */
  private async bytesAt(opened: OpenSegment, position: number, length: number): Promise<Buffer> {
    const inWindow = position - opened.windowAt;
    if (inWindow >= 0 && inWindow + length <= opened.window.length) {
      return opened.window.subarray(inWindow, inWindow + length);
    }
    const window = Buffer.allocUnsafe(Math.max(length, Math.min(windowBytes, opened.size - position)));
    const got = await opened.file.read(window, position);
    opened.window = window.subarray(0, got);
    opened.windowAt = position;
    return opened.window.subarray(0, length);
  }
}

import type { Append } from './log-queue.ts';
import { aligned, chunkChecksums, encodeHeader, recordType, type RecordLink } from './record.ts';

/** Where a batch of records goes and what they hang on. */
export interface LayoutStart {
  /** Position in the segment. */
  readonly position: number;
  /** Sequence number and link of the record before. */
  readonly seq: number;
  readonly link: RecordLink;
  readonly durableSeq: number;
  readonly timeMs: number;
  readonly seed: number;
}

/** A batch as bytes. */
export interface Layout {
  readonly buffers: readonly Uint8Array[];
  /** Payload position and checksums of each record. */
  readonly placed: readonly { readonly position: number; readonly crcs: Uint32Array }[];
  readonly link: RecordLink;
  readonly end: number;
}

const zeros = Buffer.alloc(64);

/** Lays records one behind the other. Payloads are not copied. */
export function layOutRecords(batch: readonly Append[], start: LayoutStart): Layout {
  const buffers: Uint8Array[] = [];
  const placed: { position: number; crcs: Uint32Array }[] = [];
  let { position, seq, link } = start;
  for (const { body, payload } of batch) {
    const crcs = chunkChecksums(payload);
    const { durableSeq, timeMs, seed } = start;
    const header = encodeHeader(body, ++seq, durableSeq, timeMs, payload.length, crcs, link, seed);
    const isData = body.type === recordType.write;
    const { object, offset } = body;
    link = { crc: header.crc, object: isData ? object : -1, offset, length: isData ? payload.length : 0 };
    placed.push({ position: position + header.bytes.length, crcs });
    const padding = aligned(payload.length) - payload.length;
    buffers.push(header.bytes);
    if (payload.length > 0) buffers.push(payload);
    if (padding > 0) buffers.push(zeros.subarray(0, padding));
    position += header.bytes.length + payload.length + padding;
  }
  return { buffers, placed, link, end: position };
}

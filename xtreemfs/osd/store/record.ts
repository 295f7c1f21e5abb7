import { crc32 } from 'node:zlib';

/**
 * The record format of a file's log (ADR 0050). All numbers are little-endian; 64-bit ones are doubles, exact to 2^53.
 *
 * | at | size | field |
 * |---|---|---|
 * | 0 | 4 | magic |
 * | 4 | 1 | type |
 * | 5 | 1 | flags |
 * | 6 | 2 | number of payload checksums |
 * | 8 | 8 | sequence number, +1 a record |
 * | 16 | 8 | object number |
 * | 24 | 8 | object version |
 * | 32 | 8 | highest sequence number known to be durable when this was written |
 * | 40 | 4 | offset in the object |
 * | 44 | 4 | payload length |
 * | 48 | 4 | object length |
 * | 52 | 4 | CRC-32 of the previous record's header: links the chain |
 * | 56 | 8 | object number of the previous record, so that a broken header can be told what it covered |
 * | 64 | 4+4 | offset and payload length of the previous record |
 * | 72 | 8 | time of writing, milliseconds since the Unix epoch |
 * | 80 | 4×n | CRC-32 of each 16 KiB of payload |
 * | 80+4n | 4 | CRC-32 of everything above, seeded with the file and segment |
 *
 * Header and payload are each padded to 64 bytes.
 */
export const recordMagic = 0x314c4f58; // "XOL1"
/** Bytes of payload under one checksum: a 4 KiB read verifies at most two chunks. Chosen by measuring (ADR 0050). */
export const chunkBytes = 16 * 1024;
/** Records and payloads start at multiples of this, so that a scan finds the next one after damage. */
export const recordAlign = 64;
const fixedBytes = 80;

/** What a record does to the file's state. */
export const recordType = {
  /** Payload are bytes of one object at `offset`. */
  write: 1,
  /** Objects above `object` go; it gets `objectLength` when `flagOwned` is set. Payload: attributes set with it. */
  truncate: 2,
  /** Payload: attributes. */
  attributes: 3,
  /** The object goes. */
  remove: 4,
  /** The present objects become the file version with number `object`. */
  freeze: 5,
  /** The file version with number `object` goes. */
  drop: 6,
  /** Nothing changes; carries the durable sequence number. */
  mark: 7,
} as const;
export type RecordType = (typeof recordType)[keyof typeof recordType];

/** `write`: the payload replaces the whole object, whose length becomes `objectLength`. */
export const flagWhole = 1;
/** `write`: the same bytes as before, only moved. */
export const flagRewrite = 4;
/** `truncate`: the last object lies on this OSD. */
export const flagOwned = 2;

/** What a caller says of a record; sequence and links are added when it is written. */
export interface RecordBody {
  readonly type: RecordType;
  readonly flags: number;
  readonly object: number;
  readonly version: number;
  readonly offset: number;
  readonly objectLength: number;
}

/** How a record hangs on the one before it. */
export interface RecordLink {
  readonly crc: number;
  readonly object: number;
  readonly offset: number;
  readonly length: number;
}

/** The link of a log's first record. */
export const firstLink: RecordLink = { crc: 0, object: -1, offset: 0, length: 0 };

/** A record's header as read back. */
export interface RecordHeader extends RecordBody {
  readonly seq: number;
  readonly durableSeq: number;
  readonly timeMs: number;
  readonly length: number;
  readonly previous: RecordLink;
  readonly crcs: Uint32Array;
  readonly headerCrc: number;
  /** Padded header; the payload starts this far behind the header's start. */
  readonly headerBytes: number;
  /** Padded header and payload. */
  readonly totalBytes: number;
}

/** Rounds up to the record alignment. */
export function aligned(bytes: number): number {
  return (bytes + recordAlign - 1) & ~(recordAlign - 1);
}

/** Padded header length of a record with so many bytes of payload. */
export function headerBytesOf(payloadLength: number): number {
  return aligned(fixedBytes + 4 * Math.ceil(payloadLength / chunkBytes) + 4);
}

/** CRC-32 of each chunk of a payload. */
export function chunkChecksums(payload: Uint8Array): Uint32Array {
  const crcs = new Uint32Array(Math.ceil(payload.length / chunkBytes));
  if (crcs.length === 1) {
    crcs[0] = crc32(payload);
    return crcs;
  }
  for (let i = 0; i < crcs.length; i++) crcs[i] = crc32(payload.subarray(i * chunkBytes, (i + 1) * chunkBytes));
  return crcs;
}

/** Writes a header. @param seed - CRC-32 of file id and segment, so that strays are never taken for our own. */
export function encodeHeader(
  body: RecordBody,
  seq: number,
  durableSeq: number,
  timeMs: number,
  length: number,
  crcs: Uint32Array,
  previous: RecordLink,
  seed: number,
): { bytes: Buffer; crc: number } {
  const bytes = Buffer.alloc(headerBytesOf(length));
  bytes.writeUInt32LE(recordMagic, 0);
  bytes[4] = body.type;
  bytes[5] = body.flags;
  bytes.writeUInt16LE(crcs.length, 6);
  bytes.writeDoubleLE(seq, 8);
  bytes.writeDoubleLE(body.object, 16);
  bytes.writeDoubleLE(body.version, 24);
  bytes.writeDoubleLE(durableSeq, 32);
  bytes.writeUInt32LE(body.offset, 40);
  bytes.writeUInt32LE(length, 44);
  bytes.writeUInt32LE(body.objectLength, 48);
  bytes.writeUInt32LE(previous.crc, 52);
  bytes.writeDoubleLE(previous.object, 56);
  bytes.writeUInt32LE(previous.offset, 64);
  bytes.writeUInt32LE(previous.length, 68);
  bytes.writeDoubleLE(timeMs, 72);
  let at = fixedBytes;
  for (const crc of crcs) at = bytes.writeUInt32LE(crc, at);
  const crc = crc32(bytes.subarray(0, at), seed);
  bytes.writeUInt32LE(crc, at);
  return { bytes, crc };
}

/**
 * Reads a header at `at`.
 * @returns undefined when there is no valid one, a number when `bytes` ends before the header does (bytes needed).
 */
export function decodeHeader(bytes: Buffer, at: number, seed: number): RecordHeader | number | undefined {
  if (bytes.length - at < fixedBytes) return fixedBytes;
  if (bytes.readUInt32LE(at) !== recordMagic) return undefined;
  const length = bytes.readUInt32LE(at + 44);
  const count = bytes.readUInt16LE(at + 6);
  if (count !== Math.ceil(length / chunkBytes)) return undefined;
  const needed = fixedBytes + 4 * count + 4;
  if (bytes.length - at < needed) return needed;
  const headerCrc = bytes.readUInt32LE(at + needed - 4);
  if (crc32(bytes.subarray(at, at + needed - 4), seed) !== headerCrc) return undefined;
  const crcs = new Uint32Array(count);
  for (let i = 0; i < count; i++) crcs[i] = bytes.readUInt32LE(at + fixedBytes + 4 * i);
  const headerBytes = aligned(needed);
  return {
    type: (bytes[at + 4] ?? 0) as RecordType,
    flags: bytes[at + 5] ?? 0,
    seq: bytes.readDoubleLE(at + 8),
    object: bytes.readDoubleLE(at + 16),
    version: bytes.readDoubleLE(at + 24),
    durableSeq: bytes.readDoubleLE(at + 32),
    timeMs: bytes.readDoubleLE(at + 72),
    offset: bytes.readUInt32LE(at + 40),
    length,
    objectLength: bytes.readUInt32LE(at + 48),
    previous: {
      crc: bytes.readUInt32LE(at + 52),
      object: bytes.readDoubleLE(at + 56),
      offset: bytes.readUInt32LE(at + 64),
      length: bytes.readUInt32LE(at + 68),
    },
    crcs,
    headerCrc,
    headerBytes,
    totalBytes: headerBytes + aligned(length),
  };
}

/** Attribute changes as bytes: key, value pairs; an empty value removes the key. */
export function encodeAttributes(changes: ReadonlyMap<string, Uint8Array>): Buffer {
  const parts: Uint8Array[] = [];
  for (const [key, value] of changes) {
    const name = Buffer.from(key, 'utf8');
    const head = Buffer.alloc(6);
    head.writeUInt16LE(name.length, 0);
    head.writeUInt32LE(value.length, 2);
    parts.push(head, name, value);
  }
  return Buffer.concat(parts);
}

/** Reads what {@link encodeAttributes} wrote. @throws {RangeError} on malformed bytes. */
export function decodeAttributes(bytes: Buffer): Map<string, Buffer> {
  const result = new Map<string, Buffer>();
  let at = 0;
  while (at < bytes.length) {
    const nameLength = bytes.readUInt16LE(at);
    const valueLength = bytes.readUInt32LE(at + 2);
    const end = at + 6 + nameLength + valueLength;
    if (end > bytes.length) throw new RangeError('attributes end in the middle of a value');
    const key = bytes.toString('utf8', at + 6, at + 6 + nameLength);
    result.set(key, Buffer.from(bytes.subarray(at + 6 + nameLength, end)));
    at = end;
  }
  return result;
}

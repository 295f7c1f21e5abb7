import { crc32 } from 'node:zlib';
import { ByteReader, ByteWriter } from './byte-writer.ts';
import type { Extent, ObjectEntry, SegmentUse } from './extents.ts';
import { FileState } from './file-state.ts';
import type { RecordLink } from './record.ts';

const magic = 0x314b4f58; // "XOK1"
const headBytes = 12;

/** The state of a file's log at one position: recovery starts here and replays only what follows. */
export interface Checkpoint<S extends SegmentUse = SegmentUse> {
  readonly state: FileState;
  /** Sequence number of the last record in it. Everything up to it is durable. */
  readonly seq: number;
  readonly link: RecordLink;
  /** Segments that belong to the file, ascending. */
  readonly segments: readonly S[];
  /** The segment that was being written; 0 when the next record starts a new one. */
  readonly tailNumber: number;
  /** Where the next record is expected in the tail. */
  readonly tailPosition: number;
  /** Number of the next new segment. */
  readonly nextNumber: number;
  /** Segments that hold nothing any more and may still have to be removed. */
  readonly reclaimed: readonly number[];
  /** Set when damage was found whose place is not known: nothing of the file can be trusted. */
  readonly isDamaged: boolean;
}

/** A checkpoint as bytes: the same body twice, each with its checksum, so that no single fault loses it. */
export function encodeCheckpoint(checkpoint: Checkpoint, seed: number): Buffer[] {
  const body = encodeBody(checkpoint);
  const head = Buffer.alloc(headBytes);
  head.writeUInt32LE(magic, 0);
  head.writeUInt32LE(body.length, 4);
  head.writeUInt32LE(crc32(body, seed), 8);
  return [head, body, head, body];
}

/**
 * Reads a checkpoint, from its second copy if the first is bad.
 * @param makeSegment - makes the segments that extents will point to.
 * @returns undefined when both copies are bad.
 */
export function decodeCheckpoint<S extends SegmentUse>(
  bytes: Buffer,
  seed: number,
  makeSegment: (number: number) => S,
): Checkpoint<S> | undefined {
  const half = bytes.length / 2;
  for (const start of [0, Math.floor(half)]) {
    const copy = bytes.subarray(start, start + Math.floor(half));
    if (copy.length < headBytes || copy.readUInt32LE(0) !== magic) continue;
    const body = copy.subarray(headBytes);
    if (copy.readUInt32LE(4) !== body.length || copy.readUInt32LE(8) !== crc32(body, seed)) continue;
    return decodeBody(body, makeSegment);
  }
  return undefined;
}

function encodeBody(checkpoint: Checkpoint): Buffer {
  const out = new ByteWriter();
  out.f64(checkpoint.seq);
  out.u32(checkpoint.isDamaged ? 1 : 0);
  const { link, state } = checkpoint;
  out.u32(link.crc);
  out.f64(link.object);
  out.u32(link.offset);
  out.u32(link.length);
  out.u32(checkpoint.segments.length);
  for (const segment of checkpoint.segments) out.u32(segment.number);
  out.u32(checkpoint.tailNumber);
  out.f64(checkpoint.tailPosition);
  out.u32(checkpoint.nextNumber);
  out.u32(checkpoint.reclaimed.length);
  for (const number of checkpoint.reclaimed) out.u32(number);
  out.f64(state.modifiedMs);
  out.f64(state.beganMs);
  encodeAttributeMap(out, state.attributes);
  const entries = collectEntries(state);
  encodeEntries(out, entries);
  encodeObjects(out, state.objects, entries);
  out.u32(state.versions.length);
  for (const version of state.versions) {
    out.f64(version.number);
    out.f64(version.beganMs);
    out.f64(version.modifiedMs);
    encodeObjects(out, version.objects, entries);
  }
  return out.done();
}

function encodeAttributeMap(out: ByteWriter, attributes: ReadonlyMap<string, Buffer>): void {
  out.u32(attributes.size);
  for (const [key, value] of attributes) {
    out.bytes(Buffer.from(key, 'utf8'));
    out.bytes(value);
  }
}

function collectEntries(state: FileState): Map<ObjectEntry, number> {
  const entries = new Map<ObjectEntry, number>();
  const add = (entry: ObjectEntry): void => {
    if (!entries.has(entry)) entries.set(entry, entries.size);
  };
  for (const entry of state.objects.values()) add(entry);
  for (const version of state.versions) for (const entry of version.objects.values()) add(entry);
  return entries;
}

function encodeEntries(out: ByteWriter, entries: ReadonlyMap<ObjectEntry, number>): void {
  const payloads = new Map<Uint32Array, { index: number; extent: Extent }>();
  for (const entry of entries.keys()) {
    for (const extent of entry.extents) {
      if (!payloads.has(extent.crcs)) payloads.set(extent.crcs, { index: payloads.size, extent });
    }
  }
  out.u32(payloads.size);
  for (const { extent } of payloads.values()) {
    out.u32(extent.segment?.number ?? 0);
    out.f64(extent.position);
    out.u32(extent.payloadLength);
    out.bytes(new Uint8Array(extent.crcs.buffer, extent.crcs.byteOffset, extent.crcs.byteLength));
  }
  out.u32(entries.size);
  for (const entry of entries.keys()) {
    out.f64(entry.version);
    out.u32(entry.length);
    out.u32(entry.isFrozen ? 1 : 0);
    out.u32(entry.extents.length);
    for (const extent of entry.extents) {
      out.u32(payloads.get(extent.crcs)?.index ?? 0);
      out.u32(extent.offset);
      out.u32(extent.length);
      out.u32(extent.skip);
    }
  }
}

function encodeObjects(
  out: ByteWriter,
  objects: ReadonlyMap<number, ObjectEntry>,
  entries: ReadonlyMap<ObjectEntry, number>,
): void {
  out.u32(objects.size);
  for (const [number, entry] of objects) {
    out.f64(number);
    out.u32(entries.get(entry) ?? 0);
  }
}

function decodeBody<S extends SegmentUse>(body: Buffer, makeSegment: (number: number) => S): Checkpoint<S> {
  const input = new ByteReader(body);
  const seq = input.f64();
  const isDamaged = input.u32() === 1;
  const link = { crc: input.u32(), object: input.f64(), offset: input.u32(), length: input.u32() };
  const segments = Array.from({ length: input.count(4) }, () => makeSegment(input.u32()));
  const tailNumber = input.u32();
  const tailPosition = input.f64();
  const nextNumber = input.u32();
  const reclaimed = Array.from({ length: input.count(4) }, () => input.u32());
  const state = new FileState();
  state.modifiedMs = input.f64();
  state.beganMs = input.f64();
  for (const [key, value] of decodeAttributeMap(input)) state.attributes.set(key, value);
  const entries = decodeEntries(input, new Map(segments.map((segment) => [segment.number, segment])));
  for (const [number, entry] of decodeObjects(input, entries)) {
    state.objects.set(number, entry);
    if (number > state.lastObject) state.lastObject = number;
  }
  const versions = input.count(8);
  for (let i = 0; i < versions; i++) {
    const number = input.f64();
    const [beganMs, modifiedMs] = [input.f64(), input.f64()];
    state.versions.push({ number, beganMs, modifiedMs, objects: decodeObjects(input, entries) });
  }
  state.recountLive(segments);
  return { state, seq, link, segments, tailNumber, tailPosition, nextNumber, reclaimed, isDamaged };
}

function decodeAttributeMap(input: ByteReader): Map<string, Buffer> {
  const count = input.count(8);
  const result = new Map<string, Buffer>();
  for (let i = 0; i < count; i++) {
    const key = input.bytes().toString('utf8');
    result.set(key, Buffer.from(input.bytes()));
  }
  return result;
}

function decodeEntries(input: ByteReader, segments: ReadonlyMap<number, SegmentUse>): ObjectEntry[] {
  const payloads = Array.from({ length: input.count(20) }, () => {
    const segment = segments.get(input.u32());
    const position = input.f64();
    const payloadLength = input.u32();
    const raw = input.bytes();
    const crcs = new Uint32Array(raw.length / 4);
    for (let i = 0; i < crcs.length; i++) crcs[i] = raw.readUInt32LE(4 * i);
    return { segment, position, payloadLength, crcs };
  });
  const count = input.count(20);
  const entries: ObjectEntry[] = [];
  for (let i = 0; i < count; i++) {
    const version = input.f64();
    const length = input.u32();
    const isFrozen = input.u32() === 1;
    const extents = Array.from({ length: input.count(16) }, (): Extent => {
      const payload = payloads[input.u32()];
      if (payload === undefined) throw new RangeError('an extent names a payload that is not there');
      return { ...payload, offset: input.u32(), length: input.u32(), skip: input.u32() };
    });
    entries.push({ version, length, extents, isFrozen });
  }
  return entries;
}

function decodeObjects(input: ByteReader, entries: readonly ObjectEntry[]): Map<number, ObjectEntry> {
  const count = input.count(12);
  const result = new Map<number, ObjectEntry>();
  for (let i = 0; i < count; i++) {
    const number = input.f64();
    const entry = entries[input.u32()];
    if (entry === undefined) throw new RangeError('an object names an entry that is not there');
    result.set(number, entry);
  }
  return result;
}

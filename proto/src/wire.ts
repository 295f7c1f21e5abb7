/**
 * Reading and writing protobuf's wire format (proto2), for the codecs that hack/generate-codecs.ts makes.
 *
 * How values appear in TypeScript:
 * - fixed32 and int32: number, read as signed 32-bit (as Java peers do); written from −2^31 up to 2^32 − 1.
 * - fixed64: number, read as signed 64-bit; a value outside ±2^53 is refused with a {@link CodecError}, except in
 *   fields marked `is_bigint`, which are bigint.
 * - string: UTF-8. Bytes that are no UTF-8 (file names may be any bytes) become lone surrogates U+DC80…U+DCFF, one a
 *   byte, and are written back as they were.
 * - bytes: a Buffer of its own, never a view of the frame.
 */
import { isUtf8 } from 'node:buffer';

/** Thrown when bytes are no valid message, or a value has no place in its field. Never anything else is thrown. */
export class CodecError extends Error {
  override readonly name = 'CodecError';
}

/** Encoder and decoder of one message type. */
export interface Codec<T> {
  /** Name of the message in the `.proto` file. */
  readonly name: string;
  /**
   * Appends the message.
   * @throws {CodecError} when a value does not fit its field.
   */
  write(writer: Writer, message: T): void;
  /** The message alone. @throws {CodecError} as `write`. */
  encode(message: T): Buffer;
  /**
   * Reads a message. No bytes at all give the message with every field at its default, also where the protocol
   * requires fields (upstream sends such responses). Unknown fields are skipped; of a repeated single field the last
   * one counts.
   * @throws {CodecError} when the bytes are malformed.
   */
  decode(bytes: Buffer): T;
}

/** One procedure of a service. */
export interface Procedure<Request, Response> {
  readonly interfaceId: number;
  readonly procId: number;
  /** Name in the `.proto` file without the prefix `xtreemfs_`. */
  readonly name: string;
  readonly request: Codec<Request>;
  readonly response: Codec<Response>;
  /** Raw bytes follow the request message. */
  readonly hasDataIn: boolean;
  /** Raw bytes follow the response message. */
  readonly hasDataOut: boolean;
}

/** Makes a codec of a generated pair of functions. */
export function makeCodec<T>(
  name: string,
  write: (writer: Writer, message: T) => void,
  read: (reader: Reader) => T,
): Codec<T> {
  const named = (error: unknown): unknown =>
    error instanceof CodecError ? new CodecError(`${name}: ${error.message}`, { cause: error }) : error;
  return {
    name,
    write: (writer, message) => {
      try {
        write(writer, message);
      } catch (error) {
        throw named(error);
      }
    },
    encode: (message) => {
      const writer = new Writer(256);
      try {
        write(writer, message);
      } catch (error) {
        throw named(error);
      }
      return writer.buffer.subarray(0, writer.position);
    },
    decode: (bytes) => {
      try {
        return read(new Reader(bytes));
      } catch (error) {
        throw named(error);
      }
    },
  };
}

const twoTo32 = 0x1_0000_0000;

/** A growing buffer. Field methods take the tag byte: field number × 8 + wire type (field numbers stay below 16). */
export class Writer {
  /** What is written so far is `buffer[0 … position)`; the buffer is replaced when it grows. */
  buffer: Buffer;
  position = 0;

  /** @param sizeBytes - what to begin with. */
  constructor(sizeBytes = 1024) {
    this.buffer = Buffer.allocUnsafe(sizeBytes);
  }

  /** Makes room for `count` more bytes. */
  reserve(count: number): void {
    const needed = this.position + count;
    if (needed <= this.buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, this.buffer.length * 2));
    this.buffer.copy(larger, 0, 0, this.position);
    this.buffer = larger;
  }

  fixed32(tag: number, value: number): void {
    if (!(value >= -0x8000_0000 && value < twoTo32)) throw outOfRange(tag, value, '32 bits');
    this.reserve(9);
    if (tag < 0x80) this.buffer[this.position++] = tag;
    else this.varint(tag);
    this.rawFixed32(value);
  }

  fixed64(tag: number, value: number): void {
    if (!Number.isSafeInteger(value)) throw outOfRange(tag, value, 'a whole number within 2^53');
    this.reserve(9);
    this.buffer[this.position++] = tag;
    this.rawFixed32(value >>> 0);
    this.rawFixed32(Math.floor(value / twoTo32));
  }

  bigFixed64(tag: number, value: bigint): void {
    if (typeof value !== 'bigint') throw outOfRange(tag, value, 'a bigint');
    this.reserve(9);
    this.buffer[this.position++] = tag;
    this.position = this.buffer.writeBigUInt64LE(BigInt.asUintN(64, value), this.position);
  }

  int32(tag: number, value: number): void {
    if (!(value >= -0x8000_0000 && value < 0x8000_0000)) throw outOfRange(tag, value, '32 bits, signed');
    this.reserve(11);
    this.buffer[this.position++] = tag;
    this.rawInt32(value | 0);
  }

  bool(tag: number, value: boolean): void {
    this.reserve(2);
    this.buffer[this.position++] = tag;
    this.buffer[this.position++] = value ? 1 : 0;
  }

  double(tag: number, value: number): void {
    if (typeof value !== 'number') throw outOfRange(tag, value, 'a number');
    this.reserve(9);
    this.buffer[this.position++] = tag;
    this.position = this.buffer.writeDoubleLE(value, this.position);
  }

  string(tag: number, value: string): void {
    if (typeof value !== 'string') throw outOfRange(tag, value, 'a string');
    const length = value.length;
    this.reserve(length * 3 + 6);
    this.buffer[this.position++] = tag;
    if (length < 0x80 && this.shortAscii(value, length)) return;
    if (!value.isWellFormed()) {
      this.rawBytes(textToBytes(value));
      return;
    }
    const size = Buffer.byteLength(value, 'utf8');
    this.varint(size);
    this.position += this.buffer.write(value, this.position, size, 'utf8');
  }

  bytes(tag: number, value: Uint8Array): void {
    if (!(value instanceof Uint8Array)) throw outOfRange(tag, value, 'bytes');
    this.reserve(1);
    this.buffer[this.position++] = tag;
    this.rawBytes(value);
  }

  /** Packed enums or int32s. */
  packedInt32(tag: number, values: readonly number[]): void {
    if (values.length === 0) return;
    const start = this.begin(tag);
    for (const value of values) {
      if (!(value >= -0x8000_0000 && value < 0x8000_0000)) throw outOfRange(tag, value, '32 bits, signed');
      this.reserve(10);
      this.rawInt32(value | 0);
    }
    this.end(start);
  }

  /** Opens a nested message. @returns what `end` needs. */
  begin(tag: number): number {
    this.reserve(2);
    this.buffer[this.position++] = tag;
    return ++this.position;
  }

  /** Closes a nested message: puts its length before it, moving it when the length needs more than one byte. */
  end(start: number): void {
    const length = this.position - start;
    if (length < 0x80) {
      this.buffer[start - 1] = length;
      return;
    }
    const extra = varintSize(length) - 1;
    this.reserve(extra);
    this.buffer.copyWithin(start + extra, start, this.position);
    const end = this.position + extra;
    this.position = start - 1;
    this.varint(length);
    this.position = end;
  }

  private shortAscii(value: string, length: number): boolean {
    const { buffer } = this;
    let at = this.position;
    buffer[at++] = length;
    for (let i = 0; i < length; i++) {
      const unit = value.charCodeAt(i);
      if (unit >= 0x80) return false;
      buffer[at++] = unit;
    }
    this.position = at;
    return true;
  }

  private rawBytes(value: Uint8Array): void {
    this.reserve(value.length + 5);
    this.varint(value.length);
    this.buffer.set(value, this.position);
    this.position += value.length;
  }

  private rawFixed32(value: number): void {
    const { buffer } = this;
    let at = this.position;
    buffer[at++] = value;
    buffer[at++] = value >> 8;
    buffer[at++] = value >> 16;
    buffer[at++] = value >> 24;
    this.position = at;
  }

  private rawInt32(value: number): void {
    if (value >= 0) {
      this.varint(value);
      return;
    }
    // A negative int32 is written as the ten bytes of its 64-bit form.
    let rest = value >>> 0;
    for (let i = 0; i < 4; i++) {
      this.buffer[this.position++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.buffer[this.position++] = rest | 0xf0;
    for (let i = 0; i < 4; i++) this.buffer[this.position++] = 0xff;
    this.buffer[this.position++] = 1;
  }

  private varint(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.buffer[this.position++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.buffer[this.position++] = rest;
  }
}

function varintSize(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x20_0000 ? 3 : value < 0x1000_0000 ? 4 : 5;
}

function outOfRange(tag: number, value: unknown, wanted: string): CodecError {
  return new CodecError(`field number ${tag >> 3}: ${String(value)} does not fit, use ${wanted}`);
}

/** Repeated elements that one message may hold in all: more are refused, since each costs far more than its bytes. */
const elementsMax = 1 << 20;
const groupDepthMax = 16;

/** Reads one message out of a buffer. Every read is checked against the end of the message it belongs to. */
export class Reader {
  private readonly buffer: Buffer;
  private position = 0;
  private limit: number;
  private elements = 0;

  constructor(buffer: Buffer) {
    this.buffer = buffer;
    this.limit = buffer.length;
  }

  /** The next tag; 0 at the end of the message. */
  tag(): number {
    if (this.position >= this.limit) return 0;
    const tag = this.uint32();
    if (tag >>> 3 === 0) throw new CodecError('field number 0 is not valid');
    return tag;
  }

  fixed32(): number {
    return this.buffer.readInt32LE(this.advance(4));
  }

  fixed64(): number {
    const low = this.fixed32() >>> 0;
    const value = this.fixed32() * twoTo32 + low;
    if (!Number.isSafeInteger(value)) throw new CodecError('a 64-bit value is outside ±2^53');
    return value;
  }

  bigFixed64(): bigint {
    return this.buffer.readBigInt64LE(this.advance(8));
  }

  int32(): number {
    return this.uint32() | 0;
  }

  bool(): boolean {
    return this.uint32() !== 0;
  }

  double(): number {
    return this.buffer.readDoubleLE(this.advance(8));
  }

  string(): string {
    const length = this.uint32();
    const at = this.advance(length);
    return bytesToText(this.buffer, at, at + length);
  }

  bytes(): Buffer {
    const length = this.uint32();
    const at = this.advance(length);
    return Buffer.from(this.buffer.subarray(at, at + length));
  }

  /** Enters a nested message. @returns what `leave` needs. */
  enter(): number {
    const length = this.uint32();
    const at = this.advance(length);
    const outer = this.limit;
    this.position = at;
    this.limit = at + length;
    return outer;
  }

  leave(outer: number): void {
    this.position = this.limit;
    this.limit = outer;
  }

  /** Counts an element of a repeated field. */
  element(): void {
    if (++this.elements > elementsMax) throw new CodecError(`more than ${elementsMax} repeated elements`);
  }

  /** Whether a packed field has more elements. */
  hasMore(): boolean {
    return this.position < this.limit;
  }

  /** Skips the value of an unknown field. */
  skip(tag: number, depth = 0): void {
    switch (tag & 7) {
      case 0:
        this.uint32();
        return;
      case 1:
        this.advance(8);
        return;
      case 2:
        this.advance(this.uint32());
        return;
      case 3:
        this.skipGroup(tag, depth);
        return;
      case 5:
        this.advance(4);
        return;
      default:
        throw new CodecError(`wire type ${tag & 7} is not valid`);
    }
  }

  private skipGroup(tag: number, depth: number): void {
    if (depth >= groupDepthMax) throw new CodecError('groups are nested too deep');
    for (;;) {
      const inner = this.tag();
      if (inner === 0) throw new CodecError('a group has no end');
      if ((inner & 7) === 4) {
        if (inner >>> 3 !== tag >>> 3) throw new CodecError('a group ends with another number');
        return;
      }
      this.skip(inner, depth + 1);
    }
  }

  /** A varint; of longer ones the low 32 bits. */
  private uint32(): number {
    const { buffer, limit } = this;
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (this.position >= limit) throw new CodecError('the message ends within a number');
      const byte = buffer[this.position++] ?? 0;
      if (shift < 35) value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
    throw new CodecError('a number is longer than ten bytes');
  }

  /** Moves on by `length`. @returns the position before. */
  private advance(length: number): number {
    const at = this.position;
    if (length > this.limit - at) throw new CodecError('the message ends within a field');
    this.position = at + length;
    return at;
  }
}

/**
 * Text of bytes that should be UTF-8, but need not: each byte that is not becomes one of U+DC80…U+DCFF
 * (as Python's `surrogateescape`), so that {@link textToBytes} gives the same bytes back.
 */
export function bytesToText(bytes: Buffer, start = 0, end = bytes.length): string {
  const text = bytes.toString('utf8', start, end);
  if (!text.includes('\ufffd') || isUtf8(bytes.subarray(start, end))) return text;
  let escaped = '';
  for (let at = start; at < end;) {
    const size = sequenceSize(bytes, at, end);
    escaped += size === 0 ? String.fromCharCode(0xdc00 + (bytes[at] ?? 0)) : bytes.toString('utf8', at, at + size);
    at += Math.max(1, size);
  }
  return escaped;
}

/** Length of the valid UTF-8 sequence at `at`; 0 when there is none. */
function sequenceSize(bytes: Buffer, at: number, end: number): number {
  for (let size = 1; size <= 4 && at + size <= end; size++) {
    if (isUtf8(bytes.subarray(at, at + size))) return size;
  }
  return 0;
}

/** The bytes that {@link bytesToText} made the text of. Other lone surrogates become U+FFFD. */
export function textToBytes(text: string): Buffer {
  if (text.isWellFormed()) return Buffer.from(text, 'utf8');
  const parts: Buffer[] = [];
  for (const point of text) {
    const code = point.charCodeAt(0);
    parts.push(point.length === 1 && code >= 0xdc80 && code <= 0xdcff ? Buffer.of(code & 0xff) : Buffer.from(point));
  }
  return Buffer.concat(parts);
}

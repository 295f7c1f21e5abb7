/** Collects little-endian numbers and byte strings in a buffer that grows. */
export class ByteWriter {
  private buffer = Buffer.allocUnsafe(4096);
  private length = 0;

  u32(value: number): void {
    this.room(4);
    this.length = this.buffer.writeUInt32LE(value, this.length);
  }

  f64(value: number): void {
    this.room(8);
    this.length = this.buffer.writeDoubleLE(value, this.length);
  }

  /** Length, then the bytes. */
  bytes(value: Uint8Array): void {
    this.u32(value.length);
    this.room(value.length);
    this.buffer.set(value, this.length);
    this.length += value.length;
  }

  /** What was written so far; valid until the next write. */
  done(): Buffer {
    return this.buffer.subarray(0, this.length);
  }

  private room(bytes: number): void {
    if (this.length + bytes <= this.buffer.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, this.length + bytes));
    this.buffer.copy(grown, 0, 0, this.length);
    this.buffer = grown;
  }
}

/** Reads what {@link ByteWriter} wrote. Every read past the end throws a RangeError. */
export class ByteReader {
  private readonly buffer: Buffer;
  private at = 0;

  constructor(buffer: Buffer) {
    this.buffer = buffer;
  }

  u32(): number {
    const value = this.buffer.readUInt32LE(this.at);
    this.at += 4;
    return value;
  }

  f64(): number {
    const value = this.buffer.readDoubleLE(this.at);
    this.at += 8;
    return value;
  }

  /** A view of the bytes, not a copy. */
  bytes(): Buffer {
    const length = this.u32();
    if (this.at + length > this.buffer.length) throw new RangeError('a byte string ends behind the data');
    const value = this.buffer.subarray(this.at, this.at + length);
    this.at += length;
    return value;
  }

  /** How many items of at least `itemBytes` follow. @throws {RangeError} when so many can't fit. */
  count(itemBytes: number): number {
    const count = this.u32();
    if (count * itemBytes > this.buffer.length - this.at) throw new RangeError(`a list of ${count} items does not fit`);
    return count;
  }
}

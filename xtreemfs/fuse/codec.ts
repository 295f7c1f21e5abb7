import { bytesToText, textToBytes } from '#proto/wire.ts';
import { attrBytes, direntHeaderBytes, entryOutBytes, inHeaderBytes, outHeaderBytes, SetattrValid } from './abi.ts';
import { FuseError } from './errno.ts';
import type {
  AttributeChange,
  Attributes,
  AttributesReply,
  Entry,
  FileLock,
  StatfsReply,
  Timestamp,
} from './file-system.ts';

const twoTo32 = 0x1_0000_0000;

/**
 * The arguments of one request, read in order.
 * @throws {FuseError} EINVAL when the request ends too early; EOVERFLOW for a number beyond 2^53, which no offset or
 * inode number here reaches.
 */
export class ArgumentReader {
  private readonly bytes: Buffer;
  private position: number;
  private readonly limit: number;

  /** @param bytes - a whole request of `limit` bytes, its header included. */
  constructor(bytes: Buffer, limit: number, position = inHeaderBytes) {
    this.bytes = bytes;
    this.position = position;
    this.limit = limit;
  }

  get remaining(): number {
    return this.limit - this.position;
  }

  u32(): number {
    return this.bytes.readUInt32LE(this.advance(4));
  }

  u64(): number {
    const at = this.advance(8);
    const value = this.bytes.readUInt32LE(at) + this.bytes.readUInt32LE(at + 4) * twoTo32;
    if (value > Number.MAX_SAFE_INTEGER) throw new FuseError('EOVERFLOW', `a number of the request is beyond 2^53`);
    return value;
  }

  /** Offsets: signed in the kernel, never negative here. */
  i64(): number {
    const at = this.advance(8);
    return this.bytes.readUInt32LE(at) + this.bytes.readInt32LE(at + 4) * twoTo32;
  }

  big64(): bigint {
    return this.bytes.readBigUInt64LE(this.advance(8));
  }

  skip(count: number): void {
    this.advance(count);
  }

  /** A name or target that ends with a zero byte. */
  text(): string {
    const end = this.bytes.indexOf(0, this.position);
    if (end < 0 || end >= this.limit) throw new FuseError('EINVAL', 'a name in the request has no end');
    const text = bytesToText(this.bytes, this.position, end);
    this.position = end + 1;
    return text;
  }

  /** `count` raw bytes: a view of the request's buffer. */
  view(count: number): Buffer {
    const at = this.advance(count);
    return this.bytes.subarray(at, at + count);
  }

  private advance(count: number): number {
    const at = this.position;
    if (at + count > this.limit) throw new FuseError('EINVAL', 'the request is shorter than its kind needs');
    this.position = at + count;
    return at;
  }
}

/** Reads `struct fuse_setattr_in`. */
export function readAttributeChange(args: ArgumentReader): AttributeChange {
  const valid = args.u32();
  args.skip(4);
  const handle = args.u64();
  const size = args.i64();
  args.skip(8);
  const seconds = [args.i64(), args.i64(), args.i64()] as const;
  const nanos = [args.u32(), args.u32(), args.u32()] as const;
  const mode = args.u32();
  args.skip(4);
  const uid = args.u32();
  const gid = args.u32();
  const has = (bit: number): boolean => (valid & bit) !== 0;
  const time = (index: 0 | 1 | 2): Timestamp => ({ seconds: seconds[index], nanoseconds: nanos[index] });
  return {
    ...(has(SetattrValid.MODE) ? { mode: mode & 0o7777 } : {}),
    ...(has(SetattrValid.UID) ? { uid } : {}),
    ...(has(SetattrValid.GID) ? { gid } : {}),
    ...(has(SetattrValid.SIZE) ? { size } : {}),
    ...(has(SetattrValid.ATIME) ? { atime: has(SetattrValid.ATIME_NOW) ? ('now' as const) : time(0) } : {}),
    ...(has(SetattrValid.MTIME) ? { mtime: has(SetattrValid.MTIME_NOW) ? ('now' as const) : time(1) } : {}),
    ...(has(SetattrValid.CTIME) ? { ctime: time(2) } : {}),
    ...(has(SetattrValid.KILL_SUIDGID) ? { killSuidgid: true } : {}),
    ...(has(SetattrValid.FH) ? { handle } : {}),
  };
}

/** Writes replies into one buffer that is used again and again; `position` is where the next field goes. */
export class ReplyWriter {
  buffer: Buffer;
  position = outHeaderBytes;

  /** @param sizeBytes - of the largest reply without raw data. */
  constructor(sizeBytes: number) {
    this.buffer = Buffer.alloc(sizeBytes);
  }

  /** Starts a reply; its header is written by `finish`. */
  begin(): void {
    this.position = outHeaderBytes;
  }

  /**
   * Writes the header.
   * @param error - positive errno, or 0.
   * @param extraBytes - of raw data that is sent after this buffer.
   */
  finish(error: number, uniqueLow: number, uniqueHigh: number, extraBytes = 0): void {
    const { buffer } = this;
    buffer.writeUInt32LE(this.position + extraBytes, 0);
    buffer.writeInt32LE(error === 0 ? 0 : -error, 4);
    buffer.writeUInt32LE(uniqueLow, 8);
    buffer.writeUInt32LE(uniqueHigh, 12);
  }

  u16(value: number): void {
    this.position = this.buffer.writeUInt16LE(value, this.position);
  }

  u32(value: number): void {
    this.position = this.buffer.writeUInt32LE(value >>> 0, this.position);
  }

  u64(value: number): void {
    this.buffer.writeUInt32LE(value % twoTo32, this.position);
    this.position = this.buffer.writeUInt32LE(Math.floor(value / twoTo32), this.position + 4);
  }

  i64(value: number): void {
    const high = Math.floor(value / twoTo32);
    this.buffer.writeUInt32LE(value - high * twoTo32, this.position);
    this.position = this.buffer.writeInt32LE(high, this.position + 4);
  }

  big64(value: bigint): void {
    this.position = this.buffer.writeBigUInt64LE(value, this.position);
  }

  zeros(count: number): void {
    this.buffer.fill(0, this.position, this.position + count);
    this.position += count;
  }

  bytes(value: Buffer): void {
    this.position += value.copy(this.buffer, this.position);
  }

  /** `struct fuse_attr` */
  attributes(a: Attributes): void {
    this.u64(a.ino);
    this.u64(a.size);
    this.u64(a.blocks);
    this.i64(a.atime.seconds);
    this.i64(a.mtime.seconds);
    this.i64(a.ctime.seconds);
    this.u32(a.atime.nanoseconds);
    this.u32(a.mtime.nanoseconds);
    this.u32(a.ctime.nanoseconds);
    this.u32(a.mode);
    this.u32(a.nlink);
    this.u32(a.uid);
    this.u32(a.gid);
    this.u32(a.rdev);
    this.u32(a.blksize);
    this.u32(0);
  }

  /** `struct fuse_entry_out` */
  entry(entry: Entry): void {
    this.u64(entry.nodeId);
    this.u64(entry.generation);
    const entrySeconds = Math.floor(entry.entryValidMs / 1000);
    const attributeSeconds = Math.floor(entry.attributesValidMs / 1000);
    this.u64(entrySeconds);
    this.u64(attributeSeconds);
    this.u32(Math.floor((entry.entryValidMs - entrySeconds * 1000) * 1e6));
    this.u32(Math.floor((entry.attributesValidMs - attributeSeconds * 1000) * 1e6));
    if (entry.nodeId === 0) this.zeros(attrBytes);
    else this.attributes(entry.attributes);
  }

  /** `struct fuse_attr_out` */
  attributesReply(reply: AttributesReply): void {
    const seconds = Math.floor(reply.validMs / 1000);
    this.u64(seconds);
    this.u32(Math.floor((reply.validMs - seconds * 1000) * 1e6));
    this.u32(0);
    this.attributes(reply.attributes);
  }

  /** `struct fuse_kstatfs` */
  statfs(s: StatfsReply): void {
    this.u64(s.blocks);
    this.u64(s.bfree);
    this.u64(s.bavail);
    this.u64(s.files);
    this.u64(s.ffree);
    this.u32(s.bsize);
    this.u32(s.nameMax);
    this.u32(s.frsize);
    this.zeros(28);
  }

  /** `struct fuse_file_lock` */
  lock(lock: FileLock): void {
    this.big64(lock.start);
    this.big64(lock.end);
    this.u32(lock.type);
    this.u32(lock.pid);
  }
}

const align8 = (count: number): number => (count + 7) & ~7;

/** Packs directory entries (`struct fuse_dirent` and `fuse_direntplus`) up to a number of bytes. */
export class DirentWriter {
  readonly wantsAttributes: boolean;
  private readonly writer: ReplyWriter;
  private readonly end: number;

  /** @param maxBytes - what the kernel asked for; `writer` must have room for it. */
  constructor(writer: ReplyWriter, maxBytes: number, wantsAttributes: boolean) {
    this.writer = writer;
    this.end = outHeaderBytes + maxBytes;
    this.wantsAttributes = wantsAttributes;
  }

  add(name: string, ino: number, type: number, nextOffset: number): boolean {
    const encoded = textToBytes(name);
    if (this.wantsAttributes) {
      if (!this.fits(entryOutBytes + align8(direntHeaderBytes + encoded.length))) return false;
      this.writer.zeros(entryOutBytes);
    } else if (!this.fits(align8(direntHeaderBytes + encoded.length))) {
      return false;
    }
    this.dirent(encoded, ino, type, nextOffset);
    return true;
  }

  addWithEntry(name: string, entry: Entry, nextOffset: number): boolean {
    const encoded = textToBytes(name);
    if (!this.fits(entryOutBytes + align8(direntHeaderBytes + encoded.length))) return false;
    this.writer.entry(entry);
    this.dirent(encoded, entry.attributes.ino, entry.attributes.mode, nextOffset);
    return true;
  }

  private fits(count: number): boolean {
    return this.writer.position + count <= this.end;
  }

  private dirent(name: Buffer, ino: number, mode: number, nextOffset: number): void {
    const { writer } = this;
    writer.u64(ino);
    writer.u64(nextOffset);
    writer.u32(name.length);
    writer.u32((mode >>> 12) & 0o17);
    writer.bytes(name);
    writer.zeros(align8(name.length) - name.length);
  }
}

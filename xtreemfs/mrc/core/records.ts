import { AssertionError } from '#common/errors.ts';
import { bytesToText, textToBytes } from '#proto/wire.ts';

/** File type bits of a mode (Linux numbers; protocol reference, section 3, SYSTEM_V_FCNTL). */
export const fileType = {
  mask: 0xf000,
  fifo: 0x1000,
  character: 0x2000,
  directory: 0x4000,
  block: 0x6000,
  regular: 0x8000,
  symlink: 0xa000,
  socket: 0xc000,
} as const;

/** Facts about an inode that spare a look-up when they don't hold. */
export const inodeFlags = {
  readOnly: 1,
  hasAcl: 2,
  hasAttributes: 4,
  hasPolicies: 8,
  hasVouchers: 16,
  hasDefaultAcl: 32,
  /** As `chattr +i` and `+a`. */
  immutable: 64,
  appendOnly: 128,
} as const;

/** How a file is cut over OSDs. `stripeSizeKb` is the size of one object in kB (wire: stripe_size). */
export interface Striping {
  readonly stripeSizeKb: number;
  readonly width: number;
}

/** One copy of a file: as many OSDs as the stripe is wide, and REPL_FLAG bits. */
export interface ReplicaRecord {
  readonly osds: readonly string[];
  readonly flags: number;
  readonly striping: Striping;
}

/** The replicas of a file. `version` is the view number; `policy` is `''`, `ronly`, `WqRq` or `WaR1`. */
export interface XlocRecord {
  readonly version: number;
  readonly policy: string;
  readonly replicas: readonly ReplicaRecord[];
}

/** One file, directory, link or special file. Times are nanoseconds since 1970. */
export interface Inode {
  readonly volume: number;
  readonly ino: number;
  /** Type and permission bits. */
  mode: number;
  nlink: number;
  user: string;
  group: string;
  size: number;
  /** Truncate epoch, and the highest one that was given out with a capability. */
  epoch: number;
  issuedEpoch: number;
  atimeNs: bigint;
  mtimeNs: bigint;
  ctimeNs: bigint;
  /** Windows attribute bits of a file (opaque), or the device number of a device file. */
  attributes: number;
  /** `inodeFlags`. */
  flags: number;
  /** Number of the parent directory (of a file: where it was first made). */
  parent: number;
  /** Target of a symlink; '' otherwise. */
  target: string;
  xlocs: XlocRecord | undefined;
}

const layout = 1;
const replicaPolicies = ['', 'ronly', 'WqRq', 'WaR1'] as const;

/** Types of the inode as single tests. */
export const isDirectory = (inode: Inode): boolean => (inode.mode & fileType.mask) === fileType.directory;
export const isRegular = (inode: Inode): boolean => (inode.mode & fileType.mask) === fileType.regular;
export const isSymlink = (inode: Inode): boolean => (inode.mode & fileType.mask) === fileType.symlink;

/** A new inode without content, made at the time of a transaction. */
export function freshInode(
  { nowNs }: { readonly nowNs: bigint },
  what: Pick<Inode, 'volume' | 'ino' | 'mode' | 'user' | 'group' | 'parent'>,
): Inode {
  const isDir = (what.mode & fileType.mask) === fileType.directory;
  const nothing = { size: 0, epoch: 0, issuedEpoch: 0, attributes: 0, flags: 0, target: '', xlocs: undefined };
  return { ...what, ...nothing, nlink: isDir ? 2 : 1, atimeNs: nowNs, mtimeNs: nowNs, ctimeNs: nowNs };
}

/** Number of an attribute state: changes with every change of the object. Below 2^53, never 0. */
export function etagOf(inode: Inode): number {
  return Number(BigInt.asUintN(52, inode.ctimeNs * 31n + inode.mtimeNs)) + 1;
}

/** Writes numbers and short texts behind each other; one shared buffer, copied once at the end. */
class Writer {
  private buffer = Buffer.allocUnsafe(8 * 1024);
  offset = 0;

  begin(): this {
    this.offset = 0;
    return this;
  }

  private room(bytes: number): void {
    if (this.offset + bytes <= this.buffer.length) return;
    const bigger = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, this.offset + bytes));
    this.buffer.copy(bigger, 0, 0, this.offset);
    this.buffer = bigger;
  }

  u8(value: number): this {
    this.room(1);
    this.buffer[this.offset++] = value;
    return this;
  }

  u16(value: number): this {
    this.room(2);
    this.offset = this.buffer.writeUInt16LE(value, this.offset);
    return this;
  }

  u32(value: number): this {
    this.room(4);
    this.offset = this.buffer.writeUInt32LE(value >>> 0, this.offset);
    return this;
  }

  u48(value: number): this {
    this.room(6);
    this.offset = this.buffer.writeUIntLE(value, this.offset, 6);
    return this;
  }

  f64(value: number): this {
    this.room(8);
    this.offset = this.buffer.writeDoubleLE(value, this.offset);
    return this;
  }

  i64(value: bigint): this {
    this.room(8);
    this.offset = this.buffer.writeBigInt64LE(value, this.offset);
    return this;
  }

  text(value: string): this {
    const bytes = textToBytes(value);
    this.room(2 + bytes.length);
    this.offset = this.buffer.writeUInt16LE(bytes.length, this.offset);
    this.buffer.set(bytes, this.offset);
    this.offset += bytes.length;
    return this;
  }

  end(): Buffer {
    return Buffer.from(this.buffer.subarray(0, this.offset));
  }
}

class Reader {
  private readonly buffer: Buffer;
  private offset: number;

  constructor(bytes: Uint8Array, offset: number) {
    this.buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.offset = offset;
  }

  get isAtEnd(): boolean {
    return this.offset >= this.buffer.length;
  }

  private step(bytes: number): number {
    const at = this.offset;
    this.offset += bytes;
    return at;
  }

  u8 = (): number => this.buffer.readUInt8(this.step(1));
  u16 = (): number => this.buffer.readUInt16LE(this.step(2));
  u32 = (): number => this.buffer.readUInt32LE(this.step(4));
  u48 = (): number => this.buffer.readUIntLE(this.step(6), 6);
  f64 = (): number => this.buffer.readDoubleLE(this.step(8));
  i64 = (): bigint => this.buffer.readBigInt64LE(this.step(8));

  text(): string {
    const length = this.u16();
    const at = this.step(length);
    return bytesToText(this.buffer, at, at + length);
  }
}

const writer = new Writer();

/** Bytes of an inode: fixed part, owner, group, then a symlink's target or the replicas. */
export function encodeInode(inode: Inode): Buffer {
  writer.begin().u8(layout).u16(inode.mode).u32(inode.nlink).f64(inode.size).u32(inode.epoch).u32(inode.issuedEpoch);
  writer.i64(inode.atimeNs).i64(inode.mtimeNs).i64(inode.ctimeNs).u32(inode.attributes).u8(inode.flags);
  writer.u48(inode.parent).text(inode.user).text(inode.group);
  if (isSymlink(inode)) writer.text(inode.target);
  else if (inode.xlocs !== undefined) writeXlocs(inode.xlocs);
  return writer.end();
}

/** @throws {AssertionError} on a record of an unknown layout. */
export function decodeInode(volume: number, ino: number, bytes: Uint8Array): Inode {
  if (bytes[0] !== layout)
    throw new AssertionError(`Inode ${ino} of volume ${volume} has layout ${bytes[0] ?? 'none'}`);
  const r = new Reader(bytes, 1);
  const inode: Inode = {
    volume,
    ino,
    mode: r.u16(),
    nlink: r.u32(),
    size: r.f64(),
    epoch: r.u32(),
    issuedEpoch: r.u32(),
    atimeNs: r.i64(),
    mtimeNs: r.i64(),
    ctimeNs: r.i64(),
    attributes: r.u32(),
    flags: r.u8(),
    parent: r.u48(),
    user: r.text(),
    group: r.text(),
    target: '',
    xlocs: undefined,
  };
  if (!r.isAtEnd) {
    if (isSymlink(inode)) inode.target = r.text();
    else inode.xlocs = readXlocs(r);
  }
  return inode;
}

function writeXlocs(xlocs: XlocRecord): void {
  const policy = replicaPolicies.indexOf(xlocs.policy as (typeof replicaPolicies)[number]);
  if (policy < 0) throw new AssertionError(`Replica policy ${xlocs.policy} is unknown`);
  writer.u32(xlocs.version).u8(policy).u8(xlocs.replicas.length);
  for (const replica of xlocs.replicas) {
    writer.u32(replica.flags).u32(replica.striping.stripeSizeKb).u16(replica.striping.width).u16(replica.osds.length);
    for (const osd of replica.osds) writer.text(osd);
  }
}

function readXlocs(r: Reader): XlocRecord {
  const version = r.u32();
  const policy = replicaPolicies[r.u8()] ?? '';
  const replicas = Array.from({ length: r.u8() }, (): ReplicaRecord => {
    const flags = r.u32();
    const striping = { stripeSizeKb: r.u32(), width: r.u16() };
    return { flags, striping, osds: Array.from({ length: r.u16() }, () => r.text()) };
  });
  return { version, policy, replicas };
}

/** A directory entry: which file it names, and its type bits (so that a listing of names needs no inode). */
export interface EntryRecord {
  readonly ino: number;
  readonly type: number;
}

export function encodeEntry(entry: EntryRecord): Buffer {
  return writer.begin().u48(entry.ino).u16(entry.type).end();
}

export function decodeEntry(bytes: Uint8Array): EntryRecord {
  const r = new Reader(bytes, 0);
  return { ino: r.u48(), type: r.u16() };
}

/** Running numbers of one volume. Bytes are sums over files, counted once per file. */
export interface Counters {
  nextIno: number;
  files: number;
  directories: number;
  usedBytes: number;
  /** Reserved by open vouchers beyond what is used. */
  blockedBytes: number;
}

export function encodeCounters(c: Counters): Buffer {
  return writer.begin().u48(c.nextIno).u48(c.files).u48(c.directories).f64(c.usedBytes).f64(c.blockedBytes).end();
}

export function decodeCounters(bytes: Uint8Array): Counters {
  const r = new Reader(bytes, 0);
  return { nextIno: r.u48(), files: r.u48(), directories: r.u48(), usedBytes: r.f64(), blockedBytes: r.f64() };
}

/** Limit and use of one user or group in a volume, bytes. `quotaBytes` 0: the volume's default holds. */
export interface QuotaRecord {
  quotaBytes: number;
  usedBytes: number;
  blockedBytes: number;
}

export function encodeQuota(q: QuotaRecord): Buffer {
  return writer.begin().f64(q.quotaBytes).f64(q.usedBytes).f64(q.blockedBytes).end();
}

export function decodeQuota(bytes: Uint8Array): QuotaRecord {
  const r = new Reader(bytes, 0);
  return { quotaBytes: r.f64(), usedBytes: r.f64(), blockedBytes: r.f64() };
}

/**
 * An entry of an access control list. `u` and `g` name someone; `group` is the owning group, `mask` the mask. `owner` and
 * `other` stand in lists to inherit only: in an object's own list they are its mode's.
 */
export interface AclEntry {
  readonly kind: 'u' | 'g' | 'group' | 'mask' | 'owner' | 'other';
  readonly name: string;
  /** Octal rights: 4 read, 2 write, 1 execute. */
  readonly rights: number;
}

const aclKinds = ['u', 'g', 'group', 'mask', 'owner', 'other'] as const;

/** A list for access, and for directories a list that children inherit. */
export interface AclRecord {
  readonly access: readonly AclEntry[];
  readonly inherited?: readonly AclEntry[] | undefined;
}

export function encodeAcl(acl: AclRecord): Buffer {
  writer.begin();
  for (const list of acl.inherited === undefined ? [acl.access] : [acl.access, acl.inherited]) {
    writer.u16(list.length);
    for (const entry of list) writer.u8(aclKinds.indexOf(entry.kind)).u8(entry.rights).text(entry.name);
  }
  return writer.end();
}

export function decodeAcl(bytes: Uint8Array): AclRecord {
  const r = new Reader(bytes, 0);
  const list = (): AclEntry[] =>
    Array.from({ length: r.u16() }, (): AclEntry => {
      const kind = aclKinds[r.u8()] ?? 'mask';
      return { kind, rights: r.u8(), name: r.text() };
    });
  const access = list();
  return r.isAtEnd ? { access } : { access, inherited: list() };
}

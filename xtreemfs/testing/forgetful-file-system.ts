import type { Random } from '#common/random.ts';
import { OpenFlag, rootNodeId } from '#xtreemfs/fuse/abi.ts';
import { refuse } from '#xtreemfs/fuse/errno.ts';
import type {
  AttributeChange,
  AttributesReply,
  CreationMode,
  Entry,
  OpenReply,
  ReadReply,
  RequestContext,
  StatfsReply,
  WriteRequest,
} from '#xtreemfs/fuse/file-system.ts';
import { DiskFaults, type FailingCall } from './disk-faults.ts';
import { type Inode, isDirectory, MemoryFileSystem } from './memory-file-system.ts';

/** What a disk holds after a loss of power: inodes, and the names in every directory. */
export interface DiskImage {
  readonly nodes: ReadonlyMap<number, DiskNode>;
  readonly directories: ReadonlyMap<number, ReadonlyMap<string, number>>;
}

/** An inode on disk. */
export interface DiskNode {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly target: string;
  readonly content: Buffer;
}

/** What was done to a file since it was last synced. */
type PendingChange = { readonly offset: number; readonly data: Buffer } | { readonly size: number };

/** A change of names; `directories` are those it was done in. */
interface NameChange {
  readonly directories: readonly number[];
  readonly parent: number;
  readonly name: string;
  /** Inode that has the name from then on; undefined: none has. */
  readonly ino: number | undefined;
  /** Done in the same step as the one before it: both are on disk, or none. */
  readonly isBound: boolean;
}

const sectorBytes = 512;

/**
 * A file system in memory that forgets what was not synced, as a disk does when power fails (the idea is LazyFS's,
 * VLDB 2024). Bytes of a file are safe after fsync of that file; any of the sectors written since may be there or
 * not, in no order. Names are safe after fsync of their directory; of the later changes of names those before some
 * moment are there, as journals of file systems have it. fsync of a file does not make its name safe.
 *
 * It also runs full, fails, tears writes and lets bits rot, when told so (`faults`, `rot`).
 */
export class ForgetfulFileSystem extends MemoryFileSystem {
  readonly faults = new DiskFaults();
  /** Told of a file whose last write was torn: what caches hold of it is not what is on disk. */
  onTorn: (ino: number) => void = () => undefined;
  private readonly random: Random;
  private readonly pending = new Map<number, PendingChange[]>();
  private readonly safe = new Map<number, Buffer>();
  private readonly safeNames = new Map<number, Map<string, number>>([[rootNodeId, new Map()]]);
  private names: NameChange[] = [];
  /** Inodes that ever had a name, for their modes. */
  private readonly seen = new Map<number, Inode>();
  private isOff = false;

  /** @param image - what the disk held when power came back. */
  constructor(random: Random, image?: DiskImage) {
    super();
    this.random = random;
    if (image !== undefined) this.load(image);
  }

  /** Power fails: from now on everything fails. @returns what is on disk. */
  cut(): DiskImage {
    this.isOff = true;
    this.commitNames(this.random.int(this.names.length + 1));
    const nodes = new Map<number, DiskNode>();
    const reach = (ino: number): void => {
      const inode = this.seen.get(ino) ?? this.inode(ino);
      const { mode, uid, gid, target } = inode;
      nodes.set(ino, { mode, uid, gid, target, content: this.survivors(ino) });
      for (const child of this.safeNames.get(ino)?.values() ?? []) reach(child);
    };
    reach(rootNodeId);
    return { nodes, directories: this.safeNames };
  }

  /** Numbers of everything that is there. */
  get numbers(): number[] {
    return [...this.inodes.keys()];
  }

  /** Changes one bit of each place where the bytes stand. @returns the files that are not what they were. */
  rot(bytes: Buffer): number[] {
    const rotten: number[] = [];
    for (const [ino, { data, size }] of this.inodes) {
      const at = data.subarray(0, size).indexOf(bytes);
      if (at < 0) continue;
      data[at] = (data[at] ?? 0) ^ 1;
      rotten.push(ino);
    }
    return rotten;
  }

  override statfs(): StatfsReply {
    const whole = super.statfs();
    const free = Math.min(whole.bfree, Math.floor(this.faults.freeBytes / whole.frsize));
    return { ...whole, bfree: free, bavail: free };
  }

  override read(context: RequestContext, nodeId: number, handle: number, offset: number, size: number): ReadReply {
    this.mayFail('read');
    return super.read(context, nodeId, handle, offset, size);
  }

  override lookup(context: RequestContext, parent: number, name: string): Entry {
    this.needsPower();
    return super.lookup(context, parent, name);
  }

  override getattr(context: RequestContext, nodeId: number): AttributesReply {
    this.needsPower();
    return super.getattr(context, nodeId);
  }

  override setattr(context: RequestContext, nodeId: number, change: AttributeChange): AttributesReply {
    this.needsPower();
    if (change.size !== undefined) this.grow(nodeId, change.size);
    const reply = super.setattr(context, nodeId, change);
    if (change.size !== undefined) this.change(nodeId, { size: change.size });
    return reply;
  }

  override mknod(context: RequestContext, parent: number, name: string, mode: CreationMode, rdev: number): Entry {
    this.needsPower();
    return this.named(parent, name, super.mknod(context, parent, name, mode, rdev));
  }

  override mkdir(context: RequestContext, parent: number, name: string, mode: CreationMode): Entry {
    this.needsPower();
    return this.named(parent, name, super.mkdir(context, parent, name, mode));
  }

  override symlink(context: RequestContext, parent: number, name: string, target: string): Entry {
    this.needsPower();
    return this.named(parent, name, super.symlink(context, parent, name, target));
  }

  override link(context: RequestContext, nodeId: number, newParent: number, newName: string): Entry {
    this.needsPower();
    return this.named(newParent, newName, super.link(context, nodeId, newParent, newName));
  }

  override create(
    context: RequestContext,
    parent: number,
    name: string,
    mode: CreationMode,
    flags: number,
  ): { entry: Entry; open: OpenReply } {
    this.needsPower();
    const reply = super.create(context, parent, name, mode, flags);
    if (this.seen.has(reply.entry.nodeId)) this.change(reply.entry.nodeId, { size: reply.entry.attributes.size });
    else this.named(parent, name, reply.entry);
    return reply;
  }

  override unlink(context: RequestContext, parent: number, name: string): void {
    this.needsPower();
    const inode = this.directory(parent).children.get(name);
    super.unlink(context, parent, name);
    if (inode?.nlink === 0) this.faults.freeBytes += inode.size;
    this.names.push({ directories: [parent], parent, name, ino: undefined, isBound: false });
  }

  override rmdir(context: RequestContext, parent: number, name: string): void {
    this.needsPower();
    super.rmdir(context, parent, name);
    this.names.push({ directories: [parent], parent, name, ino: undefined, isBound: false });
  }

  override rename(
    context: RequestContext,
    parent: number,
    name: string,
    newParent: number,
    newName: string,
    flags: number,
  ): void {
    this.needsPower();
    super.rename(context, parent, name, newParent, newName, flags);
    const directories = [parent, newParent];
    const at = (directory: number, entry: string): number | undefined =>
      this.directory(directory).children.get(entry)?.ino;
    this.names.push(
      { directories, parent, name, ino: at(parent, name), isBound: false },
      { directories, parent: newParent, name: newName, ino: at(newParent, newName), isBound: true },
    );
  }

  override open(context: RequestContext, nodeId: number, flags: number, killSuidgid: boolean): OpenReply {
    this.needsPower();
    if ((flags & OpenFlag.TRUNC) !== 0) this.change(nodeId, { size: 0 });
    return super.open(context, nodeId, flags, killSuidgid);
  }

  override write(context: RequestContext, nodeId: number, request: WriteRequest): number {
    this.mayFail('write');
    this.grow(nodeId, request.offset + request.data.length);
    const data = this.tear(nodeId, request);
    this.change(nodeId, { offset: request.offset, data });
    return super.write(context, nodeId, { ...request, data });
  }

  override fallocate(
    context: RequestContext,
    nodeId: number,
    handle: number,
    offset: number,
    length: number,
    mode: number,
  ): void {
    this.mayFail('write');
    this.grow(nodeId, offset + length);
    super.fallocate(context, nodeId, handle, offset, length, mode);
    // What it zeroed or added counts as written.
    const inode = this.inode(nodeId);
    const data = Buffer.from(inode.data.subarray(offset, Math.min(inode.size, offset + length)));
    if (data.length > 0) this.change(nodeId, { offset, data });
  }

  override fsync(context: RequestContext, nodeId: number): void {
    this.mayFail('sync');
    super.fsync(context, nodeId);
    const inode = this.inode(nodeId);
    this.safe.set(nodeId, Buffer.from(inode.data.subarray(0, inode.size)));
    this.pending.delete(nodeId);
  }

  override fsyncdir(context: RequestContext, nodeId: number): void {
    this.mayFail('sync');
    super.fsyncdir(context, nodeId);
    this.commitNames(this.names.findLastIndex(({ directories }) => directories.includes(nodeId)) + 1);
  }

  private needsPower(): void {
    if (this.isOff) refuse('EIO', 'power is off');
  }

  private mayFail(call: FailingCall): void {
    this.needsPower();
    if (this.faults.failing.has(call)) refuse('EIO', `the disk fails to ${call}`);
  }

  /** A file is about to reach up to `end`; what it gives back when it shrinks, others may use. */
  private grow(ino: number, end: number): void {
    const { faults } = this;
    const more = end - this.inode(ino).size;
    if (more > faults.freeBytes) refuse('ENOSPC');
    if (more > 0) faults.freeBytes -= more;
  }

  /** What a write leaves on disk: all of it, or its first half and what was there before. */
  private tear(ino: number, { offset, data }: WriteRequest): Buffer {
    const left = Buffer.from(data);
    const from = this.faults.reaching(data.length);
    if (from === data.length) return left;
    const { data: before, size } = this.inode(ino);
    this.onTorn(ino);
    left.fill(0, from);
    before.subarray(offset + from, Math.min(size, offset + data.length)).copy(left, from);
    return left;
  }

  private named(parent: number, name: string, entry: Entry): Entry {
    this.seen.set(entry.nodeId, this.inode(entry.nodeId));
    this.names.push({ directories: [parent], parent, name, ino: entry.nodeId, isBound: false });
    return entry;
  }

  private change(ino: number, change: PendingChange): void {
    const changes = this.pending.get(ino);
    if (changes === undefined) this.pending.set(ino, [change]);
    else changes.push(change);
  }

  /** Puts the first `count` changes of names on disk, and one more where that would tear a step. */
  private commitNames(count: number): void {
    const whole = this.names[count]?.isBound === true ? count + 1 : count;
    for (const { parent, name, ino } of this.names.slice(0, whole)) {
      const directory = this.safeNames.get(parent) ?? new Map<string, number>();
      this.safeNames.set(parent, directory);
      if (ino === undefined) directory.delete(name);
      else directory.set(name, ino);
    }
    this.names = this.names.slice(whole);
  }

  /** What is on disk of a file: what was synced, and some of the sectors written since. */
  private survivors(ino: number): Buffer {
    let content = Buffer.from(this.safe.get(ino) ?? Buffer.alloc(0));
    const reach = (size: number): void => {
      if (size > content.length) content = Buffer.concat([content, Buffer.alloc(size - content.length)]);
    };
    for (const change of this.pending.get(ino) ?? []) {
      if ('size' in change) {
        if (this.random.next() < 0.5) continue;
        reach(change.size);
        content = content.subarray(0, change.size);
        continue;
      }
      for (const [at, sector] of sectorsOf(change.offset, change.data)) {
        if (this.random.next() < 0.5) continue;
        reach(at + sector.length);
        sector.copy(content, at);
      }
    }
    return content;
  }

  private load({ nodes, directories }: DiskImage): void {
    const placed = new Map<number, Inode>([[rootNodeId, this.inode(rootNodeId)]]);
    for (const [ino, { mode, uid, gid, target, content }] of nodes) {
      const inode = placed.get(ino) ?? this.makeInode(ino, mode, uid, gid);
      placed.set(ino, inode);
      Object.assign(inode, { mode, uid, gid, target, data: Buffer.from(content), size: content.length });
      inode.nlink = isDirectory(inode) ? 2 : 0;
      this.seen.set(ino, inode);
      this.safe.set(ino, Buffer.from(content));
      this.nextIno = Math.max(this.nextIno, ino + 1);
    }
    for (const [ino, entries] of directories) {
      const directory = placed.get(ino);
      if (directory === undefined) continue;
      this.safeNames.set(ino, new Map(entries));
      for (const [name, child] of entries) {
        const inode = placed.get(child);
        if (inode === undefined) continue;
        directory.children.set(name, inode);
        if (isDirectory(inode)) {
          inode.parent = directory;
          directory.nlink++;
        } else inode.nlink++;
      }
    }
  }
}

/** Cuts written bytes at the sectors of the disk. */
function* sectorsOf(offset: number, data: Buffer): Generator<[number, Buffer]> {
  for (let at = 0; at < data.length;) {
    const end = Math.min(data.length, at + sectorBytes - ((offset + at) % sectorBytes));
    yield [offset + at, data.subarray(at, end)];
    at = end;
  }
}

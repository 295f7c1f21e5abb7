import { type Clock, systemClock } from '#common/clock.ts';
import {
  FallocateMode,
  LockType,
  Mode,
  OpenFlag,
  OpenReplyFlag,
  RenameFlag,
  rootNodeId,
  Whence,
} from '#xtreemfs/fuse/abi.ts';
import { refuse } from '#xtreemfs/fuse/errno.ts';
import type {
  AttributeChange,
  Attributes,
  AttributesReply,
  CreationMode,
  DirectorySink,
  Entry,
  FileLock,
  FuseFileSystem,
  LockRequest,
  OpenReply,
  ReadReply,
  RequestContext,
  StatfsReply,
  Timestamp,
  WriteRequest,
} from '#xtreemfs/fuse/file-system.ts';
import { LockTable } from '#xtreemfs/fuse/lock-table.ts';

/** A file, directory or link of a `MemoryFileSystem`. */
export interface Inode {
  readonly ino: number;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  rdev: number;
  size: number;
  atime: Timestamp;
  mtime: Timestamp;
  ctime: Timestamp;
  data: Buffer;
  readonly children: Map<string, Inode>;
  parent: Inode | undefined;
  target: string;
  lookups: number;
  opens: number;
  readonly xattrs: Map<string, Buffer>;
  readonly locks: LockTable;
  readonly flocks: LockTable;
}

const sizeMax = 2 ** 31 - 1;

/**
 * A whole POSIX file system in memory: the fixture for the FUSE session, and what the compliance suite is tried on
 * first. Permissions are the kernel's to check (`default_permissions`). Files grow up to 2 GiB.
 */
export class MemoryFileSystem implements FuseFileSystem {
  private readonly clock: Clock;
  private readonly validMs: number;
  protected readonly inodes = new Map<number, Inode>();
  private readonly handles = new Map<number, { inode: Inode; names: [string, Inode][] }>();
  protected nextIno = rootNodeId + 1;
  private nextHandle = 1;

  /** @param validMs - how long the kernel may trust names and attributes. */
  constructor(options: { clock?: Clock; validMs?: number } = {}) {
    this.clock = options.clock ?? systemClock;
    this.validMs = options.validMs ?? 0;
    const root = this.makeInode(rootNodeId, Mode.DIRECTORY | 0o755, 0, 0);
    root.nlink = 2;
    root.parent = root;
    root.lookups = 1;
  }

  /** Inodes that are named, open or known to the kernel; a test's way to see that none is lost. */
  get inodeCount(): number {
    return this.inodes.size;
  }

  lookup(_context: RequestContext, parent: number, name: string): Entry {
    const child = this.directory(parent).children.get(name);
    return child === undefined ? refuse('ENOENT') : this.entry(child);
  }

  forget(nodeId: number, count: number): void {
    const inode = this.inodes.get(nodeId);
    if (inode === undefined) return;
    inode.lookups -= count;
    this.reap(inode);
  }

  getattr(_context: RequestContext, nodeId: number): AttributesReply {
    return { attributes: this.attributes(this.inode(nodeId)), validMs: this.validMs };
  }

  setattr(_context: RequestContext, nodeId: number, change: AttributeChange): AttributesReply {
    const inode = this.inode(nodeId);
    const now = this.now();
    if (change.size !== undefined) this.truncate(inode, change.size);
    if (change.mode !== undefined) inode.mode = (inode.mode & Mode.TYPE) | change.mode;
    const isOwnerChange = change.uid !== undefined || change.gid !== undefined;
    if (change.uid !== undefined) inode.uid = change.uid;
    if (change.gid !== undefined) inode.gid = change.gid;
    if (isOwnerChange || change.killSuidgid === true) this.killSuidgid(inode);
    if (change.atime !== undefined) inode.atime = change.atime === 'now' ? now : change.atime;
    if (change.mtime !== undefined) inode.mtime = change.mtime === 'now' ? now : change.mtime;
    inode.ctime = change.ctime ?? now;
    return { attributes: this.attributes(inode), validMs: this.validMs };
  }

  readlink(_context: RequestContext, nodeId: number): string {
    return this.inode(nodeId).target;
  }

  mknod(context: RequestContext, parent: number, name: string, { mode }: CreationMode, rdev: number): Entry {
    const inode = this.add(context, parent, name, mode);
    inode.rdev = rdev;
    return this.entry(inode);
  }

  mkdir(context: RequestContext, parent: number, name: string, { mode }: CreationMode): Entry {
    const directory = this.directory(parent);
    const inherited = directory.mode & Mode.SETGID;
    const inode = this.add(context, parent, name, Mode.DIRECTORY | (mode & Mode.PERMISSIONS) | inherited);
    inode.nlink = 2;
    directory.nlink++;
    return this.entry(inode);
  }

  symlink(context: RequestContext, parent: number, name: string, target: string): Entry {
    const inode = this.add(context, parent, name, Mode.SYMLINK | 0o777);
    inode.target = target;
    inode.size = Buffer.byteLength(target);
    return this.entry(inode);
  }

  link(_context: RequestContext, nodeId: number, newParent: number, newName: string): Entry {
    const inode = this.inode(nodeId);
    const directory = this.directory(newParent);
    if (directory.children.has(newName)) refuse('EEXIST');
    if (inode.nlink === 0 && inode.parent !== undefined) refuse('ENOENT');
    directory.children.set(newName, inode);
    inode.nlink++;
    inode.ctime = this.touch(directory);
    return this.entry(inode);
  }

  unlink(_context: RequestContext, parent: number, name: string): void {
    const directory = this.directory(parent);
    const inode = directory.children.get(name) ?? refuse('ENOENT');
    if (isDirectory(inode)) refuse('EISDIR');
    directory.children.delete(name);
    inode.nlink--;
    inode.ctime = this.touch(directory);
    this.reap(inode);
  }

  rmdir(_context: RequestContext, parent: number, name: string): void {
    const directory = this.directory(parent);
    const inode = directory.children.get(name) ?? refuse('ENOENT');
    if (!isDirectory(inode)) refuse('ENOTDIR');
    if (inode.children.size > 0) refuse('ENOTEMPTY');
    directory.children.delete(name);
    directory.nlink--;
    inode.nlink = 0;
    inode.ctime = this.touch(directory);
    this.reap(inode);
  }

  rename(
    _context: RequestContext,
    parent: number,
    name: string,
    newParent: number,
    newName: string,
    flags: number,
  ): void {
    const [from, to] = [this.directory(parent), this.directory(newParent)];
    const inode = from.children.get(name) ?? refuse('ENOENT');
    const target = to.children.get(newName);
    if ((flags & ~(RenameFlag.NOREPLACE | RenameFlag.EXCHANGE)) !== 0) refuse('EINVAL');
    if ((flags & RenameFlag.EXCHANGE) !== 0) {
      this.exchange(from, name, inode, to, newName, target ?? refuse('ENOENT'));
      return;
    }
    if (target !== undefined) {
      if ((flags & RenameFlag.NOREPLACE) !== 0) refuse('EEXIST');
      if (target === inode) return;
      if (isDirectory(target)) {
        if (!isDirectory(inode)) refuse('EISDIR');
        if (target.children.size > 0) refuse('ENOTEMPTY');
      } else if (isDirectory(inode)) refuse('ENOTDIR');
    }
    if (isDirectory(inode) && isBelow(to, inode)) refuse('EINVAL');
    from.children.delete(name);
    to.children.set(newName, inode);
    this.moved(inode, from, to);
    if (target !== undefined) {
      target.nlink = isDirectory(target) ? 0 : target.nlink - 1;
      if (isDirectory(target)) to.nlink--;
      target.ctime = this.now();
      this.reap(target);
    }
    this.touch(from);
    inode.ctime = this.touch(to);
  }

  open(_context: RequestContext, nodeId: number, flags: number, killSuidgid: boolean): OpenReply {
    const inode = this.inode(nodeId);
    if ((flags & OpenFlag.TRUNC) !== 0) this.truncate(inode, 0);
    if (killSuidgid) this.killSuidgid(inode);
    return this.openHandle(inode);
  }

  create(
    context: RequestContext,
    parent: number,
    name: string,
    { mode }: CreationMode,
    flags: number,
  ): { entry: Entry; open: OpenReply } {
    const existing = this.directory(parent).children.get(name);
    if (existing !== undefined && (flags & OpenFlag.EXCL) !== 0) refuse('EEXIST');
    if (existing !== undefined && (flags & OpenFlag.TRUNC) !== 0) this.truncate(existing, 0);
    const inode = existing ?? this.add(context, parent, name, mode);
    return { entry: this.entry(inode), open: this.openHandle(inode) };
  }

  tmpfile(context: RequestContext, parent: number, mode: number): { entry: Entry; open: OpenReply } {
    const inode = this.makeInode(this.nextIno++, mode, context.uid, this.groupFor(context, this.directory(parent)));
    inode.nlink = 0;
    return { entry: this.entry(inode), open: this.openHandle(inode) };
  }

  read(_context: RequestContext, nodeId: number, _handle: number, offset: number, size: number): ReadReply {
    const inode = this.inode(nodeId);
    const end = Math.min(inode.size, offset + size);
    return { parts: offset >= end ? [] : [inode.data.subarray(offset, end)] };
  }

  write(_context: RequestContext, nodeId: number, request: WriteRequest): number {
    const inode = this.inode(nodeId);
    const end = request.offset + request.data.length;
    if (end > sizeMax) refuse('EFBIG');
    this.ensureCapacity(inode, end);
    request.data.copy(inode.data, request.offset);
    inode.size = Math.max(inode.size, end);
    inode.mtime = inode.ctime = this.now();
    if (request.killSuidgid) this.killSuidgid(inode);
    return request.data.length;
  }

  flush(_context: RequestContext, nodeId: number, _handle: number, owner: bigint): void {
    this.inode(nodeId).locks.drop(owner);
  }

  release(_context: RequestContext, nodeId: number, handle: number, flockOwner: bigint | undefined): void {
    const inode = this.inode(nodeId);
    if (flockOwner !== undefined) inode.flocks.drop(flockOwner);
    if (this.handles.delete(handle)) inode.opens--;
    this.reap(inode);
  }

  fsync(_context: RequestContext, _nodeId: number): void {
    // Memory has nothing to sync to.
  }

  opendir(_context: RequestContext, nodeId: number): OpenReply {
    return this.openHandle(this.directory(nodeId));
  }

  readdir(_context: RequestContext, _nodeId: number, handle: number, offset: number, sink: DirectorySink): void {
    const state = this.handles.get(handle) ?? refuse('EBADF');
    const { inode } = state;
    if (offset === 0) {
      state.names = [['.', inode], ['..', inode.parent ?? inode], ...inode.children];
      inode.atime = this.now();
    }
    for (let index = offset; index < state.names.length; index++) {
      const [name, child] = state.names[index] ?? refuse('EIO');
      const isDot = index < 2;
      if (!isDot && inode.children.get(name) !== child) continue;
      const taken =
        sink.wantsAttributes && !isDot
          ? sink.addWithEntry(name, this.plainEntry(child), index + 1)
          : sink.add(name, child.ino, child.mode, index + 1);
      if (!taken) return;
      if (sink.wantsAttributes && !isDot) child.lookups++;
    }
  }

  releasedir(context: RequestContext, nodeId: number, handle: number): void {
    this.release(context, nodeId, handle, undefined);
  }

  fsyncdir(_context: RequestContext, _nodeId: number): void {
    // As fsync.
  }

  statfs(): StatfsReply {
    const blocks = 1 << 20;
    return { blocks, bfree: blocks, bavail: blocks, files: 1e6, ffree: 1e6, bsize: 4096, frsize: 4096, nameMax: 255 };
  }

  setxattr(_context: RequestContext, nodeId: number, name: string, value: Buffer, flags: number): void {
    const inode = this.inode(nodeId);
    if (flags === 1 && inode.xattrs.has(name)) refuse('EEXIST');
    if (flags === 2 && !inode.xattrs.has(name)) refuse('ENODATA');
    inode.xattrs.set(name, value);
    inode.ctime = this.now();
  }

  getxattr(_context: RequestContext, nodeId: number, name: string): Buffer {
    return this.inode(nodeId).xattrs.get(name) ?? refuse('ENODATA');
  }

  listxattr(_context: RequestContext, nodeId: number): string[] {
    return [...this.inode(nodeId).xattrs.keys()];
  }

  removexattr(_context: RequestContext, nodeId: number, name: string): void {
    const inode = this.inode(nodeId);
    if (!inode.xattrs.delete(name)) refuse('ENODATA');
    inode.ctime = this.now();
  }

  getlk(_context: RequestContext, nodeId: number, { owner, lock }: LockRequest): FileLock {
    return this.inode(nodeId).locks.conflict(owner, lock) ?? { ...lock, type: LockType.UNLOCK };
  }

  setlk(context: RequestContext, nodeId: number, request: LockRequest, wait: boolean): void | Promise<void> {
    const inode = this.inode(nodeId);
    const table = request.isFlock ? inode.flocks : inode.locks;
    if (wait) return table.wait(request.owner, request.lock, context.signal);
    table.set(request.owner, request.lock);
  }

  fallocate(
    _context: RequestContext,
    nodeId: number,
    _handle: number,
    offset: number,
    length: number,
    mode: number,
  ): void {
    const inode = this.inode(nodeId);
    const end = offset + length;
    if ((mode & ~(FallocateMode.KEEP_SIZE | FallocateMode.PUNCH_HOLE | FallocateMode.ZERO_RANGE)) !== 0) {
      refuse('EOPNOTSUPP');
    }
    if ((mode & (FallocateMode.PUNCH_HOLE | FallocateMode.ZERO_RANGE)) !== 0) {
      inode.data.fill(0, Math.min(offset, inode.data.length), Math.min(end, inode.data.length));
    }
    if ((mode & FallocateMode.KEEP_SIZE) === 0 && end > inode.size) this.truncate(inode, end);
    inode.mtime = inode.ctime = this.now();
  }

  lseek(_context: RequestContext, nodeId: number, _handle: number, offset: number, whence: number): number {
    const { size } = this.inode(nodeId);
    if (offset >= size) refuse('ENXIO');
    return whence === Whence.DATA ? offset : size;
  }

  syncfs(): void {
    // As fsync.
  }

  private add(context: RequestContext, parent: number, name: string, mode: number): Inode {
    const directory = this.directory(parent);
    if (directory.children.has(name)) refuse('EEXIST');
    if (directory.nlink === 0) refuse('ENOENT');
    const inode = this.makeInode(this.nextIno++, mode, context.uid, this.groupFor(context, directory));
    inode.parent = directory;
    directory.children.set(name, inode);
    this.touch(directory);
    return inode;
  }

  private groupFor(context: RequestContext, directory: Inode): number {
    return (directory.mode & Mode.SETGID) === 0 ? context.gid : directory.gid;
  }

  protected makeInode(ino: number, mode: number, uid: number, gid: number): Inode {
    const now = this.now();
    const inode: Inode = {
      ino,
      mode,
      nlink: 1,
      uid,
      gid,
      rdev: 0,
      size: 0,
      atime: now,
      mtime: now,
      ctime: now,
      data: Buffer.alloc(0),
      children: new Map(),
      parent: undefined,
      target: '',
      lookups: 0,
      opens: 0,
      xattrs: new Map(),
      locks: new LockTable(),
      flocks: new LockTable(),
    };
    this.inodes.set(ino, inode);
    return inode;
  }

  private exchange(from: Inode, name: string, inode: Inode, to: Inode, newName: string, target: Inode): void {
    if (isDirectory(inode) && isBelow(to, inode)) refuse('EINVAL');
    if (isDirectory(target) && isBelow(from, target)) refuse('EINVAL');
    from.children.set(name, target);
    to.children.set(newName, inode);
    this.moved(inode, from, to);
    this.moved(target, to, from);
    this.touch(from);
    inode.ctime = target.ctime = this.touch(to);
  }

  private moved(inode: Inode, from: Inode, to: Inode): void {
    if (!isDirectory(inode)) return;
    inode.parent = to;
    from.nlink--;
    to.nlink++;
  }

  private openHandle(inode: Inode): OpenReply {
    const handle = this.nextHandle++;
    this.handles.set(handle, { inode, names: [] });
    inode.opens++;
    return { handle, flags: OpenReplyFlag.KEEP_CACHE };
  }

  protected truncate(inode: Inode, size: number): void {
    if (size > sizeMax) refuse('EFBIG');
    this.ensureCapacity(inode, size);
    if (size < inode.size) inode.data.fill(0, size, inode.size);
    inode.size = size;
    inode.mtime = inode.ctime = this.now();
  }

  private ensureCapacity(inode: Inode, size: number): void {
    if (size <= inode.data.length) return;
    const larger = Buffer.alloc(Math.max(size, Math.min(sizeMax, inode.data.length * 2)));
    inode.data.copy(larger, 0, 0, inode.size);
    inode.data = larger;
  }

  private killSuidgid(inode: Inode): void {
    if (isDirectory(inode)) return;
    inode.mode &= ~Mode.SETUID;
    if ((inode.mode & 0o010) !== 0) inode.mode &= ~Mode.SETGID;
  }

  private touch(directory: Inode): Timestamp {
    directory.mtime = directory.ctime = this.now();
    return directory.mtime;
  }

  private now(): Timestamp {
    const ms = this.clock.now();
    const seconds = Math.floor(ms / 1000);
    return { seconds, nanoseconds: Math.floor((ms - seconds * 1000) * 1e6) };
  }

  private entry(inode: Inode): Entry {
    inode.lookups++;
    return this.plainEntry(inode);
  }

  private plainEntry(inode: Inode): Entry {
    return {
      nodeId: inode.ino,
      generation: 0,
      attributes: this.attributes(inode),
      entryValidMs: this.validMs,
      attributesValidMs: this.validMs,
    };
  }

  private attributes(inode: Inode): Attributes {
    return {
      ino: inode.ino,
      mode: inode.mode,
      nlink: inode.nlink,
      uid: inode.uid,
      gid: inode.gid,
      rdev: inode.rdev,
      size: inode.size,
      blocks: Math.ceil(inode.size / 512),
      blksize: 4096,
      atime: inode.atime,
      mtime: inode.mtime,
      ctime: inode.ctime,
    };
  }

  protected inode(nodeId: number): Inode {
    return this.inodes.get(nodeId) ?? refuse('ESTALE');
  }

  protected directory(nodeId: number): Inode {
    const inode = this.inode(nodeId);
    return isDirectory(inode) ? inode : refuse('ENOTDIR');
  }

  private reap(inode: Inode): void {
    if (inode.nlink <= 0 && inode.lookups <= 0 && inode.opens === 0) this.inodes.delete(inode.ino);
  }
}

/** Whether it is a directory. */
export function isDirectory(inode: Inode): boolean {
  return (inode.mode & Mode.TYPE) === Mode.DIRECTORY;
}

/** Whether `inode` is `ancestor` or below it. */
function isBelow(inode: Inode, ancestor: Inode): boolean {
  for (let at: Inode | undefined = inode; at !== undefined; at = at.parent === at ? undefined : at.parent) {
    if (at === ancestor) return true;
  }
  return false;
}

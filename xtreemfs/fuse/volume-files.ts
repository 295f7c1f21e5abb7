import { describeError } from '#common/errors.ts';
import type { XCap, XLocSet } from '#proto/generated/xtreemfs/global-types.ts';
import { SystemVFcntl } from '#proto/generated/xtreemfs/global-types.ts';
import type { Stat } from '#proto/generated/xtreemfs/mrc.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { serviceUser, type Caller, type NewMode, type Opened } from '../client/metadata.ts';
import { FileHandle, OpenFile, type OpenCredentials } from '../client/open-file.ts';
import { isErrno } from '../rpc/errors.ts';
import { FallocateMode, LockType, Mode, OpenFlag, OpenReplyFlag, Whence } from './abi.ts';
import { FuseError, refuse } from './errno.ts';
import type {
  Attributes,
  CopyRequest,
  CreationMode,
  Entry,
  FileLock,
  LockRequest,
  OpenReply,
  ReadReply,
  RequestContext,
  WriteRequest,
} from './file-system.ts';
import type { Node } from './inode-table.ts';
import type { JournalRecord } from './journal.ts';
import { RemoteLocks } from './remote-locks.ts';
import { VolumeState, type VolumeFileSystemInit } from './volume-state.ts';
import { DirtyBudget, WriteBehind } from './write-behind.ts';

/** One open(2) of a file. */
interface OpenHandle {
  readonly id: number;
  readonly node: Node;
  readonly handle: FileHandle;
  /** `OpenFlag`s */
  readonly flags: number;
  failuresSeen: number;
}

const renewAfterMs = 60_000;
const maintenanceMs = 5_000;
/** Zeros that are written at a time. */
const zeroBytesMax = 1 << 20;
const fileBytesMax = Number.MAX_SAFE_INTEGER;

/** Open flags of Linux → of the wire. */
export function toWireFlags(flags: number): number {
  let wire = flags & OpenFlag.ACCMODE;
  if ((flags & OpenFlag.APPEND) !== 0) wire |= SystemVFcntl.O_APPEND;
  if ((flags & OpenFlag.SYNC) !== 0) wire |= SystemVFcntl.O_SYNC;
  if ((flags & OpenFlag.TRUNC) !== 0) wire |= SystemVFcntl.O_TRUNC;
  return wire;
}

/** The number in a file id (`volume:number`). */
const fileNumberOf = ({ fileId }: XCap): number => Number(fileId.slice(fileId.lastIndexOf(':') + 1));

/** Open files of a volume: data, sizes, locks. */
export class VolumeFiles extends VolumeState {
  protected readonly handles = new Map<number, OpenHandle>();
  private readonly budget: DirtyBudget;
  private readonly locks: RemoteLocks;
  private readonly asyncWrites: boolean;
  private nextHandle = 1;
  private isStopped = false;

  constructor(init: VolumeFileSystemInit) {
    super(init);
    this.budget = new DirtyBudget(init.dirtyBytesMax ?? 64 << 20);
    this.asyncWrites = init.asyncWrites ?? true;
    this.locks = new RemoteLocks(init.clock, init.lockClient, init.logger);
  }

  /** Renews capabilities, tells sizes and keeps locks alive, until `stop`. */
  start(): void {
    const tick = (): void => {
      if (this.isStopped) return;
      void this.maintain().finally(() => this.clock.after(maintenanceMs, tick, { unref: true }));
    };
    this.clock.after(maintenanceMs, tick, { unref: true });
  }

  /** Sends everything that is still here. */
  async stop(): Promise<void> {
    this.isStopped = true;
    for (const open of [...this.handles.values()]) {
      await this.settle(open).catch((error: unknown) =>
        this.logger.error('Could not write a file back', { fileId: open.node.id, reason: describeError(error) }),
      );
    }
    await Promise.all(this.deleting);
  }

  async open(context: RequestContext, nodeId: number, flags: number, killSuidgid: boolean): Promise<OpenReply> {
    const node = this.table.node(nodeId);
    const caller = this.caller(context);
    if (node.isGone) refuse('ENOENT');
    await node.writes?.drain();
    const path = this.table.pathOf(node);
    const truncates = (flags & OpenFlag.TRUNC) !== 0;
    const opened = await this.openAtMrc(caller, path, flags).catch((error: unknown) => {
      // The name is gone: the kernel looks it up again, and makes the file if it may.
      if (isErrno(error, PosixErrno.ENOENT)) refuse('ESTALE');
      throw error;
    });
    const { cap, xlocs, stbuf } = opened;
    if (fileNumberOf(cap) !== node.id) {
      // Somebody else put another file there: the kernel looks the name up again and opens that one.
      this.expire(node);
      refuse('ESTALE');
    }
    const isLate = this.init.consistency !== 'exclusive' || this.freshAttributes(node) === undefined;
    if (stbuf !== undefined) this.takeStat(node, stbuf);
    else if (isLate && !truncates) await this.askAttributes(caller, node).catch(() => undefined);
    const isDirect = opened.isDirect || (!truncates && this.isNewToKernel(node, context));
    const open = this.addHandle(node, flags, { cap, xlocs });
    try {
      if (truncates) await this.truncateOpen(open, killSuidgid);
    } catch (error) {
      this.dropHandle(open);
      throw error;
    }
    return { handle: open.id, flags: isDirect ? OpenReplyFlag.DIRECT_IO : this.cacheFlags(node) };
  }

  async create(
    context: RequestContext,
    parentId: number,
    name: string,
    asked: CreationMode,
    flags: number,
  ): Promise<{ entry: Entry; open: OpenReply }> {
    const parent = this.table.node(parentId);
    const caller = this.caller(context);
    const path = this.table.childPath(parent, name);
    const wire = toWireFlags(this.readableFlags(flags & ~OpenFlag.TRUNC)) | SystemVFcntl.O_CREAT;
    const modes = maskedModes(asked);
    let opened: Opened;
    try {
      opened = await this.metadata.open(caller, path, wire | SystemVFcntl.O_EXCL, modes);
    } catch (error) {
      if (!isErrno(error, PosixErrno.EEXIST) || (flags & OpenFlag.EXCL) !== 0) throw error;
      return await this.openExisting(context, caller, parent, name, flags);
    }
    const { creds, stbuf } = opened;
    const node = this.table.link(parent, name, fileNumberOf(creds.xcap));
    this.touchDirectory(parent, opened);
    parent.listing?.names.add(name);
    const attributes =
      stbuf === undefined
        ? this.keep(node, await this.newAttributes(context, caller, node, parent, modes.mode))
        : this.takeStat(node, stbuf);
    const open = this.addHandle(node, flags, { cap: creds.xcap, xlocs: creds.xlocs });
    return { entry: this.entryOf(node, attributes), open: { handle: open.id, flags: OpenReplyFlag.KEEP_CACHE } };
  }

  async read(
    context: RequestContext,
    _nodeId: number,
    handleId: number,
    offset: number,
    size: number,
  ): Promise<ReadReply> {
    const open = this.handle(handleId);
    if (open.node.writes?.isDirty === true) await open.node.writes.drain();
    return await open.handle.file.read(open.handle, offset, size, context.signal);
  }

  write(context: RequestContext, _nodeId: number, request: WriteRequest): number | Promise<number> {
    const open = this.handle(request.handle);
    const { node } = open;
    const { length } = request.data;
    if (request.offset + length > fileBytesMax) refuse('EFBIG');
    if (request.killSuidgid) void this.killSuidgid(node);
    const isSync = (open.flags & OpenFlag.DSYNC) !== 0;
    if (!this.asyncWrites || isSync || request.isFromCache) {
      return this.writeThrough(open, request.offset, request.data, context.signal).then(() => length);
    }
    const writes = this.writesOf(node, open.handle.file.stripeBytes);
    const accepted = writes.write(request.offset, request.data, async (offset, data) => {
      await this.sendWrite(node, offset, data);
    });
    this.grow(node, request.offset + length);
    return accepted === undefined ? length : accepted.then(() => length);
  }

  async flush(context: RequestContext, _nodeId: number, handleId: number, owner: bigint): Promise<void> {
    const open = this.handle(handleId);
    if (open.node.locks?.isEmpty === false) await this.unlockAll(open, owner, false);
    if (this.init.consistency === 'exclusive' && open.node.openCount > 1) return;
    await this.settle(open, context.signal);
  }

  async release(_context: RequestContext, _nodeId: number, handleId: number, flockOwner?: bigint): Promise<void> {
    const open = this.handles.get(handleId);
    if (open === undefined) return;
    if (flockOwner !== undefined && open.node.flocks !== undefined) await this.unlockAll(open, flockOwner, true);
    try {
      await open.node.writes?.drain();
      await this.tellSize(open, open.handle.isWritable);
      await open.handle.finalizeVouchers();
    } catch (error) {
      this.logger.warn('Closing a file failed', { fileId: open.handle.file.fileId, reason: describeError(error) });
    } finally {
      this.dropHandle(open);
    }
  }

  async fsync(context: RequestContext, _nodeId: number, handleId: number): Promise<void> {
    const open = this.handle(handleId);
    await open.node.writes?.drain();
    await open.handle.file.sync(open.handle, context.signal);
    await this.tellSize(open, false, context.signal);
    this.report(open);
  }

  async fallocate(
    context: RequestContext,
    _nodeId: number,
    handleId: number,
    offset: number,
    length: number,
    mode: number,
  ): Promise<void> {
    const { KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE } = FallocateMode;
    if ((mode & ~(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE)) !== 0) refuse('EOPNOTSUPP');
    const open = this.handle(handleId);
    const caller = this.caller(context);
    const end = offset + length;
    if (end > fileBytesMax) refuse('EFBIG');
    await open.node.writes?.drain();
    const { size } = await this.attributesOf(caller, open.node);
    if ((mode & (PUNCH_HOLE | ZERO_RANGE)) !== 0) await this.zero(open, offset, Math.min(end, size), context.signal);
    else if (end > size) await this.demandRoom(caller, end - size);
    if ((mode & KEEP_SIZE) === 0 && end > size) await this.truncateHandle(open, end, context.signal);
  }

  /** Makes bytes of a file read as zeros, by writing them: OSDs free no part of an object. */
  private async zero(open: OpenHandle, from: number, end: number, signal: AbortSignal): Promise<void> {
    const zeros = Buffer.alloc(Math.max(0, Math.min(end - from, zeroBytesMax)));
    for (let at = from; at < end;) {
      signal.throwIfAborted();
      const count = Math.min(end - at, zeros.length - (at % zeros.length));
      await this.writeThrough(open, at, zeros.subarray(0, count), signal);
      at += count;
    }
  }

  /** Nothing is reserved, but what could never be written is refused now. */
  private async demandRoom(caller: Caller, bytes: number): Promise<void> {
    const { bavail, bsize } = await this.metadata.statvfs(caller);
    if (bytes > bavail * bsize) refuse('ENOSPC', `there is no room for ${bytes} bytes on the volume`);
  }

  async lseek(
    context: RequestContext,
    nodeId: number,
    _handle: number,
    offset: number,
    whence: number,
  ): Promise<number> {
    const { size } = await this.attributesOf(this.caller(context), this.table.node(nodeId));
    if (offset >= size) refuse('ENXIO');
    return whence === Whence.DATA ? offset : size;
  }

  async copyFileRange(context: RequestContext, _nodeId: number, request: CopyRequest): Promise<number> {
    const [from, to] = [this.handle(request.handleIn), this.handle(request.handleOut)];
    const length = Math.min(request.length, 8 << 20);
    await from.node.writes?.drain();
    await to.node.writes?.drain();
    const bytes = await from.handle.file.read(from.handle, request.offsetIn, length, context.signal);
    const data = Buffer.concat(bytes.parts);
    bytes.done();
    if (data.length > 0) await this.writeThrough(to, request.offsetOut, data, context.signal);
    return data.length;
  }

  async syncfs(): Promise<void> {
    for (const open of [...this.handles.values()]) {
      await open.node.writes?.drain();
      await open.handle.file.sync(open.handle);
      await this.tellSize(open, false);
    }
  }

  async getlk(context: RequestContext, nodeId: number, request: LockRequest): Promise<FileLock> {
    const table = this.table.node(nodeId).lockTable(false);
    const local = table.conflict(request.owner, request.lock);
    if (local !== undefined) return local;
    const { handle } = this.handle(request.handle);
    const remote = await this.locks.check(handle, request, context.signal);
    return remote ?? { ...request.lock, type: LockType.UNLOCK };
  }

  async setlk(context: RequestContext, nodeId: number, request: LockRequest, wait: boolean): Promise<void> {
    const { owner, lock, isFlock } = request;
    const table = this.table.node(nodeId).lockTable(isFlock);
    const { handle } = this.handle(request.handle);
    const before = table.locks.filter((held) => held.owner === owner);
    const change = { owner, isFlock, range: lock };
    if (lock.type === LockType.UNLOCK) {
      table.set(owner, lock);
      await this.locks.update(handle, table, change, false);
      return;
    }
    if (wait) await table.wait(owner, lock, context.signal);
    else table.set(owner, lock);
    try {
      await this.locks.update(handle, table, change, wait, context.signal);
    } catch (error) {
      table.drop(owner);
      for (const held of before) table.set(owner, held);
      await this.locks.update(handle, table, change, false).catch(() => undefined);
      throw error;
    }
  }

  /** Every open file, for a successor of this process. */
  protected *handleRecords(): Generator<JournalRecord> {
    for (const open of this.handles.values()) {
      yield openRecord(open);
      if (open.node.isGone) yield ['gone', open.node.id, open.node.attributes];
      if (open.node.writes?.mayHaveLost === true) yield ['dirty', open.node.id];
    }
  }

  /** Takes back one record of a predecessor. @returns false for a record that is not about open files. */
  protected replayHandle(record: JournalRecord, dirty: Set<number>): boolean {
    const [kind, first, second, third, fourth, fifth] = record;
    const id = Number(first);
    switch (kind) {
      case 'open': {
        const node = this.table.find(Number(second));
        if (node === undefined) return true;
        this.nextHandle = Math.max(this.nextHandle, id + 1);
        this.insertHandle(id, node, Number(third), { cap: fourth as XCap, xlocs: fifth as XLocSet });
        return true;
      }
      case 'close': {
        const open = this.handles.get(id);
        if (open === undefined) return true;
        this.removeHandle(open);
        if (open.node.openCount === 0) dirty.delete(open.node.id);
        return true;
      }
      case 'gone': {
        const node = this.table.find(id);
        if (node !== undefined) {
          node.isGone = true;
          node.attributes = second as Attributes;
        }
        return true;
      }
      case 'dirty':
        dirty.add(id);
        return true;
      case 'clean':
        dirty.delete(id);
        return true;
      default:
        return false;
    }
  }

  /**
   * After a predecessor has died: asks the OSDs how far its open files got, since it may not have told the MRC. A file
   * that had unsent bytes gets an error, which fsync or close will show.
   */
  protected async recoverSizes(dirty: ReadonlySet<number>): Promise<void> {
    for (const open of this.handles.values()) {
      if (!open.handle.isWritable) continue;
      if (dirty.has(open.node.id)) {
        const writes = this.writesOf(open.node, open.handle.file.stripeBytes);
        writes.fail(new FuseError('EIO', 'the process that served this mount died with writes that it had not sent'));
      }
      await this.recoverSize(open).catch((error: unknown) =>
        this.logger.warn('Could not ask for a size', { fileId: open.node.id, reason: describeError(error) }),
      );
    }
  }

  private async recoverSize(open: OpenHandle): Promise<void> {
    const { file } = open.handle;
    const width = file.locations.replicas[0]?.osdUuids.length ?? 0;
    const request = { fileCredentials: file.credentials(open.handle), fileId: file.fileId };
    for (let stripe = 0; stripe < width; stripe++) {
      const { response } = await this.metadata.services.call(
        file.serversOf(stripe),
        osdProcedures.internalGetGmax,
        request,
        { user: serviceUser },
      );
      file.takeSize({ sizeInBytes: response.fileSize, truncateEpoch: response.epoch });
    }
    this.expire(open.node);
  }

  protected handle(id: number): OpenHandle {
    return this.handles.get(id) ?? refuse('EBADF');
  }

  /** Cuts or extends a file that need not be open. */
  protected async truncateNode(caller: Caller, node: Node, size: number, handleId: number | undefined): Promise<void> {
    if (size > fileBytesMax) refuse('EFBIG');
    await node.writes?.drain();
    const given = handleId === undefined ? undefined : this.handles.get(handleId);
    const writable =
      given?.handle.isWritable === true || !node.isGone
        ? given
        : [...this.handles.values()].find((open) => open.node === node && open.handle.isWritable);
    if (writable?.handle.isWritable === true) {
      await this.truncateHandle(writable, size, caller.signal);
      return;
    }
    const flags = OpenFlag.WRONLY | OpenFlag.TRUNC;
    const { cap, xlocs } = await this.openAtMrc(caller, this.table.pathOf(node), flags);
    const open = this.addHandle(node, flags, { cap, xlocs });
    try {
      await open.handle.file.truncate(open.handle, size, caller.signal);
      await open.handle.finalizeVouchers();
    } finally {
      this.dropHandle(open);
    }
  }

  /** Set-user-ID and set-group-ID go when someone writes who may not keep them; in the owner's name, as the kernel would. */
  protected async killSuidgid(node: Node): Promise<void> {
    const { attributes } = node;
    if (attributes === undefined) return;
    const mode = withoutSuidgid(attributes.mode);
    if (mode === attributes.mode) return;
    node.attributes = { ...attributes, mode };
    if (node.isGone) return;
    const { users } = this.init;
    const user = { username: users.userName(attributes.uid), groups: [users.groupName(attributes.gid)] };
    const change = { mode: mode & Mode.PERMISSIONS };
    await this.metadata.setattr({ user }, this.table.pathOf(node), change, 1).catch((error: unknown) => {
      this.logger.warn('Could not clear set-user-ID', { fileId: node.id, reason: describeError(error) });
    });
  }

  private async openExisting(
    context: RequestContext,
    caller: Caller,
    parent: Node,
    name: string,
    flags: number,
  ): Promise<{ entry: Entry; open: OpenReply }> {
    const stat = await this.metadata.getattr(caller, this.table.childPath(parent, name));
    const node = this.table.link(parent, name, stat.ino);
    node.toldSize = this.takeStat(node, stat).size;
    const open = await this.open(context, node.id, flags, false);
    return { entry: this.entryOf(node, node.attributes ?? this.takeStat(node, stat)), open };
  }

  private async openAtMrc(
    caller: Caller,
    path: string,
    flags: number,
  ): Promise<{ cap: XCap; xlocs: XLocSet; isDirect: boolean; stbuf: Stat | undefined }> {
    const readable = this.readableFlags(flags);
    try {
      const { creds, stbuf } = await this.metadata.open(caller, path, toWireFlags(readable), noMode);
      return { cap: creds.xcap, xlocs: creds.xlocs, isDirect: false, stbuf };
    } catch (error) {
      if (readable === flags || !isErrno(error, PosixErrno.EACCES)) throw error;
      const { creds, stbuf } = await this.metadata.open(caller, path, toWireFlags(flags), noMode);
      return { cap: creds.xcap, xlocs: creds.xlocs, isDirect: true, stbuf };
    }
  }

  /** A kernel that keeps written pages reads what surrounds them, also through a write-only file, and appends itself. */
  private readableFlags(flags: number): number {
    if (this.init.consistency !== 'exclusive') return flags;
    const plain = flags & ~OpenFlag.APPEND;
    return (plain & OpenFlag.ACCMODE) === OpenFlag.WRONLY ? (plain & ~OpenFlag.ACCMODE) | OpenFlag.RDWR : plain;
  }

  /** Attributes of a file that was just made, without asking for them. */
  private async newAttributes(
    context: RequestContext,
    caller: Caller,
    node: Node,
    parent: Node,
    mode: number,
  ): Promise<Attributes> {
    const above = parent.attributes ?? (await this.askAttributes(caller, parent));
    const now = this.now();
    const gid = (above.mode & Mode.SETGID) === 0 ? context.gid : above.gid;
    return {
      ino: node.id,
      mode: Mode.REGULAR | mode,
      nlink: 1,
      uid: context.uid,
      gid,
      rdev: 0,
      size: 0,
      blocks: 0,
      blksize: 4096,
      atime: now,
      mtime: now,
      ctime: now,
    };
  }

  /**
   * Whether the kernel has another size of a file than the MRC: it would read up to that, and append there. At first the
   * opening is refused, so that it looks the file up again. Where there is no name to look up (`/proc/self/fd`) it tries
   * once more at once: then it must not trust what it knows.
   */
  private isNewToKernel(node: Node, context: RequestContext): boolean {
    const wasSentBack = node.sentBack.delete(context.pid);
    if (this.init.consistency === 'exclusive' || node.toldSize === node.attributes?.size) return false;
    if (wasSentBack) return true;
    node.sentBack.add(context.pid);
    return refuse('ESTALE');
  }

  /** The kernel keeps its pages of a file that is as it was when they were read. */
  private cacheFlags(node: Node): number {
    const { attributes } = node;
    if (attributes === undefined || this.init.consistency === 'strict') return 0;
    const { seconds, nanoseconds } = attributes.mtime;
    const version = `${attributes.size}:${seconds}.${nanoseconds}:${node.truncateEpoch}`;
    const isSame = node.cachedVersion === version;
    node.cachedVersion = version;
    return isSame || this.init.consistency === 'exclusive' ? OpenReplyFlag.KEEP_CACHE : 0;
  }

  private async truncateOpen(open: OpenHandle, killSuidgid: boolean): Promise<void> {
    await open.handle.file.truncate(open.handle, 0);
    if (killSuidgid) await this.killSuidgid(open.node);
    this.setLocalSize(open.node, 0);
  }

  private async truncateHandle(open: OpenHandle, size: number, signal?: AbortSignal): Promise<void> {
    await open.handle.truncate(size, signal);
    this.note(openRecord(open));
    this.setLocalSize(open.node, size);
  }

  private setLocalSize(node: Node, size: number): void {
    const known = node.file?.knownSize;
    if (known?.truncateEpoch !== undefined) node.truncateEpoch = known.truncateEpoch;
    this.expire(node);
    node.toldSize = size;
    if (node.attributes === undefined) return;
    const now = this.now();
    node.attributes = { ...node.attributes, size, blocks: Math.ceil(size / 512), mtime: now, ctime: now };
  }

  private grow(node: Node, end: number): void {
    node.cachedVersion = '';
    const { attributes } = node;
    if (attributes === undefined) return;
    const now = this.now();
    const size = Math.max(attributes.size, end);
    node.attributes = { ...attributes, size, blocks: Math.ceil(size / 512), mtime: now, ctime: now };
    node.toldSize = Math.max(node.toldSize ?? 0, end);
  }

  private async writeThrough(open: OpenHandle, offset: number, data: Buffer, signal?: AbortSignal): Promise<void> {
    if (open.node.writes?.isDirty === true) await open.node.writes.drain();
    await open.handle.file.write(open.handle, offset, data, signal);
    if ((open.flags & OpenFlag.DSYNC) !== 0) await open.handle.file.sync(open.handle, signal);
    this.grow(open.node, offset + data.length);
  }

  /** Sends bytes through any handle of the file that may write: the one they came by may be closed already. */
  private async sendWrite(node: Node, offset: number, data: Buffer): Promise<void> {
    for (const open of this.handles.values()) {
      if (open.node !== node || !open.handle.isWritable) continue;
      await open.handle.file.write(open.handle, offset, data);
      return;
    }
    throw new FuseError('EBADF', 'no handle is left to write through');
  }

  private writesOf(node: Node, pieceBytes: number): WriteBehind {
    return (node.writes ??= new WriteBehind(this.budget, pieceBytes, {
      onFirst: () => this.note(['dirty', node.id]),
      onClean: () => this.note(['clean', node.id]),
    }));
  }

  /** Tells the MRC the size, if it has to know; what it answers are the file's times. */
  private async tellSize(open: OpenHandle, closes: boolean, signal?: AbortSignal): Promise<void> {
    const stat = await open.handle.file.tellSize(open.handle, closes, signal);
    if (stat?.ino === open.node.id && !open.node.isGone) this.takeStat(open.node, stat);
  }

  /** Everything of a file is at the OSDs, the size at the MRC; errors of earlier writes are reported. */
  private async settle(open: OpenHandle, signal?: AbortSignal): Promise<void> {
    await open.node.writes?.drain();
    await this.tellSize(open, false, signal);
    this.report(open);
  }

  /** Shows each handle each failure once. */
  private report(open: OpenHandle): void {
    const { writes } = open.node;
    if (writes === undefined || writes.failureCount === open.failuresSeen) return;
    open.failuresSeen = writes.failureCount;
    throw writes.error ?? new FuseError('EIO');
  }

  private addHandle(node: Node, flags: number, credentials: OpenCredentials): OpenHandle {
    const open = this.insertHandle(this.nextHandle++, node, flags, credentials);
    this.note(openRecord(open));
    return open;
  }

  private insertHandle(id: number, node: Node, flags: number, credentials: OpenCredentials): OpenHandle {
    if (node.file === undefined) node.file = new OpenFile(this.metadata, credentials);
    else node.file.useXlocs(credentials.xlocs);
    const handle = new FileHandle(this.metadata, node.file, credentials.cap);
    const open: OpenHandle = { id, node, handle, flags, failuresSeen: node.writes?.failureCount ?? 0 };
    this.handles.set(id, open);
    node.openCount++;
    return open;
  }

  private dropHandle(open: OpenHandle): void {
    this.note(['close', open.id]);
    this.removeHandle(open);
  }

  private removeHandle(open: OpenHandle): void {
    const { node } = open;
    if (!this.handles.delete(open.id)) return;
    node.openCount--;
    if (node.openCount > 0) return;
    this.locks.drop(open.handle.file);
    node.file = undefined;
    node.writes = undefined;
    node.locks = undefined;
    node.flocks = undefined;
    const { deletion } = node;
    if (deletion !== undefined) this.deleteObjects(deletion);
    node.deletion = undefined;
    this.table.reap(node);
  }

  private async unlockAll(open: OpenHandle, owner: bigint, isFlock: boolean): Promise<void> {
    const table = open.node.lockTable(isFlock);
    const range = { start: 0n, end: (1n << 63n) - 1n };
    if (table.drop(owner)) await this.locks.update(open.handle, table, { owner, isFlock, range }, false);
  }

  private async maintain(): Promise<void> {
    for (const open of [...this.handles.values()]) {
      open.node.writes?.pushTail();
      try {
        if (open.handle.ageMs > renewAfterMs) {
          await open.handle.renew(false);
          this.note(openRecord(open));
          await this.tellSize(open, false);
        }
      } catch (error) {
        this.logger.debug('Could not renew a capability', { fileId: open.node.id, reason: describeError(error) });
      }
    }
    await this.locks.keepAlive();
  }
}

const openRecord = (open: OpenHandle): JournalRecord => [
  'open',
  open.id,
  open.node.id,
  open.flags,
  open.handle.cap,
  open.handle.file.locations,
];

const noMode: NewMode = { mode: 0 };

/** Permissions of something new: without what the caller's umask takes away, and with it, for default access control lists. */
export function maskedModes({ mode, umask }: CreationMode): NewMode {
  const unmaskedMode = mode & Mode.PERMISSIONS;
  return { mode: unmaskedMode & ~umask, unmaskedMode };
}

/** A mode after a write or truncation by someone who may not keep set-user-ID bits. */
export function withoutSuidgid(mode: number): number {
  if ((mode & Mode.TYPE) === Mode.DIRECTORY) return mode;
  const withoutUser = mode & ~Mode.SETUID;
  return (mode & 0o010) === 0 ? withoutUser : withoutUser & ~Mode.SETGID;
}

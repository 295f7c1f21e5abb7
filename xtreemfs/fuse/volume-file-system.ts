import type { Stat } from '#proto/generated/xtreemfs/mrc.ts';
import { Setattrs } from '#proto/generated/xtreemfs/mrc.ts';
import { SystemVFcntl } from '#proto/generated/xtreemfs/global-types.ts';
import { ErrorType, PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import type { Caller, Changed, Unlinked } from '../client/metadata.ts';
import { isErrno, RpcError } from '../rpc/errors.ts';
import { Mode, nameBytesMax, OpenReplyFlag, RenameFlag } from './abi.ts';
import { refuse } from './errno.ts';
import type {
  AttributeChange,
  Attributes,
  AttributesReply,
  CreationMode,
  DirectorySink,
  Entry,
  FuseFileSystem,
  OpenReply,
  RequestContext,
  StatfsReply,
  Timestamp,
} from './file-system.ts';
import type { Node } from './inode-table.ts';
import type { JournalRecord } from './journal.ts';
import { maskedModes, withoutSuidgid } from './volume-files.ts';
import { fromTimestamp, isDevice } from './volume-state.ts';
import { VolumeXattrs } from './volume-xattrs.ts';

interface Listed {
  readonly name: string;
  readonly stat: Stat | undefined;
  /** Monotonic time of the question that this answers. */
  readonly askedAt: number;
}

interface DirectoryHandle {
  readonly node: Node;
  readonly caller: Caller;
  entries: Listed[];
  /** Entries fetched from the MRC, dots counted. */
  seen: number;
  isComplete: boolean;
}

/** A name in a directory. */
interface Named {
  readonly parent: Node;
  readonly name: string;
}

/** A directory up to this size is fetched whole before the first name is shown: deleting while listing skips nothing then. */
const listWholeMax = 65_536;
const dots = 2;

/**
 * An XtreemFS volume as a FUSE file system. Node numbers are file numbers. What the wire has no call for is done here:
 * attributes of files that were deleted while open, locks among processes of this machine.
 */
export class VolumeFileSystem extends VolumeXattrs implements FuseFileSystem {
  private readonly directories = new Map<number, DirectoryHandle>();
  private nextDirectory = 1;

  async lookup(context: RequestContext, parentId: number, name: string): Promise<Entry> {
    const parent = this.table.node(parentId);
    const { listing } = parent;
    if (listing !== undefined) {
      if (listing.until < this.clock.monotonic()) parent.listing = undefined;
      else if (!listing.names.has(name)) return this.noEntry();
    }
    let stat: Stat;
    try {
      stat = await this.metadata.getattr(this.caller(context), this.table.childPath(parent, name));
    } catch (error) {
      if (!isErrno(error, PosixErrno.ENOENT)) throw error;
      const gone = this.table.unlink(parent, name);
      if (gone?.links.length === 0) this.expire(gone);
      return this.noEntry();
    }
    return this.enter(parent, name, stat);
  }

  forget(nodeId: number, count: number): void {
    this.table.forget(nodeId, count);
  }

  async getattr(context: RequestContext, nodeId: number): Promise<AttributesReply> {
    const node = this.table.node(nodeId);
    const fresh = this.freshAttributes(node);
    return this.replyOf(node, fresh ?? (await this.askAttributes(this.caller(context), node)));
  }

  async setattr(context: RequestContext, nodeId: number, change: AttributeChange): Promise<AttributesReply> {
    const node = this.table.node(nodeId);
    const caller = this.caller(context);
    const before = await this.attributesOf(caller, node);
    if (change.size !== undefined) await this.truncateNode(caller, node, change.size, change.handle);
    const after = this.changed(node.attributes ?? before, change);
    const told = node.isGone ? undefined : await this.tellChange(caller, node, before, after, change);
    node.attributes = after;
    if (node.isGone) {
      this.note(['gone', node.id, after]);
      return { attributes: after, validMs: this.ttlMs };
    }
    if (change.size !== undefined) {
      this.expire(node);
      node.toldSize = after.size;
      return { attributes: after, validMs: 0 };
    }
    return this.replyOf(node, told?.ino === node.id ? this.takeStat(node, told) : this.keep(node, after));
  }

  async readlink(context: RequestContext, nodeId: number): Promise<string> {
    return await this.metadata.readlink(this.caller(context), this.table.pathOf(this.table.node(nodeId)));
  }

  async mknod(
    context: RequestContext,
    parentId: number,
    name: string,
    { mode, umask }: CreationMode,
    rdev: number,
  ): Promise<Entry> {
    const parent = this.table.node(parentId);
    const caller = this.caller(context);
    const path = this.table.childPath(parent, name);
    const flags = SystemVFcntl.O_CREAT | SystemVFcntl.O_EXCL;
    const type = mode & Mode.TYPE;
    const bits = maskedModes({ mode, umask });
    const typed = { ...bits, mode: type === Mode.REGULAR ? bits.mode : type | bits.mode };
    const opened = await this.metadata.open(caller, path, flags, typed, isDevice(mode) ? rdev : 0);
    return await this.made(caller, parent, name, path, opened);
  }

  async mkdir(context: RequestContext, parentId: number, name: string, mode: CreationMode): Promise<Entry> {
    const parent = this.table.node(parentId);
    const caller = this.caller(context);
    const path = this.table.childPath(parent, name);
    const changed = await this.metadata.mkdir(caller, path, maskedModes(mode));
    const entry = await this.made(caller, parent, name, path, changed);
    const until = this.clock.monotonic() + this.ttlMs;
    if (this.ttlMs > 0) this.table.node(entry.nodeId).listing = { names: new Set(), until };
    return entry;
  }

  async symlink(context: RequestContext, parentId: number, name: string, target: string): Promise<Entry> {
    const parent = this.table.node(parentId);
    const caller = this.caller(context);
    const path = this.table.childPath(parent, name);
    const changed = await this.metadata.symlink(caller, target, path);
    return await this.made(caller, parent, name, path, changed);
  }

  async link(context: RequestContext, nodeId: number, newParentId: number, newName: string): Promise<Entry> {
    const node = this.table.node(nodeId);
    const parent = this.table.node(newParentId);
    const caller = this.caller(context);
    const path = this.table.childPath(parent, newName);
    const changed = await this.metadata.link(caller, this.table.pathOf(node), path);
    return await this.made(caller, parent, newName, path, changed);
  }

  async unlink(context: RequestContext, parentId: number, name: string): Promise<void> {
    const parent = this.table.node(parentId);
    const unlinked = await this.metadata.unlink(this.caller(context), this.table.childPath(parent, name));
    const node = this.table.unlink(parent, name);
    this.touchDirectory(parent, unlinked);
    this.dropped(node, unlinked);
  }

  async rmdir(context: RequestContext, parentId: number, name: string): Promise<void> {
    const parent = this.table.node(parentId);
    const changed = await this.metadata.rmdir(this.caller(context), this.table.childPath(parent, name));
    const node = this.table.unlink(parent, name);
    this.touchDirectory(parent, changed);
    if (node?.attributes === undefined) return;
    node.attributes = { ...node.attributes, nlink: 0, ctime: this.now() };
    node.isGone = true;
  }

  async rename(
    context: RequestContext,
    parentId: number,
    name: string,
    newParentId: number,
    newName: string,
    flags: number,
  ): Promise<void> {
    const [from, to] = [this.table.node(parentId), this.table.node(newParentId)];
    const caller = this.caller(context);
    if (flags !== 0) {
      await this.renameFlagged(caller, { parent: from, name }, { parent: to, name: newName }, flags);
      return;
    }
    const [path, newPath] = [this.table.childPath(from, name), this.table.childPath(to, newName)];
    const [moving, target] = [from.children.get(name), to.children.get(newName)];
    const renamed = await this.metadata.rename(caller, path, newPath);
    this.touchDirectory(from, renamed);
    if (to !== from) this.touchDirectory(to, renamed);
    if (moving !== undefined && moving === target) {
      this.expire(moving);
      return;
    }
    const replaced = this.table.unlink(to, newName);
    this.table.rename(from, name, to, newName);
    if (moving !== undefined) {
      if (renamed.stbuf?.ino === moving.id) this.takeStat(moving, renamed.stbuf);
      else this.expire(moving);
    }
    this.dropped(replaced, { creds: renamed.creds, directories: [] });
  }

  private async renameFlagged(caller: Caller, from: Named, to: Named, flags: number): Promise<void> {
    if (flags !== RenameFlag.NOREPLACE && flags !== RenameFlag.EXCHANGE) {
      refuse('EINVAL', 'only RENAME_NOREPLACE or RENAME_EXCHANGE are there');
    }
    const [path, newPath] = [this.table.childPath(from.parent, from.name), this.table.childPath(to.parent, to.name)];
    const [moving, other] = [from.parent.children.get(from.name), to.parent.children.get(to.name)];
    const sourceIno = moving?.id ?? (await this.metadata.getattr(caller, path)).ino;
    const renamed = await this.metadata
      .renameFlagged(caller, path, newPath, flags, sourceIno)
      .catch(async (error: unknown) => {
        if (!(error instanceof RpcError) || error.errorType !== ErrorType.INVALID_PROC_ID) throw error;
        if (flags !== RenameFlag.NOREPLACE) refuse('EINVAL', 'the MRC is one of upstream: names cannot change places');
        if (await this.exists(caller, newPath)) refuse('EEXIST');
        return await this.metadata.rename(caller, path, newPath);
      });
    this.touchDirectory(from.parent, renamed);
    if (to.parent !== from.parent) this.touchDirectory(to.parent, renamed);
    if (flags === RenameFlag.EXCHANGE) this.table.exchange(from.parent, from.name, to.parent, to.name);
    else this.table.rename(from.parent, from.name, to.parent, to.name);
    for (const node of [moving, other]) if (node !== undefined) this.expire(node);
  }

  opendir(context: RequestContext, nodeId: number): OpenReply {
    const handle = this.nextDirectory++;
    const node = this.table.node(nodeId);
    this.directories.set(handle, { node, caller: this.caller(context), entries: [], seen: 0, isComplete: false });
    this.note(['opendir', handle, nodeId]);
    return {
      handle,
      flags: this.init.consistency === 'exclusive' ? OpenReplyFlag.KEEP_CACHE | OpenReplyFlag.CACHE_DIR : 0,
    };
  }

  async readdir(
    context: RequestContext,
    nodeId: number,
    handleId: number,
    offset: number,
    sink: DirectorySink,
  ): Promise<void> {
    const directory = this.directories.get(handleId) ?? refuse('EBADF');
    if (offset === 0) {
      directory.entries = [];
      directory.seen = 0;
      directory.isComplete = false;
    }
    const caller = this.caller(context);
    if (offset === 0 && !sink.add('.', nodeId, Mode.DIRECTORY, 1)) return;
    if (offset <= 1 && !sink.add('..', this.parentOf(directory.node).id, Mode.DIRECTORY, 2)) return;
    for (let index = Math.max(offset, dots) - dots; ; index++) {
      const entry = directory.entries[index] ?? (await this.fetchUpTo(caller, directory, index));
      if (entry === undefined) return;
      if (!this.show(directory.node, entry, index + dots + 1, sink)) return;
    }
  }

  releasedir(_context: RequestContext, _nodeId: number, handle: number): void {
    this.directories.delete(handle);
    this.note(['closedir', handle]);
  }

  fsyncdir(): void {
    // The MRC has made every change durable before it answered.
  }

  async statfs(context: RequestContext): Promise<StatfsReply> {
    const stat = await this.metadata.statvfs(this.caller(context));
    return {
      blocks: stat.blocks,
      bfree: stat.bfree ?? stat.bavail,
      bavail: stat.bavail,
      files: 1_000_000_000,
      ffree: 1_000_000_000,
      bsize: stat.bsize,
      frsize: stat.bsize,
      nameMax: nameBytesMax,
    };
  }

  async access(context: RequestContext, nodeId: number, mask: number): Promise<void> {
    await this.metadata.access(this.caller(context), this.table.pathOf(this.table.node(nodeId)), mask);
  }

  /** Everything that a successor of this process needs, as it is now. */
  *journalRecords(): Generator<JournalRecord> {
    yield* this.table.records();
    yield* this.handleRecords();
    for (const [handle, directory] of this.directories) yield ['opendir', handle, directory.node.id];
  }

  /** Takes over from a predecessor that died. Call it before the first request, with all its records in order. */
  async resume(records: Iterable<JournalRecord>): Promise<void> {
    const dirty = new Set<number>();
    const open = new Map<number, number>();
    for (const record of records) {
      if (this.table.replay(record) || this.replayHandle(record, dirty)) continue;
      if (record[0] === 'opendir') open.set(Number(record[1]), Number(record[2]));
      else if (record[0] === 'closedir') open.delete(Number(record[1]));
    }
    for (const [handle, nodeId] of open) this.resumeDirectory(handle, nodeId);
    this.table.settle();
    await this.recoverSizes(dirty);
  }

  private resumeDirectory(handle: number, nodeId: number): void {
    this.nextDirectory = Math.max(this.nextDirectory, handle + 1);
    const node = this.table.find(nodeId);
    if (node === undefined) return;
    const caller = { user: this.init.users.caller(0, 0, 0) };
    this.directories.set(handle, { node, caller, entries: [], seen: 0, isComplete: false });
  }

  /** The kernel is told that `name` is this inode. */
  private enter(parent: Node, name: string, stat: Stat): Entry {
    const node = this.table.link(parent, name, stat.ino);
    node.isGone = false;
    return this.entryOf(node, this.takeStat(node, stat));
  }

  /** Something was made under a name that was free before. */
  private async made(caller: Caller, parent: Node, name: string, path: string, changed: Changed): Promise<Entry> {
    this.touchDirectory(parent, changed);
    parent.listing?.names.add(name);
    return this.enter(parent, name, changed.stbuf ?? (await this.metadata.getattr(caller, path)));
  }

  /** A name is gone from a node; with the last one, the file's objects go when it is closed. */
  private dropped(node: Node | undefined, { creds: credentials, stbuf }: Unlinked): void {
    const nlink = node?.attributes === undefined ? 0 : node.attributes.nlink - 1;
    const isOpen = node !== undefined && node.openCount > 0;
    if (node?.attributes !== undefined) {
      const isDirectory = (node.attributes.mode & Mode.TYPE) === Mode.DIRECTORY;
      node.attributes = { ...node.attributes, nlink: isDirectory ? 0 : nlink, ctime: this.now() };
      node.isGone = credentials !== undefined || nlink <= 0 || isDirectory;
      if (!node.isGone) {
        if (stbuf?.ino === node.id) this.takeStat(node, stbuf);
        else this.expire(node);
      } else if (isOpen) this.note(['gone', node.id, node.attributes]);
    }
    if (credentials === undefined) return;
    if (isOpen) node.deletion = credentials;
    else this.deleteObjects(credentials);
  }

  private async exists(caller: Caller, path: string): Promise<boolean> {
    try {
      await this.metadata.getattr(caller, path);
      return true;
    } catch (error) {
      if (isErrno(error, PosixErrno.ENOENT)) return false;
      throw error;
    }
  }

  private parentOf(node: Node): Node {
    return node.links[0]?.parent ?? node;
  }

  private show(parent: Node, { name, stat, askedAt }: Listed, nextOffset: number, sink: DirectorySink): boolean {
    if (stat === undefined) return sink.add(name, unknownIno, 0, nextOffset);
    if (!sink.wantsAttributes) return sink.add(name, stat.ino, stat.mode, nextOffset);
    const known = this.table.find(stat.ino);
    const validMs = Math.max(0, askedAt + this.ttlMs - this.clock.monotonic());
    const attributes = known === undefined ? this.toAttributes(stat) : this.takeStat(known, stat);
    const entry: Entry = {
      nodeId: stat.ino,
      generation: 0,
      attributes,
      entryValidMs: validMs,
      attributesValidMs: validMs,
    };
    if (!sink.addWithEntry(name, entry, nextOffset)) return false;
    const node = this.table.link(parent, name, stat.ino);
    if (known === undefined) this.takeStat(node, stat);
    node.toldSize = attributes.size;
    return true;
  }

  /** Fetches entries until there is one at `index`; small directories whole. */
  private async fetchUpTo(caller: Caller, directory: DirectoryHandle, index: number): Promise<Listed | undefined> {
    const chunk = this.init.readdirChunk ?? 1024;
    const path = this.table.pathOf(directory.node);
    while (!directory.isComplete && (directory.entries.length <= index || directory.seen < listWholeMax)) {
      const askedAt = this.clock.monotonic();
      const entries = await this.metadata.readdir(caller, path, directory.seen, chunk, false);
      directory.seen += entries.length;
      for (const { name, stbuf } of entries) {
        if (name === '.' && stbuf?.ino === directory.node.id) this.takeStat(directory.node, stbuf);
        if (name !== '.' && name !== '..') directory.entries.push({ name, stat: stbuf, askedAt });
      }
      directory.isComplete = entries.length < chunk;
    }
    if (directory.isComplete && this.ttlMs > 0 && directory.entries.length <= listWholeMax) this.remember(directory);
    return directory.entries[index];
  }

  private remember({ node, entries }: DirectoryHandle): void {
    if (node.listing !== undefined) return;
    const until = this.clock.monotonic() + this.ttlMs;
    node.listing = { names: new Set(entries.map((entry) => entry.name)), until };
  }

  /** Attributes after a change, as the MRC will have them. */
  private changed(before: Attributes, change: AttributeChange): Attributes {
    const now = this.now();
    const resolved = (time: Timestamp | 'now' | undefined, old: Timestamp): Timestamp =>
      time === undefined ? old : time === 'now' ? now : time;
    let mode = change.mode === undefined ? before.mode : (before.mode & Mode.TYPE) | change.mode;
    const isOwnerChange = change.uid !== undefined || change.gid !== undefined;
    if (isOwnerChange || change.killSuidgid === true) mode = withoutSuidgid(mode);
    return {
      ...before,
      mode,
      uid: change.uid ?? before.uid,
      gid: change.gid ?? before.gid,
      atime: resolved(change.atime, before.atime),
      mtime: resolved(change.mtime, before.mtime),
      ctime: change.ctime ?? now,
    };
  }

  private async tellChange(
    caller: Caller,
    node: Node,
    before: Attributes,
    after: Attributes,
    change: AttributeChange,
  ): Promise<Stat | undefined> {
    const { users } = this.init;
    let toSet = 0;
    if (change.mode !== undefined) toSet |= Setattrs.MODE;
    if (change.uid !== undefined) toSet |= Setattrs.UID;
    if (change.gid !== undefined) toSet |= Setattrs.GID;
    if (change.atime !== undefined) toSet |= Setattrs.ATIME;
    if (change.mtime !== undefined) toSet |= Setattrs.MTIME;
    if (change.killSuidgid === true && change.mode === undefined) await this.killSuidgid(node);
    if (toSet === 0) return undefined;
    if (change.mtime !== undefined) await node.writes?.drain();
    const wire = {
      mode: (change.mode === undefined ? before.mode : after.mode) & Mode.PERMISSIONS,
      userId: users.userName(after.uid),
      groupId: users.groupName(after.gid),
      atimeNs: fromTimestamp(after.atime),
      mtimeNs: fromTimestamp(after.mtime),
    };
    return (await this.metadata.setattr(caller, this.table.pathOf(node), wire, toSet)).stbuf;
  }
}

/** Number shown for an entry whose attributes the caller may not see; the C library drops entries with number 0. */
const unknownIno = 0xffff_ffff;

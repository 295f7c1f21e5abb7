/**
 * What a file system has to do to be served over FUSE: the kernel's low-level operations, by inode number. Methods
 * may answer at once or with a promise; an error becomes an errno (see `errnoFrom`). A method that is absent is
 * answered with ENOSYS, after which the kernel may stop asking for it.
 */

/** Seconds (may be negative) and nanoseconds (0 to 999,999,999) since the epoch. */
export interface Timestamp {
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** Attributes of an inode, as stat(2) shows them. */
export interface Attributes {
  readonly ino: number;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly size: number;
  /** Blocks of 512 bytes. */
  readonly blocks: number;
  readonly blksize: number;
  readonly atime: Timestamp;
  readonly mtime: Timestamp;
  readonly ctime: Timestamp;
}

/** An inode found under a name, and how long the kernel may trust it without asking again. */
export interface Entry {
  /** 0: there is no such name, and the kernel may remember that for `entryValidMs`. */
  readonly nodeId: number;
  readonly generation: number;
  readonly attributes: Attributes;
  readonly entryValidMs: number;
  readonly attributesValidMs: number;
}

export interface AttributesReply {
  readonly attributes: Attributes;
  readonly validMs: number;
}

/** Who asks, and whether they still want to know. */
export interface RequestContext {
  readonly uid: number;
  readonly gid: number;
  /** 0 when the process is in another PID namespace. */
  readonly pid: number;
  /** The kernel sent this request before, to a process that died before it answered. It may have been carried out. */
  readonly isResent: boolean;
  /** Aborts when the caller is interrupted by a signal, or the session ends. */
  readonly signal: AbortSignal;
}

/** Fields of SETATTR that are to change; absent ones stay. */
export interface AttributeChange {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  /** `now`: the time of the file system. */
  readonly atime?: Timestamp | 'now';
  readonly mtime?: Timestamp | 'now';
  readonly ctime?: Timestamp;
  /** Set-user-ID (and set-group-ID with group execute) must go with this change. */
  readonly killSuidgid?: boolean;
  /** The open file through which the change was asked, if any. */
  readonly handle?: number;
}

/** Mode of something new as the caller asks for it, and the caller's umask, which the file system applies. */
export interface CreationMode {
  readonly mode: number;
  readonly umask: number;
}

/** An open file or directory. `flags` are `OpenReplyFlag`s. */
export interface OpenReply {
  readonly handle: number;
  readonly flags: number;
}

/** Numbers of statfs(2). `blocks` are of `frsize` bytes. */
export interface StatfsReply {
  readonly blocks: number;
  readonly bfree: number;
  readonly bavail: number;
  readonly files: number;
  readonly ffree: number;
  readonly bsize: number;
  readonly frsize: number;
  readonly nameMax: number;
}

/** A byte-range lock. `end` is the last byte, 2^63 − 1 for the end of the file. */
export interface FileLock {
  readonly start: bigint;
  readonly end: bigint;
  /** `LockType` */
  readonly type: number;
  readonly pid: number;
}

export interface LockRequest {
  readonly handle: number;
  /** Opaque number of the lock's owner: a process's file table (POSIX locks) or an open file (flock). */
  readonly owner: bigint;
  readonly lock: FileLock;
  readonly isFlock: boolean;
}

/** Bytes that were read, in pieces. */
export interface ReadReply {
  readonly parts: readonly Buffer[];
  /** Called when the kernel has them. */
  done?(): void;
}

export interface WriteRequest {
  readonly handle: number;
  readonly offset: number;
  /** Valid until the method has answered: the buffer is used again afterwards. */
  readonly data: Buffer;
  /** Written back from the page cache: `handle` is some handle of the file, the caller is not known. */
  readonly isFromCache: boolean;
  readonly killSuidgid: boolean;
  /** `OpenFlag`s of the open file. */
  readonly flags: number;
}

/** Takes directory entries until its reply is full. */
export interface DirectorySink {
  /** True when the kernel asked for entries with attributes (READDIRPLUS). */
  readonly wantsAttributes: boolean;
  /**
   * @param type - the type bits of a mode (`Mode.TYPE`).
   * @param nextOffset - where reading goes on after this entry; not 0.
   * @returns false when there was no room: the entry was not taken.
   */
  add(name: string, ino: number, type: number, nextOffset: number): boolean;
  /** As `add`, with attributes; the kernel counts one look-up of `entry.nodeId`, if it is not 0. */
  addWithEntry(name: string, entry: Entry, nextOffset: number): boolean;
}

export interface CopyRequest {
  readonly handleIn: number;
  readonly offsetIn: number;
  readonly nodeIdOut: number;
  readonly handleOut: number;
  readonly offsetOut: number;
  readonly length: number;
}

type Answer<T> = T | Promise<T>;

/** See the head of this file. Names are as in the kernel's protocol; `nodeId` is the inode that is addressed. */
export interface FuseFileSystem {
  lookup(context: RequestContext, parent: number, name: string): Answer<Entry>;
  /** Gives back `count` look-ups of an inode; it has no answer and must not throw. */
  forget(nodeId: number, count: number): void;
  getattr(context: RequestContext, nodeId: number, handle: number | undefined): Answer<AttributesReply>;
  setattr(context: RequestContext, nodeId: number, change: AttributeChange): Answer<AttributesReply>;
  readlink?(context: RequestContext, nodeId: number): Answer<string>;
  mknod?(context: RequestContext, parent: number, name: string, mode: CreationMode, rdev: number): Answer<Entry>;
  mkdir?(context: RequestContext, parent: number, name: string, mode: CreationMode): Answer<Entry>;
  unlink?(context: RequestContext, parent: number, name: string): Answer<void>;
  rmdir?(context: RequestContext, parent: number, name: string): Answer<void>;
  symlink?(context: RequestContext, parent: number, name: string, target: string): Answer<Entry>;
  /** @param flags - `RenameFlag`s. */
  rename?(
    context: RequestContext,
    parent: number,
    name: string,
    newParent: number,
    newName: string,
    flags: number,
  ): Answer<void>;
  link?(context: RequestContext, nodeId: number, newParent: number, newName: string): Answer<Entry>;
  /** @param flags - `OpenFlag`s, without CREAT and EXCL. */
  open(context: RequestContext, nodeId: number, flags: number, killSuidgid: boolean): Answer<OpenReply>;
  create?(
    context: RequestContext,
    parent: number,
    name: string,
    mode: CreationMode,
    flags: number,
  ): Answer<{ readonly entry: Entry; readonly open: OpenReply }>;
  tmpfile?(
    context: RequestContext,
    parent: number,
    mode: number,
    flags: number,
  ): Answer<{ readonly entry: Entry; readonly open: OpenReply }>;
  /** @returns fewer bytes than `size` at the end of the file only. */
  read(context: RequestContext, nodeId: number, handle: number, offset: number, size: number): Answer<ReadReply>;
  /** @returns how many bytes were taken; all of them unless the disk is full. */
  write?(context: RequestContext, nodeId: number, request: WriteRequest): Answer<number>;
  /** On every close(2) of a descriptor: errors of earlier writes are reported here; locks of `owner` go. */
  flush?(context: RequestContext, nodeId: number, handle: number, owner: bigint): Answer<void>;
  /** The last descriptor is closed. */
  release?(context: RequestContext, nodeId: number, handle: number, flockOwner: bigint | undefined): Answer<void>;
  fsync?(context: RequestContext, nodeId: number, handle: number, dataOnly: boolean): Answer<void>;
  opendir?(context: RequestContext, nodeId: number, flags: number): Answer<OpenReply>;
  /** @param offset - `nextOffset` of the last entry that was taken; 0 at the start. */
  readdir(context: RequestContext, nodeId: number, handle: number, offset: number, sink: DirectorySink): Answer<void>;
  releasedir?(context: RequestContext, nodeId: number, handle: number): Answer<void>;
  fsyncdir?(context: RequestContext, nodeId: number, handle: number, dataOnly: boolean): Answer<void>;
  statfs(context: RequestContext, nodeId: number): Answer<StatfsReply>;
  /** @param flags - 1 create only, 2 replace only. */
  setxattr?(
    context: RequestContext,
    nodeId: number,
    name: string,
    value: Buffer,
    flags: number,
    killSgid: boolean,
  ): Answer<void>;
  getxattr?(context: RequestContext, nodeId: number, name: string): Answer<Buffer>;
  listxattr?(context: RequestContext, nodeId: number): Answer<readonly string[]>;
  removexattr?(context: RequestContext, nodeId: number, name: string): Answer<void>;
  /**
   * Carries out an ioctl of a file or directory.
   * @param input - what the caller gives with it. @returns what it gets back, `outBytes` at most.
   */
  ioctl?(context: RequestContext, nodeId: number, command: number, input: Buffer, outBytes: number): Answer<Buffer>;
  /** @param mask - `AccessMask`s; 0 asks only whether the inode is there. */
  access?(context: RequestContext, nodeId: number, mask: number): Answer<void>;
  /** @returns the lock in the way, or the asked one with type `LockType.UNLOCK`. */
  getlk?(context: RequestContext, nodeId: number, request: LockRequest): Answer<FileLock>;
  /** @param wait - until the lock is free (or `context.signal` aborts); otherwise EAGAIN. */
  setlk?(context: RequestContext, nodeId: number, request: LockRequest, wait: boolean): Answer<void>;
  fallocate?(
    context: RequestContext,
    nodeId: number,
    handle: number,
    offset: number,
    length: number,
    mode: number,
  ): Answer<void>;
  /** @param whence - `Whence`. @returns the offset found. */
  lseek?(context: RequestContext, nodeId: number, handle: number, offset: number, whence: number): Answer<number>;
  copyFileRange?(context: RequestContext, nodeId: number, request: CopyRequest): Answer<number>;
  syncfs?(context: RequestContext, nodeId: number): Answer<void>;
}

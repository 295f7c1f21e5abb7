/**
 * Numbers of the Linux FUSE kernel protocol, version 7.45 (Linux 6.18). Source: the kernel's user ABI header
 * `linux/fuse.h`; what is newer than an installed header (7.39 to 7.45) is from the kernel's own copy.
 * All fields are in the byte order of the machine; this code supports little-endian machines only.
 */

/** Major version of the protocol. */
export const fuseMajor = 7;
/** The newest minor version that this code knows; the smaller of this and the kernel's is spoken. */
export const fuseMinor = 45;
/** Oldest minor version served: 7.31 (Linux 5.4) has every structure in the size used here. */
export const fuseMinorMin = 31;

export const rootNodeId = 1;

export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const;

/** Opcode → its name, for logs and errors. */
export const opcodeNames: ReadonlyMap<number, string> = new Map(
  Object.entries(Opcode).map(([name, code]) => [code, name]),
);

/** INIT flags, first word. */
export const InitFlag = {
  ASYNC_READ: 1 << 0,
  POSIX_LOCKS: 1 << 1,
  ATOMIC_O_TRUNC: 1 << 3,
  EXPORT_SUPPORT: 1 << 4,
  BIG_WRITES: 1 << 5,
  DONT_MASK: 1 << 6,
  FLOCK_LOCKS: 1 << 10,
  AUTO_INVAL_DATA: 1 << 12,
  DO_READDIRPLUS: 1 << 13,
  READDIRPLUS_AUTO: 1 << 14,
  ASYNC_DIO: 1 << 15,
  WRITEBACK_CACHE: 1 << 16,
  PARALLEL_DIROPS: 1 << 18,
  POSIX_ACL: 1 << 20,
  ABORT_ERROR: 1 << 21,
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
  EXPLICIT_INVAL_DATA: 1 << 25,
  HANDLE_KILLPRIV_V2: 1 << 28,
  SETXATTR_EXT: 1 << 29,
  INIT_EXT: 1 << 30,
} as const;

/** INIT flags, second word (bits 32 to 63 of the whole). */
export const InitFlag2 = {
  HAS_EXPIRE_ONLY: 1 << 3,
  DIRECT_IO_ALLOW_MMAP: 1 << 4,
  HAS_RESEND: 1 << 7,
} as const;

/** SETATTR: which fields are set. */
export const SetattrValid = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  FH: 1 << 6,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  LOCKOWNER: 1 << 9,
  CTIME: 1 << 10,
  KILL_SUIDGID: 1 << 11,
} as const;

/** Flags in the reply to OPEN, OPENDIR and CREATE. */
export const OpenReplyFlag = {
  DIRECT_IO: 1 << 0,
  KEEP_CACHE: 1 << 1,
  NONSEEKABLE: 1 << 2,
  CACHE_DIR: 1 << 3,
  STREAM: 1 << 4,
  NOFLUSH: 1 << 5,
  PARALLEL_DIRECT_WRITES: 1 << 6,
} as const;

/** `open_flags` of OPEN and CREATE: the file's set-user-ID bits go (O_TRUNC by someone without CAP_FSETID). */
export const openKillSuidgid = 1;
export const getattrHasHandle = 1;
export const writeFromCache = 1;
export const writeKillSuidgid = 4;
export const releaseFlockUnlock = 2;
export const lockIsFlock = 1;
export const fsyncDataOnly = 1;
export const setxattrAclKillSgid = 1;
/** Where the command stands in `struct fuse_ioctl_in`: behind handle and flags. */
export const ioctlCommandAt = 12;
/** `struct fuse_ioctl_out`: result, flags, and counts of vectors, which are 0 here. */
export const ioctlOutBytes = 16;

/** Codes of messages from the file system to the kernel (`error` field of a reply with `unique` 0). */
export const NotifyCode = {
  POLL: 1,
  INVAL_INODE: 2,
  INVAL_ENTRY: 3,
  STORE: 4,
  RETRIEVE: 5,
  DELETE: 6,
  RESEND: 7,
} as const;

/** Bit 63 of `unique`: the request was sent before, to a reader that did not answer (since 7.40). Here in the high word. */
export const uniqueResendHigh = 0x8000_0000;

export const inHeaderBytes = 40;
export const outHeaderBytes = 16;
export const attrBytes = 88;
export const entryOutBytes = 40 + attrBytes;
export const direntHeaderBytes = 24;

/** Names longer than this are refused with ENAMETOOLONG by the kernel itself (FUSE_NAME_MAX is 1024; Linux says 255). */
export const nameBytesMax = 255;

/** A page: requests carry at most `max_pages` of them. */
export const pageBytes = 4096;

/** Linux file types and permission bits (`stat.h`). */
export const Mode = {
  TYPE: 0o170000,
  SOCKET: 0o140000,
  SYMLINK: 0o120000,
  REGULAR: 0o100000,
  BLOCK: 0o060000,
  DIRECTORY: 0o040000,
  CHARACTER: 0o020000,
  FIFO: 0o010000,
  SETUID: 0o4000,
  SETGID: 0o2000,
  STICKY: 0o1000,
  PERMISSIONS: 0o7777,
} as const;

/** Linux open flags (x86-64 and arm64 agree on those used here; O_DIRECT differs and is handled by the kernel). */
export const OpenFlag = {
  ACCMODE: 0o3,
  RDONLY: 0o0,
  WRONLY: 0o1,
  RDWR: 0o2,
  CREAT: 0o100,
  EXCL: 0o200,
  TRUNC: 0o1000,
  APPEND: 0o2000,
  DSYNC: 0o10000,
  SYNC: 0o4010000,
} as const;

export const RenameFlag = { NOREPLACE: 1, EXCHANGE: 2, WHITEOUT: 4 } as const;
export const FallocateMode = { KEEP_SIZE: 1, PUNCH_HOLE: 2, COLLAPSE_RANGE: 8, ZERO_RANGE: 16 } as const;
/** ioctl(2) commands that file systems answer, and the flags that they carry (`linux/fs.h`). */
export const Ioctl = { GETFLAGS: 0x8008_6601, SETFLAGS: 0x4008_6602, FSGETXATTR: 0x801c_581f } as const;
export const FileFlag = { IMMUTABLE: 0x10, APPEND: 0x20 } as const;
/** The same in `struct fsxattr`. */
export const ExtendedFlag = { IMMUTABLE: 0x8, APPEND: 0x10 } as const;
export const Whence = { DATA: 3, HOLE: 4 } as const;
export const LockType = { READ: 0, WRITE: 1, UNLOCK: 2 } as const;

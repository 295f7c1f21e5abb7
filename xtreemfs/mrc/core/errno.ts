/**
 * Error numbers of Linux, as they go onto the wire. Upstream's POSIXErrno list (protocol reference, section 2) has
 * no name for some of them (`ENAMETOOLONG`, `EMLINK`, `ERANGE`, `EDQUOT` …); they are sent as plain numbers all the
 * same: a varint carries any number, our client shows it to the kernel, and upstream's client treats it as
 * an unknown error.
 */
export const errno = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  ENXIO: 6,
  EAGAIN: 11,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EMLINK: 31,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOTEMPTY: 39,
  ELOOP: 40,
  ENODATA: 61,
  EOPNOTSUPP: 95,
} as const;

/** Name of an error number that this MRC sends. */
export type ErrnoName = keyof typeof errno;

/** A POSIX-level refusal of one request (ErrorType ERRNO on the wire). Not a fault of the server. */
export class PosixError extends Error {
  override readonly name = 'PosixError';
  readonly code: ErrnoName;
  readonly errno: number;

  constructor(code: ErrnoName, message: string) {
    super(message);
    this.code = code;
    this.errno = errno[code];
  }
}

/** Throws a `PosixError`; reads as a statement: `refuse('ENOENT', path)`. */
export function refuse(code: ErrnoName, message: string): never {
  throw new PosixError(code, message);
}

import { constants } from 'node:os';
import { systemErrorCode } from '#common/errors.ts';

/** Linux error numbers that node:os does not name. */
const linuxOnly = { ENODATA: 61, EREMOTEIO: 121, ENOTSUPP: 524 } as const;

/** Name of a Linux error, for example `ENOENT`. */
export type ErrnoName = keyof typeof constants.errno | keyof typeof linuxOnly;

const numbers: Readonly<Record<string, number>> = { ...constants.errno, ...linuxOnly };
/** Of two names for one number (EAGAIN and EWOULDBLOCK) the better known one, which comes first. */
const names: ReadonlyMap<number, string> = new Map(
  Object.entries(numbers)
    .reverse()
    .map(([name, number]) => [number, name]),
);

/** Number of a Linux error. */
export function errnoOf(name: ErrnoName): number {
  return numbers[name] ?? constants.errno.EIO;
}

/** Name of a Linux error number, or `errno N` for one without a name. */
export function errnoName(errno: number): string {
  return names.get(errno) ?? `errno ${errno}`;
}

/** A refusal that a caller of the file system sees as `errno`. Not a fault of the file system itself. */
export class FuseError extends Error {
  override readonly name = 'FuseError';
  readonly errno: number;
  readonly code: string;

  /** @param code - name such as `ENOENT`, or the number. */
  constructor(code: ErrnoName | number, message?: string, options?: ErrorOptions) {
    const errno = typeof code === 'number' ? code : errnoOf(code);
    super(message ?? errnoName(errno), options);
    this.errno = errno;
    this.code = errnoName(errno);
  }
}

/** Throws a {@link FuseError}; reads as a statement: `refuse('ENOENT')`. */
export function refuse(code: ErrnoName, message?: string): never {
  throw new FuseError(code, message);
}

/**
 * The number that anything thrown becomes for the kernel: that of a {@link FuseError}, of any error with a positive
 * whole `errno` or `posixErrno` (a server's answer) of its own, or of a Node.js system error; EINTR for an abort; EIO for the rest.
 */
export function errnoFrom(thrown: unknown): number {
  if (thrown instanceof FuseError) return thrown.errno;
  if (thrown instanceof Error) {
    if ('errno' in thrown && typeof thrown.errno === 'number' && Number.isInteger(thrown.errno) && thrown.errno !== 0) {
      return Math.abs(thrown.errno) < 4096 ? Math.abs(thrown.errno) : constants.errno.EIO;
    }
    if ('posixErrno' in thrown && typeof thrown.posixErrno === 'number' && thrown.posixErrno < 4096) {
      return thrown.posixErrno;
    }
    if (thrown.name === 'AbortError') return constants.errno.EINTR;
    const code = systemErrorCode(thrown);
    if (code !== undefined && code in numbers) return numbers[code] ?? constants.errno.EIO;
  }
  return constants.errno.EIO;
}

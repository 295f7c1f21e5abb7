import { ErrorType, PosixErrno, type ErrorResponse } from '#proto/generated/xtreemfs/rpc.ts';

const errnoNames = new Map<number, string>(Object.entries(PosixErrno).map(([name, value]) => [value, name]));
const typeNames = new Map<number, string>(Object.entries(ErrorType).map(([name, value]) => [value, name]));

/** What an {@link RpcError} carries beside its message. */
export interface RpcErrorDetails {
  readonly errorType: ErrorType;
  readonly posixErrno?: PosixErrno | undefined;
  /** For REDIRECT: UUID of the server to ask, or its `host:port` (mkvol and rmvol). */
  readonly redirectTo?: string | undefined;
  readonly cause?: unknown;
}

/**
 * A call that failed, at the server or on the way: a server throws it to answer with exactly this error, a client gets
 * it from a call. IO_ERROR is never sent; it is made where a connection fails (protocol reference, 2.3).
 */
export class RpcError extends Error {
  override readonly name = 'RpcError';
  readonly errorType: ErrorType;
  readonly posixErrno: PosixErrno;
  readonly redirectTo: string | undefined;

  constructor(message: string, details: RpcErrorDetails) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.errorType = details.errorType;
    this.posixErrno = details.posixErrno ?? PosixErrno.NONE;
    this.redirectTo = details.redirectTo;
  }

  /** Name of the errno, for example `ENOENT`; that of the error type when there is no errno. */
  get code(): string {
    if (this.posixErrno !== PosixErrno.NONE) return errnoNames.get(this.posixErrno) ?? `E${this.posixErrno}`;
    return typeNames.get(this.errorType) ?? `type ${this.errorType}`;
  }
}

/** A POSIX-level failure: `errnoError(PosixErrno.ENOENT, '/a/b does not exist')`. */
export function errnoError(posixErrno: PosixErrno, message: string, cause?: unknown): RpcError {
  return new RpcError(message, { errorType: ErrorType.ERRNO, posixErrno, cause });
}

/** Sends the caller to another server. @param target - UUID of a service; `host:port` for mkvol and rmvol. */
export function redirectError(target: string): RpcError {
  return new RpcError(`Ask ${target}`, { errorType: ErrorType.REDIRECT, redirectTo: target });
}

/** The caller's replica list (XLocSet) is out of date, or the replica is invalidated. */
export function invalidViewError(message: string): RpcError {
  return new RpcError(message, { errorType: ErrorType.INVALID_VIEW });
}

/** The write goes beyond what the quota voucher allows. */
export function insufficientVoucherError(message: string): RpcError {
  return new RpcError(message, { errorType: ErrorType.INSUFFICIENT_VOUCHER });
}

/** A failure of the connection: the call may or may not have been carried out. */
export function ioError(message: string, cause?: unknown): RpcError {
  return new RpcError(message, { errorType: ErrorType.IO_ERROR, posixErrno: PosixErrno.EIO, cause });
}

/** Whether `thrown` is an {@link RpcError} with this errno. */
export function isErrno(thrown: unknown, posixErrno: PosixErrno): thrown is RpcError {
  return thrown instanceof RpcError && thrown.posixErrno === posixErrno && thrown.errorType === ErrorType.ERRNO;
}

/** The error that an error response carries. */
export function fromErrorResponse(response: ErrorResponse): RpcError {
  const { errorType, posixErrno, errorMessage, redirectToServerUuid } = response;
  return new RpcError(errorMessage ?? typeNames.get(errorType) ?? 'The server failed', {
    errorType,
    posixErrno,
    redirectTo: redirectToServerUuid,
  });
}

const messageLengthMax = 2048;

/** The error response that tells a caller of `error`. Debug information stays in the server's log. */
export function toErrorResponse(error: RpcError): ErrorResponse {
  return {
    errorType: error.errorType,
    posixErrno: error.posixErrno,
    errorMessage: error.message.slice(0, messageLengthMax),
    redirectToServerUuid: error.redirectTo,
  };
}

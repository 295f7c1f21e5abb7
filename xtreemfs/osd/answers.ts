import { InvalidInputError } from '#common/errors.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { errnoError, RpcError } from '#xtreemfs/rpc/errors.ts';
import type { Handler, Reply } from '#xtreemfs/rpc/server.ts';
import { CorruptionError, DiskFailure } from './store/disk.ts';

/** A failure of ours as the caller gets to see it; anything unforeseen passes unchanged and is logged by the server. */
export function toRpcError(error: unknown): unknown {
  if (error instanceof RpcError) return error;
  if (error instanceof DiskFailure) {
    const errno = error.code === 'ENOSPC' ? PosixErrno.ENOSPC : PosixErrno.EIO;
    return errnoError(errno, error.message, error);
  }
  if (error instanceof CorruptionError) return errnoError(PosixErrno.EIO, error.message, error);
  if (error instanceof InvalidInputError) return errnoError(PosixErrno.EINVAL, error.message, error);
  return error;
}

/** Wraps a handler so that failures of the store reach the caller with their errno. */
export function answering<Request, Response>(handler: Handler<Request, Response>): Handler<Request, Response> {
  return async (context, request, data): Promise<Reply<Response>> => {
    try {
      return await handler(context, request, data);
    } catch (error) {
      throw toRpcError(error);
    }
  };
}

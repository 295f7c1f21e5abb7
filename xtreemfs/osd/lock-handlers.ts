import { osdProcedures, type Lock, type LockRequest } from '#proto/generated/xtreemfs/osd.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { errnoError } from '#xtreemfs/rpc/errors.ts';
import type { RequestContext, RpcServer } from '#xtreemfs/rpc/server.ts';
import type { AccessControl } from './access.ts';
import { answering } from './answers.ts';
import type { AdvisoryLock, FileLocks } from './locks.ts';
import type { OpenFiles } from './open-files.ts';

/** How long a silent client keeps its locks after its capability ran out, if somebody else wants them. */
export const lockGraceMs = 15 * 60_000;

/** What the lock procedures need. */
export interface LockHandlersOptions {
  readonly access: AccessControl;
  readonly openFiles: OpenFiles;
  readonly globalTimeMs: () => number;
}

/** Registers acquire, check and release (protocol reference, 13.7). Clients repeat an acquire to wait for a lock. */
export function registerLockHandlers(server: RpcServer, options: LockHandlersOptions): void {
  const { globalTimeMs } = options;
  server.handle(
    osdProcedures.lockAcquire,
    answering(async (context, request) => {
      const { locks, lock, staleAtMs } = await admit(options, context, request);
      const conflict = acquire(locks, lock, globalTimeMs(), staleAtMs);
      if (conflict === undefined) return { response: request.lockRequest };
      throw errnoError(PosixErrno.EAGAIN, `Process ${conflict.pid} of client ${conflict.clientUuid} holds the range`);
    }),
  );
  server.handle(
    osdProcedures.lockCheck,
    answering(async (context, request) => {
      const { locks, lock } = await admit(options, context, request);
      const conflict = locks.check(lock, globalTimeMs());
      return { response: conflict === undefined ? request.lockRequest : toWire(conflict) };
    }),
  );
  server.handle(
    osdProcedures.lockRelease,
    answering(async (context, request) => {
      const { locks, lock } = await admit(options, context, request);
      locks.release(lock);
      return { response: {} };
    }),
  );
}

async function admit(
  options: LockHandlersOptions,
  context: RequestContext,
  request: LockRequest,
): Promise<{ locks: FileLocks; lock: AdvisoryLock; staleAtMs: number }> {
  const { xcap } = request.fileCredentials;
  const file = await options.access.admit(context, request.fileCredentials, xcap.fileId, 'other');
  const lock = fromWire(request.lockRequest);
  const { locks } = options.openFiles.touch(file.fileId);
  const staleAtMs = Math.max(xcap.expireTimeS * 1000, options.globalTimeMs()) + lockGraceMs;
  locks.refresh(lock.clientUuid, staleAtMs);
  return { locks, lock, staleAtMs };
}

function acquire(locks: FileLocks, lock: AdvisoryLock, nowMs: number, staleAtMs: number): AdvisoryLock | undefined {
  try {
    return locks.acquire(lock, nowMs, staleAtMs);
  } catch (error) {
    throw errnoError(PosixErrno.EAGAIN, error instanceof Error ? error.message : 'too many locks', error);
  }
}

function fromWire(lock: Lock): AdvisoryLock {
  if (lock.offset < 0n || lock.length < 0n) {
    throw errnoError(PosixErrno.EINVAL, `lock_request: offset ${lock.offset}, length ${lock.length} is negative`);
  }
  const { clientPid: pid, clientUuid, offset, length, exclusive: isExclusive } = lock;
  return { pid, clientUuid, offset, length, isExclusive };
}

function toWire(lock: AdvisoryLock): Lock {
  const { pid: clientPid, clientUuid, offset, length, isExclusive: exclusive } = lock;
  return { clientPid, clientUuid, offset, length, exclusive };
}

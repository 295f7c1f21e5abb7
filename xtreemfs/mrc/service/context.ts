import { timingSafeEqual, createHash } from 'node:crypto';
import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import type { Procedure } from '#proto/wire.ts';
import type { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { errnoError } from '../../rpc/errors.ts';
import type { Reply, RequestContext, RpcServer } from '../../rpc/server.ts';
import type { Caller } from '../core/access.ts';
import { PosixError, refuse } from '../core/errno.ts';
import type { Operation } from '../core/operation.ts';
import type { Engine } from '../engine.ts';
import type { Identities } from '../identity.ts';
import type { Coordinator } from '../replication/coordinator.ts';
import type { Drains } from '../replication/drain.ts';
import type { Directory } from './directory.ts';
import type { Maintenance } from '../maintenance/maintenance.ts';

/** Everything that the handlers of one MRC share. */
export interface Mrc {
  readonly engine: Engine;
  readonly identities: Identities;
  readonly directory: Directory;
  readonly coordinator: Coordinator;
  readonly drains: Drains;
  readonly maintenance: Maintenance;
  readonly clock: Clock;
  readonly logger: Logger;
  /** UUID of this MRC. */
  readonly uuid: string;
  /** UUIDs of other processes that take over when this one dies. */
  readonly others: () => readonly string[];
  /** Asked for by administrative calls; undefined: see `demandAdmin`. */
  readonly adminPassword: string | undefined;
  /** Ends the process in an orderly way (procedure 45). */
  readonly requestShutdown: () => void;
}

/** One call: who makes it, and a way to run an operation for them. */
export interface Call {
  readonly mrc: Mrc;
  readonly context: RequestContext;
  /** Runs an operation as the caller, who must have given user and groups. */
  readonly run: <T>(body: (op: Operation) => T) => T | Promise<T>;
  /** Runs an operation that a capability (or nothing) authorises. */
  readonly runByCapability: <T>(body: (op: Operation) => T) => T | Promise<T>;
}

/** Registers a procedure. Refusals of the operations become ERRNO answers here, and only here. */
export function handle<Request, Response>(
  server: RpcServer,
  mrc: Mrc,
  procedure: Procedure<Request, Response>,
  body: (call: Call, request: Request) => NoInfer<Response> | Promise<NoInfer<Response>>,
): void {
  const { engine, identities } = mrc;
  server.handle(procedure, (context, request) => {
    const callerOf = (needsNames: boolean): Caller => identities.identify(context.userCreds, context.peer, needsNames);
    const call: Call = {
      mrc,
      context,
      run: (operation) => engine.run(callerOf(true), operation),
      runByCapability: (operation) => engine.run(callerOf(false), operation),
    };
    try {
      const response = body(call, request);
      if (!(response instanceof Promise)) return { response };
      return response.then(
        (value): Reply<Response> => ({ response: value }),
        (error: unknown) => {
          throw translate(error);
        },
      );
    } catch (error) {
      throw translate(error);
    }
  });
}

function translate(error: unknown): unknown {
  if (!(error instanceof PosixError)) return error;
  // A number that upstream's list lacks goes out as it is (core/errno.ts).
  return errnoError(error.errno as PosixErrno, error.message, error);
}

/** Whether the request carries the admin password (only when one is configured). */
export function hasAdminPassword({ mrc, context }: Call): boolean {
  const given = context.auth.authPasswd?.password;
  if (mrc.adminPassword === undefined || given === undefined) return false;
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(mrc.adminPassword), digest(given));
}

/** @throws {PosixError} EPERM when a password is configured and the request lacks it. */
export function demandPassword(call: Call): void {
  if (call.mrc.adminPassword !== undefined && !hasAdminPassword(call)) {
    refuse('EPERM', 'auth_data: the admin password is wrong or missing (--admin_password)');
  }
}

/**
 * For calls that can harm the whole server (dump, restore, shutdown …): the admin password; where none is configured, a
 * superuser, a service of the installation, or a client on this machine. Upstream lets everyone in then.
 * @throws {PosixError} EPERM otherwise.
 */
export function demandAdmin(call: Call): void {
  const { mrc, context } = call;
  if (mrc.adminPassword !== undefined) {
    demandPassword(call);
    return;
  }
  const { peer } = context;
  const isLocal = peer.address === '::1' || peer.address.startsWith('127.');
  if (isLocal || mrc.identities.isService(peer)) return;
  if (mrc.identities.identify(context.userCreds, peer, true).isSuper) return;
  refuse('EPERM', 'No admin password is configured: make this call from the machine of the MRC');
}

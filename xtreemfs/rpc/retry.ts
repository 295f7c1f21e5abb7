import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import { ErrorType } from '#proto/generated/xtreemfs/rpc.ts';
import type { Procedure } from '#proto/wire.ts';
import { parseAddress, type Address } from './address.ts';
import type { CallOptions, RpcClient } from './client.ts';
import type { CallResult } from './client-connection.ts';
import { ioError, RpcError } from './errors.ts';

/** Finds the address of a service by its UUID. */
export interface AddressResolver {
  /** @throws {RpcError} IO_ERROR when no DIR answers, or the service has no address. */
  resolve(uuid: string, signal?: AbortSignal): Promise<Address>;
  /** Forgets a cached address, since nobody answers there. */
  forget(uuid: string): void;
}

/** How often and how fast a call is repeated (protocol reference, 17.3). */
export interface RetryPolicy {
  /** Attempts in all; 0 means no end. Upstream's default is 40, and 1 for mkfs, lsfs and rmfs. */
  readonly triesMax: number;
  /** Pause after every server was tried once, milliseconds. Upstream's default is 15,000. */
  readonly retryDelayMs: number;
}

/** Redirects in a row that are followed at once and not counted as attempts. */
const freeRedirectsMax = 5;

/**
 * The servers that may answer a call: UUIDs of services or `host:port` texts, the preferred one first. It remembers
 * which one answered last, so keep it for all calls to the same group (replicas of a file, MRCs of a volume).
 */
export class ServerList {
  private uuids: readonly string[];
  private current = 0;

  constructor(uuids: readonly string[]) {
    this.uuids = uuids;
  }

  /** Servers, in their order. */
  get all(): readonly string[] {
    return this.uuids;
  }

  /** The server to ask first. @throws {RpcError} IO_ERROR when the list is empty. */
  get preferred(): string {
    const uuid = this.uuids[this.current];
    if (uuid === undefined) throw ioError('There is no server to ask');
    return uuid;
  }

  /** Takes a new list; the preferred server stays if it is in it. */
  replace(uuids: readonly string[]): void {
    const preferred = this.uuids[this.current];
    this.uuids = uuids;
    this.current = preferred === undefined ? 0 : Math.max(0, uuids.indexOf(preferred));
  }

  /** Makes the server that a redirect named the preferred one; adds it when it is new. */
  prefer(uuid: string): void {
    if (!this.uuids.includes(uuid)) this.uuids = [...this.uuids, uuid];
    this.current = this.uuids.indexOf(uuid);
  }

  /** Turns from a server that failed to the next one, unless another call has done so already. */
  advanceFrom(uuid: string): void {
    if (this.uuids[this.current] === uuid) this.current = (this.current + 1) % Math.max(1, this.uuids.length);
  }
}

/** Whether another attempt, perhaps at another server, may succeed. */
export function isRetryable(error: unknown): boolean {
  return (
    error instanceof RpcError &&
    (error.errorType === ErrorType.IO_ERROR || error.errorType === ErrorType.INTERNAL_SERVER_ERROR)
  );
}

/**
 * Calls one of several servers. After IO_ERROR or INTERNAL_SERVER_ERROR the next one is asked, with a pause after each
 * round; a redirect is followed. Any other error is the answer. A call that failed with IO_ERROR may have been carried
 * out, so the procedure must bear repetition or the caller must look at what it finds.
 * @throws {RpcError} the last failure when the attempts are used up.
 */
export async function callWithRetries<Request, Response>(
  deps: { readonly client: RpcClient; readonly resolver: AddressResolver; readonly clock: Clock },
  servers: ServerList,
  procedure: Procedure<Request, Response>,
  request: Request,
  policy: RetryPolicy,
  options: CallOptions = {},
): Promise<CallResult<Response>> {
  let redirects = 0;
  for (let tries = 1; ;) {
    const uuid = servers.preferred;
    try {
      const address = await resolveServer(deps.resolver, uuid, options.signal);
      return await deps.client.call(address, procedure, request, options);
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      const isLast = policy.triesMax > 0 && tries >= policy.triesMax;
      if (error.errorType === ErrorType.REDIRECT && error.redirectTo !== undefined && error.redirectTo !== '') {
        servers.prefer(error.redirectTo);
        if (++redirects <= freeRedirectsMax) continue;
        redirects = 0;
        if (isLast) throw tooManyRedirects(procedure.name, error);
      } else {
        if (!isRetryable(error) || isLast) throw error;
        redirects = 0;
        servers.advanceFrom(uuid);
        deps.resolver.forget(uuid);
        if (tries++ % Math.max(1, servers.all.length) !== 0) continue;
        await deps.clock.sleep(policy.retryDelayMs, options.signal);
        continue;
      }
      tries++;
      await deps.clock.sleep(policy.retryDelayMs, options.signal);
    }
  }
}

function tooManyRedirects(name: string, error: RpcError): RpcError {
  return ioError(`${name}: servers redirect to each other (${describeError(error)})`, error);
}

/** `host:port` is taken as it is; anything else is the UUID of a service. */
async function resolveServer(resolver: AddressResolver, uuid: string, signal?: AbortSignal): Promise<Address> {
  return /:\d{1,5}$/.test(uuid) ? parseAddress('server', uuid) : resolver.resolve(uuid, signal);
}

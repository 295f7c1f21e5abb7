import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { AuthType, type Auth, type UserCredentials } from '#proto/generated/xtreemfs/rpc.ts';
import type { Procedure } from '#proto/wire.ts';
import { formatAddress, type Address } from './address.ts';
import { ClientConnection, type CallResult } from './client-connection.ts';
import { ioError } from './errors.ts';
import { encodeCredentials, type FrameData } from './frame.ts';
import type { Dialer } from './transport.ts';

/** What a client needs and what bounds it. Times in milliseconds. */
export interface RpcClientOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Makes connections: plain, TLS or grid SSL. See {@link createDialer}. */
  readonly dialer: Dialer;
  /** Who calls, when the call does not say. Default: user `xtreemfs` without groups, as upstream's client at OSDs. */
  readonly userCreds?: UserCredentials;
  /** Default 15,000. */
  readonly connectTimeoutMs?: number;
  /** Default 15,000. */
  readonly requestTimeoutMs?: number;
  /** How long an unused connection is kept. Default 600,000. */
  readonly lingerMs?: number;
  /** Calls outstanding on one connection. Default 4,096. */
  readonly outstandingMax?: number;
  /** After a failed attempt an address is not tried again for this long; doubled each time. Default 50. */
  readonly reconnectDelayMs?: number;
  /** Default 2,000. */
  readonly reconnectDelayMaxMs?: number;
}

/** One call's own settings. */
export interface CallOptions {
  /** Raw bytes after the message; must not be changed before the call ends. */
  readonly data?: FrameData | undefined;
  readonly userCreds?: UserCredentials | undefined;
  /** Default AUTH_NONE. */
  readonly auth?: Auth | undefined;
  readonly timeoutMs?: number | undefined;
  /** Gives the call up; the server may carry it out all the same. */
  readonly signal?: AbortSignal | undefined;
}

interface Endpoint {
  connection: ClientConnection | undefined;
  dialing: Promise<ClientConnection> | undefined;
  failures: number;
  notBefore: number;
  lastProblem: string;
}

/** No authentication beyond that of the connection. */
export const noAuth: Auth = { authType: AuthType.NONE };

const defaultUser: UserCredentials = { username: 'xtreemfs', groups: [] };

/**
 * Calls procedures of servers by their address: one connection each, made when first needed and again after a loss.
 * One call is one attempt; {@link callWithRetries} adds retries, redirects and several servers.
 */
export class RpcClient {
  private readonly options: Required<RpcClientOptions>;
  private readonly endpoints = new Map<string, Endpoint>();
  private readonly encoded = new WeakMap<UserCredentials, Buffer>();
  private isClosed = false;

  constructor(options: RpcClientOptions) {
    this.options = {
      userCreds: defaultUser,
      connectTimeoutMs: 15_000,
      requestTimeoutMs: 15_000,
      lingerMs: 600_000,
      outstandingMax: 4_096,
      reconnectDelayMs: 50,
      reconnectDelayMaxMs: 2_000,
      ...options,
    };
  }

  /**
   * One attempt at one server.
   * @throws {RpcError} what the server answered, or IO_ERROR when there was no answer: then the call may or may not
   * have been carried out. @throws {CodecError} when the message does not fit its fields.
   */
  call<Request, Response>(
    address: Address,
    procedure: Procedure<Request, Response>,
    request: Request,
    options: CallOptions = {},
  ): Promise<CallResult<Response>> {
    const { userCreds, requestTimeoutMs } = this.options;
    const credentials = this.encode(options.userCreds ?? userCreds, options.auth);
    const timeoutMs = options.timeoutMs ?? requestTimeoutMs;
    const connection = this.endpoint(address).connection;
    if (connection !== undefined) {
      return connection.call(procedure, request, credentials, options.data, timeoutMs, options.signal);
    }
    return this.connect(address, procedure.name, options.signal).then((fresh) =>
      fresh.call(procedure, request, credentials, options.data, timeoutMs, options.signal),
    );
  }

  /** Closes every connection; calls that are outstanding fail with IO_ERROR. */
  close(): void {
    this.isClosed = true;
    for (const endpoint of this.endpoints.values()) endpoint.connection?.close(new Error('the client was closed'));
  }

  private encode(userCreds: UserCredentials, auth: Auth | undefined): Buffer {
    if (auth !== undefined && auth !== noAuth) return encodeCredentials(userCreds, auth);
    let bytes = this.encoded.get(userCreds);
    if (bytes === undefined) {
      bytes = encodeCredentials(userCreds, noAuth);
      this.encoded.set(userCreds, bytes);
    }
    return bytes;
  }

  private endpoint(address: Address): Endpoint {
    const key = formatAddress(address);
    let endpoint = this.endpoints.get(key);
    if (endpoint === undefined) {
      endpoint = { connection: undefined, dialing: undefined, failures: 0, notBefore: 0, lastProblem: '' };
      this.endpoints.set(key, endpoint);
    }
    return endpoint;
  }

  private async connect(address: Address, name: string, signal: AbortSignal | undefined): Promise<ClientConnection> {
    signal?.throwIfAborted();
    const endpoint = this.endpoint(address);
    if (this.isClosed) throw ioError(`${name} at ${formatAddress(address)}: the client was closed`);
    if (endpoint.dialing === undefined) {
      if (this.options.clock.monotonic() < endpoint.notBefore) {
        throw ioError(`${name} at ${formatAddress(address)}: not reachable a moment ago (${endpoint.lastProblem})`);
      }
      endpoint.dialing = this.dial(address, endpoint).finally(() => (endpoint.dialing = undefined));
    }
    return untilAborted(endpoint.dialing, signal);
  }

  private async dial(address: Address, endpoint: Endpoint): Promise<ClientConnection> {
    const { clock, dialer, connectTimeoutMs, reconnectDelayMs, reconnectDelayMaxMs, logger } = this.options;
    const abort = new AbortController();
    const timer = clock.after(connectTimeoutMs, () =>
      abort.abort(new Error(`no connection within ${connectTimeoutMs} ms`)),
    );
    try {
      const dialed = await dialer.dial(address, abort.signal);
      const connection = new ClientConnection(address, dialed, this.options, (cause) => {
        if (endpoint.connection === connection) endpoint.connection = undefined;
        logger.debug('Connection closed', { server: formatAddress(address), reason: cause.message });
      });
      endpoint.failures = 0;
      endpoint.notBefore = 0;
      endpoint.connection = connection;
      if (this.isClosed) connection.close(new Error('the client was closed'));
      return connection;
    } catch (error) {
      const delayMs = Math.min(reconnectDelayMaxMs, reconnectDelayMs * 2 ** Math.min(endpoint.failures, 20));
      endpoint.failures++;
      endpoint.notBefore = clock.monotonic() + delayMs;
      endpoint.lastProblem = describeError(error);
      throw ioError(`Cannot connect to ${formatAddress(address)}: ${endpoint.lastProblem}`, error);
    } finally {
      timer.cancel();
    }
  }
}

/** The promise's result, or the signal's reason when it aborts first. */
async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise<T>((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

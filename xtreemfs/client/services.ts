import type { Clock } from '#common/clock.ts';
import { TerminalError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { dirProcedures } from '#proto/generated/xtreemfs/dir.ts';
import type { Auth, UserCredentials } from '#proto/generated/xtreemfs/rpc.ts';
import type { Procedure } from '#proto/wire.ts';
import { formatAddress, type Address, type Scheme } from '../rpc/address.ts';
import { RpcClient } from '../rpc/client.ts';
import type { CallResult } from '../rpc/client-connection.ts';
import type { FrameData } from '../rpc/frame.ts';
import { UuidResolver } from '../rpc/resolver.ts';
import { callWithRetries, isRetryable, ServerList, type RetryPolicy } from '../rpc/retry.ts';
import { createDialer, type Dialer } from '../rpc/transport.ts';
import type { TlsMaterial } from '../rpc/tls.ts';

/** What a client of an installation needs, and what bounds it. */
export interface ServicesOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** The DIRs; any of them answers. */
  readonly dirs: readonly Address[];
  readonly scheme?: Scheme;
  /** Needed for `pbrpcs` and `pbrpcg`. */
  readonly tls?: TlsMaterial;
  /** How servers are reached; by default directly. */
  readonly dialer?: Dialer;
  /** Tries per call; 0: until it works. Default 40, as upstream. */
  readonly triesMax?: number;
  /** Pause between rounds of tries, milliseconds. Default 1,000 (upstream: 15,000). */
  readonly retryDelayMs?: number;
  readonly connectTimeoutMs?: number;
  readonly requestTimeoutMs?: number;
  readonly lingerMs?: number;
}

/** Settings of one call. */
export interface ServiceCall {
  readonly user?: UserCredentials | undefined;
  readonly auth?: Auth | undefined;
  readonly data?: FrameData | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly retry?: RetryPolicy | undefined;
}

/** Calls services of one installation, found through its DIRs. */
export class Services {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly scheme: Scheme;
  /** The DIRs, as `host:port`. */
  readonly dirs: ServerList;
  readonly client: RpcClient;
  readonly resolver: UuidResolver;
  /** How often calls are repeated unless they say otherwise. */
  readonly retry: RetryPolicy;

  constructor(options: ServicesOptions) {
    this.clock = options.clock;
    this.logger = options.logger;
    this.scheme = options.scheme ?? 'pbrpc';
    this.dirs = new ServerList(options.dirs.map(formatAddress));
    this.retry = { triesMax: options.triesMax ?? 40, retryDelayMs: options.retryDelayMs ?? 1000 };
    this.client = new RpcClient({
      clock: options.clock,
      logger: options.logger,
      dialer: options.dialer ?? createDialer(this.scheme, options.tls),
      ...(options.connectTimeoutMs === undefined ? {} : { connectTimeoutMs: options.connectTimeoutMs }),
      ...(options.requestTimeoutMs === undefined ? {} : { requestTimeoutMs: options.requestTimeoutMs }),
      ...(options.lingerMs === undefined ? {} : { lingerMs: options.lingerMs }),
    });
    this.resolver = new UuidResolver({
      clock: options.clock,
      client: this.client,
      dirs: this.dirs,
      scheme: this.scheme,
    });
  }

  /**
   * Calls one of `servers` until one answers.
   * @throws {RpcError} the answer, when it is an error, or the last failure.
   */
  async call<Request, Response>(
    servers: ServerList,
    procedure: Procedure<Request, Response>,
    request: Request,
    options: ServiceCall = {},
  ): Promise<CallResult<Response>> {
    return await callWithRetries(this, servers, procedure, request, options.retry ?? this.retry, {
      userCreds: options.user,
      auth: options.auth,
      data: options.data,
      signal: options.signal,
    });
  }

  /**
   * As `call`, for changes that must not be done twice: says whether the call was repeated after a failure of the
   * connection, when the server may have carried it out before. The caller judges the answer then.
   */
  async callOnce<Request, Response>(
    servers: ServerList,
    procedure: Procedure<Request, Response>,
    request: Request,
    options: ServiceCall,
    accept: (error: unknown) => Promise<Response> | Response,
  ): Promise<Response> {
    try {
      const { response } = await this.call(servers, procedure, request, { ...options, retry: oneTry });
      return response;
    } catch (error) {
      if (!isRetryable(error) || (options.retry ?? this.retry).triesMax === 1) throw error;
    }
    try {
      const { response } = await this.call(servers, procedure, request, options);
      return response;
    } catch (error) {
      return await accept(error);
    }
  }

  /**
   * The MRCs of a volume.
   * @param name - of the volume; what follows an `@` (a snapshot) doesn't count.
   * @throws {TerminalError} when the DIR knows no such volume.
   */
  async findVolume(name: string, signal?: AbortSignal): Promise<ServerList> {
    const { response } = await this.call(
      this.dirs,
      dirProcedures.serviceGetByName,
      { name: name.split('@')[0] ?? name },
      { signal },
    );
    const mrcs = response.services
      .flatMap((service) => service.data.data)
      .filter((pair) => /^mrc\d*$/.test(pair.key))
      .map((pair) => pair.value);
    if (mrcs.length === 0) {
      throw new TerminalError(
        `volume ${name} is not known at ${this.dirs.all.join(', ')}: list volumes with lsfs.xtreemfs, make one with mkfs.xtreemfs`,
      );
    }
    return new ServerList(mrcs);
  }

  close(): void {
    this.client.close();
  }
}

const oneTry: RetryPolicy = { triesMax: 1, retryDelayMs: 0 };

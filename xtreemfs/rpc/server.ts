import type { Socket } from 'node:net';
import type { Clock, Timer } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { ErrorType, PosixErrno, type Auth, type UserCredentials } from '#proto/generated/xtreemfs/rpc.ts';
import type { Codec, Procedure } from '#proto/wire.ts';
import type { FrameData, FrameLimits } from './frame.ts';
import { defaultFrameLimits } from './frame.ts';
import type { PeerIdentity } from './peer.ts';
import { ServerConnection } from './server-connection.ts';
import { CallStatistics } from './statistics.ts';

/** What a handler knows of the call beside its message. Valid for many calls: do not change it. */
export interface RequestContext {
  /** What the caller says of itself. Not proved: see `peer.certificate` for what is. */
  readonly userCreds: UserCredentials;
  readonly auth: Auth;
  readonly peer: PeerIdentity;
  /** Aborts when the connection is lost or the server stops: nobody waits for the answer any more. */
  readonly signal: AbortSignal;
}

/** What a handler answers. */
export interface Reply<Response> {
  readonly response: Response;
  /** Raw bytes after the message; buffers must not be changed afterwards. */
  readonly data?: FrameData | undefined;
  /** Called when `data` has been sent, or will never be: its buffers may be used again. */
  readonly sent?: (() => void) | undefined;
  /** The request's data is not needed any more once this answer is there: its buffer may be used again. */
  readonly isRequestDone?: boolean;
}

/**
 * Carries out one procedure. `data` is a view of what was received and may be kept.
 * A thrown {@link RpcError} is sent as it is; anything else becomes INTERNAL_SERVER_ERROR and is logged.
 */
export type Handler<Request, Response> = (
  context: RequestContext,
  request: Request,
  data: Buffer,
) => Reply<Response> | Promise<Reply<Response>>;

/** A procedure and what carries it out. */
export interface Registration {
  readonly name: string;
  readonly request: Codec<unknown>;
  readonly response: Codec<unknown>;
  readonly handler: Handler<unknown, unknown>;
  readonly statistics: CallStatistics;
}

/** Everything that a server needs and what bounds it. */
export interface RpcServerOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly limits?: Partial<FrameLimits>;
  /** Unanswered requests per connection above which reading stops; it goes on below half of it. Default 100. */
  readonly clientQueueMax?: number;
  /** Default 10,000. */
  readonly connectionsMax?: number;
  /** Default 1,024. */
  readonly connectionsPerPeerMax?: number;
  /** Response bytes that wait for a slow reader before its requests are no longer read. Default 16 MiB. */
  readonly unsentBytesMax?: number;
  /** How long one frame may take to arrive. Default 60,000 ms. */
  readonly frameTimeoutMs?: number;
  /** How long a connection may be silent. Default 900,000 ms (upstream's clients close after 600 s). */
  readonly idleTimeoutMs?: number;
  /** errno of the answer to an unknown procedure: EIO at the DIR, EINVAL at OSDs, NONE at MRCs. */
  readonly unknownProcedureErrno?: PosixErrno;
}

/** The same with every value set. */
export type RpcServerSettings = Required<Omit<RpcServerOptions, 'limits'>> & { readonly limits: FrameLimits };

const sweepMs = 5_000;

/**
 * Serves procedures to connections handed to `accept`. It knows nothing of ports and TLS: see {@link listen}.
 */
export class RpcServer {
  readonly settings: RpcServerSettings;
  private readonly interfaces = new Map<number, Map<number, Registration>>();
  private readonly connections = new Set<ServerConnection>();
  private readonly perPeer = new Map<string, number>();
  private sweeper: Timer | undefined;
  private isStopping = false;

  constructor(options: RpcServerOptions) {
    this.settings = {
      clientQueueMax: 100,
      connectionsMax: 10_000,
      connectionsPerPeerMax: 1_024,
      unsentBytesMax: 16 * 1024 * 1024,
      frameTimeoutMs: 60_000,
      idleTimeoutMs: 900_000,
      unknownProcedureErrno: PosixErrno.EIO,
      ...options,
      limits: { ...defaultFrameLimits, ...options.limits },
    };
  }

  /** Connections that stand. */
  get connectionCount(): number {
    return this.connections.size;
  }

  /** What was called how often and how long it took, by procedure name. */
  get statistics(): ReadonlyMap<string, CallStatistics> {
    const entries = [...this.interfaces.values()].flatMap((procedures) => [...procedures.values()]);
    return new Map(entries.map(({ name, statistics }) => [name, statistics]));
  }

  /** Registers what carries out a procedure. A later registration replaces an earlier one. */
  handle<Request, Response>(
    procedure: Procedure<Request, Response>,
    handler: Handler<Request, NoInfer<Response>>,
  ): void {
    const { interfaceId, procId, name, request, response } = procedure;
    const procedures = this.interfaces.get(interfaceId) ?? new Map<number, Registration>();
    this.interfaces.set(interfaceId, procedures);
    const statistics = new CallStatistics();
    procedures.set(procId, { name, request, response, handler: handler as Handler<unknown, unknown>, statistics });
  }

  /** The procedure, or why there is none. */
  find(interfaceId: number, procId: number): Registration | ErrorType {
    const procedures = this.interfaces.get(interfaceId);
    if (procedures === undefined) return ErrorType.INVALID_INTERFACE_ID;
    return procedures.get(procId) ?? ErrorType.INVALID_PROC_ID;
  }

  /**
   * Serves a connection whose handshake, if any, is done.
   * @param early - bytes that were read from it already.
   */
  accept(socket: Socket, peer: PeerIdentity, early?: Buffer): void {
    const { logger, connectionsMax, connectionsPerPeerMax } = this.settings;
    const ofPeer = this.perPeer.get(peer.address) ?? 0;
    if (this.isStopping || this.connections.size >= connectionsMax || ofPeer >= connectionsPerPeerMax) {
      logger.warn('Refused a connection', { peer: peer.address, connections: this.connections.size, ofPeer });
      socket.destroy();
      return;
    }
    this.perPeer.set(peer.address, ofPeer + 1);
    const connection = new ServerConnection(this, socket, peer, () => this.forget(connection, peer));
    this.connections.add(connection);
    this.sweepLater();
    connection.start(early);
  }

  /**
   * Takes no new connection or request, lets running ones end within `graceMs`, then closes every connection.
   */
  async stop(graceMs = 5_000): Promise<void> {
    this.isStopping = true;
    this.sweeper?.cancel();
    for (const connection of this.connections) connection.drain();
    const { clock } = this.settings;
    const end = clock.monotonic() + graceMs;
    while (this.connections.size > 0 && clock.monotonic() < end) await clock.sleep(10);
    for (const connection of this.connections) connection.close(new Error('The server stops'));
  }

  /** Logs a failure that is no RpcError: a bug, or something outside that no handler foresaw. */
  logFailure(name: string, peer: PeerIdentity, error: unknown): void {
    this.settings.logger.error('Call failed', {
      procedure: name,
      peer: peer.address,
      problem: describeError(error),
      err: error,
    });
  }

  private forget(connection: ServerConnection, peer: PeerIdentity): void {
    this.connections.delete(connection);
    const left = (this.perPeer.get(peer.address) ?? 1) - 1;
    if (left > 0) this.perPeer.set(peer.address, left);
    else this.perPeer.delete(peer.address);
  }

  private sweepLater(): void {
    if (this.sweeper !== undefined || this.isStopping) return;
    this.sweeper = this.settings.clock.after(
      sweepMs,
      () => {
        this.sweeper = undefined;
        const now = this.settings.clock.monotonic();
        for (const connection of this.connections) connection.checkTime(now);
        if (this.connections.size > 0) this.sweepLater();
      },
      { unref: true },
    );
  }
}

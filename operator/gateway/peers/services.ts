import type { TLSSocket } from 'node:tls';
import {
  type ConnectionInjector,
  type sendUnaryData,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { AuditLog } from '#common/audit.ts';
import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { PeerBudget, peerLimits } from './budget.ts';
import { peerMessageBytesMax, type PeerMethod, type PeerServices } from './contract.ts';
import type { Peer, PeerDirectory } from './directory.ts';
import { problemOfCertificate, trustDomainIn } from './peer-identity.ts';
import { pump } from './pump.ts';
import { type CallParts, serveAnswer, serveStream } from './serve-call.ts';
import { toStatus } from './status-codes.ts';

/** Connections of one peer: a few replicas of its operator. */
const connectionsMax = 8;
/** Certificates and their time are looked at anew at least so often, milliseconds. */
const connectionAgeMaxMs = 12 * 60 * 60_000;
/** What a handler of one answer may take, milliseconds. */
const handleMs = 30_000;

/** What peers are served with. */
export interface PeerServerParts {
  readonly directory: PeerDirectory;
  readonly clock: Clock;
  readonly log: Logger;
  readonly audit: AuditLog;
}

/** One peer that is connected. */
interface Served {
  readonly peer: Peer;
  readonly server: Server;
  readonly injector: ConnectionInjector;
  readonly stopper: AbortController;
  readonly sockets: Set<TLSSocket>;
}

/**
 * {@link PeerServices} over gRPC. Each peer has a server of its own, which only connections get to that show its certificate: so who calls is settled
 * before the first message, and cutting off a peer ends its server with everything on it.
 */
export class PeerServer implements PeerServices {
  private readonly parts: PeerServerParts;
  private readonly budget: PeerBudget;
  private readonly methods = new Map<string, PeerMethod>();
  private readonly served = new Map<string, Served>();

  constructor(parts: PeerServerParts) {
    this.parts = parts;
    this.budget = new PeerBudget(parts.clock);
    parts.directory.onChange(() => this.endOld());
  }

  add(methods: readonly PeerMethod[]): void {
    for (const method of methods) {
      const { path } = method.definition;
      if (this.methods.has(path)) throw new Error(`Method ${path} is there already`);
      this.methods.set(path, method);
    }
  }

  /** Takes a connection that speaks HTTP/2, after its handshake; closes it unless it is that of a peer. */
  accept(socket: TLSSocket): void {
    const peer = this.identify(socket);
    if (peer === undefined) {
      socket.destroy();
      return;
    }
    const served = this.servedOf(peer);
    if (served.sockets.size >= connectionsMax) {
      this.refuse(socket, `At most ${connectionsMax} connections of a peer are open at once.`, peer.site);
      socket.destroy();
      return;
    }
    served.sockets.add(socket);
    const { clock } = this.parts;
    const left = Date.parse(socket.getPeerCertificate().valid_to) - clock.now();
    const timer = clock.after(Math.max(0, Math.min(left, connectionAgeMaxMs)), () => socket.destroy());
    socket.once('close', () => {
      timer.cancel();
      served.sockets.delete(socket);
    });
    served.injector.injectConnection(socket);
  }

  /** Ends every connection. */
  stop(): void {
    for (const served of this.served.values()) end(served);
    this.served.clear();
  }

  private identify(socket: TLSSocket): Peer | undefined {
    const { raw } = socket.getPeerCertificate() as { raw?: Buffer };
    const trustDomain = raw === undefined ? undefined : trustDomainIn(raw);
    if (raw === undefined || trustDomain === undefined || socket.isSessionReused()) {
      this.refuse(socket, 'No certificate of a gateway was shown.');
      return undefined;
    }
    const peer = this.parts.directory.ofTrustDomain(trustDomain);
    if (peer === undefined) {
      this.refuse(socket, `No Site, or more than one, has the trust domain ${trustDomain}.`);
      return undefined;
    }
    const problem = peer.isCut ? 'The peer is cut off.' : problemOfCertificate(raw, peer, this.parts.clock.now());
    if (problem === undefined) return peer;
    this.refuse(socket, problem, peer.site);
    return undefined;
  }

  private refuse(socket: TLSSocket, message: string, site = 'unknown'): void {
    const [outcome, why] = ['Refused', 'PeerNotAccepted'] as const;
    const from = socket.remoteAddress ?? '';
    this.parts.audit.record({
      who: 'anonymous',
      what: 'peer.connect',
      on: { Site: site },
      from,
      outcome,
      why,
      message,
    });
  }

  private servedOf(peer: Peer): Served {
    const known = this.served.get(peer.site);
    if (known !== undefined) return known;
    const server = new Server({
      'grpc.max_receive_message_length': peerMessageBytesMax,
      'grpc.max_send_message_length': peerMessageBytesMax,
      'grpc.max_concurrent_streams': peerLimits.callsMax,
      'grpc.keepalive_time_ms': 8000,
      'grpc.keepalive_timeout_ms': 5000,
    });
    const stopper = new AbortController();
    for (const [path, method] of this.methods) {
      const isStream = method.handle.kind === 'stream';
      const definition = { ...method.definition, requestStream: isStream, responseStream: isStream };
      server.addService({ [path]: definition }, { [path]: this.handlerOf(peer, method, stopper.signal) });
    }
    // TLS is done already: the server gets what was decrypted.
    const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
    const served = { peer, server, injector, stopper, sockets: new Set<TLSSocket>() };
    this.served.set(peer.site, served);
    return served;
  }

  private handlerOf({ site }: Peer, method: PeerMethod, stopped: AbortSignal): UntypedServiceImplementation[string] {
    const onFailure = (error: unknown): void =>
      this.parts.log.error('Call of a peer failed', { Site: site, method: method.definition.path, err: error });
    const partsOf = (signal: AbortSignal): CallParts => ({ site, budget: this.budget, signal, onFailure });
    if (method.handle.kind === 'answer') {
      return (call: ServerUnaryCall<unknown, unknown>, done: sendUnaryData<unknown>): void => {
        const signal = AbortSignal.any([endOf(call), stopped, AbortSignal.timeout(handleMs)]);
        serveAnswer(method, call.request, partsOf(signal)).then(
          (answer) => done(null, answer),
          (error: unknown) => done(toStatus(error)),
        );
      };
    }
    return (call: ServerDuplexStream<unknown, unknown>): void => {
      const signal = AbortSignal.any([endOf(call), stopped]);
      // A handler that has read enough goes on answering.
      const requests = call.iterator({ destroyOnReturn: false }) as AsyncIterable<unknown>;
      pump(serveStream(method, requests, partsOf(signal)), call, signal).catch((error: unknown) =>
        call.emit('error', toStatus(error)),
      );
    };
  }

  /** Ends the servers of peers that went, were cut off, or are trusted otherwise now. */
  private endOld(): void {
    for (const [site, served] of this.served) {
      const now = this.parts.directory.find(site);
      const isSame =
        now?.isCut === false &&
        now.trustDomain === served.peer.trustDomain &&
        now.trustBundle === served.peer.trustBundle;
      if (isSame) continue;
      this.served.delete(site);
      end(served);
    }
  }
}

function end({ server, stopper, sockets }: Served): void {
  stopper.abort(new Error('The peer is not served any more'));
  server.forceShutdown();
  for (const socket of sockets) socket.destroy();
}

/** Aborts when the caller went away. */
function endOf(call: { on(event: 'cancelled' | 'error', listener: () => void): unknown }): AbortSignal {
  const gone = new AbortController();
  call.on('cancelled', () => gone.abort(new Error('The caller went away')));
  call.on('error', () => gone.abort(new Error('The call failed')));
  return gone.signal;
}

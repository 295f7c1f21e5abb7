import { connect, createServer, type Server, type Socket } from 'node:net';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import type { Logger } from '#common/logger.ts';
import type { Address, Scheme } from './address.ts';
import { gridHandshake } from './grid-ssl.ts';
import { identifyPeer, type PeerIdentity } from './peer.ts';
import type { RpcServer } from './server.ts';
import type { TlsMaterial } from './tls.ts';

/** A connection that stands and is ready for frames. */
export interface Dialed {
  readonly socket: Socket;
  readonly peer: PeerIdentity;
  /** Bytes that were read beyond the handshake. */
  readonly early?: Buffer | undefined;
}

/** Makes connections to servers. */
export interface Dialer {
  readonly scheme: Scheme;
  /** @throws when the server cannot be reached or is not who it should be. */
  dial(address: Address, signal: AbortSignal): Promise<Dialed>;
}

/** A listening server. */
export interface Listening {
  readonly port: number;
  /** Takes no new connections and drops those whose handshake is not done; the server closes the others. */
  close(): void;
}

/**
 * A dialer of one scheme.
 * @param tls - needed for `pbrpcs` and `pbrpcg`.
 */
export function createDialer(scheme: Scheme, tls?: TlsMaterial): Dialer {
  if (scheme === 'pbrpc') return { scheme, dial: async (address, signal) => dialPlain(address, signal) };
  if (tls === undefined) throw new TypeError(`${scheme} needs a certificate and trust anchors`);
  if (scheme === 'pbrpcs') return { scheme, dial: async (address, signal) => dialTls(address, signal, tls) };
  return {
    scheme,
    dial: async (address, signal) => {
      const { socket } = await dialPlain(address, signal);
      const options = { ...tls.clientOptions('pbrpcg'), servername: serverName(address.host) };
      return gridHandshake(socket, { isServer: false, options, signal });
    },
  };
}

async function dialPlain(address: Address, signal: AbortSignal): Promise<Dialed> {
  const socket = connect({ host: address.host, port: address.port, noDelay: true, autoSelectFamily: true });
  await untilEvent(socket, 'connect', signal);
  return { socket, peer: identifyPeer(socket) };
}

async function dialTls(address: Address, signal: AbortSignal, tls: TlsMaterial): Promise<Dialed> {
  const socket = connectTls({
    ...tls.clientOptions('pbrpcs'),
    host: address.host,
    port: address.port,
    servername: serverName(address.host),
  });
  await untilEvent(socket, 'secureConnect', signal);
  return { socket, peer: identifyPeer(socket) };
}

/** Server Name Indication must be a name, not an address. */
function serverName(host: string): string {
  return /^[\d.]+$/.test(host) || host.includes(':') ? '' : host;
}

async function untilEvent(socket: Socket, event: 'connect' | 'secureConnect', signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const finish = (error?: Error): void => {
      socket.off('error', finish);
      socket.off(event, done);
      signal.removeEventListener('abort', onAbort);
      if (error === undefined) {
        resolve();
        return;
      }
      socket.on('error', () => undefined);
      socket.destroy();
      reject(error);
    };
    const done = (): void => finish();
    const onAbort = (): void => finish(signal.reason as Error);
    socket.once('error', finish);
    socket.once(event, done);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}

/** What a listener needs. */
export interface ListenOptions {
  readonly scheme: Scheme;
  readonly port: number;
  /** Default: every interface. */
  readonly host?: string | undefined;
  /** Needed for `pbrpcs` and `pbrpcg`. */
  readonly tls?: TlsMaterial | undefined;
  readonly logger: Logger;
  /** Default 10,000 ms. */
  readonly handshakeTimeoutMs?: number;
}

/**
 * Listens on a port and hands connections to an {@link RpcServer} once their handshake is done. TLS servers always ask
 * for a client certificate and refuse peers without a valid one.
 * @throws when the port is taken or may not be used.
 */
export async function listen(server: RpcServer, options: ListenOptions): Promise<Listening> {
  const handshakes = new Map<string, Socket>();
  const acceptor = createAcceptor(server, options, (socket) => handshakes.delete(peerKey(socket)));
  acceptor.prependListener('connection', (socket: Socket) => {
    if (handshakes.size >= server.settings.connectionsMax) {
      socket.destroy();
      return;
    }
    const key = peerKey(socket);
    handshakes.set(key, socket);
    socket.once('close', () => handshakes.delete(key));
  });
  await new Promise<void>((resolve, reject) => {
    acceptor.once('error', reject);
    acceptor.listen({ port: options.port, host: options.host, backlog: 511 }, () => {
      acceptor.off('error', reject);
      resolve();
    });
  });
  acceptor.on('error', (error) => options.logger.error('Listening failed', { err: error }));
  const bound = acceptor.address();
  return {
    port: bound !== null && typeof bound === 'object' ? bound.port : options.port,
    close: () => {
      acceptor.close();
      for (const socket of handshakes.values()) socket.destroy();
    },
  };
}

/** Tells connections of one listener apart. */
function peerKey(socket: Socket): string {
  return `${socket.remoteAddress ?? ''} ${socket.remotePort ?? 0}`;
}

function createAcceptor(server: RpcServer, options: ListenOptions, onReady: (socket: Socket) => void): Server {
  const { scheme, tls, logger, handshakeTimeoutMs = 10_000 } = options;
  if (scheme === 'pbrpc') {
    return createServer({ noDelay: true }, (socket) => {
      socket.on('error', () => undefined);
      onReady(socket);
      server.accept(socket, identifyPeer(socket));
    });
  }
  if (tls === undefined) throw new TypeError(`${scheme} needs a certificate and trust anchors`);
  const refused = (error: Error, socket: Socket): void => {
    logger.warn('Refused a handshake', { peer: socket.remoteAddress ?? '', problem: error.message });
    socket.on('error', () => undefined);
    socket.destroy();
  };
  if (scheme === 'pbrpcs') {
    const acceptor = createTlsServer({ ...tls.serverOptions('pbrpcs'), handshakeTimeout: handshakeTimeoutMs });
    acceptor.on('secureConnection', (socket) => {
      socket.on('error', () => undefined);
      onReady(socket);
      server.accept(socket, identifyPeer(socket));
    });
    acceptor.on('tlsClientError', refused);
    tls.onRenewed(() => acceptor.setSecureContext(tls.serverOptions('pbrpcs')));
    return acceptor;
  }
  return createServer({ noDelay: true }, (socket) => {
    const signal = AbortSignal.timeout(handshakeTimeoutMs);
    gridHandshake(socket, { isServer: true, options: tls.serverOptions('pbrpcg'), signal }).then(
      ({ peer, early }) => {
        onReady(socket);
        server.accept(socket, peer, early);
      },
      (error: unknown) => refused(error as Error, socket),
    );
  });
}

import { constants } from 'node:crypto';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as connectTls, createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { identifyPeer } from './peer.ts';
import type { HandshakeSettings } from './tls.ts';
import type { Dialed } from './transport.ts';

/** How the handshake of grid SSL is made. */
export interface GridHandshakeOptions {
  readonly isServer: boolean;
  readonly options: HandshakeSettings;
  readonly signal: AbortSignal;
}

/** TLS records begin with a type from 20 to 23; a frame begins with the length of a header, so with 0. */
const recordTypeMin = 20;
const recordHeaderBytes = 5;

/**
 * Grid SSL (`pbrpcg`): a TLS handshake with certificates on both sides, after which both go on in the clear on the same
 * TCP connection. TLS sees exactly the records of the handshake; what follows them is returned as `early`.
 * @throws when the peer shows no valid certificate, or the signal aborts; the socket is closed then.
 */
export async function gridHandshake(socket: Socket, handshake: GridHandshakeOptions): Promise<Dialed> {
  const pump = new RecordPump(socket);
  try {
    const tls = await untilSecure(pump, socket, handshake);
    tls.on('error', () => undefined);
    const certificate = tls.getPeerX509Certificate();
    if (certificate === undefined) throw new Error('The peer shows no certificate');
    const early = pump.detach();
    return { socket, peer: identifyPeer(socket, certificate), early };
  } catch (error) {
    socket.on('error', () => undefined);
    socket.destroy();
    pump.destroy();
    throw error;
  }
}

async function untilSecure(pump: RecordPump, socket: Socket, handshake: GridHandshakeOptions): Promise<TLSSocket> {
  const { signal, isServer, options } = handshake;
  return new Promise<TLSSocket>((resolve, reject) => {
    const settle = (result: TLSSocket | Error): void => {
      signal.removeEventListener('abort', onAbort);
      socket.off('error', settle);
      socket.off('close', onClose);
      if (result instanceof Error) reject(result);
      else resolve(result);
    };
    const onAbort = (): void => settle(signal.reason as Error);
    const onClose = (): void => settle(new Error('The peer closed the connection during the handshake'));
    socket.once('error', settle);
    socket.once('close', onClose);
    signal.addEventListener('abort', onAbort, { once: true });
    if (isServer) {
      // A server of its own for each handshake: nobody can resume a session, so the server always speaks last and
      // nothing plain comes before the last record. It also checks the certificate, which a bare TLSSocket does not.
      const server = createTlsServer({ ...options, secureOptions: constants.SSL_OP_NO_TICKET });
      server.once('secureConnection', settle);
      server.once('tlsClientError', settle);
      server.emit('connection', pump);
    } else {
      const tls = connectTls({ ...options, socket: pump });
      tls.once('secureConnect', () => settle(tls));
      tls.once('error', settle);
    }
    if (signal.aborted) onAbort();
  });
}

/** Stands between a socket and TLS: passes whole records on, keeps what is no record. */
class RecordPump extends Duplex {
  private readonly socket: Socket;
  private held: Buffer = Buffer.alloc(0);
  private isPlain = false;
  private isDetached = false;
  private readonly onData = (chunk: Buffer): void => this.receive(chunk);
  private readonly onEnd = (): void => void this.push(null);

  constructor(socket: Socket) {
    super();
    this.socket = socket;
    socket.on('data', this.onData);
    socket.on('end', this.onEnd);
  }

  /** Lets the socket go. @returns plain bytes that came after the handshake. */
  detach(): Buffer {
    this.isDetached = true;
    this.socket.off('data', this.onData);
    this.socket.off('end', this.onEnd);
    return this.held;
  }

  override _read(): void {
    // The socket pushes.
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    if (this.isDetached) done();
    else this.socket.write(chunk, done);
  }

  override _final(done: () => void): void {
    done();
  }

  private receive(chunk: Buffer): void {
    this.held = this.held.length === 0 ? chunk : Buffer.concat([this.held, chunk]);
    while (!this.isPlain && this.held.length > 0) {
      if ((this.held[0] ?? 0) < recordTypeMin) {
        this.isPlain = true;
        this.socket.pause();
        return;
      }
      if (this.held.length < recordHeaderBytes) return;
      const length = recordHeaderBytes + this.held.readUInt16BE(3);
      if (this.held.length < length) return;
      this.push(this.held.subarray(0, length));
      this.held = this.held.subarray(length);
    }
    if (this.isPlain) this.socket.pause();
  }
}

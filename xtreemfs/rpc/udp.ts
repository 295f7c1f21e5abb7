import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import type { Logger } from '#common/logger.ts';
import { describeError } from '#common/errors.ts';
import { AuthType, MessageType, rpcHeaderCodec, type RpcHeader } from '#proto/generated/xtreemfs/rpc.ts';
import type { Codec, Procedure } from '#proto/wire.ts';
import type { Address } from './address.ts';
import { markerBytes } from './frame.ts';
import { plainAddress } from './peer.ts';

/** Upstream's receive buffer: longer datagrams are cut there, so none is sent. */
const datagramBytesMax = 2048;

/** What a datagram handler gets. */
export type DatagramHandler<Request> = (request: Request, from: Address) => void;

interface Registered {
  readonly codec: Codec<unknown>;
  readonly handler: DatagramHandler<unknown>;
}

/** One received datagram, cut into its parts. */
export interface Datagram {
  readonly header: RpcHeader;
  readonly message: Buffer;
}

/** Frames in datagrams: Vivaldi pings and GMAX messages between OSDs, discovery of DIRs (protocol reference, 1.2). */
export class UdpEndpoint {
  private readonly socket: Socket;
  private readonly logger: Logger;
  private readonly handlers = new Map<string, Registered>();
  private onPlain: ((datagram: Datagram, from: Address) => void) | undefined;

  private constructor(socket: Socket, logger: Logger) {
    this.socket = socket;
    this.logger = logger;
    socket.on('message', (bytes, from) => this.receive(bytes, from));
    socket.on('error', (error) => logger.warn('Datagram socket failed', { err: error }));
  }

  /** Binds a socket. @param options.port - 0 for any. */
  static async bind(options: { port: number; host?: string | undefined; logger: Logger }): Promise<UdpEndpoint> {
    const isV6 = options.host !== undefined && isIPv6(options.host);
    const socket = createSocket({ type: isV6 ? 'udp6' : 'udp4', reuseAddr: false });
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.bind({ port: options.port, ...(options.host === undefined ? {} : { address: options.host }) }, () => {
        socket.off('error', reject);
        resolve();
      });
    });
    return new UdpEndpoint(socket, options.logger);
  }

  get port(): number {
    return this.socket.address().port;
  }

  /** Registers what takes the datagrams of a procedure. */
  handle<Request>(procedure: Procedure<Request, unknown>, handler: DatagramHandler<Request>): void {
    const key = `${procedure.interfaceId}/${procedure.procId}`;
    this.handlers.set(key, { codec: procedure.request, handler: handler as DatagramHandler<unknown> });
  }

  /** Registers what takes datagrams without a request header: responses, and the search for a DIR. */
  handlePlain(handler: (datagram: Datagram, from: Address) => void): void {
    this.onPlain = handler;
  }

  /** Lets datagrams go to broadcast addresses. */
  allowBroadcast(): void {
    this.socket.setBroadcast(true);
  }

  /** Sends a request; nobody confirms that it arrives. */
  send<Request>(to: Address, procedure: Procedure<Request, unknown>, request: Request): void {
    const { interfaceId, procId } = procedure;
    const requestHeader = {
      interfaceId,
      procId,
      userCreds: { username: 'srv', groups: ['xtreemfs'] },
      authData: { authType: AuthType.NONE },
    };
    this.sendFrame(
      to,
      { callId: 0, messageType: MessageType.REQUEST, requestHeader },
      procedure.request.encode(request),
    );
  }

  /** Sends a frame with this header. */
  sendFrame(to: Address, header: RpcHeader, message: Buffer): void {
    const headerBytes = rpcHeaderCodec.encode(header);
    const marker = Buffer.alloc(markerBytes);
    marker.writeUInt32BE(headerBytes.length, 0);
    marker.writeUInt32BE(message.length, 4);
    const bytes = Buffer.concat([marker, headerBytes, message]);
    if (bytes.length > datagramBytesMax) {
      this.logger.warn('Dropped a datagram that is too long', { bytes: bytes.length, bytesMax: datagramBytesMax });
      return;
    }
    this.socket.send(bytes, to.port, to.host, (error) => {
      if (error !== null) this.logger.debug('Datagram not sent', { to: to.host, err: error });
    });
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => this.socket.close(() => resolve()));
  }

  private receive(bytes: Buffer, info: RemoteInfo): void {
    const from = { host: plainAddress(info.address), port: info.port };
    try {
      const datagram = parseDatagram(bytes);
      if (datagram === undefined) return;
      const ids = datagram.header.requestHeader;
      if (ids === undefined) {
        this.onPlain?.(datagram, from);
        return;
      }
      const registered = this.handlers.get(`${ids.interfaceId}/${ids.procId}`);
      registered?.handler(registered.codec.decode(datagram.message), from);
    } catch (error) {
      this.logger.debug('Dropped a datagram', { from: from.host, problem: describeError(error) });
    }
  }
}

/** The parts of a datagram; undefined when it is no frame. */
export function parseDatagram(bytes: Buffer): Datagram | undefined {
  if (bytes.length < markerBytes || bytes.length > datagramBytesMax) return undefined;
  const headerLength = bytes.readUInt32BE(0);
  const messageLength = bytes.readUInt32BE(4);
  if (headerLength === 0 || markerBytes + headerLength + messageLength > bytes.length) return undefined;
  const messageStart = markerBytes + headerLength;
  return {
    header: rpcHeaderCodec.decode(bytes.subarray(markerBytes, messageStart)),
    message: bytes.subarray(messageStart, messageStart + messageLength),
  };
}

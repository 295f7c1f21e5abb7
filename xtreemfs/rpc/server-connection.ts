import type { Socket } from 'node:net';
import {
  ErrorType,
  MessageType,
  PosixErrno,
  rpcHeaderCodec,
  type ErrorResponse,
  type RequestHeader,
} from '#proto/generated/xtreemfs/rpc.ts';
import { CodecError } from '#proto/wire.ts';
import { blocks } from './blocks.ts';
import { RpcError, toErrorResponse } from './errors.ts';
import { FrameError } from './frame.ts';
import { FrameSocket } from './frame-socket.ts';
import type { PeerIdentity } from './peer.ts';
import type { Registration, Reply, RequestContext, RpcServer } from './server.ts';

/** Offset of the credentials in a request header whose nested length takes one or two bytes. */
const idsBytes = 10;

/** One connection of a server: reads requests, starts them in order, answers as they end. */
export class ServerConnection {
  private readonly server: RpcServer;
  private readonly frames: FrameSocket;
  private readonly peer: PeerIdentity;
  private readonly abort = new AbortController();
  private readonly onClose: () => void;
  private running = 0;
  private isPaused = false;
  private isWaiting = false;
  private isDraining = false;
  private isClosed = false;
  private lastActive: number;
  /** When the frame that is arriving was first seen incomplete. */
  private frameSince: number | undefined;
  /** Credentials of the last request as they stood on the wire, and the context made of them. */
  private lastCredentials: Buffer = Buffer.alloc(0);
  private lastContext: RequestContext | undefined;

  constructor(server: RpcServer, socket: Socket, peer: PeerIdentity, onClose: () => void) {
    this.server = server;
    this.peer = peer;
    this.onClose = onClose;
    this.lastActive = server.settings.clock.monotonic();
    this.frames = new FrameSocket(socket, server.settings.limits, {
      frame: (header, message, data, block) => this.receive(header, message, data, block),
      close: (cause) => this.closed(cause),
    });
  }

  /** Begins to serve. @param early - bytes that were read from the socket already. */
  start(early?: Buffer): void {
    this.frames.open();
    if (early !== undefined && early.length > 0) this.frames.receive(early);
  }

  /** Takes no more requests; closes when the running ones are answered. */
  drain(): void {
    this.isDraining = true;
    this.frames.pause();
    if (this.running === 0) this.frames.end();
  }

  close(cause: Error): void {
    this.frames.destroy(cause);
  }

  /** Closes the connection when it is silent, or a frame comes in too slowly. @param now - monotonic ms. */
  checkTime(now: number): void {
    const { frameTimeoutMs, idleTimeoutMs } = this.server.settings;
    if (this.running > 0 || this.isPaused) {
      this.lastActive = now;
      this.frameSince = undefined;
      return;
    }
    if (this.frames.isWithinFrame) {
      this.frameSince ??= now;
      if (now - this.frameSince > frameTimeoutMs) this.close(new FrameError('A frame took too long to arrive'));
    } else {
      this.frameSince = undefined;
      if (now - this.lastActive > idleTimeoutMs) this.close(new Error('The connection was silent for too long'));
    }
  }

  private closed(cause: Error | undefined): void {
    this.isClosed = true;
    this.abort.abort(cause ?? new Error('The peer closed the connection'));
    if (cause !== undefined) {
      this.server.settings.logger.debug('Connection closed', { peer: this.peer.address, reason: cause.message });
    }
    this.onClose();
  }

  private receive(header: Buffer, message: Buffer, data: Buffer, block: Buffer | undefined): void {
    if (this.isDraining) return;
    this.frameSince = undefined;
    this.lastActive = this.server.settings.clock.monotonic();
    const known = this.recall(header);
    if (known !== undefined) {
      const [callId, interfaceId, procId] = [header.readInt32LE(1), header.readInt32LE(10), header.readInt32LE(15)];
      this.dispatch(callId, interfaceId, procId, known, message, data, block);
      return;
    }
    const decoded = decodeHeader(header);
    const request = decoded.requestHeader;
    if (decoded.messageType !== MessageType.REQUEST || request === undefined) {
      const text = 'The header carries no request';
      this.fail(decoded.callId, { errorType: ErrorType.GARBAGE_ARGS, posixErrno: PosixErrno.EIO, errorMessage: text });
      return;
    }
    const context = this.remember(header, request);
    this.dispatch(decoded.callId, request.interfaceId, request.procId, context, message, data, block);
  }

  /**
   * The context of the last request, if this header has the same credentials. Every implementation writes headers in
   * the order of their fields: call id (5 bytes), type (2), then the request header with both ids (10) and the rest.
   */
  private recall(header: Buffer): RequestContext | undefined {
    const { lastCredentials, lastContext } = this;
    if (lastContext === undefined || header.length !== lastCredentials.length + 19) return undefined;
    const isUsual =
      header[0] === 0x0d && header[5] === 0x10 && header[6] === 0 && header[7] === 0x1a &&
      header[8] === idsBytes + lastCredentials.length && header[9] === 0x0d && header[14] === 0x15; // prettier-ignore
    return isUsual && header.compare(lastCredentials, 0, lastCredentials.length, 19) === 0 ? lastContext : undefined;
  }

  private remember(header: Buffer, request: RequestHeader): RequestContext {
    const { userCreds, authData: auth } = request;
    const context = { userCreds, auth, peer: this.peer, signal: this.abort.signal };
    const length = header.length - 19;
    if (length > 0 && length + idsBytes < 0x80 && header[7] === 0x1a && header[8] === length + idsBytes) {
      this.lastCredentials = Buffer.from(header.subarray(19));
      this.lastContext = context;
    }
    return context;
  }

  private dispatch(
    callId: number,
    interfaceId: number,
    procId: number,
    context: RequestContext,
    message: Buffer,
    data: Buffer,
    block: Buffer | undefined,
  ): void {
    const found = this.server.find(interfaceId, procId);
    if (typeof found === 'number') {
      this.refuse(callId, found, interfaceId, procId);
      return;
    }
    let request: unknown;
    try {
      request = found.request.decode(message);
    } catch (error) {
      if (!(error instanceof CodecError)) throw error;
      const { message: errorMessage } = error;
      this.fail(callId, { errorType: ErrorType.GARBAGE_ARGS, posixErrno: PosixErrno.EINVAL, errorMessage });
      return;
    }
    this.run(callId, found, context, request, data, block);
  }

  private run(
    callId: number,
    found: Registration,
    context: RequestContext,
    request: unknown,
    data: Buffer,
    block: Buffer | undefined,
  ): void {
    const began = performance.now();
    this.begin(found);
    try {
      const reply = found.handler(context, request, data);
      if (reply instanceof Promise) {
        reply.then(
          (value) => this.succeed(callId, found, value, began, block),
          (error: unknown) => this.failCall(callId, found, error, began),
        );
      } else {
        this.succeed(callId, found, reply, began, block);
      }
    } catch (error) {
      this.failCall(callId, found, error, began);
    }
  }

  private begin(found: Registration): void {
    found.statistics.running++;
    if (++this.running >= this.server.settings.clientQueueMax && !this.isPaused) {
      this.isPaused = true;
      this.frames.pause();
    }
  }

  private finish(found: Registration, began: number, isFailure: boolean): void {
    found.statistics.running--;
    found.statistics.record(performance.now() - began, isFailure);
    this.running--;
    if (this.isClosed) return;
    this.frames.flushSoon();
    if (this.isDraining) {
      if (this.running === 0) this.frames.end();
      return;
    }
    const { unsentBytesMax, clientQueueMax } = this.server.settings;
    if (this.frames.pendingBytes > unsentBytesMax) {
      this.isPaused = true;
      this.frames.pause();
      this.waitForReader();
    } else if (this.isPaused && this.running < clientQueueMax / 2) {
      this.resumeReading();
    }
  }

  /** Goes on when the peer has read what waits for it. */
  private waitForReader(): void {
    if (this.isWaiting) return;
    this.isWaiting = true;
    this.frames.onDrain(() => {
      this.isWaiting = false;
      this.resumeReading();
    });
  }

  private resumeReading(): void {
    const { unsentBytesMax, clientQueueMax } = this.server.settings;
    if (!this.isPaused || this.isDraining || this.running >= clientQueueMax) return;
    if (this.frames.pendingBytes > unsentBytesMax) return;
    this.isPaused = false;
    this.frames.resume();
  }

  private succeed(
    callId: number,
    found: Registration,
    reply: Reply<unknown>,
    began: number,
    block: Buffer | undefined,
  ): void {
    if (block !== undefined && reply.isRequestDone === true) blocks.give(block);
    if (!this.isClosed) {
      try {
        this.frames.writer.response(callId, found.response, reply.response, reply.data, reply.sent);
      } catch (error) {
        this.failCall(callId, found, error, began);
        return;
      }
    }
    this.finish(found, began, false);
  }

  private failCall(callId: number, found: Registration, error: unknown, began: number): void {
    if (!this.isClosed) {
      if (error instanceof RpcError) {
        this.frames.writer.error(callId, toErrorResponse(error));
      } else {
        this.server.logFailure(found.name, this.peer, error);
        this.frames.writer.error(callId, {
          errorType: ErrorType.INTERNAL_SERVER_ERROR,
          posixErrno: PosixErrno.EIO,
          errorMessage: `${found.name} failed within the server; its log says why`,
        });
      }
    }
    this.finish(found, began, true);
  }

  private refuse(callId: number, errorType: ErrorType, interfaceId: number, procId: number): void {
    const isInterface = errorType === ErrorType.INVALID_INTERFACE_ID;
    this.fail(callId, {
      errorType,
      posixErrno: isInterface ? PosixErrno.EIO : this.server.settings.unknownProcedureErrno,
      errorMessage: isInterface
        ? `Interface ${interfaceId} is not served here`
        : `Interface ${interfaceId} has no procedure ${procId}`,
    });
  }

  /** Answers a request that no handler gets. Such answers are not counted as running, so they are bounded here. */
  private fail(callId: number, error: ErrorResponse): void {
    this.frames.writer.error(callId, error);
    this.frames.flushSoon();
    if (this.frames.pendingBytes > this.server.settings.unsentBytesMax) {
      throw new FrameError('The peer sends requests that cannot be served and does not read the answers');
    }
  }
}

function decodeHeader(header: Buffer): ReturnType<typeof rpcHeaderCodec.decode> {
  try {
    return rpcHeaderCodec.decode(header);
  } catch (error) {
    throw new FrameError('A frame has a header that cannot be read', { cause: error });
  }
}

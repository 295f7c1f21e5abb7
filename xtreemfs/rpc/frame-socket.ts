import type { Socket } from 'node:net';
import { FrameError, FrameParser, FrameWriter, type FrameLimits } from './frame.ts';

/** What a {@link FrameSocket} tells its owner. */
export interface FrameSocketEvents {
  /** A whole frame came in. @throws {FrameError} to close the connection. */
  frame(header: Buffer, message: Buffer, data: Buffer, block: Buffer | undefined): void;
  /** The connection is gone; called once. `cause` is undefined when the peer closed it in order. */
  close(cause: Error | undefined): void;
}

/**
 * Frames over one stream socket. What is written within one turn of the event loop goes out in one gathering write.
 */
export class FrameSocket {
  readonly writer = new FrameWriter();
  private readonly socket: Socket;
  private readonly parser: FrameParser;
  private isFlushQueued = false;
  private isOpen = false;
  private isClosed = false;
  private cause: Error | undefined;
  private readonly flushNow = (): void => this.flush();

  /** Takes the socket over; nothing is written before `open`. */
  constructor(socket: Socket, limits: FrameLimits, events: FrameSocketEvents) {
    this.socket = socket;
    this.parser = new FrameParser(limits, (header, message, data, block) => events.frame(header, message, data, block));
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.receive(chunk));
    socket.on('error', (error) => (this.cause ??= error));
    socket.on('end', () => this.destroy());
    socket.on('close', () => {
      if (this.isClosed) return;
      this.isClosed = true;
      events.close(this.cause);
    });
  }

  /** Begins to read and write: the connection stands. */
  open(): void {
    this.isOpen = true;
    this.socket.resume();
    this.flushSoon();
  }

  /** Writes what the writer holds when the current turn of the event loop is over. */
  flushSoon(): void {
    if (this.isFlushQueued || !this.isOpen) return;
    this.isFlushQueued = true;
    process.nextTick(this.flushNow);
  }

  /** Handles bytes that came before the socket was taken over. */
  receive(chunk: Buffer): void {
    if (this.isClosed) return;
    try {
      this.parser.push(chunk);
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      this.destroy(error);
    }
  }

  /** Bytes that wait to be written. */
  get pendingBytes(): number {
    return this.socket.writableLength + this.writer.pendingBytes;
  }

  /** Whether part of a frame has been received. */
  get isWithinFrame(): boolean {
    return this.parser.isWithinFrame;
  }

  /** Stops reading: the peer feels it when the buffers of the network are full. */
  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  /** Calls `fn` once when the socket has written all it holds. */
  onDrain(fn: () => void): void {
    this.socket.once('drain', fn);
  }

  /** Closes at once. @param cause - reported to the owner. */
  destroy(cause?: Error): void {
    this.cause ??= cause;
    this.socket.destroy();
  }

  /** Writes what waits, then closes. */
  end(): void {
    this.flush();
    this.socket.end();
  }

  private flush(): void {
    this.isFlushQueued = false;
    const sent = this.writer.takeSent();
    const parts = this.writer.take();
    const last = parts.pop();
    if (last === undefined || this.socket.destroyed) return;
    // Called when the kernel has the bytes, and also when they will never be sent.
    const onSent = sent.length === 0 ? undefined : () => sent.forEach((tell) => tell());
    if (parts.length === 0) {
      this.socket.write(last, onSent);
      return;
    }
    this.socket.cork();
    for (const part of parts) this.socket.write(part);
    this.socket.write(last, onSent);
    this.socket.uncork();
  }
}

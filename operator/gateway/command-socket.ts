import type { WebSocket } from 'ws';
import type { Clock, Timer } from '#common/clock.ts';
import { WaitingQueue } from '#common/waiting-queue.ts';
import { channels, frameOf, remoteProtocols, sizeIn, type TerminalSize } from '#runtime/remote-channels.ts';
import type { Status } from '#runtime/types.ts';

/** What a user sends to a task. */
export interface TaskInput {
  readonly stdin?: Buffer;
  readonly stdinEnd?: true;
  readonly resize?: TerminalSize;
}

/** Bytes under way either way, beyond which whoever has more waits. */
const windowBytes = 256 * 1024;
/** Of one message of a user; larger ones end the connection. */
export const messageBytesMax = 512 * 1024;
/** Of what is passed on at once: less than peers take. */
const pieceBytesMax = 128 * 1024;
/** A connection that does not answer for so long is dead, milliseconds. */
const pingMs = 30_000;
/** RFC 6455 §7.4.1: a message that the protocol has no use for. */
const protocolError = 1002;

/** The server's end of a command in a container, as `xos` and kubectl speak to it (common/runtime/remote-channels.ts). */
export class CommandSocket {
  /** What the user sends; ends with the connection. */
  readonly inputs = new WaitingQueue<TaskInput>(windowBytes, ({ stdin }) => stdin?.length ?? 0);
  /** Aborts when the user has gone. */
  readonly gone: AbortSignal;
  private readonly socket: WebSocket;
  private readonly clock: Clock;
  private readonly stopper = new AbortController();
  private timer: Timer | undefined;
  private isAnswering = true;

  constructor(socket: WebSocket, clock: Clock) {
    this.socket = socket;
    this.clock = clock;
    this.gone = this.stopper.signal;
    socket.binaryType = 'nodebuffer';
    socket.on('message', (data) => this.take(data as Buffer));
    socket.on('pong', () => (this.isAnswering = true));
    socket.on('error', () => socket.terminate());
    socket.on('close', () => {
      this.timer?.cancel();
      this.inputs.end();
      this.stopper.abort(new Error('The user has gone'));
    });
    this.watch();
  }

  /** Sends output. @returns once there is room for more. */
  async say(channel: 'stdout' | 'stderr', data: Uint8Array): Promise<void> {
    const left = this.send(channels[channel], data);
    if (this.socket.bufferedAmount > windowBytes) await left;
  }

  /** Tells how it ended, and ends the connection. */
  async finish(status: Status): Promise<void> {
    await this.send(channels.status, Buffer.from(JSON.stringify({ kind: 'Status', apiVersion: 'v1', ...status })));
    this.socket.close();
  }

  private take(message: Buffer): void {
    const rest = message.subarray(1);
    const channel = message[0];
    if (channel === channels.stdin) {
      for (let at = 0; at < rest.length; at += pieceBytesMax)
        this.pass({ stdin: rest.subarray(at, at + pieceBytesMax) });
    } else if (channel === channels.resize) {
      const resize = sizeIn(rest);
      if (resize !== undefined) this.pass({ resize });
    } else if (channel === channels.close && this.socket.protocol === remoteProtocols[0] && rest[0] === channels.stdin)
      this.pass({ stdinEnd: true });
    else this.socket.close(protocolError, 'stdin, resize and close are known');
  }

  private pass(input: TaskInput): void {
    const room = this.inputs.push(input);
    if (room === undefined) return;
    this.socket.pause();
    void room.then(() => this.socket.resume());
  }

  private async send(channel: number, data: Uint8Array): Promise<void> {
    return new Promise((resolve) => this.socket.send(frameOf(channel, data), () => resolve()));
  }

  private watch(): void {
    this.timer = this.clock.after(
      pingMs,
      () => {
        // While nothing is read, answers aren't either.
        if (!this.socket.isPaused) {
          if (!this.isAnswering) {
            this.socket.terminate();
            return;
          }
          this.isAnswering = false;
          this.socket.ping();
        }
        this.watch();
      },
      { unref: true },
    );
  }
}

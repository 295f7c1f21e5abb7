/**
 * Commands in running containers: `exec` and `attach` of pods over WebSocket, protocol v5.channel.k8s.io (v4 where a
 * server has no newer one). Each message starts with the number of its channel.
 * Source: KEP-4006, k8s.io/client-go/tools/remotecommand.
 */
import type { IncomingMessage } from 'node:http';
import { WebSocket } from 'ws';
import { InvalidInputError } from '#common/errors.ts';
import type { Credentials, CredentialSource } from './credentials.ts';
import { apiError, ConnectionError, type RequestInfo, statusOf } from './errors.ts';
import { channels, exitStatusIn, frameOf, remoteProtocols, sizeMessage, type TerminalSize } from './remote-channels.ts';
import type { Status } from './types.ts';

/** A message of the server; it cuts output into far smaller ones. */
const messageSizeMax = 16 * 1024 * 1024;
/** Bytes of stdin under way; beyond it nothing more is read until some have left. */
const stdinWindow = 1024 * 1024;
const handshakeTimeoutMs = 30_000;
/** Keeps proxies in between from closing a quiet connection, and notices a dead one. */
const pingMs = 30_000;

/** What is connected to the command. */
export interface RemoteStreams {
  /** Absent: nothing is sent. */
  readonly stdin?: AsyncIterable<Buffer> | undefined;
  /** Whether the end of `stdin` is the end of the command's input; of what others are connected to as well it is not. */
  readonly endsStdin: boolean;
  /** What is returned is waited for before more is read. */
  readonly onStdout: (chunk: Buffer) => void | Promise<void>;
  readonly onStderr: (chunk: Buffer) => void | Promise<void>;
  /** Called once the command is connected, with what tells it the size of the terminal. */
  onConnect?(resize: (size: TerminalSize) => void): void;
}

/** Which container, and how. */
export interface RemoteCommand {
  /** Of the API server, with its query. */
  readonly path: string;
  readonly signal: AbortSignal;
}

/**
 * Connects streams to a command until it ends.
 * @returns its exit status; undefined where the server tells none, as of `attach` to what goes on.
 * @throws {ApiError} when the server refuses, {@link ConnectionError} when the connection ends before the command, or
 *   the signal's reason; the command itself may go on then.
 */
export async function runRemoteCommand(
  source: CredentialSource,
  command: RemoteCommand,
  streams: RemoteStreams,
): Promise<number | undefined> {
  const credentials = await source.load(false);
  command.signal.throwIfAborted();
  const socket = connect(credentials, command.path);
  const abort = (): void => socket.terminate();
  command.signal.addEventListener('abort', abort, { once: true });
  let isAnswering = true;
  const ping = setInterval(() => {
    // Nothing is read for now, no answers either.
    if (socket.isPaused) return;
    if (!isAnswering) {
      socket.terminate();
      return;
    }
    isAnswering = false;
    socket.ping();
  }, pingMs);
  socket.on('pong', () => (isAnswering = true));
  try {
    return await untilEnd(socket, command, streams);
  } catch (error) {
    command.signal.throwIfAborted();
    throw error;
  } finally {
    clearInterval(ping);
    command.signal.removeEventListener('abort', abort);
    socket.on('error', () => undefined);
    socket.close();
  }
}

function connect({ origin, basePath, headers, tls, proxy }: Credentials, path: string): WebSocket {
  if (proxy !== undefined) {
    throw new InvalidInputError('proxy-url', `exec and attach do not go through a proxy (${proxy}): use kubectl exec`);
  }
  return new WebSocket(origin.replace(/^http/, 'ws') + basePath + path, [...remoteProtocols], {
    ...tls,
    headers: { ...headers },
    handshakeTimeout: handshakeTimeoutMs,
    maxPayload: messageSizeMax,
    perMessageDeflate: false,
    followRedirects: false,
  });
}

async function untilEnd(
  socket: WebSocket,
  { path }: RemoteCommand,
  streams: RemoteStreams,
): Promise<number | undefined> {
  const request = { method: 'GET', path };
  const ended = Promise.withResolvers<number | undefined>();
  let status: Status | undefined;
  const take = (done: void | Promise<void>): void => {
    if (done !== undefined) pauseUntil(socket, done).catch(ended.reject);
  };
  socket.on('unexpected-response', (_request, response) => {
    void refusalOf(response, request).then(ended.reject, ended.reject);
  });
  socket.on('error', (error) =>
    ended.reject(new ConnectionError(request, error.message, { maySent: true, cause: error })),
  );
  socket.on('open', () => {
    streams.onConnect?.((size) => void send(socket, channels.resize, sizeMessage(size)));
    if (streams.stdin !== undefined) sendAll(socket, streams.stdin, streams.endsStdin).catch(ended.reject);
  });
  socket.on('message', (data) => {
    const message = data as Buffer;
    const rest = message.subarray(1);
    try {
      if (message[0] === channels.stdout && rest.length > 0) take(streams.onStdout(rest));
      else if (message[0] === channels.stderr && rest.length > 0) take(streams.onStderr(rest));
      else if (message[0] === channels.status) status = JSON.parse(rest.toString('utf8')) as Status;
    } catch (error) {
      ended.reject(error);
    }
  });
  socket.on('close', () => {
    if (status !== undefined) {
      try {
        ended.resolve(exitStatusIn(status, request));
      } catch (error) {
        ended.reject(error);
      }
    } else ended.reject(new ConnectionError(request, 'the connection ended before the command', { maySent: true }));
  });
  return ended.promise;
}

async function refusalOf(response: IncomingMessage, request: RequestInfo): Promise<never> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) {
    chunks.push(chunk as Buffer);
    if (chunks.length > 64) break;
  }
  const body = Buffer.concat(chunks).toString('utf8');
  throw apiError(request, response.statusCode ?? 0, statusOf(body));
}

/** How many waits a connection is paused for. */
const pauses = new WeakMap<WebSocket, number>();

async function pauseUntil(socket: WebSocket, done: Promise<void>): Promise<void> {
  pauses.set(socket, (pauses.get(socket) ?? 0) + 1);
  socket.pause();
  await done;
  const left = (pauses.get(socket) ?? 1) - 1;
  pauses.set(socket, left);
  if (left === 0) socket.resume();
}

async function sendAll(socket: WebSocket, stdin: AsyncIterable<Buffer>, endsStdin: boolean): Promise<void> {
  for await (const chunk of stdin) {
    if (socket.readyState !== WebSocket.OPEN) return;
    const hasLeft = send(socket, channels.stdin, chunk);
    if (socket.bufferedAmount > stdinWindow) await hasLeft;
  }
  // Only version 5 can say that the input has ended without closing the connection.
  if (endsStdin && socket.protocol === remoteProtocols[0])
    await send(socket, channels.close, Buffer.from([channels.stdin]));
}

async function send(socket: WebSocket, channel: number, data: Buffer): Promise<void> {
  return new Promise((resolve) => {
    // A connection that broke is told by its own events.
    if (socket.readyState !== WebSocket.OPEN) {
      resolve();
      return;
    }
    socket.send(frameOf(channel, data), () => resolve());
  });
}

import { Client, type ChannelCredentials, type ClientWritableStream } from '@grpc/grpc-js';
import type { Clock } from '#common/clock.ts';
import { clientOptions } from '#proto/selector/client.ts';
import type { Message, Transport } from '#selector/overlay/messages.ts';
import type { Codec } from './codec.ts';
import { overlayMethods } from '#proto/selector/schema.ts';
import type * as wire from '#proto/selector/wire.ts';

const connectionsMax = 128;
const idleMs = 120_000;
const retryAfterMs = 1_000;
const queuedBytesMax = 8 * 1024 * 1024;

interface Connection {
  readonly client: Client;
  readonly stream: ClientWritableStream<wire.Envelope>;
  usedAt: number;
  queuedBytes: number;
}

/**
 * Carries overlay messages over gRPC: one stream per peer, opened on first use, closed when idle or when more than
 * {@link connectionsMax} are open. What can't be sent at once is dropped, as the overlay expects of a transport.
 */
export class GrpcTransport implements Transport {
  private readonly connections = new Map<string, Connection>();
  private readonly failedAt = new Map<string, number>();
  private readonly credentials: ChannelCredentials;
  private readonly codec: Codec;
  private readonly clock: Clock;
  private hasStopped = false;

  constructor(credentials: ChannelCredentials, codec: Codec, clock: Clock) {
    this.credentials = credentials;
    this.codec = codec;
    this.clock = clock;
  }

  /** Peers with an open stream. */
  get connectionCount(): number {
    return this.connections.size;
  }

  send(to: string, message: Message): void {
    if (this.hasStopped) return;
    const now = this.clock.monotonic();
    if (now - (this.failedAt.get(to) ?? -Infinity) < retryAfterMs) return;
    const connection = this.connections.get(to) ?? this.open(to);
    connection.usedAt = now;
    // Used last goes to the end: the first of the map is the one to close when there are too many.
    this.connections.delete(to);
    this.connections.set(to, connection);
    if (connection.queuedBytes > queuedBytesMax) return;
    const envelope = this.codec.encode(message);
    connection.queuedBytes += approximateBytes(message);
    connection.stream.write(envelope, () => (connection.queuedBytes = 0));
    this.closeSurplus(now);
  }

  /** Flushes goodbyes and closes every stream. */
  stop(): void {
    this.hasStopped = true;
    for (const address of [...this.connections.keys()]) this.close(address);
  }

  private open(to: string): Connection {
    const client = new Client(to, this.credentials, clientOptions);
    const { path, requestSerialize, responseDeserialize } = overlayMethods.Connect;
    const stream = client.makeClientStreamRequest(path, requestSerialize, responseDeserialize, (error) => {
      if (error === null || this.connections.get(to)?.stream !== stream) return;
      this.connections.delete(to);
      this.remember(to);
      client.close();
    });
    // The callback above tells of failures; without a listener the same error would end the process.
    stream.on('error', () => undefined);
    const connection: Connection = { client, stream, usedAt: 0, queuedBytes: 0 };
    this.connections.set(to, connection);
    return connection;
  }

  private remember(to: string): void {
    this.failedAt.delete(to);
    this.failedAt.set(to, this.clock.monotonic());
    if (this.failedAt.size > 1_024) {
      const [first] = this.failedAt.keys();
      if (first !== undefined) this.failedAt.delete(first);
    }
  }

  private closeSurplus(now: number): void {
    const [first] = this.connections;
    if (first === undefined) return;
    const [address, connection] = first;
    if (this.connections.size > connectionsMax || now - connection.usedAt > idleMs) this.close(address);
  }

  private close(address: string): void {
    const connection = this.connections.get(address);
    this.connections.delete(address);
    connection?.stream.end();
    connection?.client.close();
  }
}

function approximateBytes(message: Message): number {
  return message.type === 'done' ? 200 * (1 + message.outcome.offers.length) : 4_096;
}

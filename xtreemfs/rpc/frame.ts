/**
 * Frames: a marker of three lengths, the RPC header, the message and raw data (protocol reference, 1.1).
 */
import { Writer, type Codec } from '#proto/wire.ts';
import { blocks } from './blocks.ts';
import {
  MessageType,
  writeAuth,
  writeErrorResponse,
  writeUserCredentials,
  type Auth,
  type ErrorResponse,
  type UserCredentials,
} from '#proto/generated/xtreemfs/rpc.ts';

/** Length of the marker before each frame. */
export const markerBytes = 12;
/** The protocol's own limit of each part. */
const partBytesMax = 32 * 1024 * 1024;

/** What a peer may send in one frame, bytes. */
export interface FrameLimits {
  readonly headerBytesMax: number;
  readonly messageBytesMax: number;
  readonly dataBytesMax: number;
}

/** A header holds credentials only, so 64 KiB are plenty; the other parts may be as long as the protocol allows. */
export const defaultFrameLimits: FrameLimits = {
  headerBytesMax: 64 * 1024,
  messageBytesMax: partBytesMax - 1,
  dataBytesMax: partBytesMax - 1,
};

/** A frame that breaks a limit: the connection cannot be used any more. */
export class FrameError extends Error {
  override readonly name = 'FrameError';
}

/**
 * Receives the parts of a frame. They are views of the bytes received and stay valid; `block` is what they lie in, to be
 * given back to {@link blocks} by a receiver that knows when it has done with all of them.
 */
export type FrameSink = (header: Buffer, message: Buffer, data: Buffer, block: Buffer | undefined) => void;

const firstAllocationBytes = 256 * 1024;

/**
 * Cuts a stream of chunks into frames. A frame that lies within one chunk is not copied; a longer one is collected in
 * a buffer that grows with what really arrives, so that announcing much and sending little costs little.
 */
export class FrameParser {
  private readonly limits: FrameLimits;
  private readonly sink: FrameSink;
  private readonly marker = Buffer.alloc(markerBytes);
  private markerHave = 0;
  private body: Buffer | undefined;
  private bodyHave = 0;
  private headerLength = 0;
  private messageLength = 0;
  private dataLength = 0;

  constructor(limits: FrameLimits, sink: FrameSink) {
    this.limits = limits;
    this.sink = sink;
  }

  /** Whether a frame has begun and not ended. */
  get isWithinFrame(): boolean {
    return this.markerHave > 0 || this.body !== undefined;
  }

  /** Bytes held for a frame that has not ended. */
  get heldBytes(): number {
    return this.body?.length ?? 0;
  }

  /**
   * Takes what was received; calls the sink for each frame that ends in it.
   * @throws {FrameError} when a frame breaks a limit.
   */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.body !== undefined) {
        at = this.collect(chunk, at);
      } else if (this.markerHave > 0 || chunk.length - at < markerBytes) {
        at = this.collectMarker(chunk, at);
      } else {
        this.readMarker(chunk, at);
        at = this.begin(chunk, at + markerBytes);
      }
    }
  }

  private collectMarker(chunk: Buffer, from: number): number {
    const count = Math.min(markerBytes - this.markerHave, chunk.length - from);
    chunk.copy(this.marker, this.markerHave, from, from + count);
    this.markerHave += count;
    if (this.markerHave < markerBytes) return chunk.length;
    this.markerHave = 0;
    this.readMarker(this.marker, 0);
    return this.begin(chunk, from + count);
  }

  private readMarker(bytes: Buffer, at: number): void {
    const { headerBytesMax, messageBytesMax, dataBytesMax } = this.limits;
    this.headerLength = checkLength('header', bytes.readUInt32BE(at), headerBytesMax);
    this.messageLength = checkLength('message', bytes.readUInt32BE(at + 4), messageBytesMax);
    this.dataLength = checkLength('data', bytes.readUInt32BE(at + 8), dataBytesMax);
    if (this.headerLength === 0) throw new FrameError('A frame has no header');
  }

  private begin(chunk: Buffer, at: number): number {
    const total = this.headerLength + this.messageLength + this.dataLength;
    if (chunk.length - at >= total) {
      this.emit(chunk, at, undefined);
      return at + total;
    }
    this.body = blocks.take(Math.min(total, Math.max(firstAllocationBytes, chunk.length - at)));
    this.bodyHave = 0;
    return this.collect(chunk, at);
  }

  private collect(chunk: Buffer, from: number): number {
    const total = this.headerLength + this.messageLength + this.dataLength;
    let body = this.body ?? Buffer.alloc(0);
    const count = Math.min(total - this.bodyHave, chunk.length - from);
    if (this.bodyHave + count > body.length) {
      const larger = blocks.take(Math.min(total, Math.max(body.length * 4, this.bodyHave + count)));
      body.copy(larger, 0, 0, this.bodyHave);
      blocks.give(body);
      this.body = body = larger;
    }
    chunk.copy(body, this.bodyHave, from, from + count);
    this.bodyHave += count;
    if (this.bodyHave === total) {
      this.body = undefined;
      this.emit(body, 0, body);
    }
    return from + count;
  }

  private emit(bytes: Buffer, at: number, block: Buffer | undefined): void {
    const message = at + this.headerLength;
    const data = message + this.messageLength;
    this.sink(
      bytes.subarray(at, message),
      bytes.subarray(message, data),
      this.dataLength === 0 ? noData : bytes.subarray(data, data + this.dataLength),
      block,
    );
  }
}

/** No data. */
export const noData = Buffer.alloc(0);

function checkLength(part: string, length: number, max: number): number {
  if (length > max) throw new FrameError(`A frame's ${part} of ${length} bytes is longer than ${max}`);
  return length;
}

/** Raw data of a frame: one buffer or several that follow each other. */
export type FrameData = Buffer | readonly Buffer[];

/** Length of the data in all, bytes. */
export function dataLengthOf(data: FrameData | undefined): number {
  if (data === undefined) return 0;
  if (Buffer.isBuffer(data)) return data.length;
  let sum = 0;
  for (const part of data) sum += part.length;
  return sum;
}

const chunkBytes = 64 * 1024;
const roomBytes = 8 * 1024;

/**
 * Writes frames one after the other into shared chunks; data buffers are not copied unless they are small.
 * `take` gives what has to go out, in order, for one gathering write.
 */
export class FrameWriter {
  private writer = new Writer(chunkBytes);
  /** Where the part of the chunk begins that was not put into `parts` yet. */
  private start = 0;
  private parts: Buffer[] = [];
  private sent: (() => void)[] = [];
  /** Bytes waiting in all. */
  private bytes = 0;

  /** Bytes that `take` would give. */
  get pendingBytes(): number {
    return this.bytes + this.writer.position - this.start;
  }

  /** Appends a request. @throws {CodecError} when the message does not fit its fields; nothing is appended then. */
  request<T>(
    callId: number,
    ids: { readonly interfaceId: number; readonly procId: number },
    credentials: Buffer,
    codec: Codec<T>,
    message: T,
    data?: FrameData,
  ): void {
    const frame = this.open();
    const { writer } = this;
    writer.fixed32(0x0d, callId);
    writer.int32(0x10, MessageType.REQUEST);
    const header = writer.begin(0x1a);
    writer.fixed32(0x0d, ids.interfaceId);
    writer.fixed32(0x15, ids.procId);
    writer.reserve(credentials.length);
    credentials.copy(writer.buffer, writer.position);
    writer.position += credentials.length;
    writer.end(header);
    this.close(frame, codec, message, data);
  }

  /** Appends a success response. @param sent - called when `data` is not needed any more. @throws {CodecError} as `request`. */
  response<T>(callId: number, codec: Codec<T>, message: T, data?: FrameData, sent?: () => void): void {
    const frame = this.open();
    this.writer.fixed32(0x0d, callId);
    this.writer.int32(0x10, MessageType.RESPONSE_SUCCESS);
    this.close(frame, codec, message, data);
    if (sent !== undefined) this.sent.push(sent);
  }

  /** Appends an error response. */
  error(callId: number, error: ErrorResponse): void {
    const frame = this.open();
    const { writer } = this;
    writer.fixed32(0x0d, callId);
    writer.int32(0x10, MessageType.RESPONSE_ERROR);
    const start = writer.begin(0x22);
    writeErrorResponse(writer, error);
    writer.end(start);
    writer.buffer.writeUInt32BE(writer.position - frame - markerBytes, frame);
    writer.buffer.fill(0, frame + 4, frame + markerBytes);
  }

  /** Who waits for what has to go out now; call it before `take`. */
  takeSent(): (() => void)[] {
    const { sent } = this;
    if (sent.length > 0) this.sent = [];
    return sent;
  }

  /** What has to go out. The writer begins anew. */
  take(): Buffer[] {
    this.cut();
    const { parts } = this;
    this.parts = [];
    this.bytes = 0;
    return parts;
  }

  /** Leaves room for the marker. @returns where the frame begins. */
  private open(): number {
    const { writer } = this;
    if (writer.buffer.length - writer.position < roomBytes || writer.buffer.length > chunkBytes) {
      this.cut();
      this.writer = new Writer(chunkBytes);
      this.start = 0;
    }
    const at = this.writer.position;
    this.writer.position += markerBytes;
    return at;
  }

  private close<T>(frame: number, codec: Codec<T>, message: T, data: FrameData | undefined): void {
    const { writer } = this;
    const messageStart = writer.position;
    try {
      codec.write(writer, message);
    } catch (error) {
      writer.position = frame;
      throw error;
    }
    const dataLength = dataLengthOf(data);
    writer.buffer.writeUInt32BE(messageStart - frame - markerBytes, frame);
    writer.buffer.writeUInt32BE(writer.position - messageStart, frame + 4);
    writer.buffer.writeUInt32BE(dataLength, frame + 8);
    if (data === undefined || dataLength === 0) return;
    if (Buffer.isBuffer(data)) this.append(data);
    else for (const part of data) this.append(part);
  }

  private append(data: Buffer): void {
    const { writer } = this;
    if (data.length <= 1024) {
      writer.reserve(data.length);
      data.copy(writer.buffer, writer.position);
      writer.position += data.length;
      return;
    }
    this.cut();
    this.parts.push(data);
    this.bytes += data.length;
  }

  /** Puts what was written into the chunk since the last cut among the parts. */
  private cut(): void {
    const { writer } = this;
    if (writer.position === this.start) return;
    this.parts.push(writer.buffer.subarray(this.start, writer.position));
    this.bytes += writer.position - this.start;
    this.start = writer.position;
  }
}

/** Fields 3 and 4 of a request header. Callers keep the result: credentials change seldom. */
export function encodeCredentials(userCreds: UserCredentials, auth: Auth): Buffer {
  const writer = new Writer(256);
  const creds = writer.begin(0x1a);
  writeUserCredentials(writer, userCreds);
  writer.end(creds);
  const authStart = writer.begin(0x22);
  writeAuth(writer, auth);
  writer.end(authStart);
  return Buffer.from(writer.buffer.subarray(0, writer.position));
}

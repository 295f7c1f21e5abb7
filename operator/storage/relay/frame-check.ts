import { rpcHeaderCodec, MessageType, PosixErrno, type RequestHeader } from '#proto/generated/xtreemfs/rpc.ts';
import { CodecError } from '#proto/wire.ts';
import { errnoError, toErrorResponse } from '#xtreemfs/rpc/errors.ts';
import { defaultFrameLimits, FrameError, FrameWriter, markerBytes } from '#xtreemfs/rpc/frame.ts';

/** Longest message of a request: the largest attribute of a file and what is around it. What is read and written follows as data. */
const messageBytesMax = 256 * 1024;
/** Longest data of a frame. */
const dataBytesMax = defaultFrameLimits.dataBytesMax;

/** Finds the frames in a stream without keeping their data. */
class FrameStream {
  private readonly head: Buffer[] = [];
  private headHave = 0;
  private headLength = markerBytes;
  private lengths: { readonly header: number; readonly message: number; readonly data: number } | undefined;
  private dataLeft = 0;
  private readonly isCollecting: boolean;

  /** @param isCollecting - whether headers and messages are wanted; else they count as data. */
  constructor(isCollecting: boolean) {
    this.isCollecting = isCollecting;
  }

  /** Whether what comes next begins a frame. */
  get isBetween(): boolean {
    return this.dataLeft === 0 && this.headHave === 0 && this.lengths === undefined;
  }

  /**
   * Takes a chunk. @param onHead - gets marker, header and message of each frame once they are there, @param onData - what follows, as it comes.
   * @throws {FrameError} when a frame breaks a limit.
   */
  push(
    chunk: Buffer,
    onHead: (head: Buffer, header: Buffer, message: Buffer) => void,
    onData: (data: Buffer) => void,
  ): void {
    for (let at = 0; at < chunk.length;) {
      if (this.dataLeft > 0) {
        const count = Math.min(this.dataLeft, chunk.length - at);
        onData(chunk.subarray(at, at + count));
        this.dataLeft -= count;
        at += count;
        continue;
      }
      const count = Math.min(this.headLength - this.headHave, chunk.length - at);
      this.head.push(chunk.subarray(at, at + count));
      this.headHave += count;
      at += count;
      if (this.headHave === this.headLength) this.take(onHead);
    }
  }

  private take(onHead: (head: Buffer, header: Buffer, message: Buffer) => void): void {
    const head = this.head.length === 1 ? (this.head[0] ?? Buffer.alloc(0)) : Buffer.concat(this.head);
    const lengths = this.lengths ?? this.readMarker(head);
    if (this.lengths === undefined && this.isCollecting) {
      this.lengths = lengths;
      this.head.splice(0, this.head.length, head);
      this.headLength = markerBytes + lengths.header + lengths.message;
      return;
    }
    const { header, message, data } = lengths;
    this.head.length = 0;
    this.headHave = 0;
    this.headLength = markerBytes;
    this.lengths = undefined;
    this.dataLeft = this.isCollecting ? data : header + message + data;
    const messageAt = markerBytes + header;
    onHead(head, head.subarray(markerBytes, messageAt), head.subarray(messageAt));
  }

  private readMarker(bytes: Buffer): { header: number; message: number; data: number } {
    const [header, message, data] = [bytes.readUInt32BE(0), bytes.readUInt32BE(4), bytes.readUInt32BE(8)];
    const longest = this.isCollecting ? messageBytesMax : defaultFrameLimits.messageBytesMax;
    const isShort = header <= defaultFrameLimits.headerBytesMax && message <= longest && data <= dataBytesMax;
    if (header === 0 || !isShort)
      throw new FrameError(`A frame of ${header}, ${message} and ${data} bytes is not taken`);
    return { header, message, data };
  }
}

/**
 * Looks at every request of a client before a server gets it. A request that is not let through is answered with EPERM, in between the
 * answers of the server. Data of requests and answers passes as it comes.
 */
export class FrameCheck {
  private readonly requests = new FrameStream(true);
  private readonly answers = new FrameStream(false);
  private readonly problemOf: (header: RequestHeader, message: Buffer) => string | undefined;
  private readonly onRefusal: (problem: string) => void;
  private refusals: Buffer[] = [];
  private isPassing = false;

  /**
   * @param problemOf - why a request is not let through.
   * @param onRefusal - hears of each that was not.
   */
  constructor(
    problemOf: (header: RequestHeader, message: Buffer) => string | undefined,
    onRefusal: (problem: string) => void,
  ) {
    this.problemOf = problemOf;
    this.onRefusal = onRefusal;
  }

  /** What of a chunk of the client goes on to the server. @throws {FrameError} when it is no XtreemFS. */
  request(chunk: Buffer): Buffer[] {
    const passed: Buffer[] = [];
    const onHead = (head: Buffer, header: Buffer, message: Buffer): void => {
      this.isPassing = this.check(header, message);
      if (this.isPassing) passed.push(head);
    };
    this.requests.push(chunk, onHead, (data) => {
      if (this.isPassing) passed.push(data);
    });
    return passed;
  }

  /** What the client gets for a chunk of the server. @throws {FrameError} when it is no XtreemFS. */
  answer(chunk: Buffer): Buffer[] {
    const passed: Buffer[] = [];
    this.answers.push(
      chunk,
      (head) => passed.push(...this.takeRefusals(), head),
      (data) => passed.push(data),
    );
    return [...passed, ...this.due()];
  }

  /** Refusals that can go to the client now, since no answer has begun and not ended. */
  due(): Buffer[] {
    return this.answers.isBetween ? this.takeRefusals() : [];
  }

  private takeRefusals(): Buffer[] {
    const { refusals } = this;
    if (refusals.length > 0) this.refusals = [];
    return refusals;
  }

  private check(header: Buffer, message: Buffer): boolean {
    const { callId, messageType, requestHeader } = decode(() => rpcHeaderCodec.decode(header));
    if (messageType !== MessageType.REQUEST || requestHeader === undefined)
      throw new FrameError('A frame of a client is no request');
    const problem = decode(() => this.problemOf(requestHeader, message));
    if (problem === undefined) return true;
    this.onRefusal(problem);
    const writer = new FrameWriter();
    writer.error(callId, toErrorResponse(errnoError(PosixErrno.EPERM, problem)));
    this.refusals.push(...writer.take());
    return false;
  }
}

function decode<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof CodecError) throw new FrameError('A frame can not be read', { cause: error });
    throw error;
  }
}

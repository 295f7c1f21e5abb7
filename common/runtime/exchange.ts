import { asError } from '#common/errors.ts';
import type { Dispatcher } from 'undici';
import type { Fence } from './fence.ts';

/** Headers as undici hands them out. */
export type ResponseHeaders = Readonly<Record<string, string | string[] | undefined>>;

/** What a request needs from the transport at the moment it is written to a connection. */
export interface ExchangeOptions {
  /** Checked just before the first byte leaves: a request may have waited for a connection in between. */
  readonly fence?: Fence | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Bytes of a whole answer (or of one line of a stream) beyond which it is given up. */
  readonly sizeMax: number;
}

/**
 * One request on one connection, without streams in between: collects an answer, or hands out its lines as they come.
 * Ends exactly once, through `finish` or `fail`; whatever undici reports later is ignored.
 */
abstract class Exchange implements Dispatcher.DispatchHandler {
  protected readonly options: ExchangeOptions;
  protected controller: Dispatcher.DispatchController | undefined;
  private failure: Error | undefined;
  protected isSettled = false;
  private readonly untrack: (() => void) | undefined;
  private readonly onAbort = (): void => this.cancel(asError(this.options.signal?.reason));
  statusCode = 0;
  headers: ResponseHeaders = {};
  /** True once bytes of the request may have left. */
  isSent = false;

  constructor(options: ExchangeOptions) {
    this.options = options;
    this.untrack = options.fence?.track((reason) => this.cancel(reason));
    options.signal?.addEventListener('abort', this.onAbort, { once: true });
  }

  /** Gives the request up: the connection is closed if it was sent, and it isn't sent if it wasn't yet. */
  cancel(reason: Error): void {
    if (this.isSettled) return;
    this.failure = reason;
    this.settle();
    this.controller?.abort(reason);
    this.fail(reason);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.controller = controller;
    if (this.failure !== undefined) {
      controller.abort(this.failure);
      return;
    }
    try {
      this.options.fence?.check();
      this.isSent = true;
    } catch (error) {
      this.cancel(asError(error));
    }
  }

  onResponseStart(_controller: Dispatcher.DispatchController, statusCode: number, headers: ResponseHeaders): void {
    if (statusCode < 200) return;
    this.statusCode = statusCode;
    this.headers = headers;
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.isSettled) return;
    try {
      this.receive(chunk);
    } catch (error) {
      this.cancel(asError(error));
    }
  }

  onResponseEnd(): void {
    if (this.isSettled) return;
    this.settle();
    this.finish();
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    if (this.isSettled) return;
    this.settle();
    this.fail(error);
  }

  protected abstract receive(chunk: Buffer): void;
  protected abstract finish(): void;
  protected abstract fail(error: Error): void;

  private settle(): void {
    this.isSettled = true;
    this.untrack?.();
    this.options.signal?.removeEventListener('abort', this.onAbort);
  }
}

/** Collects the whole answer. */
export class UnaryExchange extends Exchange {
  private readonly chunks: Buffer[] = [];
  private sizeBytes = 0;
  private readonly deferred = Promise.withResolvers<string>();

  /** The body as text, whatever the status. */
  get body(): Promise<string> {
    return this.deferred.promise;
  }

  protected receive(chunk: Buffer): void {
    this.sizeBytes += chunk.length;
    if (this.sizeBytes > this.options.sizeMax) {
      throw new RangeError(`The answer is larger than ${this.options.sizeMax} bytes: ask for less (limit, selectors)`);
    }
    this.chunks.push(chunk);
  }

  protected finish(): void {
    const [first, second] = this.chunks;
    const whole = first !== undefined && second === undefined ? first : Buffer.concat(this.chunks);
    this.deferred.resolve(whole.toString('utf8'));
  }

  protected fail(error: Error): void {
    this.deferred.reject(error);
  }
}

/** Hands out a successful answer as it comes, and collects the answer of a refused request. */
abstract class StreamExchange extends Exchange {
  private readonly refusal: Buffer[] = [];
  private refusalBytes = 0;
  private readonly deferred = Promise.withResolvers<string>();

  /** Resolves at the end: empty for a stream, the body when the request was refused. */
  get end(): Promise<string> {
    return this.deferred.promise;
  }

  protected receive(chunk: Buffer): void {
    if (this.statusCode < 400) {
      this.take(chunk);
      return;
    }
    this.refusalBytes += chunk.length;
    if (this.refusalBytes > this.options.sizeMax) {
      throw new RangeError(`The refusal is larger than ${this.options.sizeMax} bytes: it can not be one`);
    }
    this.refusal.push(chunk);
  }

  protected finish(): void {
    this.deferred.resolve(Buffer.concat(this.refusal).toString('utf8'));
  }

  protected fail(error: Error): void {
    this.deferred.reject(error);
  }

  protected abstract take(chunk: Buffer): void;
}

/** Hands out bytes as they come. */
export class ByteExchange extends StreamExchange {
  private readonly onChunk: (chunk: Buffer) => void | Promise<void>;

  /** @param onChunk - what it throws ends the exchange with that error; what it returns is waited for before more is read. */
  constructor(options: ExchangeOptions, onChunk: (chunk: Buffer) => void | Promise<void>) {
    super(options);
    this.onChunk = onChunk;
  }

  protected take(chunk: Buffer): void {
    // Going on after a pause, undici hands out nothing once, and would again after a pause for that, for ever.
    if (chunk.length === 0) return;
    const done = this.onChunk(chunk);
    if (done === undefined) return;
    this.controller?.pause();
    done.then(
      () => this.controller?.resume(),
      (error: unknown) => this.cancel(asError(error)),
    );
  }
}

/** Hands out lines as they come. A line that the server didn't end was cut off: the object in it isn't whole, and is dropped. */
export class LineExchange extends StreamExchange {
  private readonly onLine: (line: string) => void;
  private readonly onActivity: () => void;
  private rest: Buffer[] = [];
  private restBytes = 0;

  /**
   * @param onLine - called with each line, without its end; what it throws ends the exchange with that error.
   * @param onActivity - called for each chunk, before its lines.
   */
  constructor(options: ExchangeOptions, onLine: (line: string) => void, onActivity: () => void) {
    super(options);
    this.onLine = onLine;
    this.onActivity = onActivity;
  }

  protected override receive(chunk: Buffer): void {
    this.onActivity();
    super.receive(chunk);
  }

  protected take(chunk: Buffer): void {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      this.emit(chunk.subarray(start, end));
      if (this.isSettled) return;
      start = end + 1;
    }
    if (start === chunk.length) return;
    this.rest.push(chunk.subarray(start));
    this.restBytes += chunk.length - start;
    if (this.restBytes > this.options.sizeMax) {
      throw new RangeError(`A line of the stream is longer than ${this.options.sizeMax} bytes`);
    }
  }

  private emit(tail: Buffer): void {
    if (this.restBytes === 0) {
      if (tail.length > 0) this.onLine(tail.toString('utf8'));
      return;
    }
    const line = Buffer.concat([...this.rest, tail]).toString('utf8');
    this.rest = [];
    this.restBytes = 0;
    this.onLine(line);
  }
}

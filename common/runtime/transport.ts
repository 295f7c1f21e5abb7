import type { Dispatcher } from 'undici';
import Agent from 'undici/lib/dispatcher/agent.js';
import ProxyAgent from 'undici/lib/dispatcher/proxy-agent.js';
import { SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { type Clock, systemClock, type Timer } from '#common/clock.ts';
import { asError, assert, describeError, systemErrorCode } from '#common/errors.ts';
import { type Logger, silentLogger } from '#common/logger.ts';
import { createRegistry } from '#common/metrics.ts';
import { type Random, systemRandom } from '#common/random.ts';
import { type BackoffOptions, fullJitterMs } from './backoff.ts';
import type { Priority } from './contracts.ts';
import type { Credentials, CredentialSource } from './credentials.ts';
import {
  ApiError,
  apiError,
  ConnectionError,
  FencedError,
  ServerError,
  statusOf,
  TooManyRequestsError,
} from './errors.ts';
import { ByteExchange, LineExchange, type ResponseHeaders, UnaryExchange } from './exchange.ts';
import type { Fence } from './fence.ts';
import { createRuntimeMetrics, type RuntimeMetrics } from './metrics.ts';
import { defaultThrottle, Throttle, type ThrottleOptions } from './throttle.ts';

/** One request to the API server. */
export interface TransportRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** With its query; without the cluster's base path. */
  readonly path: string;
  /** JSON text. */
  readonly body?: string | undefined;
  /** Default `application/json`. */
  readonly contentType?: string | undefined;
  readonly priority: Priority;
  /** Whether sending it twice does what sending it once does. Others are repeated only when they certainly didn't arrive. */
  readonly isIdempotent: boolean;
  /** Set for writes of a leader. */
  readonly fence?: Fence | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Of each attempt; default 30 s. */
  readonly timeoutMs?: number | undefined;
  /** Further attempts after the first; default 4. */
  readonly retriesMax?: number | undefined;
  /** For metrics: `get`, `list`, `watch`, `apply`, … and the resource. */
  readonly verb: string;
  readonly resource: string;
}

/** A request whose answer is a stream of lines. */
export interface StreamRequest extends TransportRequest {
  /** The stream is given up when nothing comes for this long. */
  readonly idleTimeoutMs: number;
}

/** Sends requests to one cluster as one identity. */
export interface Transport {
  /**
   * Sends and waits for the whole answer, repeating where that is safe.
   * @returns the JSON of the answer; undefined for an empty one.
   * @throws {ApiError} {@link ConnectionError} {@link FencedError} or the signal's reason.
   */
  request(request: TransportRequest): Promise<unknown>;
  /** Sends once and calls `onLine` with each line until the server ends the stream. Throws as `request` does. */
  stream(request: StreamRequest, onLine: (line: string) => void): Promise<void>;
  /**
   * Sends once and calls `onChunk` with bytes until the server ends the answer, however long that takes; what it returns is waited for before
   * more is read. Throws as `request` does.
   */
  bytes(request: TransportRequest, onChunk: (chunk: Buffer) => void | Promise<void>): Promise<void>;
  /** Ends every connection and refuses what comes after. */
  close(): Promise<void>;
}

/** How a transport is put together. */
export interface TransportOptions {
  readonly credentials: CredentialSource;
  readonly throttle?: Partial<ThrottleOptions> | undefined;
  readonly clock?: Clock | undefined;
  readonly random?: Random | undefined;
  readonly logger?: Logger | undefined;
  readonly metrics?: RuntimeMetrics | undefined;
  readonly userAgent?: string | undefined;
  /** Default 1 minute. */
  readonly credentialsMaxAgeMs?: number | undefined;
}

/** client-go waits at least a second after a 429; the server's Retry-After comes on top of this. */
const retryBackoff: BackoffOptions = { baseMs: 100, maxMs: 10_000 };
/** A server that asks for more than this is not waited for: the queue's back-off is the better place. */
const retryAfterMaxMs = 60_000;
const answerSizeMax = 256 * 1024 * 1024;
/** etcd takes 1.5 MiB an object by default; a watch line carries one. */
const lineSizeMax = 16 * 1024 * 1024;
/** Of an answer that says why a request for bytes was refused. */
const refusalSizeMax = 1024 * 1024;
const defaultTimeoutMs = 30_000;
/** Below the API server's own 90 s, so that this side closes first and no request meets a closing connection. */
const keepAliveMs = 55_000;

interface Connection {
  readonly credentials: Credentials;
  readonly fingerprint: string;
  readonly dispatcher: Dispatcher;
}

/** The {@link Transport} over HTTP/1.1 keep-alive connections: one dispatcher, made anew when certificates change. */
export class HttpTransport implements Transport {
  readonly metrics: RuntimeMetrics;
  private readonly options: TransportOptions;
  private readonly clock: Clock;
  private readonly random: Random;
  private readonly logger: Logger;
  private readonly throttle: Throttle;
  private readonly tracer = trace.getTracer('xtreemos-runtime');
  private readonly retired = new Set<Dispatcher>();
  private connection: Connection | undefined;
  private refreshing: Promise<void> | undefined;
  private refreshedAt = -Infinity;
  private readonly closing = new AbortController();

  constructor(options: TransportOptions) {
    this.options = options;
    this.clock = options.clock ?? systemClock;
    this.random = options.random ?? systemRandom();
    this.logger = options.logger ?? silentLogger;
    this.metrics = options.metrics ?? createRuntimeMetrics(createRegistry());
    this.throttle = new Throttle({ ...defaultThrottle, ...options.throttle }, this.clock);
  }

  async request(request: TransportRequest): Promise<unknown> {
    const retriesMax = request.retriesMax ?? 4;
    let isRenewed = false;
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.attempt(request);
      } catch (error) {
        if (error instanceof FencedError) this.metrics.fencedWrites.inc();
        if (error instanceof ApiError && error.statusCode === 401 && !isRenewed) {
          isRenewed = true;
          await this.renew();
          continue;
        }
        const delayMs = attempt < retriesMax ? this.retryDelayMs(request, error, attempt) : undefined;
        if (delayMs === undefined || this.closing.signal.aborted) throw error;
        this.metrics.requestRetries.inc({ verb: request.verb, reason: reasonOf(error) });
        await this.pause(delayMs, request.signal);
      }
    }
  }

  async stream(request: StreamRequest, onLine: (line: string) => void): Promise<void> {
    let timer: Timer | undefined;
    const start = (): LineExchange => {
      let activeAt = this.clock.monotonic();
      const options = { fence: request.fence, signal: request.signal, sizeMax: lineSizeMax };
      const exchange = new LineExchange(options, onLine, () => (activeAt = this.clock.monotonic()));
      const watchdog = (): void => {
        const idleMs = this.clock.monotonic() - activeAt;
        if (idleMs >= request.idleTimeoutMs)
          exchange.cancel(new Error(`nothing came for ${Math.round(idleMs / 1000)} s`));
        else timer = this.clock.after(request.idleTimeoutMs - idleMs, watchdog);
      };
      timer = this.clock.after(request.idleTimeoutMs, watchdog);
      return exchange;
    };
    await this.openEnded(request, start).finally(() => timer?.cancel());
  }

  async bytes(request: TransportRequest, onChunk: (chunk: Buffer) => void | Promise<void>): Promise<void> {
    const options = { fence: request.fence, signal: request.signal, sizeMax: refusalSizeMax };
    await this.openEnded(request, () => new ByteExchange(options, onChunk));
  }

  /**
   * An exchange whose answer may go on for ever.
   * @param start - makes it once it can be sent: it follows the signal from then on, and somebody has to wait for its end.
   */
  private async openEnded(request: TransportRequest, start: () => LineExchange | ByteExchange): Promise<void> {
    await this.turn(request, false);
    await this.connect();
    request.signal?.throwIfAborted();
    const exchange = start();
    try {
      this.dispatch(request, exchange);
      const body = await exchange.end;
      this.throwIfRefused(request, exchange.statusCode, exchange.headers, body);
    } catch (error) {
      if (error instanceof ApiError && error.statusCode === 401) this.refreshedAt = -Infinity;
      throw this.translate(request, error, exchange.isSent);
    }
  }

  async close(): Promise<void> {
    if (this.closing.signal.aborted) return;
    const reason = new Error('The transport is closed');
    this.closing.abort(reason);
    this.throttle.close(reason);
    const dispatchers = [...this.retired, this.connection?.dispatcher];
    await Promise.all(dispatchers.map(async (dispatcher) => dispatcher?.destroy(reason)));
  }

  private async attempt(request: TransportRequest): Promise<unknown> {
    await this.turn(request, true);
    try {
      await this.connect();
      request.signal?.throwIfAborted();
      const startedAt = this.clock.monotonic();
      const span = this.tracer.startSpan(`${request.verb} ${request.resource}`, { kind: SpanKind.CLIENT });
      let code = 0;
      try {
        request.fence?.check();
        const exchange = new UnaryExchange({ fence: request.fence, signal: request.signal, sizeMax: answerSizeMax });
        const body = await this.exchange(request, exchange);
        code = exchange.statusCode;
        this.throwIfRefused(request, code, exchange.headers, body);
        return body === '' ? undefined : parseJson(request, body);
      } catch (error) {
        span.setStatus({ code: SpanStatusCode.ERROR, message: describeError(error) });
        throw error;
      } finally {
        const seconds = (this.clock.monotonic() - startedAt) / 1000;
        this.metrics.requestSeconds.observe({ verb: request.verb, resource: request.resource, code }, seconds);
        span.setAttribute('http.response.status_code', code);
        span.end();
      }
    } finally {
      this.throttle.release();
    }
  }

  private async exchange(request: TransportRequest, exchange: UnaryExchange): Promise<string> {
    const timeoutMs = request.timeoutMs ?? defaultTimeoutMs;
    const timer = this.clock.after(timeoutMs, () => exchange.cancel(new Error(`no answer within ${timeoutMs} ms`)));
    try {
      this.dispatch(request, exchange);
      return await exchange.body;
    } catch (error) {
      throw this.translate(request, error, exchange.isSent);
    } finally {
      timer.cancel();
    }
  }

  private dispatch(request: TransportRequest, exchange: UnaryExchange | LineExchange | ByteExchange): void {
    assert(this.connection !== undefined, 'A request was dispatched before there were credentials');
    const { credentials, dispatcher } = this.connection;
    const headers: Record<string, string> = {
      accept: 'application/json',
      'user-agent': this.options.userAgent ?? 'xtreemos-runtime',
      ...credentials.headers,
    };
    if (request.body !== undefined) headers['content-type'] = request.contentType ?? 'application/json';
    const options: Dispatcher.DispatchOptions = {
      origin: credentials.origin,
      path: credentials.basePath + request.path,
      method: request.method,
      headers,
      body: request.body ?? null,
      // Whole requests and idle streams are timed here, by the injected clock.
      headersTimeout: 0,
      bodyTimeout: 0,
    };
    try {
      dispatcher.dispatch(options, exchange);
    } catch (error) {
      exchange.cancel(asError(error));
    }
  }

  private async turn(request: TransportRequest, holds: boolean): Promise<void> {
    this.closing.signal.throwIfAborted();
    const turn = this.throttle.acquire(request.priority, holds, request.signal);
    if (turn === undefined) return;
    const startedAt = this.clock.monotonic();
    await turn;
    this.metrics.throttledSeconds.observe({ priority: request.priority }, (this.clock.monotonic() - startedAt) / 1000);
  }

  /**
   * Sees to it that there is a connection of fresh credentials. Those in use go on being used while new ones are read;
   * so the connection is looked up only when the request is dispatched.
   */
  private async connect(): Promise<void> {
    const maxAgeMs = this.options.credentialsMaxAgeMs ?? 60_000;
    const isKnown = this.connection !== undefined;
    if (isKnown && this.clock.monotonic() - this.refreshedAt < maxAgeMs) return;
    const refresh = this.refresh(isKnown && this.refreshedAt === -Infinity);
    if (!isKnown) await refresh;
    else refresh.catch((error: unknown) => this.logger.warn('Keeping old credentials', { err: error }));
  }

  /** After a 401: reads the credentials anew, once for all requests that were refused meanwhile. */
  private async renew(): Promise<void> {
    await this.refresh(true);
  }

  private async refresh(renew: boolean): Promise<void> {
    this.refreshing ??= this.load(renew).finally(() => (this.refreshing = undefined));
    return this.refreshing;
  }

  private async load(renew: boolean): Promise<void> {
    const attemptedAt = this.clock.monotonic();
    if (this.connection !== undefined) this.refreshedAt = attemptedAt;
    const credentials = await this.options.credentials.load(renew);
    this.closing.signal.throwIfAborted();
    const fingerprint = JSON.stringify([credentials.origin, credentials.proxy, credentials.tls]);
    const old = this.connection;
    const isSame = old?.fingerprint === fingerprint;
    const dispatcher = isSame ? old.dispatcher : createDispatcher(credentials);
    this.connection = { credentials, fingerprint, dispatcher };
    this.refreshedAt = attemptedAt;
    if (old !== undefined && !isSame) this.retire(old.dispatcher);
  }

  /** Lets requests and watches of the old certificates end in their own time: a watch lasts ten minutes at most. */
  private retire(dispatcher: Dispatcher): void {
    this.logger.info('Certificates changed, opening new connections');
    this.retired.add(dispatcher);
    dispatcher
      .close()
      .catch((error: unknown) => this.logger.debug('Closing old connections failed', { err: error }))
      .finally(() => this.retired.delete(dispatcher));
  }

  private async pause(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
    const signals = signal === undefined ? [this.closing.signal] : [this.closing.signal, signal];
    await this.clock.sleep(delayMs, AbortSignal.any(signals));
  }

  private retryDelayMs(request: TransportRequest, error: unknown, attempt: number): number | undefined {
    if (request.signal?.aborted === true || !isRepeatable(request, error)) return undefined;
    const askedMs = error instanceof ApiError ? (error.retryAfterMs ?? 0) : 0;
    if (askedMs > retryAfterMaxMs) return undefined;
    return askedMs + fullJitterMs(retryBackoff, attempt, this.random);
  }

  private throwIfRefused(request: TransportRequest, code: number, headers: ResponseHeaders, body: string): void {
    if (code < 400) return;
    throw apiError(request, code, statusOf(body), retryAfterMs(headers));
  }

  private translate(request: TransportRequest, error: unknown, isSent: boolean): unknown {
    if (error instanceof ApiError || error instanceof FencedError) return error;
    if (request.signal?.aborted === true) return request.signal.reason;
    return new ConnectionError(request, describeError(error), { maySent: isSent, cause: error });
  }
}

function createDispatcher({ tls, proxy }: Credentials): Dispatcher {
  const material = Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined));
  const connect = { ...material, timeout: 10_000, keepAlive: true, keepAliveInitialDelay: 30_000 };
  const options = {
    allowH2: false,
    pipelining: 1,
    keepAliveTimeout: keepAliveMs,
    keepAliveMaxTimeout: keepAliveMs,
    connect,
  };
  return proxy === undefined
    ? new Agent(options)
    : new ProxyAgent({ ...options, uri: proxy, requestTls: { ...material, timeout: 10_000 } });
}

/** What may be sent again. 429 was not looked at by the server, so that every verb may be. */
function isRepeatable(request: TransportRequest, error: unknown): boolean {
  if (error instanceof TooManyRequestsError) return error.details.causes?.some(isDisruptionBudget) !== true;
  if (error instanceof ServerError) {
    return request.isIdempotent && (error.retryAfterMs !== undefined || [502, 503, 504].includes(error.statusCode));
  }
  return error instanceof ConnectionError && (request.isIdempotent || !error.maySent);
}

function isDisruptionBudget(cause: { reason?: string | undefined }): boolean {
  return cause.reason === 'DisruptionBudget';
}

function reasonOf(error: unknown): string {
  if (error instanceof ApiError) return String(error.statusCode);
  if (!(error instanceof ConnectionError)) return 'other';
  return systemErrorCode(error.cause) ?? 'connection';
}

/** Retry-After in seconds; the date form isn't used by API servers. */
function retryAfterMs(headers: ResponseHeaders): number | undefined {
  const value = headers['retry-after'];
  const seconds = typeof value === 'string' ? Number(value) : NaN;
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined;
}

function parseJson(request: TransportRequest, body: string): unknown {
  try {
    return JSON.parse(body);
  } catch (error) {
    const message = `the answer is no JSON (${body.slice(0, 80)}): is this an API server?`;
    throw new ConnectionError(request, message, { maySent: true, cause: error });
  }
}

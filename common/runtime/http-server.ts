import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import type { Registry } from '#common/metrics.ts';
import { remember } from '#common/remember.ts';
import type { Client, HealthCheck } from './contracts.ts';
import { reviewToken } from './token-review.ts';

/** Where a server listens. */
export interface ListenOptions {
  /** Default: all addresses. */
  readonly host?: string | undefined;
  /** 0: any free port. */
  readonly port: number;
  /** PEM; without it the server speaks plain HTTP. */
  readonly tls?: { readonly cert: string; readonly key: string } | undefined;
}

/** Answers GET of known paths. */
export interface Answer {
  readonly status: number;
  readonly type?: string;
  readonly body: string;
}
export type Handler = (request: IncomingMessage) => Promise<Answer>;

/** A kubelet and a scraper or two: more connections than this are not meant. */
const connectionsMax = 64;
const requestMs = 15_000;

/** A small, bounded HTTP server: GET and HEAD of exact paths, no bodies, few connections, short waits. */
export class HttpServer {
  private readonly server: Server;
  private readonly routes: ReadonlyMap<string, Handler>;
  private readonly options: ListenOptions;
  private readonly logger: Logger;

  constructor(options: ListenOptions, routes: ReadonlyMap<string, Handler>, logger: Logger) {
    this.options = options;
    this.routes = routes;
    this.logger = logger;
    const limits = {
      requestTimeout: requestMs,
      headersTimeout: requestMs,
      keepAliveTimeout: 5_000,
      maxHeaderSize: 16_384,
    };
    const listener = (request: IncomingMessage, response: ServerResponse): void => void this.answer(request, response);
    this.server =
      options.tls === undefined
        ? createServer(limits, listener)
        : createTlsServer({ ...limits, ...options.tls }, listener);
    this.server.maxConnections = connectionsMax;
  }

  /** Listens. @returns the port. @throws when the address is taken. */
  async start(): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen({ port: this.options.port, host: this.options.host }, () => {
        this.server.off('error', reject);
        this.server.on('error', (error) => this.logger.error('HTTP server failed', { err: error }));
        resolve();
      });
    });
    return (this.server.address() as AddressInfo).port;
  }

  /** Ends every connection. */
  async stop(): Promise<void> {
    if (!this.server.listening) return;
    await new Promise<void>((resolve) => {
      this.server.close(() => resolve());
      this.server.closeAllConnections();
    });
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { status, type = 'text/plain; charset=utf-8', body } = await this.handle(request);
    const length = Buffer.byteLength(body);
    response.writeHead(status, { 'content-type': type, 'content-length': length, 'x-content-type-options': 'nosniff' });
    response.end(request.method === 'HEAD' ? undefined : body);
    request.resume();
  }

  private async handle(request: IncomingMessage): Promise<Answer> {
    if (request.method !== 'GET' && request.method !== 'HEAD') return { status: 405, body: 'Only GET\n' };
    const [path = ''] = (request.url ?? '').split('?', 1);
    const handler = this.routes.get(path);
    if (handler === undefined) return { status: 404, body: `Not here: ${[...this.routes.keys()].join(' ')}\n` };
    try {
      return await handler(request);
    } catch (error) {
      this.logger.error('HTTP handler failed', { path, err: error });
      return { status: 500, body: 'Internal error, see the log\n' };
    }
  }
}

/**
 * Runs checks one after the other and reports them as Kubernetes components do: 200 `ok`, or 500 with the reasons.
 * With `?verbose` each check is listed.
 */
export function healthHandler(checks: ReadonlyMap<string, HealthCheck>): Handler {
  return async (request) => {
    const lines: string[] = [];
    let isHealthy = true;
    for (const [name, check] of checks) {
      try {
        await check();
        lines.push(`[+]${name} ok`);
      } catch (error) {
        isHealthy = false;
        lines.push(`[-]${name} failed: ${describeError(error)}`);
      }
    }
    const isVerbose = /[?&]verbose\b/.test(request.url ?? '');
    if (isHealthy && !isVerbose) return { status: 200, body: 'ok' };
    return { status: isHealthy ? 200 : 500, body: `${lines.join('\n')}\n` };
  };
}

/** The metrics of a registry, in the Prometheus text format. */
export function metricsHandler(registry: Registry): Handler {
  return async () => ({ status: 200, type: registry.contentType, body: await registry.metrics() });
}

/** How long an answer about a token is believed, and how many are kept. */
const reviewMs = 60_000;
const reviewsMax = 256;

interface Review {
  readonly until: number;
  readonly status: number;
}

/**
 * Lets through only whom the API server lets `get` the same non-resource URL: TokenReview, then SubjectAccessReview.
 * Give such a server TLS: a bearer token over plain HTTP is there for anyone on the way to take.
 */
export function authorized(client: Client, clock: Clock, path: string, handler: Handler): Handler {
  const reviews = new Map<string, Review>();
  return async (request) => {
    const token = /^Bearer (\S{1,16384})$/.exec(request.headers.authorization ?? '')?.[1];
    if (token === undefined) return { status: 401, body: 'Give a bearer token\n' };
    let review = reviews.get(token);
    if (review === undefined || review.until <= clock.monotonic()) {
      review = { status: await reviewAccess(client, token, path), until: clock.monotonic() + reviewMs };
      remember(reviews, token, review, reviewsMax);
    }
    if (review.status === 200) return handler(request);
    return {
      status: review.status,
      body: review.status === 401 ? 'The token is not valid\n' : `No right to get ${path}\n`,
    };
  };
}

async function reviewAccess(client: Client, token: string, path: string): Promise<number> {
  const user = await reviewToken(client, token);
  if (user === undefined) return 401;
  const access = {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SubjectAccessReview',
    spec: {
      user: user.username,
      uid: user.uid,
      groups: user.groups,
      extra: user.extra,
      nonResourceAttributes: { path, verb: 'get' },
    },
  };
  const may = (await client.raw('POST', '/apis/authorization.k8s.io/v1/subjectaccessreviews', access)) as {
    status?: { allowed?: boolean };
  };
  return may.status?.allowed === true ? 200 : 403;
}

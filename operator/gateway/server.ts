import { constants } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { type AddressInfo, Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { Duplex } from 'node:stream';
import type { AuditLog } from '#common/audit.ts';
import type { Clock } from '#common/clock.ts';
import type { Principal } from '#common/identity/ids.ts';
import type { Logger } from '#common/logger.ts';
import { Act, addressRate, bearerOf, handleMs, principalRate, refusalBody, refusalOf, throttle } from './acts.ts';
import { readForm, readJson, type RouteAnswer, send } from './exchange.ts';
import { Counter, RateLimiter } from './limits.ts';
import { type ClientCertificate, readClientCertificate } from './login/client-certificate.ts';
import type { GatewayMetrics } from './metrics.ts';
import { refusalPage } from './pages/page.ts';
import { Refusal } from './refusal.ts';

const headerMaxBytes = 24_576;
const programMaxChars = 80;
const connectionsMax = 2048;
const connectionsPerAddressMax = 256;
/** Handshake, headers and whole request each have to be done in so long, milliseconds. */
const receiveMs = 10_000;
const keepAliveMs = 30_000;
const loginRate = { perSecond: 5, burst: 40 };

/** What is served with, and whose client certificates are looked at. PEM. */
export interface TlsMaterial {
  readonly cert: string;
  readonly key: string;
  readonly ca: readonly string[];
}

/** One request, as a route sees it. */
export interface RequestContext {
  readonly body: unknown;
  /** Parts of the path that the route names. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  /** What the browser keeps for us, by name. */
  readonly cookies: ReadonlyMap<string, string>;
  /** Where the request comes from. */
  readonly address: string;
  /** What the program calls itself: printable and short. */
  readonly program: string;
  readonly bearer: string | undefined;
  /** @throws {Refusal} when there is one that isn't good. */
  readonly certificate: () => ClientCertificate | undefined;
  readonly signal: AbortSignal;
  /** Says who asks, for limits and the audit log. @throws {Refusal} when they ask too often. */
  identify(principal: Principal): void;
  /** Says what it is about, for the audit log. */
  concern(kind: string, name: string): void;
}

/** One route. */
export interface Route {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** Path; a part in braces is a parameter. */
  readonly path: string;
  /** For metrics and the audit log: area, dot, verb. */
  readonly name: string;
  /** Reading what anyone may read isn't a decision; refusals always are. */
  readonly isAudited: boolean;
  /** Whether it is a login, which fewer are allowed of. */
  readonly isLogin: boolean;
  /** Whether people open it: bodies are forms of our own pages, and refusals are pages. */
  readonly isPage?: boolean;
  handle(context: RequestContext): Promise<RouteAnswer>;
}

/** What the server is made of. */
export interface ServerParts {
  readonly routes: readonly Route[];
  readonly clock: Clock;
  readonly log: Logger;
  readonly audit: AuditLog;
  readonly metrics: GatewayMetrics;
  /** Takes the connections of peers: those that speak HTTP/2. */
  readonly peers: PeerDoor;
  /** Takes requests that turn their connection into another protocol; without it there are none. */
  readonly upgrades?: UpgradeDoor | undefined;
}

/** Where connections go that turn into another protocol. */
export interface UpgradeDoor {
  /** Takes the connection, to answer or to end it. */
  take(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** Ends all of them. */
  stop(): void;
}

/** Where connections of peers go, after their handshake. */
export interface PeerDoor {
  accept(socket: TLSSocket): void;
  /** Ends all of them. */
  stop(): void;
}

/** HTTPS for users, with a limit for everything: sizes, times, connections, rates. */
export class GatewayServer {
  private readonly parts: ServerParts;
  private readonly server: Server;
  private readonly open = new Counter();
  private readonly byAddress: RateLimiter;
  private readonly byLogin: RateLimiter;
  private readonly byPrincipal: RateLimiter;

  constructor(parts: ServerParts, tls: TlsMaterial) {
    this.parts = parts;
    this.byAddress = new RateLimiter(parts.clock, addressRate);
    this.byLogin = new RateLimiter(parts.clock, loginRate);
    this.byPrincipal = new RateLimiter(parts.clock, principalRate);
    this.server = createServer(
      {
        ...secureContext(tls),
        requestCert: true,
        // Who has none, or one that isn't good, may still do what needs none.
        rejectUnauthorized: false,
        handshakeTimeout: receiveMs,
        headersTimeout: receiveMs,
        requestTimeout: receiveMs,
        connectionsCheckingInterval: 2000,
        keepAliveTimeout: keepAliveMs,
        maxHeaderSize: headerMaxBytes,
        // Who offers both is a user's program; gRPC offers h2 alone.
        ALPNProtocols: ['http/1.1', 'h2'],
      },
      (request, response) => void this.answer(request, response),
    );
    this.routeByProtocol();
    const { upgrades } = parts;
    if (upgrades !== undefined) this.server.on('upgrade', upgrades.take.bind(upgrades));
    this.server.maxConnections = connectionsMax;
    this.server.on('connection', (socket) => {
      const address = socket instanceof Socket ? (socket.remoteAddress ?? '') : '';
      const count = this.open.add(address);
      parts.metrics.connections.inc();
      socket.once('close', () => {
        this.open.remove(address);
        parts.metrics.connections.dec();
      });
      if (count <= connectionsPerAddressMax) return;
      parts.metrics.refusedConnections.inc({ reason: 'too-many-of-address' });
      socket.destroy();
    });
    this.server.on('drop', () => parts.metrics.refusedConnections.inc({ reason: 'too-many' }));
    this.server.on('tlsClientError', () => parts.metrics.refusedConnections.inc({ reason: 'tls' }));
  }

  /** Listens. @returns the port. */
  async start(port: number, host?: string): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen({ port, host }, () => {
        this.server.off('error', reject);
        this.server.on('error', (error) => this.parts.log.error('Gateway server failed', { err: error }));
        resolve();
      });
    });
    return (this.server.address() as AddressInfo).port;
  }

  /** From the next connection on other material is used. */
  reload(tls: TlsMaterial): void {
    this.server.setSecureContext(secureContext(tls));
  }

  /** Lets running requests end for a moment, then closes. */
  async stop(): Promise<void> {
    this.parts.peers.stop();
    this.parts.upgrades?.stop();
    await new Promise<void>((resolve) => {
      const timer = this.parts.clock.after(2000, () => this.server.closeAllConnections());
      this.server.close(() => {
        timer.cancel();
        resolve();
      });
      this.server.closeIdleConnections();
    });
  }

  /** One port for both: what TLS agreed on says whether a connection is a user's or a peer's. */
  private routeByProtocol(): void {
    const { peers, metrics } = this.parts;
    const users = this.server.listeners('secureConnection') as ((socket: TLSSocket) => void)[];
    this.server.removeAllListeners('secureConnection');
    this.server.on('secureConnection', (socket) => {
      if (socket.alpnProtocol !== 'h2') {
        for (const listener of users) listener.call(this.server, socket);
      } else if (this.byAddress.take(socket.remoteAddress ?? '') > 0) {
        metrics.refusedConnections.inc({ reason: 'too-often' });
        socket.destroy();
      } else peers.accept(socket);
    });
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { clock, metrics } = this.parts;
    const start = clock.monotonic();
    const act = new Act(request);
    const { route, parameters } = this.find(request);
    let answer: RouteAnswer;
    try {
      answer = await this.handle(request, act, route, parameters);
      this.record(act, route, { outcome: 'Allowed', why: answer.why ?? 'Allowed' });
      metrics.requests.inc({ route: route?.name ?? 'none', code: 'OK' });
    } catch (error) {
      const refusal = refusalOf(error, act, this.parts.log);
      const { status } = refusal;
      answer = route?.isPage === true ? { status, page: refusalPage(refusal) } : { status, body: refusalBody(refusal) };
      if (refusal.retryAfterSeconds !== undefined) response.setHeader('retry-after', refusal.retryAfterSeconds);
      const outcome = refusal.status >= 500 ? 'Failed' : 'Refused';
      this.record(act, route, { outcome, why: refusal.reason, message: refusal.message, policy: refusal.policy });
      metrics.requests.inc({ route: route?.name ?? 'none', code: refusal.code });
    }
    metrics.seconds.observe({ route: route?.name ?? 'none' }, (clock.monotonic() - start) / 1000);
    send(request, response, answer);
  }

  private async handle(
    request: IncomingMessage,
    act: Act,
    route: Route | undefined,
    parameters: Readonly<Record<string, string>>,
  ): Promise<RouteAnswer> {
    throttle(this.byAddress, act.address);
    if (route === undefined) throw this.notHere(request);
    if (route.isLogin) throttle(this.byLogin, act.address);
    const read = route.isPage === true ? readForm : readJson;
    const body = request.method === 'POST' ? await read(request) : undefined;
    const { socket, headers } = request;
    return route.handle({
      body,
      parameters,
      query: new URLSearchParams((request.url ?? '').split('?')[1] ?? ''),
      cookies: cookiesOf(headers.cookie ?? ''),
      address: act.address,
      program: (headers['user-agent'] ?? '').replaceAll(/[^ -~]/g, '').slice(0, programMaxChars),
      bearer: bearerOf(request),
      certificate: () => (socket instanceof TLSSocket ? readClientCertificate(socket) : undefined),
      signal: AbortSignal.timeout(handleMs),
      identify: (principal) => {
        act.who = principal;
        throttle(this.byPrincipal, `${principal.issuer} ${principal.subject}`);
      },
      concern: (kind, name) => void (act.on[kind] = name),
    });
  }

  private find({ method, url = '' }: IncomingMessage): {
    readonly route: Route | undefined;
    readonly parameters: Readonly<Record<string, string>>;
  } {
    const parts = pathOf(url).split('/');
    for (const route of this.parts.routes) {
      const parameters = route.method === method ? matchPath(route.path.split('/'), parts) : undefined;
      if (parameters !== undefined) return { route, parameters };
    }
    return { route: undefined, parameters: {} };
  }

  private notHere({ method = '', url = '' }: IncomingMessage): Refusal {
    const parts = pathOf(url).split('/');
    const others = this.parts.routes.filter((route) => matchPath(route.path.split('/'), parts) !== undefined);
    if (others.length === 0)
      return new Refusal('NotFound', 'There is nothing under this path: see docs/identity.md for the routes.');
    const known = others.map((route) => route.method).join(', ');
    return new Refusal('MethodNotAllowed', `This path knows ${known}, not ${method.slice(0, 16)}.`);
  }

  private record(
    { who, on, address, id }: Act,
    route: Route | undefined,
    result: { outcome: 'Allowed' | 'Refused' | 'Failed'; why: string; message?: string; policy?: string | undefined },
  ): void {
    if (route?.isAudited !== true && result.outcome === 'Allowed') return;
    this.parts.audit.record({ who, what: route?.name ?? 'gateway.request', on, from: address, id, ...result });
  }
}

function secureContext({ cert, key, ca }: TlsMaterial): object {
  return {
    cert,
    key,
    ca: [...ca],
    // A bundle may hold an intermediate authority alone.
    allowPartialTrustChain: true,
    minVersion: 'TLSv1.2',
    // Certificates are looked at anew with each connection.
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

function cookiesOf(header: string): Map<string, string> {
  const pairs = header.split(';').map((pair) => pair.trim().split('='));
  return new Map(pairs.map(([name = '', ...value]) => [name, value.join('=')]));
}

function pathOf(url: string): string {
  return url.split('?', 1)[0] ?? '';
}

function matchPath(pattern: readonly string[], parts: readonly string[]): Record<string, string> | undefined {
  if (pattern.length !== parts.length) return undefined;
  const parameters: Record<string, string> = {};
  for (const [index, part] of pattern.entries()) {
    const given = parts[index] ?? '';
    if (!part.startsWith('{')) {
      if (part !== given) return undefined;
    } else if (/^[a-z0-9]([-a-z0-9]{0,58}[a-z0-9])?$/.test(given)) parameters[part.slice(1, -1)] = given;
    else return undefined;
  }
  return parameters;
}

import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Logger } from '#common/logger.ts';
import { pageStyle, renderHtml, renderJson, type StatusPage } from './status-page.ts';

/** What a request is answered with. */
export interface HttpAnswer {
  readonly contentType: string;
  readonly body: string;
}

/** What a status server shows. */
export interface StatusServerOptions {
  readonly logger: Logger;
  /** 0 for any. */
  readonly port: number;
  readonly host?: string | undefined;
  readonly page: () => StatusPage | Promise<StatusPage>;
  /** Prometheus's text format. */
  readonly metrics: () => string | Promise<string>;
  /** Why the server is not ready; undefined when it is. */
  readonly problem: () => string | undefined;
  /** With a password pages ask for user `admin`; `/metrics` and the health checks stay open. */
  readonly adminPassword?: string | undefined;
  /** More pages, by path. */
  readonly routes?: Readonly<Record<string, () => HttpAnswer | Promise<HttpAnswer>>>;
}

const openPaths: readonly string[] = ['/metrics', '/healthz', '/readyz'];
const policy = `default-src 'none'; style-src 'sha256-${createHash('sha256').update(pageStyle).digest('base64')}'`;

/** Status over HTTP: `/` for people, `/status.json` for programs, `/metrics`, `/healthz` and `/readyz` for machines. */
export class StatusServer {
  private readonly options: StatusServerOptions;
  private readonly server: Server;

  constructor(options: StatusServerOptions) {
    this.options = options;
    this.server = createServer(
      { requestTimeout: 10_000, headersTimeout: 5_000, maxHeaderSize: 16_384 },
      (request, response) => {
        this.answer(request, response).catch((error: unknown) => {
          options.logger.error('Status page failed', { err: error });
          send(response, 500, { contentType: 'text/plain', body: 'The page failed; the log of the server says why\n' });
        });
      },
    );
    this.server.maxConnections = 256;
  }

  /** @returns the port. @throws when the port is taken. */
  async start(): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(this.options.port, this.options.host, () => resolve());
    });
    const bound = this.server.address();
    return bound !== null && typeof bound === 'object' ? bound.port : this.options.port;
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      send(response, 405, { contentType: 'text/plain', body: 'Use GET\n' });
      return;
    }
    const path = (request.url ?? '/').split('?', 1)[0] ?? '/';
    if (!openPaths.includes(path) && !this.isAllowed(request)) {
      response.setHeader('WWW-Authenticate', 'Basic realm="xtreemfs", charset="UTF-8"');
      send(response, 401, { contentType: 'text/plain', body: 'Log in as admin with the admin password\n' });
      return;
    }
    const found = await this.find(path);
    if (found === undefined) send(response, 404, { contentType: 'text/plain', body: 'There is no such page\n' });
    else send(response, found.status, found);
  }

  private async find(path: string): Promise<(HttpAnswer & { status: number }) | undefined> {
    const { page, metrics, problem, routes = {} } = this.options;
    switch (path) {
      case '/':
        return { status: 200, contentType: 'text/html; charset=utf-8', body: renderHtml(await page()) };
      case '/status.json':
        return { status: 200, contentType: 'application/json', body: renderJson(await page()) };
      case '/metrics':
        return { status: 200, contentType: 'text/plain; version=0.0.4; charset=utf-8', body: await metrics() };
      case '/healthz':
        return { status: 200, contentType: 'text/plain', body: 'ok\n' };
      case '/readyz': {
        const reason = problem();
        return { status: reason === undefined ? 200 : 503, contentType: 'text/plain', body: `${reason ?? 'ok'}\n` };
      }
      default: {
        const route = Object.hasOwn(routes, path) ? routes[path] : undefined;
        return route === undefined ? undefined : { status: 200, ...(await route()) };
      }
    }
  }

  private isAllowed(request: IncomingMessage): boolean {
    const { adminPassword } = this.options;
    if (adminPassword === undefined || adminPassword === '') return true;
    const expected = `Basic ${Buffer.from(`admin:${adminPassword}`).toString('base64')}`;
    const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
    return timingSafeEqual(digest(expected), digest(request.headers.authorization ?? ''));
  }
}

function send(response: ServerResponse, status: number, { contentType, body }: HttpAnswer): void {
  if (response.headersSent) {
    response.end();
    return;
  }
  response.writeHead(status, {
    'Content-Type': contentType,
    'Content-Security-Policy': policy,
    'X-Content-Type-Options': 'nosniff',
    'Cache-Control': 'no-store',
  });
  response.end(body);
}

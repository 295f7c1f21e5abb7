import { spawn } from 'node:child_process';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

const page = (text: string): string =>
  `<!doctype html><meta charset="utf-8"><title>xos login</title><body style="font:16px system-ui;margin:4em"><p>${text}</p>`;

/** A port on the loopback that a browser comes back to after login (RFC 8252 §7.3). Takes one arrival. */
export class Redirect implements AsyncDisposable {
  readonly uri: string;
  private readonly server: Server;
  private readonly arrived = Promise.withResolvers<string>();

  private constructor(server: Server) {
    this.server = server;
    this.uri = `http://127.0.0.1:${(server.address() as AddressInfo).port}/callback`;
    server.on('request', (request, response) => {
      const url = new URL(request.url ?? '/', this.uri);
      const isArrival = url.pathname === '/callback' && (url.searchParams.has('code') || url.searchParams.has('error'));
      // What the query says is the gateway's to judge; here it is not even shown.
      const text = isArrival
        ? 'Back to the terminal: it says whether you are logged in. This page can be closed.'
        : 'Not found.';
      response.writeHead(isArrival ? 200 : 404, {
        'content-type': 'text/html; charset=utf-8',
        'cache-control': 'no-store',
        'referrer-policy': 'no-referrer',
        connection: 'close',
      });
      response.end(page(text));
      if (isArrival) this.arrived.resolve(url.href);
    });
  }

  /** Listens on a free port. */
  static async listen(): Promise<Redirect> {
    const server = createServer({ requestTimeout: 10_000, maxHeaderSize: 16_384 });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject).listen(0, '127.0.0.1', resolve);
    });
    return new Redirect(server);
  }

  /** The whole URL that the browser came back to. @throws the signal's reason when it aborts first. */
  async arrival(signal: AbortSignal): Promise<string> {
    const aborted = Promise.withResolvers<never>();
    const onAbort = (): void => aborted.reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      return await Promise.race([this.arrived.promise, aborted.promise]);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

/** Opens a page in the user's browser where there is one: BROWSER, else what the desktop uses. */
export function openBrowser(url: string, env: Readonly<Record<string, string | undefined>>): void {
  const hasDesktop = process.platform !== 'linux' || (env.DISPLAY ?? env.WAYLAND_DISPLAY ?? '') !== '';
  const usual = process.platform === 'darwin' ? 'open' : 'xdg-open';
  const command = env.BROWSER ?? (hasDesktop ? usual : '');
  if (command === '') return;
  const child = spawn(command, [url], { stdio: 'ignore', detached: true });
  // No browser is no failure: the address has been shown.
  child.on('error', () => undefined);
  child.unref();
}

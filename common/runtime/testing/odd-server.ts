import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Credentials, CredentialSource } from '../credentials.ts';

/** One request as the server got it. */
export interface Received {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

/** Answers a request in any odd way; `index` counts from 0. */
export type Answerer = (request: Received, response: ServerResponse, index: number) => void | Promise<void>;

/**
 * A narrow HTTP server for the odd cases that a real API server can't be made to show: it answers as a test says and
 * remembers what it got. Everything else is tested against the real thing (`*.envtest.ts`).
 */
export class OddServer {
  readonly received: Received[] = [];
  connections = 0;
  origin = '';
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();

  constructor(answer: Answerer) {
    this.server = createServer((request, response) => void this.take(request, response, answer));
    this.server.keepAliveTimeout = 60_000;
    this.server.on('connection', (socket: Socket) => {
      this.connections++;
      this.sockets.add(socket);
      socket.on('close', () => this.sockets.delete(socket));
    });
  }

  /** Connections that are open now. */
  get open(): number {
    return this.sockets.size;
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.origin = `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
    return this;
  }

  /** Credentials for it; `change` may alter them at each load. */
  credentials(change: (loads: number, renew: boolean) => Partial<Credentials> = () => ({})): CredentialSource {
    let loads = 0;
    return {
      load: async (renew) => ({
        origin: this.origin,
        basePath: '',
        headers: {},
        tls: { rejectUnauthorized: true },
        ...change(loads++, renew),
      }),
    };
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private async take(request: IncomingMessage, response: ServerResponse, answer: Answerer): Promise<void> {
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const received = { method: request.method ?? '', url: request.url ?? '', headers: request.headers, body };
    await answer(received, response, this.received.push(received) - 1);
  }
}

/** Answers with JSON. */
export function json(
  response: ServerResponse,
  code: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(code, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
}

/** Answers with a Status. */
export function refuse(
  response: ServerResponse,
  code: number,
  reason: string,
  headers: Record<string, string> = {},
): void {
  json(response, code, { kind: 'Status', code, reason, message: `${reason} it is` }, headers);
}

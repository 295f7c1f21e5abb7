import { connect, createServer, type Server, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import type { CredentialSource } from '../credentials.ts';

/** A TCP proxy in front of an API server that can be cut: the network between one client and the server. */
export class CuttableProxy {
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();
  private isCut = false;

  constructor(target: string) {
    const { hostname, port } = new URL(target);
    this.server = createServer((inner) => {
      if (this.isCut) {
        inner.destroy();
        return;
      }
      const outer = connect(Number(port), hostname);
      for (const [one, other] of [
        [inner, outer],
        [outer, inner],
      ] as const) {
        this.sockets.add(one);
        one.on('error', () => other.destroy());
        one.on('close', () => {
          this.sockets.delete(one);
          other.destroy();
        });
        one.pipe(other);
      }
    });
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    return this;
  }

  /** Credentials that go through this proxy. */
  through(source: CredentialSource): CredentialSource {
    const { port } = this.server.address() as AddressInfo;
    return { load: async (renew) => ({ ...(await source.load(renew)), origin: `https://127.0.0.1:${port}` }) };
  }

  /** Breaks every connection and refuses new ones. */
  cut(): void {
    this.isCut = true;
    for (const socket of this.sockets) socket.destroy();
  }

  heal(): void {
    this.isCut = false;
  }

  async stop(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

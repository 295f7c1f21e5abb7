import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { get } from 'node:https';
import { createServer } from 'node:net';
import path from 'node:path';

const entry = path.resolve(import.meta.dirname, '../main.ts');

/** One replica of the operator as a process of its own, for tests. */
export class OperatorProcess {
  readonly healthPort: number;
  readonly metricsPort: number;
  private readonly child: ChildProcess;
  private readonly ended: Promise<unknown>;
  private output = '';

  private constructor(child: ChildProcess, healthPort: number, metricsPort: number) {
    this.child = child;
    this.healthPort = healthPort;
    this.metricsPort = metricsPort;
    this.ended = once(child, 'exit');
    const collect = (chunk: Buffer): void => void (this.output += chunk.toString());
    child.stdout?.on('data', collect);
    child.stderr?.on('data', collect);
  }

  /** Starts a replica. @param args - flags besides the ports and the kubeconfig. */
  static async start(kubeconfig: string, ...args: string[]): Promise<OperatorProcess> {
    const [health, metrics] = [await freePort(), await freePort()];
    const flags = ['--kubeconfig', kubeconfig, '--health-port', String(health), '--metrics-port', String(metrics)];
    const child = spawn(process.execPath, [entry, ...flags, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    return new OperatorProcess(child, health, metrics);
  }

  /** What it has logged so far. */
  get log(): string {
    return this.output;
  }

  /** Answer of a path of its health server, such as `/readyz`; 0 while it isn't listening. */
  async health(at: string): Promise<number> {
    return fetch(`http://127.0.0.1:${this.healthPort}${at}`).then(
      (response) => response.status,
      () => 0,
    );
  }

  /** The metrics, as a collector with this token gets them; over TLS, whose certificate isn't checked, as nothing vouches for it. */
  async metrics(token?: string): Promise<{ readonly status: number; readonly text: string }> {
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const options = { host: '127.0.0.1', port: this.metricsPort, path: '/metrics', headers, rejectUnauthorized: false };
    return new Promise((resolve, reject) => {
      const call = get(options, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
      });
      call.on('error', reject);
    });
  }

  /** Sends a signal and waits for the end. @returns the exit code; null when the signal ended it. */
  async end(signal: NodeJS.Signals): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill(signal);
    await this.ended;
    return this.child.exitCode;
  }
}

/** A port that nobody listens on at this moment. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port was given');
  return address.port;
}

/** Selectors of nodes without a machine, in a process of their own, for tests and benches against a real API server. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { credentials, type ChannelCredentials } from '@grpc/grpc-js';
import type { SiteFiles } from './credentials.ts';

/** Where the nodes are, and what the selectors speak with. */
export interface HostedSettings {
  readonly kubeconfig: string;
  readonly site: string;
  /** Label selector of the nodes. */
  readonly nodeLabels: string;
  readonly files: SiteFiles;
  readonly gossipPeriodMs: number;
  /** Flags of node itself, for example of its profiler. */
  readonly nodeFlags?: readonly string[];
}

/** The process that keeps the accounts of all nodes with a label. */
export class HostedSelectors {
  /** `host:port` of one of the selectors: ask it for nodes. */
  readonly address: string;
  readonly process: ChildProcess;

  private constructor(process: ChildProcess, address: string) {
    this.process = process;
    this.address = address;
  }

  /** @returns once every node listens. @throws when the process ends before. */
  static async start(settings: HostedSettings): Promise<HostedSelectors> {
    const { kubeconfig, site, nodeLabels, gossipPeriodMs, nodeFlags = [] } = settings;
    const { tlsCa, tlsCertificate, tlsKey, siteKey, siteTrust } = settings.files;
    const options = {
      ...{ site, node: 'hosted', kubeconfig, 'hosted-nodes': nodeLabels, 'gossip-period-ms': String(gossipPeriodMs) },
      ...{ listen: '127.0.0.1:0', advertise: '127.0.0.1:0', monitor: '127.0.0.1:0', 'health-port': '0' },
      ...{ 'tls-ca': tlsCa, 'tls-certificate': tlsCertificate, 'tls-key': tlsKey, 'log-level': 'info' },
      ...{ 'site-key': siteKey, 'site-trust': siteTrust },
    };
    const flags = Object.entries(options).flatMap(([flag, value]) => [`--${flag}`, value]);
    const main = path.join(import.meta.dirname, '../main.ts');
    const child = spawn(process.execPath, [...nodeFlags, main, '--kubernetes', ...flags], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    return new HostedSelectors(child, `127.0.0.1:${await portOf(child)}`);
  }

  /** Ends it in the middle of whatever it does. */
  async kill(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = once(this.process, 'exit');
    this.process.kill('SIGKILL');
    await ended;
  }
}

/** What clients of selectors with these files speak with. */
export function clientCredentials({ tlsCa, tlsKey, tlsCertificate }: SiteFiles): ChannelCredentials {
  const [ca, key, certificate] = [tlsCa, tlsKey, tlsCertificate].map((file) => readFileSync(file));
  return credentials.createSsl(ca, key, certificate);
}

async function portOf(child: ChildProcess): Promise<number> {
  let text = '';
  return new Promise((resolve, reject) => {
    child.stdout?.on('data', (chunk: Buffer) => {
      if (text === 'found') return;
      text += chunk.toString();
      const line = text.split('\n').find((candidate) => candidate.includes('"Listening"') && candidate.endsWith('}'));
      if (line === undefined) return;
      text = 'found';
      resolve((JSON.parse(line) as { port: number }).port);
    });
    child.once('exit', (code) => reject(new Error(`The selectors ended with ${code} before they listened: ${text}`)));
  });
}

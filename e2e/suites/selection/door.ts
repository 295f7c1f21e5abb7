/** A way into the selectors of a site for tests: ports of pods, forwarded to this machine, and the site's own certificate. */
import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { credentials } from '@grpc/grpc-js';
import { GrpcResourceSelection } from '#proto/selector/client.ts';
import { waitFor, type TestSite } from '#sites/harness.ts';
import { ensureTools } from '#sites/tools.ts';

interface Pod {
  readonly metadata: { readonly name: string; readonly deletionTimestamp?: string };
  readonly spec: { readonly nodeName: string };
  readonly status: {
    readonly containerStatuses?: readonly { readonly ready: boolean; readonly restartCount: number }[];
  };
}

/** Selectors of one release. */
export class SelectorDoor {
  private readonly site: TestSite;
  private readonly namespace: string;
  private readonly forwards = new Map<string, ChildProcess>();

  constructor(site: TestSite, namespace: string) {
    this.site = site;
    this.namespace = namespace;
  }

  /** Pods of a component of the release. */
  async pods(component: 'selector' | 'operator'): Promise<readonly Pod[]> {
    const labels = `app.kubernetes.io/component=${component}`;
    return (await this.site.get<{ items: Pod[] }>('pods', '-n', this.namespace, '-l', labels)).items;
  }

  /** Waits until the selector of a node is ready, and was restarted so often by its kubelet. */
  async ready(node: string, restartsMin = 0): Promise<Pod> {
    return waitFor(
      `the selector of ${node} is ready`,
      async () => {
        const pods = await this.pods('selector');
        return pods.find(({ metadata, spec, status: { containerStatuses: [container] = [] } }) => {
          const isAlive = metadata.deletionTimestamp === undefined && container?.ready === true;
          return spec.nodeName === node && isAlive && container.restartCount >= restartsMin;
        });
      },
      { limitMs: 120_000, pauseMs: 300 },
    );
  }

  /** A client that asks the operator's own selector. Close it. */
  async client(): Promise<GrpcResourceSelection> {
    const { data } = await this.site.get<{ data: Record<string, string> }>(
      ...['secret', 'xtreemos-selector-tls', '-n', this.namespace],
    );
    const pem = (name: string): Buffer => Buffer.from(data[name] ?? '', 'base64');
    const [operator] = await this.pods('operator');
    const tls = credentials.createSsl(pem('ca.crt'), pem('tls.key'), pem('tls.crt'));
    return new GrpcResourceSelection(await this.forward(operator?.metadata.name ?? ''), tls);
  }

  /** Address on this machine of a node's own selector, which has to be ready. */
  async at(node: string): Promise<string> {
    const pod = await this.ready(node);
    return this.forward(pod.metadata.name);
  }

  /** Kills the selector process of a node, as the kernel does, and has it started again without its kubelet's back-off. */
  async restart(node: string): Promise<void> {
    const pod = (await this.pods('selector')).find(({ spec }) => spec.nodeName === node);
    this.kill(node);
    const name = pod?.metadata.name ?? '';
    await this.site.kubectl(['delete', 'pod', name, '-n', this.namespace, '--force', '--grace-period=0']);
  }

  private kill(node: string): void {
    const found = readdirSync('/proc').filter((entry) => /^[0-9]+$/.test(entry) && isSelectorOf(entry, node));
    if (found.length !== 1) throw new Error(`${node} has ${found.length} selectors: ${found.join(' ')}`);
    process.kill(Number(found[0]), 'SIGKILL');
  }

  close(): void {
    for (const child of this.forwards.values()) child.kill('SIGTERM');
  }

  private async forward(pod: string): Promise<string> {
    const kubectl = (await ensureTools(['kubectl'])).path('kubectl');
    const flags = [`--kubeconfig=${this.site.kubeconfig}`, '-n', this.namespace, 'port-forward', `pod/${pod}`, ':7946'];
    this.forwards.get(pod)?.kill('SIGTERM');
    const child = spawn(kubectl, flags, { stdio: ['ignore', 'pipe', 'ignore'] });
    this.forwards.set(pod, child);
    return new Promise((resolve, reject) => {
      let text = '';
      // Read to the end: what it says for each connection would else stop it.
      child.stdout.on('data', (chunk: Buffer) => {
        if (text.length < 1_000) text += chunk.toString();
        const [, port] = /127\.0\.0\.1:(\d+)/.exec(text) ?? [];
        if (port !== undefined) resolve(`127.0.0.1:${port}`);
      });
      child.once('exit', () => reject(new Error(`Port of ${pod} could not be forwarded: ${text}`)));
    });
  }
}

/** Whether a process is the selector that keeps the account of a node. */
function isSelectorOf(pid: string, node: string): boolean {
  try {
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    const variables = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
    return command.includes('--kubernetes') && variables.includes(`XTREEMOS_NODE=${node}`);
  } catch {
    return false;
  }
}

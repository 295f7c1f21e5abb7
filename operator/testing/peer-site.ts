/** A site without nodes for tests of several: a real API server, cert-manager, the chart's rights, and the operator as a process of its own. */
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { Site } from '#crds/site.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { KubeClient, waitFor } from '#sites/kube-client.ts';
import { type RunningCertManager, startCertManager } from './cert-manager.ts';
import { installChart } from './installed.ts';
import { freePort, OperatorProcess } from './process.ts';

const root = path.resolve(import.meta.dirname, '../..');

/** How a command ended. */
export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** One of several sites that run at the same time. */
export class PeerSite {
  readonly name: string;
  readonly client: KubeClient;
  readonly gatewayPort: number;
  private readonly plane: AloneControlPlane;
  private readonly certManager: RunningCertManager;
  private readonly kubeconfig: string;
  /** Folder of the control plane. */
  private readonly dir: string;
  private operator: OperatorProcess | undefined;

  private constructor(
    name: string,
    parts: { plane: AloneControlPlane; client: KubeClient; certManager: RunningCertManager },
    { kubeconfig, dir }: { readonly kubeconfig: string; readonly dir: string },
    gatewayPort: number,
  ) {
    this.name = name;
    this.client = parts.client;
    this.plane = parts.plane;
    this.certManager = parts.certManager;
    this.kubeconfig = kubeconfig;
    this.dir = dir;
    this.gatewayPort = gatewayPort;
  }

  /** @param scratch - folder of the test. */
  static async start(name: string, scratch: string): Promise<PeerSite> {
    const dir = path.join(scratch, name);
    const plane = await startControlPlane({ dir, name });
    const client = new KubeClient(plane.credentials);
    const certManager = await startCertManager(client, plane.kubeconfigPath);
    const own = path.join(scratch, `${name}-chart`);
    mkdirSync(own);
    const kubeconfig = await installChart(plane, client, own, `site.name=${name}`);
    return new PeerSite(name, { plane, client, certManager }, { kubeconfig, dir }, await freePort());
  }

  /** Starts the operator. */
  async startOperator(): Promise<void> {
    const flags = ['--lease-name', 'xtreemos', '--lease-duration-ms', '3000', '--site-name', this.name];
    const gateway = ['--gateway-port', String(this.gatewayPort), '--gateway-address', `127.0.0.1:${this.gatewayPort}`];
    this.operator = await OperatorProcess.start(this.kubeconfig, ...flags, ...gateway);
    await waitFor(
      `the gateway of ${this.name} is published`,
      async () => {
        const found = await this.client.find('/api/v1/namespaces/kube-public/configmaps/xtreemos-gateway');
        const address = (found as { data?: Record<string, string> } | undefined)?.data?.address;
        return address === `127.0.0.1:${this.gatewayPort}` ? found : undefined;
      },
      { limitMs: 120_000 },
    );
  }

  /** Ends the operator at once. */
  async killOperator(): Promise<void> {
    await this.operator?.end('SIGKILL');
    this.operator = undefined;
  }

  /** Keeps a copy of everything that the API server stores. It does not answer meanwhile. */
  async backUp(): Promise<void> {
    await this.whileStopped((data, copy) => cpSync(data, copy, { recursive: true }));
  }

  /** Puts the copy of {@link backUp} in the place of what is stored. */
  async restore(): Promise<void> {
    await this.whileStopped((data, copy) => {
      rmSync(data, { recursive: true });
      cpSync(copy, data, { recursive: true });
    });
  }

  /** Nobody would start the operator again that gives up while the API server is away. */
  private async whileStopped(act: (data: string, copy: string) => void): Promise<void> {
    await this.killOperator();
    await this.plane.killApiServer();
    await this.plane.stopEtcd();
    act(path.join(this.dir, 'etcd'), path.join(this.dir, 'etcd-backup'));
    await this.plane.startEtcd();
    await this.plane.restartApiServer();
    await this.startOperator();
  }

  /** What the operator has logged since it was started. */
  get log(): string {
    return this.operator?.log ?? '';
  }

  /** The API server as an account meets it that has this token. */
  asAccount(token: string): KubeClient {
    return new KubeClient({ ...this.plane.credentials, token });
  }

  /** Runs `xos` as the owner of the site. @param input - for stdin. */
  async xos(words: readonly string[], input = ''): Promise<CommandResult> {
    const command = [path.join(root, 'cli/main.ts'), ...words, '--kubeconfig', this.plane.kubeconfigPath];
    return new Promise((resolve) => {
      const child = execFile(process.execPath, command, { timeout: 120_000 }, (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
        resolve({ code, stdout, stderr });
      });
      child.stdin?.end(input);
    });
  }

  /** A Site object; undefined when there is none. */
  async site(name: string): Promise<Site | undefined> {
    return (await this.client.find(`/apis/xtreemos.io/v1alpha1/sites/${name}`)) as Site | undefined;
  }

  /** Waits until the Ready condition of a Site has a reason. */
  async waitForReason(name: string, reason: string, limitMs = 120_000): Promise<Site> {
    let last = '';
    return waitFor(
      `Site ${name} is ${reason} at ${this.name}`,
      async () => {
        const site = await this.site(name);
        const ready = site?.status?.conditions?.find(({ type }) => type === 'Ready');
        last = ready === undefined ? 'nothing' : `${ready.reason}: ${ready.message}`;
        return ready?.reason === reason ? site : undefined;
      },
      { limitMs },
    ).catch((error: unknown) => {
      throw new Error(`Site ${name} at ${this.name} is not ${reason} but ${last}`, { cause: error });
    });
  }

  async stop(): Promise<void> {
    await this.killOperator();
    await this.certManager.stop();
    this.client.close();
    await this.plane.stop();
  }
}

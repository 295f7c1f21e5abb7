import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { localVolumeFolders } from './addons.ts';
import type { NodePlan, SitePlan } from './addresses.ts';
import type { ControlPlane } from './control-plane.ts';
import { writeFileAtomic } from './files.ts';
import { type KubeClient, waitFor } from './kube-client.ts';
import type { Machine } from './machine.ts';
import {
  cniConfig,
  containerdConfig,
  containerdSocket,
  kubeletConfig,
  kubeProxyConfig,
  masqueradeRules,
  nodeNetworkScript,
} from './node-config.ts';
import { nodePrograms, prepareNodeRoot } from './node-root.ts';

/** A node's own programs on its machine. */
export const nodeTools = ['containerd', 'containerd-shim-runc-v2', 'ctr', 'runc', 'kubelet', 'kube-proxy'] as const;
/** Network plug-ins on a node. */
export const cniTools = ['loopback', 'ptp', 'host-local', 'portmap'] as const;

const nodePath = `${nodePrograms}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`;

interface NodeCondition {
  readonly type: string;
  readonly status: string;
  readonly lastHeartbeatTime: string;
}

/** A Kubernetes node: container runtime, kubelet and kube-proxy on a machine of its own. */
export class SiteNode {
  readonly plan: NodePlan;
  readonly machine: Machine;
  private readonly site: SitePlan;
  private readonly controlPlane: ControlPlane;

  constructor(plan: NodePlan, site: SitePlan, machine: Machine, controlPlane: ControlPlane) {
    this.plan = plan;
    this.site = site;
    this.machine = machine;
    this.controlPlane = controlPlane;
  }

  /** Writes what the node needs before it is switched on: root folder, certificates, configuration. Safe to repeat. */
  async prepare(): Promise<void> {
    const { root } = this.machine;
    for (const folder of localVolumeFolders) mkdirSync(join(root, folder), { recursive: true });
    if (existsSync(join(root, 'etc/kubernetes/prepared'))) return;
    prepareNodeRoot(root, this.plan.name);
    const ca = await this.controlPlane.authority();
    const write = (path: string, content: string): void => writeFileAtomic(join(root, path), content);
    const serving = await ca.issue({
      commonName: this.plan.name,
      dnsNames: [this.plan.name],
      ipAddresses: [this.plan.address],
      usages: ['server'],
    });
    write('etc/kubernetes/pki/ca.crt', ca.certificate);
    write('etc/kubernetes/pki/kubelet.crt', serving.certificate);
    write('etc/kubernetes/pki/kubelet.key', serving.key);
    const logins = [
      { file: 'kubelet', commonName: `system:node:${this.plan.name}`, organizations: ['system:nodes'] },
      { file: 'kube-proxy', commonName: 'system:kube-proxy', organizations: [] },
    ];
    for (const { file, ...request } of logins) {
      const pair = await ca.issue({ ...request, usages: ['client'] });
      const path = join(root, `etc/kubernetes/${file}.kubeconfig`);
      this.controlPlane.writeKubeconfig(path, [{ name: request.commonName, ...pair }]);
    }
    write('etc/containerd/config.toml', containerdConfig());
    write('etc/cni/net.d/10-xtreemos.conflist', cniConfig(this.site, this.plan));
    write('etc/kubernetes/kubelet.yaml', kubeletConfig(this.site, this.plan, this.machine.group.path));
    write('etc/kubernetes/kube-proxy.yaml', kubeProxyConfig(this.site, this.plan));
    write('etc/kubernetes/prepared', '');
  }

  /** Sets up the network of the switched-on machine; its cable must be plugged in. */
  async configureNetwork(): Promise<void> {
    await this.machine.script(nodeNetworkScript(this.site, this.plan));
    await this.machine.loadRules(masqueradeRules(this.site, this.plan));
  }

  /** After a power cut no pod is left to give its address back: all are free. */
  forgetPodAddresses(): void {
    const cni = join(this.machine.root, 'var/lib/cni');
    rmSync(join(cni, 'networks'), { recursive: true, force: true });
    // The folder itself stays: the policy agent watches it.
    const results = join(cni, 'results');
    if (existsSync(results)) for (const file of readdirSync(results)) rmSync(join(results, file));
  }

  /** Starts the container runtime and waits until it answers. */
  async startRuntime(): Promise<void> {
    const { processes } = this.machine;
    await processes.start('containerd', [`${nodePrograms}/containerd`, '--config', '/etc/containerd/config.toml'], {
      PATH: nodePath,
    });
    await waitFor(
      `containerd of ${this.plan.name} answers`,
      async () => {
        processes.assertRunning('containerd');
        await this.ctr(['version'], { timeoutMs: 5000 });
        return true;
      },
      { limitMs: 90_000 },
    );
  }

  /** Starts the kubelet and kube-proxy. */
  async startAgents(): Promise<void> {
    const { processes } = this.machine;
    const env = { PATH: nodePath };
    await processes.start(
      'kubelet',
      [
        `${nodePrograms}/kubelet`,
        '--config=/etc/kubernetes/kubelet.yaml',
        '--kubeconfig=/etc/kubernetes/kubelet.kubeconfig',
        `--hostname-override=${this.plan.name}`,
        `--node-ip=${this.plan.address}`,
        '--root-dir=/var/lib/kubelet',
        '--cert-dir=/var/lib/kubelet/pki',
        `--node-labels=topology.kubernetes.io/region=${this.site.name},topology.kubernetes.io/zone=${this.site.name}`,
      ],
      env,
    );
    await processes.start(
      'kube-proxy',
      [`${nodePrograms}/kube-proxy`, '--config=/etc/kubernetes/kube-proxy.yaml'],
      env,
    );
  }

  /** Waits until the kubelet that runs now has told the API server that the node is Ready. */
  async waitReady(client: KubeClient, limitMs = 180_000): Promise<void> {
    const startedAt = Date.parse(this.machine.processes.find('kubelet')?.startedAt ?? '');
    await waitFor(
      `node ${this.plan.name} is Ready`,
      async () => {
        for (const name of ['containerd', 'kubelet', 'kube-proxy']) this.machine.processes.assertRunning(name);
        const node = await client.find(`/api/v1/nodes/${this.plan.name}`);
        const conditions = (node?.status?.conditions ?? []) as NodeCondition[];
        // Heartbeats are told in whole seconds.
        return conditions.some(
          ({ type, status, lastHeartbeatTime }) =>
            type === 'Ready' && status === 'True' && Date.parse(lastHeartbeatTime) + 1000 >= startedAt,
        );
      },
      { limitMs, pauseMs: 200 },
    );
  }

  /** Imports an OCI archive into the container runtime. The archive need not be visible on the node. */
  async importImages(archive: string): Promise<void> {
    await this.ctr(['-n', 'k8s.io', 'images', 'import', '--local', '--all-platforms', '-'], {
      input: { file: archive },
      timeoutMs: 300_000,
    });
  }

  private async ctr(
    args: readonly string[],
    options: { input?: { file: string }; timeoutMs: number },
  ): Promise<string> {
    return this.machine.exec([`${nodePrograms}/ctr`, '-a', containerdSocket, ...args], options);
  }
}

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import {
  applyObjects,
  dnsObjects,
  localStorageObjects,
  renderCertManager,
  waitCertManager,
  waitDeployment,
} from './addons.ts';
import type { SitePlan } from './addresses.ts';
import { ControlPlane, type NamedUser } from './control-plane.ts';
import type { Instance } from './instance.ts';
import { KubeClient } from './kube-client.ts';
import { Machine } from './machine.ts';
import { SiteNode } from './node.ts';
import { cniPrograms, nodePrograms, nodeRootScript } from './node-root.ts';
import { noRules, renderRules } from './policy/rules.ts';
import type { SystemImages } from './system-images.ts';

/** Users of every site besides `admin`. They may do nothing until RBAC says so. */
export const siteUsers: readonly NamedUser[] = [
  { name: 'alice' },
  { name: 'bob' },
  { name: 'carol' },
  { name: 'mallory' },
];

const policyAgent = 'policy-agent';
const agentProgram = fileURLToPath(new URL('./policy/main.ts', import.meta.url));

/** One Kubernetes cluster: a control-plane machine and its nodes. */
export class Site {
  readonly plan: SitePlan;
  readonly machine: Machine;
  readonly controlPlane: ControlPlane;
  readonly nodes: readonly SiteNode[];
  private readonly instance: Instance;

  constructor(instance: Instance, plan: SitePlan) {
    this.instance = instance;
    this.plan = plan;
    const dir = join(instance.dir, plan.letter);
    const group = instance.group.child(plan.letter);
    this.machine = new Machine({ name: `${plan.name}-cp`, dir: join(dir, 'cp'), group: group.child('cp') });
    this.controlPlane = new ControlPlane(
      {
        name: plan.name,
        dir: join(dir, 'cp', 'data'),
        address: plan.controlPlane,
        port: 6443,
        etcdPort: 2379,
        etcdPeerPort: 2380,
        serviceCidr: plan.serviceCidr,
        podCidr: plan.podCidr,
        serviceAddress: plan.kubernetesService,
        publishesAddress: true,
        withControllers: true,
        users: siteUsers,
        apiServerArgs: [],
      },
      instance.tools,
      this.machine.processes,
    );
    const programs = {
      [nodePrograms]: join(instance.programsDir, 'bin'),
      [cniPrograms]: join(instance.programsDir, 'cni'),
    };
    this.nodes = plan.nodes.map((node) => {
      const machine = new Machine({
        name: node.name,
        dir: join(dir, 'nodes', node.name),
        group: group.child(node.name),
        rootScript: nodeRootScript(programs),
      });
      return new SiteNode(node, plan, machine, this.controlPlane);
    });
  }

  /** Where kubectl finds this site. */
  get kubeconfigPath(): string {
    return this.controlPlane.kubeconfigPath;
  }

  /** A client that logs in as administrator. Close it when done. */
  client(): KubeClient {
    return new KubeClient(this.controlPlane.credentials());
  }

  /** A node by number (1…) or name. @throws when there is none. */
  node(name: string): SiteNode {
    const node = this.nodes.find((each, index) => each.plan.name === name || String(index + 1) === name);
    if (node === undefined) throw new Error(`no node ${name} at ${this.plan.name}`);
    return node;
  }

  /** Starts whatever doesn't run and waits until nodes, DNS and cert-manager are ready. Safe to repeat. */
  async up(images: SystemImages, report: (line: string) => void): Promise<void> {
    mkdirSync(this.machine.dir, { recursive: true });
    await this.controlPlane.prepare();
    await this.startMachine();
    const client = this.client();
    try {
      const runtimes = this.nodes.map(async (node) => {
        await this.startNodeRuntime(node);
        await node.importImages(images.base);
      });
      const controlPlane = this.controlPlane.start();
      await Promise.all([controlPlane, ...runtimes]);
      report(`${this.plan.name}: control plane ready`);
      await this.startPolicyAgent();
      const certManager = renderCertManager(this.instance.tools);
      await Promise.all([
        applyObjects(client, dnsObjects(this.instance.plan, this.plan)),
        applyObjects(client, localStorageObjects(this.plan)),
        ...this.nodes.map(async (node) => node.startAgents()),
      ]);
      await Promise.all([...this.nodes.map(async (node) => node.importImages(images.certManager))]);
      await applyObjects(client, await certManager);
      await Promise.all(this.nodes.map(async (node) => node.waitReady(client)));
      report(`${this.plan.name}: ${this.nodes.length} nodes ready`);
      await Promise.all([waitDeployment(client, 'kube-system', 'coredns'), waitCertManager(client)]);
      report(`${this.plan.name}: cert-manager issues certificates`);
    } finally {
      client.close();
    }
  }

  /** Switches the control plane's machine on and plugs it in. */
  async startMachine(): Promise<void> {
    await this.machine.up();
    await this.instance.backbone.plugIn(this.machine, this.plan, `${this.plan.letter}-cp`);
    await this.machine.script(
      [
        'ip link set lo up',
        `ip addr replace ${this.plan.controlPlane}/24 dev eth0`,
        'ip link set eth0 up',
        `ip route replace default via ${this.plan.router}`,
        ...this.plan.nodes.map((node) => `ip route replace ${node.podCidr} via ${node.address}`),
      ].join('\n'),
    );
    await this.applyApiCuts();
  }

  /** Loads the rules that keep nodes from their API server, as the instance's record says. */
  async applyApiCuts(): Promise<void> {
    const cut = this.plan.nodes.filter((node) => this.instance.record.apiCuts.includes(node.name));
    await this.machine.loadRules(apiCutRules(cut));
  }

  /** Switches a node's machine on, with network and container runtime. */
  async startNodeRuntime(node: SiteNode): Promise<void> {
    await node.prepare();
    const isFresh = await node.machine.up();
    if (isFresh) node.forgetPodAddresses();
    await this.instance.backbone.plugIn(node.machine, this.plan, node.plan.port);
    await node.configureNetwork();
    // Closed until the agent knows the pods.
    if (isFresh)
      await node.machine.loadRules(renderRules({ pods: [], namespaces: new Map(), policies: [] }, node.plan.podCidr));
    await node.startRuntime();
  }

  /** Switches a node on that was off, and waits until it is Ready. */
  async startNode(node: SiteNode): Promise<void> {
    await this.startNodeRuntime(node);
    await node.startAgents();
    const client = this.client();
    try {
      await node.waitReady(client);
    } finally {
      client.close();
    }
  }

  /** Has NetworkPolicy stand for nothing, as under a network plug-in that ignores it; or for what it says, again. */
  async enforcePolicies(isEnforced: boolean): Promise<void> {
    const { processes } = this.machine;
    if (isEnforced) return processes.restart(policyAgent);
    await processes.stop(policyAgent);
    await Promise.all(this.nodes.map(async ({ machine }) => machine.loadRules(noRules)));
  }

  private async startPolicyAgent(): Promise<void> {
    const command = [
      process.execPath,
      '--max-old-space-size=128',
      agentProgram,
      this.instance.record.name,
      this.plan.letter,
    ];
    const env = Object.fromEntries(
      ['HOME', 'XDG_CACHE_HOME', 'XTREEMOS_TOOLS_DIR', 'XTREEMOS_SITES_DIR'].flatMap((name) => {
        const value = process.env[name];
        return value === undefined ? [] : [[name, value]];
      }),
    ) as Record<string, string>;
    await this.machine.processes.start(policyAgent, command as [string, ...string[]], env);
  }
}

/** Drops what comes from the given nodes and their pods, and what goes there. */
export function apiCutRules(nodes: readonly { readonly address: string; readonly podCidr: string }[]): string {
  const drops = (field: string): string =>
    nodes.map((node) => `    ip ${field} { ${node.address}, ${node.podCidr} } drop\n`).join('');
  return `table ip xtreemos-faults
delete table ip xtreemos-faults
table ip xtreemos-faults {
  chain input {
    type filter hook input priority filter; policy accept;
${drops('saddr')}  }
  chain output {
    type filter hook output priority filter; policy accept;
${drops('daddr')}  }
}
`;
}

/**
 * etcd, kube-apiserver and, when asked, the controller manager and scheduler. Used inside a site, and alone as the
 * API server that controllers are tested against (`startControlPlane`).
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { apiServerFlags, auditLogPath, auditPolicy } from './api-server-flags.ts';
import { writeFileAtomic } from './files.ts';
import { type Credentials, KubeClient, waitFor } from './kube-client.ts';
import { renderKubeconfig, type KubeconfigUser } from './kubeconfig.ts';
import { type Authority, createAuthority, createSigningKey, type KeyPair, loadAuthority } from './pki.ts';
import { ProcessTable } from './process-table.ts';
import { ensureTools, type Tools } from './tools.ts';

const run = promisify(execFile);

/** The programs that a control plane is made of. */
export const controlPlaneTools = ['etcd', 'etcdctl', 'kube-apiserver'] as const;
/** The programs that act on objects: needed where pods shall run or owners shall be collected. */
export const controllerTools = ['kube-controller-manager', 'kube-scheduler'] as const;

/** A login besides `admin`. Without groups it may do nothing until RBAC says so. */
export interface NamedUser {
  readonly name: string;
  readonly groups?: readonly string[];
}

/** Where a control plane listens and what it tells the cluster about itself. */
export interface ControlPlaneConfig {
  /** Cluster name, as in the kubeconfig. */
  readonly name: string;
  /** Folder for keys, data, logs. */
  readonly dir: string;
  /** Address that the API server listens on. */
  readonly address: string;
  readonly port: number;
  readonly etcdPort: number;
  readonly etcdPeerPort: number;
  readonly serviceCidr: string;
  readonly podCidr: string;
  /** First address of `serviceCidr`: the `kubernetes` service. */
  readonly serviceAddress: string;
  /** Whether the API server enters its address into the `kubernetes` service. Not possible on loopback. */
  readonly publishesAddress: boolean;
  readonly withControllers: boolean;
  readonly users: readonly NamedUser[];
  readonly apiServerArgs: readonly string[];
  /** Further flags of the controller manager and the scheduler. */
  readonly controllerArgs?: ControllerArgs | undefined;
}

/** Flags by program. */
type ControllerArgs = Partial<Readonly<Record<(typeof controllerTools)[number], readonly string[]>>>;

/** One control plane. Any process may open it anew from its folder: all that lasts is on disk. */
export class ControlPlane {
  readonly config: ControlPlaneConfig;
  readonly processes: ProcessTable;
  private readonly tools: Tools;

  constructor(config: ControlPlaneConfig, tools: Tools, processes: ProcessTable) {
    this.config = config;
    this.tools = tools;
    this.processes = processes;
  }

  /** File with a context per user; the current one is `admin`, in group `system:masters`. */
  get kubeconfigPath(): string {
    return join(this.config.dir, 'kubeconfig');
  }

  /** Base URL of the API server. */
  get server(): string {
    return `https://${this.config.address}:${this.config.port}`;
  }

  /** Where the API server writes what was asked of it, one JSON event a line. */
  get auditLogPath(): string {
    return auditLogPath(this.config.dir);
  }

  /** Makes keys, certificates and configuration, unless that is done. */
  async prepare(): Promise<void> {
    const done = join(this.config.dir, 'prepared');
    if (existsSync(done)) return;
    mkdirSync(join(this.config.dir, 'pki'), { recursive: true, mode: 0o700 });
    const authorities = await Promise.all(
      (['ca', 'etcd-ca', 'front-proxy-ca'] as const).map(async (kind) => {
        const made = await createAuthority(`${this.config.name}-${kind}`);
        this.writePair(kind, made);
        return made;
      }),
    );
    const [ca, etcd, frontProxy] = authorities as [Authority, Authority, Authority];
    this.writePair('service-account', createSigningKey());
    await this.issueServerCertificates(ca, etcd, frontProxy);
    await this.issueLogins(ca);
    writeFileAtomic(join(this.config.dir, 'audit-policy.yaml'), auditPolicy);
    writeFileAtomic(done, '');
  }

  /** The authority of the cluster, for certificates of nodes and others. */
  async authority(): Promise<Authority> {
    return loadAuthority(this.readPair('ca'));
  }

  /** What the administrator logs in with. */
  credentials(): Credentials {
    return { server: this.server, authority: this.readPair('ca').certificate, ...this.readPair('admin') };
  }

  /** Starts what doesn't run and waits until the API server says it is ready. */
  async start(): Promise<void> {
    await this.prepare();
    await this.startEtcd();
    await this.startApiServer();
    if (this.config.withControllers) await this.startControllers();
  }

  /** Starts etcd and waits until it answers. */
  async startEtcd(): Promise<void> {
    const { dir, etcdPort, etcdPeerPort } = this.config;
    const [server, key] = [this.pki('etcd.crt'), this.pki('etcd.key')];
    await this.processes.start('etcd', [
      this.tools.path('etcd'),
      '--name=default',
      `--data-dir=${join(dir, 'etcd')}`,
      `--listen-client-urls=https://127.0.0.1:${etcdPort}`,
      `--advertise-client-urls=https://127.0.0.1:${etcdPort}`,
      `--listen-peer-urls=https://127.0.0.1:${etcdPeerPort}`,
      `--initial-advertise-peer-urls=https://127.0.0.1:${etcdPeerPort}`,
      `--initial-cluster=default=https://127.0.0.1:${etcdPeerPort}`,
      ...['', 'peer-'].flatMap((side) => [
        `--${side}cert-file=${server}`,
        `--${side}key-file=${key}`,
        `--${side}trusted-ca-file=${this.pki('etcd-ca.crt')}`,
        `--${side}client-cert-auth=true`,
      ]),
      // Test data: a power cut isn't among the faults played, and fsync is what a busy disk is slowest at.
      '--unsafe-no-fsync=true',
      '--log-level=warn',
    ]);
    await waitFor(
      'etcd answers',
      async () => {
        this.processes.assertRunning('etcd');
        await this.etcdctl('endpoint', 'health', '--command-timeout=2s');
        return true;
      },
      { limitMs: 120_000 },
    );
  }

  /** Starts the API server and waits until `/readyz` answers. */
  async startApiServer(): Promise<void> {
    await this.processes.start('kube-apiserver', [this.tools.path('kube-apiserver'), ...apiServerFlags(this.config)]);
    const client = new KubeClient(this.credentials());
    try {
      await waitFor(
        'kube-apiserver is ready',
        async () => {
          this.processes.assertRunning('kube-apiserver');
          return (await client.text('GET', '/readyz', { timeoutMs: 3000 })) === 'ok';
        },
        { limitMs: 240_000 },
      );
    } finally {
      client.close();
    }
  }

  /** Starts controller manager and scheduler. Without leader election: alone as they are, they shall outlive an outage. */
  async startControllers(): Promise<void> {
    const { podCidr, controllerArgs = {} } = this.config;
    const component = (name: string): string[] => [
      `--kubeconfig=${join(this.config.dir, `${name}.kubeconfig`)}`,
      '--leader-elect=false',
      '--secure-port=0',
    ];
    await this.processes.start('kube-controller-manager', [
      this.tools.path('kube-controller-manager'),
      ...component('kube-controller-manager'),
      '--use-service-account-credentials=true',
      `--root-ca-file=${this.pki('ca.crt')}`,
      `--service-account-private-key-file=${this.pki('service-account.key')}`,
      `--cluster-signing-cert-file=${this.pki('ca.crt')}`,
      `--cluster-signing-key-file=${this.pki('ca.key')}`,
      `--cluster-cidr=${podCidr}`,
      '--allocate-node-cidrs=false',
      '--node-monitor-period=2s',
      '--node-monitor-grace-period=20s',
      ...(controllerArgs['kube-controller-manager'] ?? []),
    ]);
    await this.processes.start('kube-scheduler', [
      this.tools.path('kube-scheduler'),
      ...component('kube-scheduler'),
      ...(controllerArgs['kube-scheduler'] ?? []),
    ]);
  }

  /** Ends everything, the API server before its store (without it, it would answer and hang). */
  async stop(): Promise<void> {
    await Promise.all(['kube-scheduler', 'kube-controller-manager'].map((name) => this.processes.kill(name)));
    await this.processes.kill('kube-apiserver');
    await this.processes.stop('etcd');
  }

  /** Drops etcd's history up to now, so that a watch from before is answered 410 Gone. */
  async compact(): Promise<void> {
    const status = await this.etcdctl('endpoint', 'status', '--write-out=json');
    const [endpoint] = JSON.parse(status) as { Status: { header: { revision: number } } }[];
    if (endpoint === undefined) throw new Error(`etcdctl reported no endpoint: ${status}`);
    await this.etcdctl('compact', String(endpoint.Status.header.revision));
  }

  /** Runs etcdctl against this store, as its client. */
  async etcdctl(...args: string[]): Promise<string> {
    const command = this.processes.wrap([
      this.tools.path('etcdctl'),
      `--endpoints=https://127.0.0.1:${this.config.etcdPort}`,
      `--cacert=${this.pki('etcd-ca.crt')}`,
      `--cert=${this.pki('etcd.crt')}`,
      `--key=${this.pki('etcd.key')}`,
      ...args,
    ]);
    const { stdout } = await run(command[0], command.slice(1), { timeout: 30_000 });
    return stdout;
  }

  private async issueServerCertificates(ca: Authority, etcd: Authority, frontProxy: Authority): Promise<void> {
    const { address, serviceAddress, name } = this.config;
    const service = 'kubernetes.default.svc.cluster.local'.split('.');
    const dnsNames = [1, 2, 3, 5].map((labels) => service.slice(0, labels).join('.'));
    this.writePair(
      'apiserver',
      await ca.issue({
        commonName: 'kube-apiserver',
        dnsNames: [...dnsNames, 'localhost', name],
        ipAddresses: [...new Set([address, serviceAddress, '127.0.0.1'])],
        usages: ['server'],
      }),
    );
    this.writePair(
      'apiserver-kubelet',
      await ca.issue({ commonName: 'kube-apiserver', organizations: ['system:masters'] }),
    );
    this.writePair(
      'etcd',
      await etcd.issue({ commonName: 'etcd', dnsNames: ['localhost'], ipAddresses: ['127.0.0.1'] }),
    );
    this.writePair('front-proxy', await frontProxy.issue({ commonName: 'front-proxy', usages: ['client'] }));
  }

  private async issueLogins(ca: Authority): Promise<void> {
    const login = async (file: string, commonName: string, organizations: readonly string[]): Promise<void> =>
      this.writePair(file, await ca.issue({ commonName, organizations, usages: ['client'] }));
    await login('admin', 'admin', ['system:masters']);
    for (const name of controllerTools) {
      await login(name, `system:${name}`, []);
      this.writeKubeconfig(join(this.config.dir, `${name}.kubeconfig`), [{ name, ...this.readPair(name) }]);
    }
    const users: KubeconfigUser[] = [{ name: 'admin', ...this.readPair('admin') }];
    for (const user of this.config.users) {
      await login(`user-${user.name}`, user.name, user.groups ?? []);
      users.push({ name: user.name, ...this.readPair(`user-${user.name}`) });
    }
    this.writeKubeconfig(this.kubeconfigPath, users);
  }

  /** Writes a kubeconfig for the given logins. */
  writeKubeconfig(path: string, users: readonly KubeconfigUser[]): void {
    const authority = this.readPair('ca').certificate;
    writeFileAtomic(path, renderKubeconfig([{ name: this.config.name, server: this.server, authority, users }]));
  }

  private pki(file: string): string {
    return join(this.config.dir, 'pki', file);
  }

  private writePair(name: string, pair: KeyPair): void {
    writeFileAtomic(this.pki(`${name}.crt`), pair.certificate);
    writeFileAtomic(this.pki(`${name}.key`), pair.key);
  }

  /** A pair that `prepare` wrote: `ca`, `admin`, `user-NAME`, … */
  readPair(name: string): KeyPair {
    return {
      certificate: readFileSync(this.pki(`${name}.crt`), 'utf8'),
      key: readFileSync(this.pki(`${name}.key`), 'utf8'),
    };
  }
}

/** Options of a control plane that stands alone. */
export interface AloneOptions {
  /** Folder of its own, emptied at the start and removed at the end. */
  readonly dir: string;
  readonly name: string;
  /** Also run the controller manager (garbage collection, namespaces, jobs) and the scheduler. */
  readonly withControllers?: boolean;
  readonly users?: readonly NamedUser[];
  /** Further flags of kube-apiserver. */
  readonly apiServerArgs?: readonly string[];
  /** Further flags of the controller manager and the scheduler. */
  readonly controllerArgs?: ControllerArgs;
}

/** A control plane that stands alone on a loopback address, without nodes. */
export interface AloneControlPlane {
  readonly kubeconfigPath: string;
  readonly server: string;
  readonly auditLogPath: string;
  /** What the administrator logs in with, PEM. */
  readonly credentials: Credentials;
  /** What one of `users` logs in with. */
  credentialsOf(user: string): Credentials;
  /** Ends all of it and removes the folder. */
  stop(): Promise<void>;
  /** Ends the API server as a crash would. */
  killApiServer(): Promise<void>;
  /** Ends the API server if it runs, starts it and waits until it is ready. */
  restartApiServer(): Promise<void>;
  stopEtcd(): Promise<void>;
  startEtcd(): Promise<void>;
  /** Drops etcd's history, so that older watches get 410 Gone once the API server's own cache is renewed. */
  compact(): Promise<void>;
}

/**
 * Starts etcd and kube-apiserver on free loopback ports, for tests of controllers; ready in about 3 s. They end with
 * the process that called this, even when that is killed. Needs no root.
 */
export async function startControlPlane(options: AloneOptions): Promise<AloneControlPlane> {
  const withControllers = options.withControllers ?? false;
  const tools = await ensureTools([...controlPlaneTools, ...(withControllers ? controllerTools : [])]);
  rmSync(options.dir, { recursive: true, force: true });
  const [port, etcdPort, etcdPeerPort] = await freePorts();
  const plane = new ControlPlane(
    {
      name: options.name,
      dir: options.dir,
      address: '127.0.0.1',
      port,
      etcdPort,
      etcdPeerPort,
      serviceCidr: '10.96.0.0/16',
      serviceAddress: '10.96.0.1',
      podCidr: '10.112.0.0/16',
      publishesAddress: false,
      withControllers,
      users: options.users ?? [],
      apiServerArgs: options.apiServerArgs ?? [],
      controllerArgs: options.controllerArgs,
    },
    tools,
    new ProcessTable({
      dir: join(options.dir, 'run'),
      logDir: join(options.dir, 'logs'),
      wrap: (command) => ['/usr/bin/setpriv', '--pdeathsig', 'KILL', '--', ...command],
    }),
  );
  try {
    await plane.start();
  } catch (error) {
    await plane.stop();
    throw error;
  }
  return {
    kubeconfigPath: plane.kubeconfigPath,
    server: plane.server,
    auditLogPath: plane.auditLogPath,
    credentials: plane.credentials(),
    credentialsOf: (user) => ({ ...plane.credentials(), ...plane.readPair(`user-${user}`) }),
    stop: async () => {
      await plane.stop();
      rmSync(options.dir, { recursive: true, force: true });
    },
    killApiServer: async () => plane.processes.kill('kube-apiserver'),
    restartApiServer: async () => {
      await plane.processes.stop('kube-apiserver');
      await plane.startApiServer();
    },
    stopEtcd: async () => plane.processes.stop('etcd'),
    startEtcd: async () => plane.startEtcd(),
    compact: async () => plane.compact(),
  };
}

/** Three ports that were free a moment ago. */
async function freePorts(): Promise<[number, number, number]> {
  const servers = [createServer(), createServer(), createServer()] as const;
  const ports = servers.map(
    async (server) =>
      new Promise<number>((resolve, reject) => {
        server.once('error', reject);
        server.listen(0, '127.0.0.1', () => {
          const address = server.address();
          if (address === null || typeof address === 'string') reject(new Error('no port was given'));
          else resolve(address.port);
        });
      }),
  );
  const taken = await Promise.all(ports);
  await Promise.all(servers.map(async (server) => new Promise((resolve) => server.close(resolve))));
  return taken as [number, number, number];
}

/**
 * The world of `make bench-jobs`: one API server with the controllers of Kubernetes, nodes of kwok, the real selectors of all of them in one
 * process, and the controllers of jobs in another one.
 */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { sites } from '#crds/site.ts';
import { installCrds } from '#crds/testing/install.ts';
import { owner } from '#operator/testing/jobs.ts';
import {
  type Client,
  createClient,
  HttpTransport,
  kubeConfigCredentials,
  namespaces,
  nodes,
  serviceAccounts,
} from '#runtime/index.ts';
import { makeCredentials, type SiteFiles } from '#selector/testing/credentials.ts';
import { HostedSelectors } from '#selector/testing/hosted.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { KubeClient } from '#sites/kube-client.ts';
import { ProcessTable } from '#sites/process-table.ts';
import { ensureTools } from '#sites/tools.ts';
import type { OperatorCost } from './jobs-operator.ts';

/** Where everything happens. */
export const namespace = 'vo-bench';
/** Images say what kwok does with a pod: nothing is ever pulled. */
export const images = { stays: 'stays', ends: 'ends' } as const;

const graceSeconds = 3_600;
/** The controllers of Kubernetes are as fast as they can be, or they would be compared with their own throttles. */
const fast = ['--kube-api-qps=2000', '--kube-api-burst=2000'];
const nodeLabel = 'bench=yes';
/** Every request is noted alike, without its body: who asks for what must cost the same for all. */
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
`;
/** What `/proc` counts processor time in, milliseconds (USER_HZ is 100 on every architecture of Linux that Node runs on). */
const tickMs = 10;

/** Pods run at once; those that are to end do so a second later; those that are deleted are gone at once. */
const stages = `
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: node-is-managed}
spec:
  resourceRef: {apiGroup: v1, kind: Node}
  selector:
    matchExpressions:
    - {key: '.status.phase', operator: DoesNotExist}
  next:
    statusTemplate: |
      phase: Running
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: pod-runs}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: '.metadata.deletionTimestamp', operator: DoesNotExist}
    - {key: '.status.phase', operator: In, values: [Pending]}
  next:
    statusTemplate: |
      {{ $now := Now }}
      phase: Running
      startTime: {{ $now | Quote }}
      containerStatuses:
      {{ range .spec.containers }}
      - {name: {{ .name | Quote }}, image: {{ .image | Quote }}, imageID: '', ready: true, restartCount: 0, started: true, state: {running: {startedAt: {{ $now | Quote }}}}}
      {{ end }}
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: pod-ends}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: '.metadata.deletionTimestamp', operator: DoesNotExist}
    - {key: '.status.phase', operator: In, values: [Running]}
    - {key: '.spec.containers.[].image', operator: In, values: [${images.ends}]}
  delay: {durationMilliseconds: 1000}
  next:
    statusTemplate: |
      {{ $now := Now }}
      {{ $root := . }}
      phase: Succeeded
      containerStatuses:
      {{ range .spec.containers }}
      - {name: {{ .name | Quote }}, image: {{ .image | Quote }}, imageID: '', ready: false, restartCount: 0, started: false, state: {terminated: {exitCode: 0, reason: Completed, startedAt: {{ $root.status.startTime | Quote }}, finishedAt: {{ $now | Quote }}}}}
      {{ end }}
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: pod-is-deleted}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: '.metadata.deletionTimestamp', operator: Exists}
  next:
    delete: true
`;

/** Everything that runs. */
export class JobWorld {
  readonly client: Client;
  readonly transport: HttpTransport;
  private readonly dir: string;
  private readonly plane: AloneControlPlane;
  private readonly files: SiteFiles;
  private readonly kwok: ChildProcess;
  private readonly profile: string | undefined;
  private selectors: HostedSelectors | undefined;
  private operator: ChildProcess | undefined;
  private isStopping = false;

  private constructor(dir: string, plane: AloneControlPlane, files: SiteFiles, kwok: ChildProcess, profile?: string) {
    this.profile = profile;
    this.dir = dir;
    this.plane = plane;
    this.files = files;
    this.kwok = kwok;
    kwok.once('exit', (code) => {
      if (!this.isStopping) throw new Error(`kwok ended with ${code}`);
    });
    this.transport = this.newTransport();
    this.client = createClient(this.transport, { fieldManager: 'bench' });
  }

  /**
   * Starts everything but the operator.
   * @param nodeCount - nodes of 16 CPUs, 64 GiB and 110 pods.
   * @param profile - folder for CPU profiles of the controllers and the selectors.
   */
  static async start(nodeCount: number, profile?: string): Promise<JobWorld> {
    const dir = mkdtempSync(path.join(tmpdir(), 'xtreemos-bench-jobs-'));
    const tools = await ensureTools(['kwok']);
    const audit = path.join(dir, 'audit.yaml');
    writeFileSync(audit, auditPolicy);
    const plane = await startControlPlane({
      ...{ dir: path.join(dir, 'plane'), name: 'bench-jobs', withControllers: true },
      apiServerArgs: [
        '--delete-collection-workers=16',
        `--audit-policy-file=${audit}`,
        `--profiling=${profile !== undefined}`,
      ],
      controllerArgs: {
        'kube-controller-manager': [
          ...fast,
          '--concurrent-job-syncs=32',
          '--concurrent-gc-syncs=64',
          `--node-monitor-grace-period=${graceSeconds}s`,
        ],
        'kube-scheduler': fast,
      },
    });
    const config = path.join(dir, 'kwok.yaml');
    writeFileSync(config, stages);
    const kwok = spawn(
      tools.path('kwok'),
      [
        `--kubeconfig=${plane.kubeconfigPath}`,
        ...['--manage-all-nodes=false', `--manage-nodes-with-label-selector=${nodeLabel}`],
        ...[`--config=${config}`, '--node-lease-duration-seconds=0'],
        '--v=ERROR',
      ],
      // It reports every pod that was deleted before it came to it.
      { stdio: 'ignore' },
    );
    mkdirSync(path.join(dir, 'keys'));
    const files = (await makeCredentials(path.join(dir, 'keys'), ['bench'])).get('bench');
    if (files === undefined) throw new Error('No credentials were made');
    const world = new JobWorld(dir, plane, files, kwok, profile);
    await world.furnish(nodeCount).catch(async (error: unknown) => {
      await world.stop();
      throw error;
    });
    return world;
  }

  /** A transport of its own to the API server. */
  newTransport(): HttpTransport {
    return new HttpTransport({
      credentials: kubeConfigCredentials({ file: this.plane.kubeconfigPath }),
      throttle: { qps: Infinity, inFlightMax: 64 },
    });
  }

  /** Starts the controllers of jobs; they are being started when this returns. */
  async startOperator(): Promise<void> {
    if (this.selectors === undefined) throw new Error('The selectors do not run');
    const flags = ['--kubeconfig', this.plane.kubeconfigPath, '--selector', this.selectors.address];
    this.operator = fork(
      path.join(import.meta.dirname, 'jobs-operator.ts'),
      [...flags, '--files', JSON.stringify(this.files)],
      // As the chart starts it.
      {
        execArgv: ['--max-semi-space-size=1', ...this.profileFlags()],
        env: { ...process.env, MALLOC_ARENA_MAX: '1' },
      },
    );
    await once(this.operator, 'message');
  }

  /** Kills the controllers in the middle of whatever they do; those that write a profile end by themselves. */
  async killOperator(): Promise<void> {
    const { operator } = this;
    if (operator === undefined) return;
    const ended = once(operator, 'exit');
    if (this.profile === undefined) operator.kill('SIGKILL');
    else operator.disconnect();
    await ended;
    this.operator = undefined;
  }

  private profileFlags(): string[] {
    return this.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${this.profile}`];
  }

  /** What the controllers have cost since they started. */
  async cost(): Promise<OperatorCost> {
    if (this.operator === undefined) throw new Error('The operator does not run');
    const answered = once(this.operator, 'message');
    this.operator.send('cost');
    const [answer] = (await answered) as [OperatorCost];
    return answer;
  }

  /** Processor time that each process has taken since its start, milliseconds. */
  cpuMs(): Record<string, number> {
    const folder = path.join(this.dir, 'plane');
    const table = new ProcessTable({ dir: path.join(folder, 'run'), logDir: path.join(folder, 'logs') });
    const pids: [string, number | undefined][] = [
      ...table.list().map(({ name, process: { pid } }): [string, number] => [name, pid]),
      ['kwok', this.kwok.pid],
      ['selectors', this.selectors?.process.pid],
      ['operator', this.operator?.pid],
      ['this', process.pid],
    ];
    return Object.fromEntries(pids.map(([name, pid]) => [name, pid === undefined ? 0 : cpuMsOf(pid)]));
  }

  /** Resident memory of the process that keeps all selectors, MB. */
  selectorsMb(): number {
    const status = readFileSync(`/proc/${this.selectors?.process.pid ?? 'self'}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024;
  }

  async stop(): Promise<void> {
    this.isStopping = true;
    await this.killOperator();
    await this.selectors?.kill();
    this.kwok.kill('SIGKILL');
    await this.transport.close();
    await this.plane.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }

  private async furnish(nodeCount: number): Promise<void> {
    const kube = new KubeClient(this.plane.credentials);
    await installCrds(kube);
    kube.close();
    await this.client.of(namespaces).apply({ metadata: { name: namespace } });
    await this.client.of(serviceAccounts).apply({ metadata: { name: owner, namespace } });
    await this.client.of(sites).apply({
      metadata: { name: 'bench' },
      spec: { type: 'Local', local: { acceptedVirtualOrganizations: [{ name: 'bench' }] } },
    });
    const amounts = { cpu: '16', memory: '64Gi', pods: '110' };
    const conditions = [{ type: 'Ready', status: 'True', lastHeartbeatTime: new Date().toISOString() }];
    const [key = '', value = ''] = nodeLabel.split('=');
    const labels = { [key]: value, 'kubernetes.io/arch': 'amd64' };
    await Promise.all(
      Array.from({ length: nodeCount }, async (_, index) => {
        const name = `node-${index}`;
        await this.client.of(nodes).apply({ metadata: { name, labels } });
        const body = { status: { allocatable: amounts, capacity: amounts, conditions } };
        await this.client.of(nodes).status.patch({ name }, { type: 'merge', body });
      }),
    );
    const { kubeconfigPath: kubeconfig } = this.plane;
    const settings = { kubeconfig, site: 'bench', nodeLabels: nodeLabel, files: this.files };
    this.selectors = await HostedSelectors.start({
      ...settings,
      gossipPeriodMs: 10_000,
      nodeFlags: this.profileFlags(),
    });
  }
}

/** Processor time of a process, with its threads; 0 when it is gone. */
function cpuMsOf(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name in brackets may have spaces; utime and stime are the 12th and 13th after it.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) * tickMs;
  } catch {
    return 0;
  }
}

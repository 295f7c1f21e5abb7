/** The controllers of jobs against a real API server; nodes are accounts in memory, and a stand-in for kubelets runs the pods. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { createRegistry } from '#common/metrics.ts';
import { systemRandom } from '#common/random.ts';
import { type Execution, executions, podLabels } from '#crds/execution.ts';
import { type GridJob, gridJobs } from '#crds/grid-job.ts';
import { installCrds } from '#crds/testing/install.ts';
import { addJobControllers } from '#operator/controllers/gridjob/setup.ts';
import { alone } from '#operator/sites/testing/alone.ts';
import { FakeResourceSelection } from '#proto/selector/testing/fake.ts';
import { namespaces, nodes, serviceAccounts } from '#runtime/builtin.ts';
import { createClient } from '#runtime/client.ts';
import type { Client, Manager } from '#runtime/contracts.ts';
import { kubeConfigCredentials } from '#runtime/credentials.ts';
import { createManager } from '#runtime/manager.ts';
import { testParts } from '#runtime/testing/parts.ts';
import { HttpTransport } from '#runtime/transport.ts';
import type { Stored } from '#runtime/types.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { KubeClient, waitFor } from '#sites/kube-client.ts';
import { owner } from './jobs.ts';
import { TestKubelet } from './kubelet.ts';
import { openSurroundings } from './surroundings.ts';
import { FakeTaskLogs } from './task-logs.ts';

/** Where the jobs are. */
export const namespace = 'vo-physics';
/** Each has room for four tasks of {@link template}. */
export const nodeNames = ['n1', 'n2', 'n3'];

/** A request of the operator, as far as tests tell them apart. */
type Asked = Parameters<HttpTransport['request']>[0];

/** One operator process, as far as jobs are concerned. */
class RunningOperator {
  private readonly abort = new AbortController();
  private readonly transport: HttpTransport;
  private readonly manager: Manager;
  private readonly end: Promise<void>;

  constructor(world: JobsWorld) {
    this.transport = world.newTransport();
    this.manager = createManager({ name: 'operator', transport: this.transport, graceMs: 2_000 });
    const refusal = (): string | undefined => world.refusal;
    addJobControllers(this.manager, {
      transport: this.transport,
      peers: alone('home'),
      ...{ clock: systemClock, random: systemRandom(), log: silentLogger, registry: createRegistry() },
      selection: world.selection,
      siteName: 'home',
      taskLogs: world.taskLogs,
      surroundings: openSurroundings('home', (name) => nodeNames.includes(name)),
      reservationAdmission: refusal,
      isInGroup: () => false,
      admission: () =>
        world.refusal === undefined ? undefined : { reason: 'MemberNotActive', message: world.refusal },
    });
    this.end = this.manager.run(this.abort.signal);
  }

  /** Ends at once, in the middle of whatever it does. */
  async kill(): Promise<void> {
    await this.transport.close();
    this.abort.abort(new Error('killed'));
    await this.end.catch(() => undefined);
  }

  /** Sends nothing any more from the first request on that is this one. @returns once it has come so far. */
  async dieBefore(is: (asked: Asked) => boolean): Promise<void> {
    const send = this.transport.request.bind(this.transport);
    let isDead = false;
    return new Promise((resolve) => {
      this.transport.request = async (asked) => {
        if (isDead || is(asked)) {
          isDead = true;
          resolve();
          throw new Error('the operator is dead');
        }
        return send(asked);
      };
    });
  }
}

/** An API server with the controllers of jobs, three nodes and their kubelet. */
export class JobsWorld {
  readonly client: Client;
  readonly selection: FakeResourceSelection;
  readonly taskLogs = new FakeTaskLogs();
  readonly kubelet: TestKubelet;
  operator: RunningOperator;
  /** Why no member may run jobs; undefined when they may. */
  refusal: string | undefined;
  private readonly plane: AloneControlPlane;
  private readonly transport: HttpTransport;
  private count = 0;

  private constructor(plane: AloneControlPlane) {
    this.plane = plane;
    this.transport = this.newTransport();
    this.client = createClient(this.transport, { fieldManager: 'test' });
    this.selection = new FakeResourceSelection(
      systemClock,
      nodeNames.map((name) => ({ name, attributes: { arch: 'amd64' }, allocatable: { cpu: 2_000, memory: 2 ** 33 } })),
    );
    this.kubelet = new TestKubelet(this.client, this.newTransport());
    this.kubelet.informer.onEvent(() => {
      for (const name of nodeNames) this.countPods(name);
    });
    this.operator = new RunningOperator(this);
  }

  /** @param name - of the API server. */
  static async start(name: string): Promise<JobsWorld> {
    const dir = mkdtempSync(path.join(tmpdir(), `xtreemos-${name}-`));
    const plane = await startControlPlane({ dir, name, withControllers: true });
    const kube = new KubeClient(plane.credentials);
    await installCrds(kube);
    kube.close();
    const world = new JobsWorld(plane);
    await world.addNamespace(namespace);
    for (const node of nodeNames) await world.client.of(nodes).apply({ metadata: { name: node } });
    return world;
  }

  /** Makes the namespace of a virtual organization, in which the member has an account. */
  async addNamespace(name: string): Promise<void> {
    await this.client.of(namespaces).apply({ metadata: { name } });
    await this.client.of(serviceAccounts).apply({ metadata: { name: owner, namespace: name } });
  }

  async stop(): Promise<void> {
    await this.operator.kill();
    await this.kubelet.stop();
    await this.transport.close();
    await this.plane.stop();
  }

  /** Kills the operator and starts another one. */
  async restartOperator(): Promise<void> {
    await this.operator.kill();
    this.operator = new RunningOperator(this);
  }

  newTransport(): HttpTransport {
    const credentials = kubeConfigCredentials({ file: this.plane.kubeconfigPath });
    return new HttpTransport({ ...testParts(systemClock), credentials, throttle: { qps: Infinity } });
  }

  /** Submits a job of one task that ends well at once, unless said otherwise. @returns its name. */
  async submit(spec: object, name = `job-${++this.count}`, where = namespace): Promise<string> {
    const job = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'GridJob', metadata: { name, namespace: where } };
    const full = { owner, template: template('ok'), ...spec };
    await this.client.of(gridJobs).create({ ...job, spec: full } as unknown as GridJob);
    return name;
  }

  async get(name: string, where = namespace): Promise<Stored<GridJob>> {
    return this.client.of(gridJobs).get({ namespace: where, name });
  }

  /** The Execution of a job. */
  async part(name: string): Promise<Stored<Execution>> {
    return this.client.of(executions).get({ namespace, name });
  }

  /** Waits until a job is as expected. @throws with its last status. */
  async until(
    name: string,
    is: (job: Stored<GridJob>) => boolean,
    limitMs = 30_000,
    where = namespace,
  ): Promise<Stored<GridJob>> {
    let last: Stored<GridJob> | undefined;
    return waitFor(
      `${name} is as expected`,
      async () => {
        last = await this.get(name, where);
        return is(last) ? last : undefined;
      },
      { limitMs },
    ).catch((error: unknown) => {
      throw new Error(`${String(error)}: ${JSON.stringify(last?.status, undefined, 1)}`);
    });
  }

  /** What is bound to a node, whoever made it, is what its account counts. */
  private countPods(node: string): void {
    const isOver = (phase = ''): boolean => phase === 'Succeeded' || phase === 'Failed';
    const bound = this.kubelet.informer
      .list()
      .filter(({ spec, status }) => spec?.nodeName === node && !isOver(status?.phase));
    this.selection.setPods(
      node,
      bound.map(({ metadata }) => {
        const claim = metadata.labels?.[podLabels.claim];
        return {
          uid: metadata.uid,
          demand: { cpu: 500, memory: 2 ** 27 },
          virtualOrganization: 'physics',
          ...(claim === undefined ? {} : { claim }),
        };
      }),
    );
  }
}

/** Whether a job is in a state. */
export const state =
  (wanted: string) =>
  (job: GridJob): boolean =>
    job.status?.state === wanted;

/** A task; its image says what becomes of it, see {@link TestKubelet}. */
export const template = (image: string): object => ({ image, resources: { cpu: '500m', memory: '128Mi' } });

/** A merge patch. */
export const merge = (body: object): { type: 'merge'; body: object } => ({ type: 'merge', body });

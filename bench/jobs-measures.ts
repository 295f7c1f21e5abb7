/** What `make bench-jobs` measures, each part by itself. Every part but the last leaves the world as it found it. */
import { performance } from 'node:perf_hooks';
import { type Execution, executions, podLabels } from '#crds/execution.ts';
import { type GridJob, gridJobs } from '#crds/grid-job.ts';
import { owner } from '#operator/testing/jobs.ts';
import {
  collectionPath,
  createManager,
  type Informer,
  type Kind,
  type KubeObject,
  type Pod,
  pods as podKind,
  type Stored,
} from '#runtime/index.ts';
import { waitFor } from '#sites/kube-client.ts';
import { plainJobs } from './jobs-first-process.ts';
import { images, type JobWorld, namespace } from './jobs-world.ts';

/** Jobs that are submitted at the same time. */
const submitters = 32;
/** How often a wait tells how far it has come. */
const tellEveryMs = 10_000;
const request = { cpu: '100m', memory: '64Mi' };

/** How fast some jobs went. When the time for them was over before all had come so far, it tells of those that had. */
export interface Pace {
  /** How many had a node when the time was over, where that were not all. */
  readonly only?: number;
  /** From the first submission to the last pod with a node. */
  readonly boundPerS: number;
  /** From a submission to its pod having a node. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Processor time of each process for one job, until the last had its node. */
  readonly cpuMsEach: Record<string, number>;
}

/** How long the figures may take. */
export interface PartLimits {
  /** Each part, until it is told how far it came. */
  readonly partMs: number;
  /** When all of them are over, of `performance.now()`. */
  readonly endsAt: number;
}

/** Notes when things are first seen, with watches of its own. */
export class Witness {
  private readonly limits: PartLimits;
  private endsAt = 0;
  private readonly report: (line: string) => void;
  private readonly stop = new AbortController();
  private readonly end: Promise<void>;
  readonly pods: Informer<Pod>;
  readonly executions: Informer<Execution>;
  readonly jobs: Informer<GridJob>;
  /** By name of job: when its pod first had a node. */
  readonly boundAt = new Map<string, number>();
  /** By name of job: when its Execution was first seen, which is when its nodes were decided. */
  readonly decidedAt = new Map<string, number>();

  constructor(world: JobWorld, limits: PartLimits, report: (line: string) => void) {
    this.limits = limits;
    this.report = report;
    const transport = world.newTransport();
    const manager = createManager({ name: 'witness', transport, graceMs: 0 });
    this.pods = manager.informer(podKind);
    this.executions = manager.informer(executions);
    this.jobs = manager.informer(gridJobs);
    this.pods.onEvent(({ type, object: { metadata, spec } }) => {
      if (type === 'deleted' || (spec?.nodeName ?? '') === '') return;
      const job = metadata.labels?.[podLabels.job] ?? metadata.labels?.['batch.kubernetes.io/job-name'] ?? '';
      if (!this.boundAt.has(job)) this.boundAt.set(job, performance.now());
    });
    this.executions.onEvent(({ type, object }) => {
      const { name } = object.metadata;
      if (type !== 'deleted' && !this.decidedAt.has(name)) this.decidedAt.set(name, performance.now());
    });
    this.end = manager.run(this.stop.signal).finally(async () => transport.close());
  }

  async synced(): Promise<void> {
    await Promise.all([this.pods, this.executions, this.jobs].map(async (each) => each.synced(this.stop.signal)));
  }

  /** A part begins, and has its time. */
  begin(): void {
    this.endsAt = Math.min(performance.now() + this.limits.partMs, this.limits.endsAt);
  }

  /** Waits until as many are so as should be, and tells every now and then how many are. @throws when the time of the part is over. */
  async until(what: string, total: number, count: () => number): Promise<void> {
    let toldAt = performance.now();
    const isReached = (): boolean => {
      const reached = count();
      if (performance.now() - toldAt >= tellEveryMs) {
        toldAt = performance.now();
        this.report(`  ${what}: ${reached} of ${total}`);
      }
      return reached >= total;
    };
    await waitFor(what, isReached, { limitMs: Math.max(1, this.endsAt - performance.now()) });
  }

  async close(): Promise<void> {
    this.stop.abort(new Error('measured'));
    await this.end.catch(() => undefined);
  }
}

/** Submits plain batch/v1 Jobs of one pod, until the last has its node. */
export async function plain(world: JobWorld, witness: Witness, count: number): Promise<Pace> {
  const container = { name: 'task', image: images.stays, resources: { requests: request } };
  const template = { spec: { restartPolicy: 'Never', containers: [container], automountServiceAccountToken: false } };
  const names = named('plain', count);
  const pace = await paceOf(world, witness, names, async (name) => {
    await world.client.of(plainJobs).create({ metadata: { name, namespace }, spec: { template, backoffLimit: 0 } });
  });
  await clear(world, witness, plainJobs);
  return pace;
}

/** How fast GridJobs went, and what they took. */
export interface GridPace extends Pace {
  /** From the first submission to the last Execution. */
  readonly decidedPerS: number;
  /** Of the operator, over the life of a job. */
  readonly requestsPerJob: number;
  readonly requests: Record<string, number>;
  readonly cpuMs: number;
  /** How many told that they run when the time was over, or all. */
  readonly tellRunning: number;
  /** Processor time of each process for one job, until all of them told that they run. */
  readonly toldCpuMsEach: Record<string, number>;
}

/** The same as GridJobs, and how fast their nodes were decided. */
export async function grid(world: JobWorld, witness: Witness, count: number): Promise<GridPace> {
  const before = await world.cost();
  const cpuBefore = world.cpuMs();
  const names = named('grid', count);
  let startedAt = Infinity;
  const pace = await paceOf(world, witness, names, async (name) => {
    startedAt = Math.min(startedAt, performance.now());
    await submit(world, name, {});
  });
  const decided = names.map((name) => witness.decidedAt.get(name)).filter((at) => at !== undefined);
  const isWhole = pace.only === undefined;
  // What is known of their pace is worth telling also when the time was over before all had said that they run.
  if (isWhole) await untilJobs(witness, names, runs).catch(() => undefined);
  const tellRunning = countOf(names, (name) => {
    const job = witness.jobs.get({ namespace, name });
    return job !== undefined && runs(job);
  });
  const told = world.cpuMs();
  await clear(world, witness, gridJobs);
  // Cleared and all: what a job costs over its life, not only until it runs.
  const after = await world.cost();
  const requests = Object.fromEntries(
    Object.entries(after.requests)
      .map(([name, value]): [string, number] => [name, (value - (before.requests[name] ?? 0)) / count])
      .filter(([, value]) => value >= 0.01)
      .map(([name, value]): [string, number] => [name, round(value, 2)]),
  );
  return {
    ...pace,
    decidedPerS: decided.length / ((Math.max(...decided) - startedAt) / 1000),
    tellRunning,
    toldCpuMsEach: perJob(cpuBefore, told, count),
    requestsPerJob: Object.values(requests).reduce((sum, value) => sum + value, 0),
    requests,
    cpuMs: after.cpuMs - before.cpuMs,
  };
}

/** One array, from its submission until every task has succeeded. */
export async function array(world: JobWorld, witness: Witness, count: number): Promise<number> {
  const startedAt = performance.now();
  await submit(world, 'array', { tasks: { count }, placement: { spread: 'Spread' }, template: template(images.ends) });
  const tasksOf = (): { succeeded: number } | undefined =>
    witness.jobs.get({ namespace, name: 'array' })?.status?.tasks;
  await witness.until('tasks that have succeeded', count, () => tasksOf()?.succeeded ?? 0);
  await untilJobs(witness, ['array'], ({ status }) => status?.state === 'Succeeded');
  const seconds = (performance.now() - startedAt) / 1000;
  await clear(world, witness, gridJobs);
  return seconds;
}

/** Gangs that all fit, from the first submission until every task of every gang runs. */
export async function gangs(world: JobWorld, witness: Witness, count: number, size: number): Promise<number> {
  const startedAt = performance.now();
  const names = named('gang', count);
  await inParallel(names, async (name) => submit(world, name, { tasks: { count: size, gangMinimum: size } }));
  await untilJobs(witness, names, ({ status }) => status?.tasks?.running === size);
  const seconds = (performance.now() - startedAt) / 1000;
  await clear(world, witness, gridJobs);
  return seconds;
}

/**
 * Kills the controllers while jobs run, and starts them anew: how long until a job that is submitted at that moment has its node. The jobs stay.
 * @throws when a pod is another one afterwards.
 */
export async function restart(world: JobWorld, witness: Witness, count: number): Promise<number> {
  const names = named('flight', count);
  await inParallel(names, async (name) => submit(world, name, {}));
  await untilJobs(witness, names, runs);
  const uids = new Set(witness.pods.list().map(({ metadata }) => metadata.uid));
  await world.killOperator();
  const startedAt = performance.now();
  await Promise.all([world.startOperator(), submit(world, 'probe', {})]);
  await untilJobs(witness, ['probe'], runs);
  const seconds = (performance.now() - startedAt) / 1000;
  const changed = witness.pods
    .list()
    .filter(({ metadata }) => metadata.labels?.[podLabels.job] !== 'probe' && !uids.has(metadata.uid));
  if (changed.length > 0 || witness.pods.list().length !== count + 1) {
    throw new Error(
      `The restart disturbed jobs: ${changed.length} pods are others, ${witness.pods.list().length} in all`,
    );
  }
  return seconds;
}

/** Rounded for reading. */
export function round(value: number, digits = 1): number {
  return Number(value.toFixed(digits));
}

const named = (prefix: string, count: number): string[] =>
  Array.from({ length: count }, (_, index) => `${prefix}-${index}`);

const runs = ({ status }: GridJob): boolean => status?.tasks?.running === 1;

function template(image: string): object {
  return { image, resources: request };
}

async function submit(world: JobWorld, name: string, spec: object): Promise<void> {
  const job = { metadata: { name, namespace }, spec: { owner, template: template(images.stays), ...spec } };
  await world.client.of(gridJobs).create(job as unknown as GridJob);
}

async function paceOf(
  world: JobWorld,
  witness: Witness,
  names: readonly string[],
  create: (name: string) => Promise<void>,
): Promise<Pace> {
  const submittedAt = new Map<string, number>();
  const before = world.cpuMs();
  await inParallel(names, async (name) => {
    submittedAt.set(name, performance.now());
    await create(name);
  });
  const reached = (): number => countOf(names, (name) => witness.boundAt.has(name));
  await witness.until('jobs with a node', names.length, reached).catch((error: unknown) => {
    if (reached() === 0) throw error;
  });
  const cpuMsEach = perJob(before, world.cpuMs(), reached());
  const bound = names.filter((name) => witness.boundAt.has(name));
  const latencies = bound
    .map((name) => (witness.boundAt.get(name) ?? 0) - (submittedAt.get(name) ?? 0))
    .sort((a, b) => a - b);
  const at = (share: number): number =>
    latencies[Math.min(latencies.length - 1, Math.floor(share * latencies.length))] ?? 0;
  const lastAt = Math.max(...bound.map((name) => witness.boundAt.get(name) ?? 0));
  const seconds = (lastAt - Math.min(...submittedAt.values())) / 1000;
  return {
    ...(bound.length === names.length ? {} : { only: bound.length }),
    ...{ boundPerS: bound.length / seconds, p50Ms: at(0.5), p99Ms: at(0.99), cpuMsEach },
  };
}

function perJob(before: Record<string, number>, after: Record<string, number>, count: number): Record<string, number> {
  const each = Object.entries(after).map(([name, ms]) => [name, round((ms - (before[name] ?? 0)) / count, 2)] as const);
  return {
    ...Object.fromEntries(each),
    all: round(
      each.reduce((sum, [, ms]) => sum + ms, 0),
      1,
    ),
  };
}

async function untilJobs(
  witness: Witness,
  names: readonly string[],
  is: (job: Stored<GridJob>) => boolean,
): Promise<void> {
  const reached = (name: string): boolean => {
    const job = witness.jobs.get({ namespace, name });
    return job !== undefined && is(job);
  };
  await witness.until('jobs that have come so far', names.length, () => countOf(names, reached));
}

function countOf(names: readonly string[], is: (name: string) => boolean): number {
  return names.reduce((sum, name) => sum + Number(is(name)), 0);
}

/** Deletes whatever is left of a part that failed. */
export async function clearAll(world: JobWorld, witness: Witness): Promise<void> {
  for (const kind of [gridJobs, plainJobs] as const) await clear(world, witness, kind as Kind);
}

/** Deletes every job of a kind, and waits until nothing of them is left. */
async function clear<T extends KubeObject>(world: JobWorld, witness: Witness, kind: Kind<T>): Promise<void> {
  witness.begin();
  await world.transport.request({
    ...{ method: 'DELETE', path: collectionPath(kind, namespace), priority: 'write', isIdempotent: true },
    body: JSON.stringify({ kind: 'DeleteOptions', apiVersion: 'v1', propagationPolicy: 'Background' }),
    ...{ verb: 'deletecollection', resource: kind.plural, timeoutMs: 300_000 },
  });
  const left = (): number => witness.pods.list().length + witness.jobs.list().length + witness.executions.list().length;
  const before = left();
  await witness.until('objects deleted', before, () => before - left());
  witness.boundAt.clear();
  witness.decidedAt.clear();
}

async function inParallel(names: readonly string[], action: (name: string) => Promise<void>): Promise<void> {
  const queue = [...names];
  const work = async (): Promise<void> => {
    for (let name = queue.shift(); name !== undefined; name = queue.shift()) await action(name);
  };
  await Promise.all(Array.from({ length: submitters }, work));
}

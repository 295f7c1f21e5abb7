import type { Clock } from '#common/clock.ts';
import type { GridJob } from '#crds/grid-job.ts';
import type { JobApi, TaskPod } from '../../api/job-api.ts';
import { withJobs } from '../../api/jobs.ts';
import type { OrganizationInput } from '../../api/organizations.ts';
import type { Context } from '../../frame/context.ts';
import type { OutputFormat } from '../../frame/options.ts';
import { serialize } from '../../output/print.ts';
import { type Column, formatTable } from '../../output/table.ts';
import { formatAge } from '../../output/times.ts';
import { findJob } from './find.ts';
import { Gauge, sampleSeconds } from './gauge.ts';
import { commandOf } from './printing.ts';
import { ownerOf } from './show.ts';

interface TopInput extends OrganizationInput {
  readonly jobs: readonly string[];
  readonly everyone: boolean;
  readonly output: OutputFormat;
}

/** Which jobs: these, or those of a member, or all. */
interface Wanted {
  readonly jobs: readonly string[];
  readonly owner: string | undefined;
}

/** One running task. */
export interface TopRow {
  readonly job: string;
  readonly task: number;
  readonly owner: string | undefined;
  readonly node: string | undefined;
  readonly startTime: string | undefined;
  /** Processors in use; absent while unknown. */
  readonly cpu?: number;
  /** Memory in use without caches that can be dropped, bytes; absent while unknown. */
  readonly memoryBytes?: number;
  /** Why there are no figures. */
  readonly problem?: string;
  readonly command: string;
}

/** What `xos top -o json` prints. */
export interface TopReport {
  readonly tasks: readonly TopRow[];
  /** Running tasks that are not listed. */
  readonly more: number;
}

/** Each one is a connection to a node of its own. */
const tasksMax = 100;
/** The first figures need two readings; what has none by then is shown without. */
const patienceMs = 15_000;
const lookMs = 200;

/** `xos top`. */
export async function top(context: Context, input: TopInput): Promise<void> {
  return withJobs(context, input, async (api) => {
    const gauges = new Gauges(api, context.clock);
    try {
      await show(context, api, input, gauges);
    } finally {
      gauges.stop();
    }
  });
}

/** Prints once; on a terminal, again and again until it is interrupted. */
export async function show(context: Context, api: JobApi, input: TopInput, gauges: Gauges): Promise<void> {
  const { terminal, clock, signal } = context;
  const { output } = input;
  const owner = input.jobs.length > 0 ? undefined : await ownerOf(api, input);
  const isLive = terminal.isInteractive && (output === 'table' || output === 'wide');
  await look(context, api, { jobs: input.jobs, owner }, gauges);
  for (const end = clock.monotonic() + patienceMs; !gauges.areKnown && clock.monotonic() < end;) {
    await clock.sleep(lookMs, signal);
  }
  let report = await look(context, api, { jobs: input.jobs, owner }, gauges);
  if (output === 'json' || output === 'yaml') terminal.print(await serialize(output, report));
  else if (output === 'name') terminal.print(report.tasks.map(({ job, task }) => `${job}/${task}`).join('\n'));
  else if (!isLive) {
    if (report.tasks.length > 0) terminal.print(tableOf(context, report, output));
    else terminal.hint(`No task runs. See what waits: ${context.program} ps`);
  }
  while (isLive) {
    terminal.redraw(`${summaryOf(report)}\n\n${tableOf(context, report, output)}`);
    await clock.sleep(sampleSeconds * 1000, signal);
    report = await look(context, api, { jobs: input.jobs, owner }, gauges);
  }
}

/** What runs and what it uses, the hungriest first. */
export async function look(context: Context, api: JobApi, wanted: Wanted, gauges: Gauges): Promise<TopReport> {
  const jobs = await jobsOf(context, api, wanted);
  const running = (await api.podsOf(undefined)).filter(({ isRunning, job }) => isRunning && jobs.has(job));
  const followed = running.slice(0, tasksMax);
  gauges.follow(followed);
  const tasks = followed
    .map((pod) => rowOf(pod, jobs.get(pod.job), gauges.of(pod)))
    .sort((a, b) => (b.cpu ?? -1) - (a.cpu ?? -1) || (a.job < b.job ? -1 : Number(a.job > b.job)) || a.task - b.task);
  return { tasks, more: running.length - followed.length };
}

async function jobsOf({ signal }: Context, api: JobApi, { jobs: names, owner }: Wanted): Promise<Map<string, GridJob>> {
  const { namespace } = api;
  const found =
    names.length > 0
      ? await Promise.all(names.map(async (name) => findJob(api, name, signal)))
      : (await api.jobs.list({ namespace, signal })).items.filter(
          ({ spec }) => owner === undefined || spec.owner === owner,
        );
  return new Map(found.map((job) => [job.metadata.name, job]));
}

function rowOf(pod: TaskPod, job: GridJob | undefined, gauge: Gauge | undefined): TopRow {
  const { usage, problem } = gauge ?? {};
  return {
    ...{ job: pod.job, task: pod.index, owner: job?.spec.owner, node: pod.node, startTime: pod.startTime },
    ...usage,
    ...(problem === undefined ? {} : { problem }),
    command: job === undefined ? '' : commandOf(job),
  };
}

/** One gauge for each task that is looked at. */
export class Gauges {
  private readonly api: JobApi;
  private readonly clock: Clock;
  private readonly gauges = new Map<string, Gauge>();

  constructor(api: JobApi, clock: Clock) {
    this.api = api;
    this.clock = clock;
  }

  /** Whether nothing more is to be waited for. */
  get areKnown(): boolean {
    return [...this.gauges.values()].every(({ isKnown }) => isKnown);
  }

  of({ name }: TaskPod): Gauge | undefined {
    return this.gauges.get(name);
  }

  /** Looks at these from now on, and no longer at others. */
  follow(pods: readonly TaskPod[]): void {
    const byName = new Map(pods.map((pod) => [pod.name, pod]));
    for (const [name, gauge] of this.gauges) {
      if (byName.has(name)) continue;
      gauge.stop();
      this.gauges.delete(name);
    }
    for (const [name, pod] of byName)
      if (!this.gauges.has(name)) this.gauges.set(name, new Gauge(this.api, this.clock, pod));
  }

  stop(): void {
    this.follow([]);
  }
}

const mebi = 1024 ** 2;

function tableOf({ terminal, clock }: Context, { tasks, more }: TopReport, output: OutputFormat): string {
  const columns: Column<TopRow>[] = [
    { name: 'job', value: ({ job }) => job },
    { name: 'task', value: ({ task }) => task },
    { name: 'owner', isWide: true, value: ({ owner }) => owner },
    { name: 'node', value: ({ node }) => node },
    { name: 'cpu', value: ({ cpu }) => cpu?.toFixed(2) ?? '-' },
    {
      name: 'memory',
      value: ({ memoryBytes }) => (memoryBytes === undefined ? '-' : `${(memoryBytes / mebi).toFixed(1)}Mi`),
    },
    { name: 'time', value: ({ startTime }) => formatAge(startTime, clock.now()) },
    { name: 'problem', isWide: true, value: ({ problem }) => problem },
    { name: 'command', value: ({ command }) => command },
  ];
  const heading = (text: string): string => terminal.heading(text);
  const table = formatTable(tasks, columns, { isWide: output === 'wide', heading });
  return more === 0 ? table : `${table}\n… and ${more} more: name jobs to see theirs`;
}

function summaryOf({ tasks, more }: TopReport): string {
  const count = tasks.length + more;
  const cpu = tasks.reduce((sum, row) => sum + (row.cpu ?? 0), 0);
  const memory = tasks.reduce((sum, row) => sum + (row.memoryBytes ?? 0), 0);
  return `${count} running ${count === 1 ? 'task' : 'tasks'}, ${cpu.toFixed(2)} CPU, ${(memory / mebi).toFixed(1)}Mi`;
}

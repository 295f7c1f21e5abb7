import { describeError, InvalidInputError } from '#common/errors.ts';
import type { GridJob } from '#crds/grid-job.ts';
import type { JobApi, TaskPod } from '../../api/job-api.ts';
import { withJobs } from '../../api/jobs.ts';
import type { OrganizationInput } from '../../api/organizations.ts';
import { CommandError } from '../../frame/exit.ts';
import type { Context } from '../../frame/context.ts';
import { JobOutput } from '../../output/job-output.ts';
import { runOf, tasksElsewhere } from './elsewhere.ts';
import { findJob } from './find.ts';
import { Follower, type FollowRequest, isOneTask } from './follow.ts';

interface LogsInput extends OrganizationInput {
  readonly job: string;
  readonly tasks: readonly string[];
  readonly follow: boolean;
  readonly tail: number | undefined;
  readonly timestamps: boolean;
}

/** `xos logs`. */
export async function logs(context: Context, input: LogsInput): Promise<void> {
  const { signal } = context;
  const tasks = input.tasks.length === 0 ? undefined : new Set(input.tasks.flatMap((text) => parseIndices(text)));
  return withJobs(context, input, async (api) => {
    const job = await findJob(api, input.job, signal);
    const { count } = job.spec.tasks;
    const stray = [...(tasks ?? [])].find((index) => index >= count);
    if (stray !== undefined) {
      throw new InvalidInputError('TASKS', `${stray} is no task of ${input.job}: its last is ${count - 1}`);
    }
    const request = { tasks, tailLines: input.tail, timestamps: input.timestamps };
    if (input.follow) await new Follower(context, api, request).untilEnd(input.job);
    else await printLogs(context, api, job, request);
  });
}

/** One log: read from a pod, or kept of one that is gone. */
interface Source {
  readonly index: number;
  /** Where its task runs, where that is another site. */
  readonly site?: string | undefined;
  read(output: JobOutput): Promise<void>;
}

/** Prints what there is to read, by index; the runs of one task in the order in which they began. */
export async function printLogs(context: Context, api: JobApi, job: GridJob, request: FollowRequest): Promise<void> {
  const { tasks } = request;
  const here = await api.podsOf(job.metadata.name);
  const pods = [...here, ...tasksElsewhere(job, here)];
  const sources = (await sourcesOf(context, api, job, pods, request)).filter(
    ({ index }) => tasks?.has(index) !== false,
  );
  if (sources.length === 0) {
    const { name } = job.metadata;
    const remedy = `See what it waits for: ${context.program} explain ${name}. Wait for output: ${context.program} logs -f ${name}`;
    throw new CommandError('notFound', `Nothing of ${name} has started, or it left no log`, remedy);
  }
  const isOne = isOneTask(job, tasks);
  for (const source of sources.toSorted((a, b) => a.index - b.index)) {
    const output = new JobOutput(context.terminal, isOne ? undefined : source.index);
    try {
      await source.read(output);
    } catch (error) {
      // A site that is away takes nothing from the logs of others.
      if (source.site === undefined || sources.length === 1) throw error;
      context.terminal.warn(`the log of task ${source.index} can not be read: ${describeError(error)}`);
    }
    output.end();
  }
}

async function sourcesOf(
  { signal }: Context,
  api: JobApi,
  job: GridJob,
  all: readonly TaskPod[],
  { tailLines, timestamps }: FollowRequest,
): Promise<Source[]> {
  const pods = all.filter(({ hasStarted }) => hasStarted);
  const there = new Set(pods.map(runOf));
  const gone = (await api.keptLogsOf(job)).filter((log) => !there.has(runOf(log)));
  return [
    ...gone.map(({ index, text }) => ({
      index,
      read: async (output: JobOutput) => output.write(Buffer.from(lastLines(text, tailLines))),
    })),
    ...pods.map((pod) => ({
      ...{ index: pod.index, site: pod.site },
      read: async (output: JobOutput) =>
        api.readLog(pod, { follow: false, tailLines, timestamps }, (chunk) => output.write(chunk), signal),
    })),
  ];
}

function lastLines(text: string, count: number | undefined): string {
  if (count === undefined) return text;
  const isEnded = text.endsWith('\n');
  const lines = (isEnded ? text.slice(0, -1) : text).split('\n');
  return count === 0 ? '' : lines.slice(-count).join('\n') + (isEnded ? '\n' : '');
}

/** The indices of `3` or `0-9`; several are given as several words. @throws {InvalidInputError} */
export function parseIndices(text: string): number[] {
  const [, first, last = first] = /^([0-9]{1,5})(?:-([0-9]{1,5}))?$/.exec(text) ?? [];
  if (first === undefined || Number(last) < Number(first)) {
    throw new InvalidInputError('TASKS', `${JSON.stringify(text)} is no index or range of indices, such as 3 or 0-9`);
  }
  return Array.from({ length: Number(last) - Number(first) + 1 }, (_, at) => Number(first) + at);
}

import { InvalidInputError } from '#common/errors.ts';
import { type JobApi, type TaskPod, withJobs } from '../../api/jobs.ts';
import { getOrExplain, type OrganizationInput } from '../../api/organizations.ts';
import { CommandError } from '../../frame/exit.ts';
import type { Context } from '../../frame/context.ts';
import { JobOutput } from '../../output/job-output.ts';
import { Follower } from './follow.ts';

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
    const { spec } = await getOrExplain(api.jobs, { name: input.job, namespace: api.namespace }, 'job', signal);
    const stray = [...(tasks ?? [])].find((index) => index >= spec.tasks.count);
    if (stray !== undefined) {
      throw new InvalidInputError('TASKS', `${stray} is no task of ${input.job}: its last is ${spec.tasks.count - 1}`);
    }
    const request = { tasks, tailLines: input.tail, timestamps: input.timestamps };
    if (input.follow) {
      await new Follower(context, api, request).untilEnd(input.job);
      return;
    }
    const isOne = spec.tasks.count === 1 || tasks?.size === 1;
    await printLogs(context, api, input, { tasks, isOne });
  });
}

/** Prints what there is to read. */
export async function printLogs(
  context: Context,
  api: JobApi,
  { job, tail, timestamps }: LogsInput,
  { tasks, isOne }: { readonly tasks: ReadonlySet<number> | undefined; readonly isOne: boolean },
): Promise<void> {
  const { signal, terminal, program } = context;
  const pods = (await api.podsOf(job)).filter(({ index }) => tasks === undefined || tasks.has(index));
  const begun = pods.filter(({ hasStarted }) => hasStarted);
  if (begun.length === 0) {
    const remedy = `See what it waits for: ${program} explain ${job}. Wait for output: ${program} logs -f ${job}`;
    throw new CommandError('notFound', `Nothing of ${job} has started on a node that is still there`, remedy);
  }
  for (const pod of inOrder(begun)) {
    const output = new JobOutput(terminal, isOne ? undefined : pod.index);
    const request = { follow: false, tailLines: tail, timestamps };
    await api.readLog(pod.name, request, (chunk) => output.write(chunk), signal);
    output.end();
  }
}

/** By index; the runs of one task in the order in which they began. */
function inOrder(pods: readonly TaskPod[]): TaskPod[] {
  return pods.toSorted((a, b) => a.index - b.index);
}

/** The indices of `3` or `0-9`; several are given as several words. @throws {InvalidInputError} */
export function parseIndices(text: string): number[] {
  const [, first, last = first] = /^([0-9]{1,5})(?:-([0-9]{1,5}))?$/.exec(text) ?? [];
  if (first === undefined || Number(last) < Number(first)) {
    throw new InvalidInputError('TASKS', `${JSON.stringify(text)} is no index or range of indices, such as 3 or 0-9`);
  }
  return Array.from({ length: Number(last) - Number(first) + 1 }, (_, at) => Number(first) + at);
}

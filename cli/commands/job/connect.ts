import type { ReadStream } from 'node:tty';
import { InvalidInputError } from '#common/errors.ts';
import type { RemoteStreams } from '#runtime/remote-command.ts';
import type { ConnectRequest } from '#runtime/pod-streams.ts';
import type { JobApi, TaskPod } from '../../api/job-api.ts';
import { withJobs } from '../../api/jobs.ts';
import type { OrganizationInput } from '../../api/organizations.ts';
import { CommandError } from '../../frame/exit.ts';
import type { Context } from '../../frame/context.ts';
import { tasksElsewhere } from './elsewhere.ts';
import { findJob } from './find.ts';
import { exitStatusOf, hasEnded, stateLine } from './state.ts';

interface TaskInput extends OrganizationInput {
  readonly job: string;
  readonly task: number | undefined;
}

/** `xos exec`. @returns the exit status of the command. */
export async function exec(
  context: Context,
  input: TaskInput & { readonly command: readonly string[]; readonly stdin: boolean; readonly tty: boolean },
): Promise<number> {
  const { stdin, tty, command } = input;
  if (tty && !stdin) throw new InvalidInputError('--tty', 'needs --stdin: a terminal is for typing; give -it');
  return withJobs(context, input, async (api) => {
    const pod = await runningTask(context, api, input);
    return (await connect(context, api, pod, { command, stdin, tty })) ?? 0;
  });
}

/** `xos attach`. @returns the exit status of the job, when it ended meanwhile. */
export async function attach(context: Context, input: TaskInput): Promise<number> {
  return withJobs(context, input, async (api) => {
    const pod = await runningTask(context, api, input);
    const key = { name: input.job, namespace: api.namespace };
    const { spec } = await findJob(api, input.job, context.signal);
    if (!spec.interactive) {
      context.terminal.warn(`${input.job} takes no input: submit with --interactive what shall be typed to`);
    }
    await connect(context, api, pod, { command: undefined, stdin: spec.interactive, tty: spec.interactive });
    const ended = await endOf(context, api, key);
    return ended === undefined ? 0 : exitStatusOf(ended);
  });
}

/** The container ends a moment before the job. Detached from what goes on, there is no end to wait for. */
const endMs = 10_000;

async function endOf({ clock, signal }: Context, api: JobApi, key: { name: string; namespace: string }) {
  const deadline = clock.monotonic() + endMs;
  for (;;) {
    const job = await api.jobs.find(key, { signal });
    if (job === undefined || hasEnded(job)) return job;
    if (clock.monotonic() >= deadline || (job.status?.tasks?.running ?? 0) > 1) return undefined;
    await clock.sleep(300, signal);
  }
}

/** The pod of the task that is meant: that of `--task`, or the only one that runs. @throws {CommandError} naming those that run. */
export async function runningTask(context: Context, api: JobApi, { job: name, task }: TaskInput): Promise<TaskPod> {
  const { signal, program } = context;
  const job = await findJob(api, name, signal);
  const here = await api.podsOf(name);
  const pods = [...here, ...tasksElsewhere(job, here)];
  const running = pods.filter(({ isRunning }) => isRunning);
  const found = task === undefined ? running : running.filter(({ index }) => index === task);
  const [first, second] = found;
  if (first === undefined) {
    const what = task === undefined ? `No task of ${name} runs` : `Task ${task} of ${name} does not run`;
    throw new CommandError('notFound', `${what}: the job is ${stateLine(job)}`, `See more: ${program} explain ${name}`);
  }
  if (second !== undefined && task === undefined) {
    const indices = running.map(({ index }) => index).sort((a, b) => a - b);
    const listed = `${indices.slice(0, 20).join(', ')}${indices.length > 20 ? ', …' : ''}`;
    throw new InvalidInputError('--task', `is needed: ${indices.length} tasks of ${name} run (${listed})`);
  }
  return first;
}

async function connect(
  { terminal, signal }: Context,
  api: JobApi,
  pod: TaskPod,
  request: ConnectRequest,
): Promise<number | undefined> {
  const input = process.stdin as ReadStream;
  const isRaw = request.tty && input.isTTY;
  const onResize: (() => void)[] = [];
  const streams: RemoteStreams = {
    ...(request.stdin ? { stdin: input as AsyncIterable<Buffer> } : {}),
    endsStdin: request.command !== undefined,
    onStdout: (chunk) => terminal.pass(chunk),
    onStderr: (chunk) => terminal.passError(chunk),
    onConnect: (resize) => {
      if (!request.tty) return;
      const tell = (): void => resize({ columns: process.stdout.columns, rows: process.stdout.rows });
      if (!process.stdout.isTTY) return;
      tell();
      process.stdout.on('resize', tell);
      onResize.push(tell);
    },
  };
  // In raw mode Ctrl-C is a character for the program over there.
  if (isRaw) input.setRawMode(true);
  try {
    return await api.connect(pod, request, streams, signal);
  } finally {
    for (const tell of onResize) process.stdout.off('resize', tell);
    if (isRaw) input.setRawMode(false);
    if (request.stdin) input.destroy();
    signal.throwIfAborted();
  }
}

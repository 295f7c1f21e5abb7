/** Signals that do not end a job: the caller's own hand brings them to its tasks, by a shell of their image (ADR 0190). */
import { describeError } from '#common/errors.ts';
import { inParallel } from '#common/parallel.ts';
import type { JobApi, TaskPod } from '../../api/job-api.ts';
import { CommandError } from '../../frame/exit.ts';
import type { Context } from '../../frame/context.ts';
import { tasksElsewhere } from './elsewhere.ts';
import { liveFamily } from './family.ts';
import { findJob } from './find.ts';
import { runScript } from './script.ts';
import { hasEnded, stateLine } from './state.ts';

/** Signals that tasks are handed; what they do is up to each task. */
export const passedOnSignals = ['HUP', 'INT', 'QUIT', 'USR1', 'USR2'] as const;
/** One of {@link passedOnSignals}. */
export type PassedOnSignal = (typeof passedOnSignals)[number];

/** Commands in containers that run at once. */
const atOnce = 16;
/** Of what a shell says when it can't do it. */
const wordsMax = 500;
/** Problems that are listed. */
const listedMax = 10;

/**
 * Hands a signal to the first process of each running task of a job, and of the jobs that were submitted from within it.
 * @throws {CommandError} when no task runs, or when it did not reach all of them; the message lists why.
 */
export async function deliver(context: Context, api: JobApi, name: string, signal: PassedOnSignal): Promise<void> {
  const { terminal, program } = context;
  const job = await findJob(api, name, context.signal);
  if (hasEnded(job)) {
    terminal.print(`${name} has ended already`);
    return;
  }
  const targets = await targetsOf(context, api, job.metadata.uid);
  if (targets.length === 0) {
    const remedy = `SIG${signal} is for tasks that run. End the job before it starts: ${program} kill ${name}`;
    throw new CommandError('notFound', `No task of ${name} runs: the job is ${stateLine(job)}`, remedy);
  }
  const problems: string[] = [];
  await inParallel(targets, atOnce, async (target) => {
    const problem = await send(context, api, target, signal);
    if (problem !== undefined) problems.push(`${target.job}, task ${target.index}: ${problem}`);
  });
  const reached = targets.length - problems.length;
  if (reached > 0) terminal.print(`${name}: SIG${signal} reached ${reached} ${reached === 1 ? 'task' : 'tasks'}`);
  if (problems.length === 0) return;
  const more = problems.length > listedMax ? `\n… and ${problems.length - listedMax} more` : '';
  throw new CommandError(
    'failure',
    `SIG${signal} did not reach ${problems.length} of ${targets.length} tasks:\n${problems.slice(0, listedMax).join('\n')}${more}`,
    'It goes in by /bin/sh of the image. TERM and KILL need no shell.',
  );
}

/** The running tasks of a job and of those below it. */
async function targetsOf(context: Context, api: JobApi, uid: string): Promise<TaskPod[]> {
  const targets: TaskPod[] = [];
  for (const job of await liveFamily(api, uid, context.signal)) {
    const here = await api.podsOf(job.metadata.name);
    targets.push(...[...here, ...tasksElsewhere(job, here)].filter(({ isRunning }) => isRunning));
  }
  return targets;
}

/** @returns why it did not arrive. */
async function send(
  { signal: abort }: Context,
  api: JobApi,
  pod: TaskPod,
  signal: PassedOnSignal,
): Promise<string | undefined> {
  try {
    const { status, words } = await runScript(api, pod, [`kill -s ${signal} 1`], {}, abort);
    return status === 0 ? undefined : words.slice(0, wordsMax) || `the shell ended with status ${status}`;
  } catch (error) {
    abort.throwIfAborted();
    return describeError(error).slice(0, wordsMax);
  }
}

/** Whether tasks are handed this signal. */
export function isPassedOn(name: string): name is PassedOnSignal {
  return passedOnSignals.some((one) => one === name);
}

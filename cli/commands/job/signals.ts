import { InvalidInputError } from '#common/errors.ts';
import { type GridJob, jobSignals } from '#crds/grid-job.ts';
import type { Stored } from '#runtime/types.ts';
import type { JobApi } from '../../api/job-api.ts';
import { withJobs } from '../../api/jobs.ts';
import { changeSpec, type OrganizationInput } from '../../api/organizations.ts';
import { explain, waitUntil } from '../../api/waiting.ts';
import type { Context } from '../../frame/context.ts';
import { deliver, isPassedOn, passedOnSignals, type PassedOnSignal } from './deliver.ts';
import { liveFamily } from './family.ts';
import { findJob } from './find.ts';
import { hasEnded } from './state.ts';

/** Signals that end a job; it is the operator that sees to them. */
type EndingSignal = keyof typeof jobSignals;
type Signal = EndingSignal | PassedOnSignal;

interface JobsInput extends OrganizationInput {
  readonly jobs: readonly string[];
  readonly wait: boolean;
  readonly timeout: number;
}

/** Numbers of signals on Linux. */
const numbers: Readonly<Record<string, Signal>> = {
  ...{ '1': 'HUP', '2': 'INT', '3': 'QUIT', '9': 'KILL', '10': 'USR1', '12': 'USR2', '15': 'TERM' },
};
const signals = [...(Object.keys(jobSignals) as EndingSignal[]), ...passedOnSignals];

/** The signal that a user means: a name with or without SIG, or a number. @throws {InvalidInputError} */
export function parseSignal(text: string): Signal {
  const name = numbers[text] ?? text.toUpperCase().replace(/^SIG/, '');
  const found = signals.find((signal) => signal === name);
  if (found === undefined) {
    throw new InvalidInputError('--signal', `${JSON.stringify(text)} is not one of ${signals.join(', ')}`);
  }
  return found;
}

/** `xos kill`. */
export async function kill(context: Context, input: JobsInput & { readonly signal: string }): Promise<void> {
  const signal = parseSignal(input.signal);
  return eachJob(context, input, async (api, name) => {
    if (isPassedOn(signal)) {
      await deliver(context, api, name, signal);
      if (input.wait)
        await untilSeen(context, api, await findJob(api, name, context.signal), 'end', hasEnded, input.timeout);
      return;
    }
    const { object, isChanged } = await changeSignal(context, api, name, signal);
    context.terminal.print(isChanged ? `${name}: SIG${signal} sent` : `${name} has ended already`);
    if (input.wait && isChanged) await untilSeen(context, api, object, 'end', hasEnded, input.timeout);
  });
}

/** Has a job ended by a signal, and all below it; where all has ended, none is sent. */
export async function changeSignal(
  context: Context,
  api: JobApi,
  name: string,
  signal: EndingSignal,
): Promise<{ readonly object: Stored<GridJob>; readonly isChanged: boolean }> {
  return change(context, api, name, (job, isOver) => {
    return isOver ? undefined : { signal: { name: signal, sequence: (job.spec.signal?.sequence ?? 0) + 1 } };
  });
}

/** `xos suspend`. */
export async function suspend(context: Context, input: JobsInput): Promise<void> {
  return setSuspend(context, input, true);
}

/** `xos resume`. */
export async function resume(context: Context, input: JobsInput): Promise<void> {
  return setSuspend(context, input, false);
}

async function setSuspend(context: Context, input: JobsInput, isWanted: boolean): Promise<void> {
  const isInForce = (job: GridJob): boolean =>
    hasEnded(job) || (isWanted ? job.status?.state === 'Suspended' : job.status?.state !== 'Suspended');
  return eachJob(context, input, async (api, name) => {
    const { object, isChanged } = await change(context, api, name, (job, isOver) =>
      isOver || job.spec.suspend === isWanted ? undefined : { suspend: isWanted },
    );
    context.terminal.print(`${name} ${wordFor(object, isWanted, isChanged)}`);
    const what = isWanted ? 'be suspended' : 'go on';
    if (input.wait && isChanged) await untilSeen(context, api, object, what, isInForce, input.timeout);
  });
}

function wordFor(job: GridJob, isSuspended: boolean, isChanged: boolean): string {
  if (hasEnded(job))
    return isChanged ? `has ended; what is below it ${isSuspended ? 'stops' : 'goes on'}` : 'has ended already';
  if (!isChanged) return isSuspended ? 'is suspended already' : 'is not suspended';
  return isSuspended ? 'is being suspended' : 'goes on';
}

async function eachJob(
  context: Context,
  input: JobsInput,
  act: (api: JobApi, name: string) => Promise<void>,
): Promise<void> {
  return withJobs(context, input, async (api) => {
    for (const name of input.jobs) await act(api, name);
  });
}

async function change(
  { signal }: Context,
  api: JobApi,
  name: string,
  decide: (job: Stored<GridJob>, isOver: boolean) => object | undefined,
): Promise<{ readonly object: Stored<GridJob>; readonly isChanged: boolean }> {
  let isOver = false;
  const read = async (): Promise<Stored<GridJob>> => {
    const job = await findJob(api, name, signal);
    // What it submitted follows its word also after its end.
    isOver = hasEnded(job) && !(job.spec.gridAccess && (await liveFamily(api, job.metadata.uid, signal)).length > 0);
    return job;
  };
  return changeSpec(api.jobs, read, (job) => decide(job, isOver), { signal });
}

async function untilSeen(
  context: Context,
  api: JobApi,
  { metadata }: Stored<GridJob>,
  what: string,
  isSeen: (job: GridJob) => boolean,
  timeoutMs: number,
): Promise<void> {
  await waitUntil(context, api.jobs, metadata, {
    what: `${metadata.name} to ${what}`,
    timeoutMs,
    isDone: (job) => job === undefined || isSeen(job),
    why: (job) => explain(job, 'Running'),
  });
}

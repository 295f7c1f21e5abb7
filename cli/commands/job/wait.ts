import type { GridJob } from '#crds/grid-job.ts';
import type { Stored } from '#runtime/types.ts';
import type { JobApi } from '../../api/job-api.ts';
import { withJobs } from '../../api/jobs.ts';
import type { OrganizationInput } from '../../api/organizations.ts';
import { waitUntil } from '../../api/waiting.ts';
import { CommandError } from '../../frame/exit.ts';
import type { Context } from '../../frame/context.ts';
import { liveFamily } from './family.ts';
import { findJob } from './find.ts';
import { endLine, exitStatusOf, hasEnded, stateLine } from './state.ts';

/** What can be waited for. */
export const milestones = ['Started', 'Ended'] as const;

interface WaitInput extends OrganizationInput {
  readonly jobs: readonly string[];
  readonly for: (typeof milestones)[number];
  readonly timeout: number;
}

/** `xos wait`. @returns the first exit status that is not 0, in the order of the names. */
export async function wait(context: Context, input: WaitInput): Promise<number> {
  const { signal, clock, terminal } = context;
  const isReached = (job: GridJob): boolean =>
    hasEnded(job) || (input.for === 'Started' && job.status?.startTime !== undefined);
  const deadline = clock.monotonic() + input.timeout;
  return withJobs(context, input, async (api) => {
    const statuses: number[] = [];
    // So that a wrong name is told at once, and not after the others have ended.
    for (const name of input.jobs) await findJob(api, name, signal);
    for (const name of input.jobs) {
      const job = await waitUntil(
        context,
        api.jobs,
        { name, namespace: api.namespace },
        {
          what: `${name} to ${input.for === 'Ended' ? 'end' : 'start'}`,
          timeoutMs: Math.max(0, deadline - clock.monotonic()),
          isDone: (found) => found === undefined || isReached(found),
          why: (found) => (found === undefined ? 'it is gone' : stateLine(found)),
        },
      );
      if (job === undefined) throw new CommandError('notFound', `${name} was deleted meanwhile`);
      terminal.print(`${name} ${job.status?.state ?? ''}`);
      if (!hasEnded(job)) continue;
      if (input.for === 'Ended' && job.spec.gridAccess) await untilFamilyEnded(context, api, job, deadline);
      if (endLine(job) !== '') terminal.say(endLine(job));
      statuses.push(exitStatusOf(job));
    }
    return statuses.find((status) => status !== 0) ?? 0;
  });
}

/** Waits for what a job submitted from within, which may go on after its end. */
async function untilFamilyEnded(
  context: Context,
  api: JobApi,
  { metadata }: Stored<GridJob>,
  deadline: number,
): Promise<void> {
  const next = async (): Promise<Stored<GridJob> | undefined> =>
    (await liveFamily(api, metadata.uid, context.signal))[0];
  await waitUntil(context, { find: next }, metadata, {
    what: `all below ${metadata.name} to end`,
    timeoutMs: Math.max(0, deadline - context.clock.monotonic()),
    isDone: (found) => found === undefined,
    why: (found) => (found === undefined ? '' : `${found.metadata.name} is ${stateLine(found)}`),
  });
}

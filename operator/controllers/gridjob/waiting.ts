/** What a job is told while it waits. Pure. */
import { type GridJob, jobMatched } from '#crds/grid-job.ts';
import type { Refusals } from '#proto/selector/contract.ts';
import type { Answer } from '#operator/scheduling/dispatcher.ts';
import { refusedAt } from '#operator/scheduling/refusals.ts';
import type { Stored } from '#runtime/types.ts';
import type { Ending, JobScope } from './status.ts';

/**
 * Before a job that has just come, and that no node has refused, is told that it waits: most have their nodes by then, and when thousands come at
 * once each such write would take the place of one that gives a job its nodes.
 */
export const patienceMs = 5_000;

/** What a look at a job leads to. */
export interface Decision {
  readonly ending?: Ending | undefined;
  readonly refusal?: JobScope['refusal'];
  readonly waiting?: JobScope['waiting'] | undefined;
  readonly refusals?: Refusals | undefined;
  readonly requeueAfterMs?: number | undefined;
  readonly expectedStart?: number | undefined;
}

/**
 * What to say while nodes are looked for: nothing at first, then what nodes said.
 * @param patienceMs - how long after its submission nothing is said.
 * @param now - milliseconds since the epoch.
 * @param siteName - of this site.
 */
export function waitingFor(
  job: Stored<GridJob>,
  answer: Answer | undefined,
  { requeueAfterMs, patienceMs }: { readonly requeueAfterMs: number | undefined; readonly patienceMs: number },
  now: number,
  siteName: string,
): Decision {
  const age = now - Date.parse(job.metadata.creationTimestamp);
  if (answer === undefined) {
    const known = job.status?.conditions?.find(({ type }) => type === jobMatched.type);
    const isKnown = known?.status === 'False' && known.reason in jobMatched.reasons;
    const before = {
      reason: (known?.reason ?? 'Waiting') as keyof typeof jobMatched.reasons,
      message: known?.message ?? '',
    };
    const refusals = Object.fromEntries(
      (job.status?.waiting ?? []).map(({ site, reason, nodes }) => [
        site === siteName ? reason : refusedAt(reason, site),
        nodes,
      ]),
    );
    if (isKnown) return { waiting: before, refusals, requeueAfterMs };
    return { requeueAfterMs: earliest(requeueAfterMs, Math.max(1, patienceMs - age)) };
  }
  const { NothingMatches, Waiting } = jobMatched.reasons;
  const { refusals, nothingMatches } = answer;
  const waiting = nothingMatches
    ? { reason: NothingMatches, message: 'No node matches requirements.static: see `xos nodes` for what there is.' }
    : { reason: Waiting, message: 'Nodes match, but too few have room for the tasks now; see status.waiting.' };
  return { waiting, refusals, requeueAfterMs };
}

/** What is said of a job whose tasks gave way to another one. @param to - `namespace/name`. */
export function gaveWayTo(to: string): NonNullable<JobScope['waiting']> {
  const name = to.slice(to.indexOf('/') + 1);
  return { reason: jobMatched.reasons.Waiting, message: `Gave way to ${name}, and waits until that has its nodes.` };
}

/** The earliest of moments or durations, of those that are known. */
export function earliest(...times: (number | undefined)[]): number | undefined {
  const known = times.filter((time) => time !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
}

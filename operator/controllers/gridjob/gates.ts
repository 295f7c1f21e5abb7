/** What a job waits for before it looks for nodes. Pure. */
import { type GridJob, jobMatched } from '#crds/grid-job.ts';
import type { Reservation } from '#crds/reservation.ts';
import { IndexSet } from '#operator/scheduling/index-set.ts';
import { findCondition } from '#runtime/conditions.ts';
import type { Stored } from '#runtime/types.ts';

/** Depth of a tree of jobs, and length of a chain of dependencies, that are followed. */
const depthMax = 64;

/** Whether the job may go on. */
export type Gate =
  | { readonly is: 'open'; readonly allowed?: IndexSet }
  | {
      readonly is: 'shut';
      readonly reason: keyof typeof jobMatched.reasons;
      readonly message: string;
      /** When it is expected to go on, milliseconds since the epoch. */
      readonly until?: number;
    }
  /** It can never go on. */
  | { readonly is: 'hopeless'; readonly reason: 'DependencyFailed' | 'ReservationOver'; readonly message: string };

/** Looks a job of the same namespace up. */
export type FindJob = (name: string) => Stored<GridJob> | undefined;

/** Whether the jobs that this one depends on have come as far as was asked. */
export function dependencyGate(job: Stored<GridJob>, find: FindJob): Gate {
  let allowed: IndexSet | undefined;
  const waiting: string[] = [];
  for (const { job: name, when, perIndex } of job.spec.dependsOn) {
    const other = find(name);
    if (other === undefined) {
      waiting.push(`${name}, which does not exist (yet)`);
      continue;
    }
    const is = stageOf(other);
    if (perIndex) {
      const done = IndexSet.parse(
        when === 'Failed' ? other.status?.tasks?.failedIndexes : other.status?.tasks?.succeededIndexes,
      );
      const both = when === 'Ended' ? done.union(IndexSet.parse(other.status?.tasks?.failedIndexes)) : done;
      const open = when === 'Started' && is.started ? IndexSet.range(0, job.spec.tasks.count) : both;
      allowed = allowed === undefined ? open : allowed.intersect(open);
      continue;
    }
    const isReached = { Succeeded: is.succeeded, Failed: is.failed, Started: is.started, Ended: is.ended }[when];
    if (isReached) continue;
    if (is.ended)
      return {
        is: 'hopeless',
        reason: 'DependencyFailed',
        message: `Job ${name} has ended, but not as ${when.toLowerCase()}.`,
      };
    waiting.push(`${name} until it has ${when === 'Failed' ? 'failed' : when.toLowerCase()}`);
  }
  if (waiting.length === 0) return allowed === undefined ? { is: 'open' } : { is: 'open', allowed };
  const message = `Waits for ${waiting.slice(0, 5).join('; ')}.`;
  return { is: 'shut', reason: jobMatched.reasons.WaitingForDependencies, message };
}

/** A chain of jobs that depend on each other in a circle, as text; undefined when there is none. */
export function dependencyCycle(job: Stored<GridJob>, find: FindJob): string | undefined {
  const path: string[] = [];
  const seen = new Set<string>();
  const visit = (current: Stored<GridJob>): string | undefined => {
    if (path.includes(current.metadata.name)) return [...path, current.metadata.name].join(' → ');
    if (seen.has(current.metadata.name) || path.length >= depthMax) return undefined;
    seen.add(current.metadata.name);
    path.push(current.metadata.name);
    for (const { job: name } of current.spec.dependsOn) {
      const next = find(name);
      const cycle = next === undefined ? undefined : visit(next);
      if (cycle !== undefined) return cycle;
    }
    path.pop();
    return undefined;
  };
  return visit(job);
}

/** Whether the window of the job's reservation is open. @param now - milliseconds since the epoch. */
export function reservationGate(name: string, reservation: Reservation | undefined, now: number): Gate {
  const reason = jobMatched.reasons.WaitingForReservation;
  if (reservation === undefined) {
    return { is: 'shut', reason, message: `Waits for reservation ${name}, which does not exist (yet).` };
  }
  const { state, windows = [] } = reservation.status ?? {};
  if (state === 'Expired') {
    return { is: 'hopeless', reason: 'ReservationOver', message: `The last window of reservation ${name} has ended.` };
  }
  const [window] = windows;
  const isHeld = (window?.held ?? 0) >= reservation.spec.slots;
  if (window === undefined || !isHeld) {
    const message = `Waits for reservation ${name}, of which not every slot is held: see its status.`;
    return { is: 'shut', reason, message };
  }
  const [startMs, endMs] = [Date.parse(window.start), Date.parse(window.end)];
  if (startMs <= now && now < endMs) return { is: 'open' };
  // Its controller tells of the next window in a moment.
  if (now >= endMs) return { is: 'shut', reason, message: `Waits for the next window of reservation ${name}.` };
  const message = `Waits for reservation ${name}, which begins at ${window.start}.`;
  return { is: 'shut', reason, message, until: startMs };
}

/** How a job's parents bear on it. */
export interface Inherited {
  readonly isSuspended: boolean;
  readonly endedParent: string | undefined;
  /** The signal that ended the parent, if one did. */
  readonly signal?: GridJob['spec']['signal'];
}

/**
 * How a job's parents bear on it: their suspension and their end are its own. A signal counts also for what is below a job that had ended
 * before it came.
 */
export function inherited(job: Stored<GridJob>, find: FindJob): Inherited {
  let isSuspended = job.spec.suspend;
  let { parent } = job.spec;
  for (let depth = 0; depth < depthMax && parent !== undefined; depth++) {
    const above = find(parent.job);
    if (above?.metadata.uid !== parent.uid) return { isSuspended, endedParent: parent.job };
    const { signal } = above.spec;
    if (stageOf(above).killed || signal !== undefined) return { isSuspended, endedParent: parent.job, signal };
    isSuspended ||= above.spec.suspend;
    ({ parent } = above.spec);
  }
  return { isSuspended, endedParent: undefined };
}

/** The jobs below one, at any depth, each once. @param childrenOf - the jobs that name this one as their parent. */
export function below(
  job: Stored<GridJob>,
  childrenOf: (job: Stored<GridJob>) => readonly Stored<GridJob>[],
): Stored<GridJob>[] {
  const found = new Map<string, Stored<GridJob>>();
  const next = [job];
  for (let above = next.pop(); above !== undefined; above = next.pop()) {
    for (const child of childrenOf(above)) {
      if (found.has(child.metadata.uid)) continue;
      found.set(child.metadata.uid, child);
      next.push(child);
    }
  }
  return [...found.values()];
}

/** How far a job has come. */
export function stageOf({ status }: GridJob): {
  started: boolean;
  ended: boolean;
  succeeded: boolean;
  failed: boolean;
  killed: boolean;
} {
  const summary = findCondition(status?.conditions, 'Succeeded');
  const succeeded = summary?.status === 'True';
  const ended = succeeded || summary?.status === 'False';
  return {
    started: status?.startTime !== undefined || ended,
    ended,
    succeeded,
    failed: ended && !succeeded,
    killed: ended && summary.reason === 'Killed',
  };
}

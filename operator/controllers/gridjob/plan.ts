/** Where a job stands and what it needs next, from its objects alone. Pure. */
import type { Execution } from '#crds/execution.ts';
import type { GridJob, TaskRow } from '#crds/grid-job.ts';
import { isEnded, isLost, type RunFinding, runsOf } from '#operator/controllers/execution/observe.ts';
import type { Grant } from '#operator/scheduling/dispatcher.ts';
import { IndexSet } from '#operator/scheduling/index-set.ts';

/** Longest wait before a task is tried again. */
const backoffMaxSeconds = 600;

/** The tasks of a job by where they stand. The sets are disjoint. */
export interface TaskSets {
  readonly succeeded: IndexSet;
  /** Failed more often than allowed. */
  readonly failed: IndexSet;
  /** Placed, and not ended. */
  readonly active: IndexSet;
  /** Have no node now, and may have one at once. */
  readonly ready: IndexSet;
  /** Wait until their time to be tried again has come. */
  readonly backingOff: IndexSet;
  /** When the first of those may be tried again, milliseconds since the epoch; Infinity when none waits. */
  readonly nextRetryAt: number;
  /** Failures that are not yet in `spec.failures` of the Execution: index → count with them. */
  readonly failures: ReadonlyMap<number, number>;
  /** A failure of this task is to end the job at once. */
  readonly fatal: RunFinding | undefined;
  /** The last finding of each placed task. */
  readonly rows: readonly RunFinding[];
}

/** Sorts the tasks of a job. @param now - milliseconds since the epoch. */
export function sortTasks({ spec }: Pick<GridJob, 'spec'>, execution: Execution | undefined, now: number): TaskSets {
  const all = IndexSet.range(0, spec.tasks.count);
  const succeeded = IndexSet.parse(execution?.status?.tasks?.succeededIndexes);
  const counts = failureCounts(execution);
  const rows = new Map((execution?.status?.tasks?.rows ?? []).map((row) => [row.index, row]));
  const active: number[] = [];
  const failed: number[] = [];
  const backingOff: number[] = [];
  const current: RunFinding[] = [];
  const failures = new Map<number, number>();
  let nextRetryAt = Infinity;
  let fatal: RunFinding | undefined;
  for (const { index, run, node } of execution === undefined ? [] : runsOf(execution)) {
    if (succeeded.has(index)) continue;
    const row = rows.get(index);
    const finding: RunFinding = row?.run === run ? { ...row, run } : { index, run, node, state: 'Starting' };
    current.push(finding);
    if (!isEnded(finding)) active.push(index);
    else if (!isLost(finding) && finding.state !== 'Killed') {
      const verdict = judge(finding, spec, counts.get(index) ?? 0);
      failures.set(index, verdict.count);
      if (verdict.isFatal) fatal ??= finding;
      if (verdict.count > spec.retries.limit) failed.push(index);
      else if (verdict.retryAt > now) {
        backingOff.push(index);
        nextRetryAt = Math.min(nextRetryAt, verdict.retryAt);
      }
    }
  }
  for (const [index, count] of counts) if (count > spec.retries.limit) failed.push(index);
  const sets = {
    succeeded,
    failed: IndexSet.of(failed).minus(succeeded),
    active: IndexSet.of(active),
    backingOff: IndexSet.of(backingOff),
  };
  const ready = all.minus(sets.succeeded).minus(sets.failed).minus(sets.active).minus(sets.backingOff);
  return { ...sets, ready, nextRetryAt, failures, fatal, rows: current };
}

/** How often tasks failed so far, as the Execution records it. */
function failureCounts(execution: Execution | undefined): Map<number, number> {
  const counts = new Map<number, number>();
  for (const { count, tasks } of execution?.spec.failures ?? []) {
    for (const index of IndexSet.parse(tasks)) counts.set(index, count);
  }
  return counts;
}

/** What one more failure means. */
function judge(
  row: TaskRow,
  { retries }: GridJob['spec'],
  before: number,
): { count: number; retryAt: number; isFatal: boolean } {
  const rule = retries.rules.find(({ exitCodes }) => row.exitCode !== undefined && exitCodes.includes(row.exitCode));
  const count =
    rule?.action === 'Retry'
      ? before
      : rule?.action === 'FailTask' || rule?.action === 'FailJob'
        ? retries.limit + 1
        : before + 1;
  const waitSeconds = Math.min(backoffMaxSeconds, retries.backoffSeconds * 2 ** Math.min(10, before));
  const endedAt = row.endTime === undefined ? 0 : Date.parse(row.endTime);
  return { count, retryAt: endedAt + waitSeconds * 1000, isFatal: rule?.action === 'FailJob' };
}

/** What of the ready tasks is to be placed now, and how many of them only together. */
export function nextTasks(
  { spec }: Pick<GridJob, 'spec'>,
  { ready, active, succeeded }: TaskSets,
  allowed: IndexSet | undefined,
): { tasks: IndexSet; gangMinimum: number } {
  const { parallelism = spec.tasks.count, gangMinimum } = spec.tasks;
  const free = allowed === undefined ? ready : ready.intersect(allowed);
  const tasks = free.take(Math.max(0, parallelism - active.size));
  const missing = Math.max(0, gangMinimum - active.size - succeeded.size);
  return { tasks, gangMinimum: Math.min(missing, spec.tasks.count) };
}

/**
 * The spec of an Execution after grants: runs that ended leave, what failed is counted, and the granted runs come in.
 * @param local - name of this site.
 */
export function placed(
  execution: Pick<Execution['spec'], 'placements' | 'failures'>,
  sets: TaskSets,
  grants: readonly Pick<Grant, 'run' | 'site' | 'node' | 'tasks' | 'hold' | 'reservation' | 'until'>[],
  local: string,
): Pick<Execution['spec'], 'placements' | 'failures'> {
  const placements = execution.placements.flatMap((placement) => {
    const tasks = IndexSet.parse(placement.tasks);
    const going = tasks.intersect(sets.active);
    return going.size === 0 ? [] : [{ ...placement, tasks: going.toString() }];
  });
  for (const { run, site, node, tasks, hold, reservation, until } of grants) {
    placements.push({
      ...{ run, node, tasks: tasks.toString(), hold },
      ...(site === local ? {} : { site }),
      ...(reservation === undefined ? {} : { reservation }),
      ...(until === undefined ? {} : { until: new Date(until).toISOString() }),
    });
  }
  return { placements, failures: withFailures(execution.failures, sets.failures) };
}

function withFailures(
  before: Execution['spec']['failures'],
  more: ReadonlyMap<number, number>,
): Execution['spec']['failures'] {
  if (more.size === 0) return before;
  const counts = new Map<number, number>();
  for (const { count, tasks } of before) for (const index of IndexSet.parse(tasks)) counts.set(index, count);
  for (const [index, count] of more) if (count > 0) counts.set(index, count);
  const byCount = new Map<number, number[]>();
  for (const [index, count] of counts) byCount.set(count, [...(byCount.get(count) ?? []), index]);
  return [...byCount]
    .sort(([a], [b]) => a - b)
    .map(([count, indices]) => ({ count, tasks: IndexSet.of(indices).toString() }));
}

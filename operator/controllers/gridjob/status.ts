/** The status of a GridJob, computed in one pure place. */
import { type Execution, executionPlaced } from '#crds/execution.ts';
import {
  type GridJob,
  type GridJobStatus,
  jobAccepted,
  jobClaimed,
  jobMatched,
  jobRunning,
  jobSucceeded,
  waitingReasonsMax,
} from '#crds/grid-job.ts';
import { rowsOf } from '#operator/controllers/execution/observe.ts';
import type { Refusals } from '#proto/selector/contract.ts';
import { type ConditionUpdate, findCondition, formatTime, updateConditions } from '#runtime/conditions.ts';
import type { Condition, Stored } from '#runtime/types.ts';
import { stageOf } from './gates.ts';
import { IndexSet } from '#operator/scheduling/index-set.ts';
import { hostedName } from '#operator/sites/part.ts';
import { readRefusal } from '#operator/scheduling/refusals.ts';
import type { TaskSets } from './plan.ts';
import { remedyFor } from './remedies.ts';

type Finding = Pick<ConditionUpdate, 'type' | 'status' | 'reason' | 'message'>;
type MatchedReason = keyof typeof jobMatched.reasons;

/** Sites that a status has room for. */
const sitesMax = 64;

/** Why a job has ended, or undefined while it goes on. */
export type Ending =
  | { readonly reason: 'AllTasksSucceeded' }
  | {
      readonly reason: 'TaskFailed' | 'DeadlineExceeded' | 'DependencyFailed' | 'ReservationOver' | 'Killed';
      readonly message: string;
    };

/** What the status of a job is computed from. */
export interface JobScope {
  readonly job: Stored<GridJob>;
  readonly execution: Stored<Execution> | undefined;
  readonly site: string;
  readonly sets: TaskSets;
  /** Why it is not accepted; undefined when it is. */
  readonly refusal: { readonly reason: keyof typeof jobAccepted.reasons; readonly message: string } | undefined;
  /** Why tasks that are to run have no node; undefined when all have. */
  readonly waiting: { readonly reason: MatchedReason; readonly message: string } | undefined;
  /** What nodes said that refused. */
  readonly refusals: Refusals;
  /** When tasks that wait are expected to start, milliseconds since the Unix epoch. */
  readonly expectedStart: number | undefined;
  readonly ending: Ending | undefined;
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
}

/** What the status should be. */
export function computeStatus(scope: JobScope): GridJobStatus {
  const { job, execution, sets, site, ending, now } = scope;
  const { succeeded, failed, active, rows } = sets;
  const running = rows.filter(({ state }) => state === 'Running').length;
  const startTime = job.status?.startTime ?? execution?.status?.startTime;
  const isOver = ending !== undefined && active.size === 0;
  const succeededIndexes = succeeded.toString();
  const failedIndexes = failed.toString();
  const exitCode = isOver ? exitCodeOf(scope) : undefined;
  const waiting = scope.waiting === undefined ? [] : waitingRows(scope.refusals, site);
  return {
    ...(job.metadata.generation === undefined ? {} : { observedGeneration: job.metadata.generation }),
    conditions: conditionsOf(scope, running),
    state: stateOf(scope, isOver),
    tasks: {
      waiting: job.spec.tasks.count - succeeded.size - failed.size - active.size,
      starting: active.size - running,
      running,
      succeeded: succeeded.size,
      failed: failed.size,
      ...(succeededIndexes === '' ? {} : { succeededIndexes }),
      ...(failedIndexes === '' ? {} : { failedIndexes }),
      rows: rowsOf(rows),
    },
    ...(waiting.length === 0 ? {} : { waiting }),
    ...(scope.waiting === undefined || scope.expectedStart === undefined
      ? {}
      : { expectedStartTime: formatTime(scope.expectedStart) }),
    ...(execution === undefined ? {} : { executions: partsOf(execution, site, active) }),
    ...(exitCode === undefined ? {} : { exitCode }),
    ...(startTime === undefined ? {} : { startTime }),
    ...(isOver ? { completionTime: job.status?.completionTime ?? formatTime(now) } : {}),
  };
}

/** Tasks placed now, by site; this one first. */
function partsOf(
  { metadata, spec }: Stored<Execution>,
  site: string,
  active: TaskSets['active'],
): NonNullable<GridJobStatus['executions']> {
  const counts = new Map([[site, 0]]);
  for (const placement of spec.placements) {
    const at = placement.site ?? site;
    counts.set(at, (counts.get(at) ?? 0) + IndexSet.parse(placement.tasks).intersect(active).size);
  }
  return [...counts].slice(0, sitesMax).map(([at, tasks]) => ({
    ...{ site: at, tasks },
    name: at === site ? metadata.name : hostedName({ home: site, part: metadata.uid, job: metadata.name }),
  }));
}

function stateOf({ job, sets, ending, waiting }: JobScope, isOver: boolean): NonNullable<GridJobStatus['state']> {
  if (isOver) {
    if (ending?.reason === 'AllTasksSucceeded') return 'Succeeded';
    return ending?.reason === 'Killed' ? 'Killed' : 'Failed';
  }
  if (sets.active.size > 0) return 'Running';
  // Its own suspension, or that of a job above it.
  return job.spec.suspend || waiting?.reason === jobMatched.reasons.Suspended ? 'Suspended' : 'Waiting';
}

function exitCodeOf({ sets, ending }: JobScope): number | undefined {
  if (ending?.reason === 'AllTasksSucceeded') return 0;
  const failed = sets.rows.filter(({ exitCode = 0 }) => exitCode !== 0).sort((a, b) => a.index - b.index);
  return failed[0]?.exitCode;
}

/** What nodes said that refused, the most common first, with what would help. */
export function waitingRows(refusals: Refusals, site: string): NonNullable<GridJobStatus['waiting']> {
  return Object.entries(refusals)
    .sort(([, a], [, b]) => b - a)
    .slice(0, waitingReasonsMax)
    .map(([counted, nodes]) => {
      const { reason: sentence, site: at } = readRefusal(counted, site);
      const remedy = remedyFor(sentence);
      return { site: at, reason: sentence.slice(0, 256), nodes, ...(remedy === undefined ? {} : { remedy }) };
    });
}

function conditionsOf(scope: JobScope, running: number): Condition[] {
  const { job, now } = scope;
  const observedGeneration = job.metadata.generation;
  const findings = [
    acceptedFinding(scope),
    ...placementFindings(scope),
    runningFinding(running, scope.execution),
    succeededFinding(scope),
  ];
  const updates = findings.map((finding) => ({ ...finding, observedGeneration }));
  return updateConditions(job.status?.conditions, updates, now);
}

function acceptedFinding({ refusal }: JobScope): Finding {
  const { type, reasons } = jobAccepted;
  if (refusal !== undefined) return { type, status: 'False', ...refusal };
  const message = 'The member, the virtual organization and the site let the job run.';
  return { type, status: 'True', reason: reasons.Accepted, message };
}

function placementFindings({ waiting, sets, job }: JobScope): Finding[] {
  if (waiting !== undefined) {
    const message =
      sets.active.size > 0 ? 'Some tasks run already; others have no node.' : 'No node holds resources yet.';
    return [
      { type: jobMatched.type, status: 'False', ...waiting },
      { type: jobClaimed.type, status: 'False', reason: jobClaimed.reasons.NotClaimed, message },
    ];
  }
  const isPlaced = sets.active.size + sets.succeeded.size + sets.failed.size > 0 || job.status?.startTime !== undefined;
  if (!isPlaced) {
    const message = 'Nodes are being looked for.';
    return [
      { type: jobMatched.type, status: 'Unknown', reason: jobMatched.reasons.Waiting, message },
      { type: jobClaimed.type, status: 'Unknown', reason: jobClaimed.reasons.NotClaimed, message },
    ];
  }
  const found = 'Every task that is to run now has a node.';
  const held = 'Each node holds resources for its tasks.';
  return [
    { type: jobMatched.type, status: 'True', reason: jobMatched.reasons.NodesFound, message: found },
    { type: jobClaimed.type, status: 'True', reason: jobClaimed.reasons.Claimed, message: held },
  ];
}

function runningFinding(running: number, execution: Execution | undefined): Finding {
  const { type, reasons } = jobRunning;
  if (running > 0) return { type, status: 'True', reason: reasons.TasksRunning, message: 'At least one task runs.' };
  const placed = findCondition(execution?.status?.conditions, executionPlaced.type);
  const refused = placed?.reason === executionPlaced.reasons.Refused ? placed.message : undefined;
  return { type, status: 'False', reason: reasons.NoTaskRunning, message: refused ?? 'No task runs now.' };
}

function succeededFinding({ ending, sets, job }: JobScope): Finding {
  const { type, reasons } = jobSucceeded;
  if (ending === undefined || sets.active.size > 0) {
    const message = ending === undefined ? 'The job has not ended.' : 'The job ends: its last tasks are being ended.';
    return { type, status: 'Unknown', reason: reasons.InProgress, message };
  }
  if (ending.reason === 'AllTasksSucceeded') {
    return { type, status: 'True', reason: ending.reason, message: 'Every task ended with exit status 0.' };
  }
  // What was said first stays: later findings of a job that has ended are consequences.
  const before = stageOf(job).ended ? job.status?.conditions?.find((condition) => condition.type === type) : undefined;
  if (before !== undefined) return { type, status: 'False', reason: before.reason, message: before.message };
  return { type, status: 'False', reason: ending.reason, message: ending.message };
}

/** The status of an Execution, computed in one pure place. */
import { type Execution, executionPlaced, executionSucceeded, type ExecutionStatus } from '#crds/execution.ts';
import { IndexSet } from '#operator/scheduling/index-set.ts';
import { type ConditionUpdate, updateConditions } from '#runtime/conditions.ts';
import type { Condition, Stored } from '#runtime/types.ts';
import { isEnded, type Observation, rowsOf } from './observe.ts';

type Finding = Pick<ConditionUpdate, 'type' | 'status' | 'reason' | 'message'>;

/** What a status is computed from. */
export interface ExecutionScope {
  readonly execution: Stored<Execution>;
  readonly observation: Observation;
  /** Why this site refuses, for people; undefined when it doesn't. */
  readonly refusal: string | undefined;
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
}

/** What the status should be. */
export function computeStatus(scope: ExecutionScope): ExecutionStatus {
  const { execution, observation } = scope;
  const { findings, succeeded } = observation;
  const rows = [...findings.values()];
  const failed = IndexSet.of(rows.filter(({ state }) => state === 'Failed').map(({ index }) => index));
  const count = (state: string): number => rows.filter((row) => row.state === state).length;
  const starts = rows.flatMap(({ startTime }) => (startTime === undefined ? [] : [startTime])).sort();
  const startTime = execution.status?.startTime ?? starts[0];
  const succeededIndexes = succeeded.toString();
  const failedIndexes = failed.toString();
  return {
    ...(execution.metadata.generation === undefined ? {} : { observedGeneration: execution.metadata.generation }),
    conditions: conditionsOf(scope),
    tasks: {
      waiting: 0,
      starting: count('Starting'),
      running: count('Running'),
      succeeded: succeeded.size,
      failed: failed.size,
      ...(succeededIndexes === '' ? {} : { succeededIndexes }),
      ...(failedIndexes === '' ? {} : { failedIndexes }),
      rows: rowsOf(rows),
    },
    ...(startTime === undefined ? {} : { startTime }),
  };
}

function conditionsOf({ execution, observation, refusal, now }: ExecutionScope): Condition[] {
  const observedGeneration = execution.metadata.generation;
  const findings = [placedFinding(execution, observation, refusal), succeededFinding(execution, observation)];
  const updates = findings.map((finding) => ({ ...finding, observedGeneration }));
  return updateConditions(execution.status?.conditions, updates, now);
}

function placedFinding({ spec }: Execution, { missing }: Observation, refusal: string | undefined): Finding {
  const { type, reasons } = executionPlaced;
  if (spec.fencedTime !== undefined) {
    const message = `Site ${spec.gridJob.site} had not renewed the lease at ${spec.fencedTime}: its tasks were ended here.`;
    return { type, status: 'False', reason: reasons.Fenced, message };
  }
  if (refusal !== undefined) return { type, status: 'False', reason: reasons.Refused, message: refusal };
  if (missing.length > 0) {
    return { type, status: 'False', reason: reasons.CreatingPods, message: 'Pods of placed tasks are being made.' };
  }
  return { type, status: 'True', reason: reasons.PodsCreated, message: 'Every task placed here has its pod.' };
}

function succeededFinding({ spec }: Execution, { findings, succeeded }: Observation): Finding {
  const { type, reasons } = executionSucceeded;
  const going = [...findings.values()].filter((finding) => !isEnded(finding)).length;
  if (!spec.isClosed || going > 0) {
    return { type, status: 'Unknown', reason: reasons.InProgress, message: 'The part has not ended.' };
  }
  if (findings.size === 0 && succeeded.size > 0) {
    return { type, status: 'True', reason: reasons.AllTasksSucceeded, message: 'Every task has succeeded.' };
  }
  const hasFailed = [...findings.values()].some(({ state }) => state === 'Failed');
  return hasFailed
    ? { type, status: 'False', reason: reasons.TaskFailed, message: 'A task had failed when the part was closed.' }
    : { type, status: 'False', reason: reasons.Killed, message: 'The part was ended by its job.' };
}

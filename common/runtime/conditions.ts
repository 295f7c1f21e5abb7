import type { Condition } from './types.ts';

/** A condition as a controller computes it; the time is not its business. */
export type ConditionUpdate = Omit<Condition, 'lastTransitionTime'>;

/**
 * The list with one condition set, keyed by type, in place when it is there already. `lastTransitionTime` moves only
 * with `status` (Kubernetes API conventions, "Typical status properties").
 * @returns the same list when nothing changed, so that `===` tells whether to write.
 */
export function setCondition(
  conditions: readonly Condition[],
  update: ConditionUpdate,
  nowMs: number,
): readonly Condition[] {
  const at = conditions.findIndex((condition) => condition.type === update.type);
  const old = conditions[at];
  if (old !== undefined && isSame(old, update)) return conditions;
  const lastTransitionTime = old?.status === update.status ? old.lastTransitionTime : formatTime(nowMs);
  const condition: Condition = { ...update, lastTransitionTime };
  return old === undefined ? [...conditions, condition] : conditions.with(at, condition);
}

/**
 * The conditions of a status: the findings in their order, each with the time of its last transition. Conditions that nothing was found on are
 * dropped.
 * @param before - what the status says now.
 */
export function updateConditions(
  before: readonly Condition[] | undefined,
  findings: readonly ConditionUpdate[],
  nowMs: number,
): Condition[] {
  return findings.flatMap((finding) => {
    const known = findCondition(before, finding.type);
    return setCondition(known === undefined ? [] : [known], finding, nowMs);
  });
}

/** The condition of a type, if it is there. */
export function findCondition(conditions: readonly Condition[] | undefined, type: string): Condition | undefined {
  return conditions?.find((condition) => condition.type === type);
}

/**
 * Whether a condition says `True`; with `generation`, only when it was computed from that generation of the spec.
 */
export function isConditionTrue(
  conditions: readonly Condition[] | undefined,
  type: string,
  generation?: number,
): boolean {
  const condition = findCondition(conditions, type);
  if (condition?.status !== 'True') return false;
  return generation === undefined || condition.observedGeneration === generation;
}

/** metav1.Time: RFC 3339 in UTC with seconds. */
export function formatTime(epochMs: number): string {
  return `${new Date(epochMs).toISOString().slice(0, 19)}Z`;
}

/** metav1.MicroTime: six digits, which Leases and events insist on (three are refused). */
export function formatMicroTime(epochMs: number): string {
  return `${new Date(epochMs).toISOString().slice(0, -1)}000Z`;
}

function isSame(old: Condition, update: ConditionUpdate): boolean {
  return (
    old.status === update.status &&
    old.reason === update.reason &&
    old.message === update.message &&
    old.observedGeneration === update.observedGeneration
  );
}

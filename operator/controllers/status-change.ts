import { findCondition } from '#runtime/conditions.ts';
import type { Condition } from '#runtime/types.ts';

interface WithConditions {
  readonly conditions?: readonly Condition[] | undefined;
}

/** The conditions that say something else than before: another status, or another reason for it. */
export function changedConditions(before: WithConditions | undefined, after: WithConditions): Condition[] {
  return (after.conditions ?? []).filter(({ type, status, reason }) => {
    const known = findCondition(before?.conditions, type);
    return known?.status !== status || known.reason !== reason;
  });
}

/** Whether two statuses say the same, whatever the order of their fields. */
export function isSame(before: object | undefined, after: object): boolean {
  return isEqual(before ?? {}, after);
}

/** Whether two values are equal as JSON. It is asked at each look at an object: nothing is copied for it. */
function isEqual(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    return Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((item, at) => isEqual(item, b[at]));
  }
  const [left, right] = [a as Record<string, unknown>, b as Record<string, unknown>];
  return (
    Object.keys(left).every((key) => isEqual(left[key], right[key])) &&
    Object.keys(right).every((key) => right[key] === undefined || left[key] !== undefined)
  );
}

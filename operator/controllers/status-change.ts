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
  return canonical(before ?? {}) === canonical(after);
}

/** JSON with sorted keys: the same for equal objects. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, item: unknown) =>
    typeof item === 'object' && item !== null && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
      : item,
  );
}

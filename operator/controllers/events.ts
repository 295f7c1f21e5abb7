/** What events of several kinds share. */
import type { EventDraft } from '#runtime/contracts.ts';
import { referenceTo } from '#runtime/events.ts';
import type { Kind } from '#runtime/kind.ts';
import type { Condition, KubeObject, Stored } from '#runtime/types.ts';

const namesMax = 5;

/** Names in a sentence; of many only the first. */
export function listed(names: readonly string[]): string {
  return names.length > namesMax ? `${names.slice(0, namesMax).join(', ')} and more` : names.join(', ');
}

/** A condition of an object says something else than before. */
export function conditionChanged<T extends KubeObject>(
  kind: Kind<T>,
  object: Stored<T>,
  condition: Condition,
  isGood: boolean,
): EventDraft {
  return {
    object: referenceTo(kind, object),
    type: isGood ? 'Normal' : 'Warning',
    reason: condition.reason,
    action: 'Observe',
    note: condition.message,
    dedupeKey: `${condition.type}/${condition.status}/${condition.reason}`,
  };
}

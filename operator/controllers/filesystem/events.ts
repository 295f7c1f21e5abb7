/** The events of a FileSystem: one constructor each. */
import { type FileSystem, fileSystems } from '#crds/file-system.ts';
import type { EventDraft } from '#runtime/contracts.ts';
import { referenceTo } from '#runtime/events.ts';
import type { Condition, Stored } from '#runtime/types.ts';

/** A condition of it says something else than before. */
export function conditionChanged(fileSystem: Stored<FileSystem>, condition: Condition, isGood: boolean): EventDraft {
  return {
    object: referenceTo(fileSystems, fileSystem),
    type: isGood ? 'Normal' : 'Warning',
    reason: condition.reason,
    action: 'Observe',
    note: condition.message,
    dedupeKey: `${condition.type}/${condition.status}/${condition.reason}`,
  };
}

/** The events of a FileSystem: one constructor each. */
import { type FileSystem, fileSystemDefinition } from '#crds/file-system.ts';
import { apiVersionOf } from '#crds/kind.ts';
import type { EventDraft } from '#runtime/contracts.ts';
import type { Condition, Stored } from '#runtime/types.ts';

/** A condition of it says something else than before. */
export function conditionChanged(fileSystem: Stored<FileSystem>, condition: Condition, isGood: boolean): EventDraft {
  const { name, namespace, uid } = fileSystem.metadata;
  return {
    object: { apiVersion: apiVersionOf(fileSystemDefinition), kind: fileSystemDefinition.kind, name, namespace, uid },
    type: isGood ? 'Normal' : 'Warning',
    reason: condition.reason,
    action: 'Observe',
    note: condition.message,
    dedupeKey: `${condition.type}/${condition.status}/${condition.reason}`,
  };
}

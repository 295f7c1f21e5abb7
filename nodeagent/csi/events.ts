import type { EventDraft, ObjectReference } from '#runtime/contracts.ts';

/** A mount could not be made: servers are away, or something else is at the path. */
export function mountFailed(object: ObjectReference, why: string): EventDraft {
  return { object, type: 'Warning', reason: 'MountFailed', action: 'Mounting', note: why, dedupeKey: 'MountFailed' };
}

/** A pod may not have a volume. */
export function mountRefused(object: ObjectReference, why: string): EventDraft {
  return { object, type: 'Warning', reason: 'MountRefused', action: 'Authorizing', note: why };
}

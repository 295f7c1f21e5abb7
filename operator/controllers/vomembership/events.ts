/** The events of a VOMembership: one constructor each. */
import { type VOMembership, voMemberships } from '#crds/vo-membership.ts';
import type { EventDraft } from '#runtime/contracts.ts';
import { referenceTo } from '#runtime/events.ts';
import type { Condition, Stored } from '#runtime/types.ts';

/** The member may act, or may not any more, or for another reason. */
export function standingChanged(membership: Stored<VOMembership>, ready: Condition): EventDraft {
  return {
    object: referenceTo(voMemberships, membership),
    type: ready.status === 'True' ? 'Normal' : 'Warning',
    reason: ready.reason,
    action: 'Decide',
    note: ready.message,
    dedupeKey: `standing/${ready.reason}`,
  };
}

/** Pods of somebody who may not act any more were told to end. */
export function podsEnded(membership: Stored<VOMembership>, userName: string): EventDraft {
  return {
    object: referenceTo(voMemberships, membership),
    type: 'Warning',
    reason: 'PodsEnded',
    action: 'End',
    note: `The member may not act any more: the account ${userName} is removed and its pods are being ended.`,
    dedupeKey: 'pods-ended',
  };
}

/** The events of a VirtualOrganization. */
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { virtualOrganizations } from '#crds/virtual-organization.ts';
import { referenceTo } from '#runtime/events.ts';
import type { EventDraft } from '#runtime/contracts.ts';
import type { Condition, Stored } from '#runtime/types.ts';
import { conditionChanged } from '../events.ts';
import type { Administrator } from './governance.ts';

/** Reasons that are steps of something wanted, though a condition is False meanwhile. */
const expected = new Set([
  'NotRequested',
  'Delayed',
  'Revoking',
  'Draining',
  'ClearingData',
  'RemovingTenancy',
  'Signing',
  'Removed',
  'Forming',
  'Frozen',
  'Dissolving',
  'Dissolved',
]);

/** A condition has another status or reason than before. */
export function organizationConditionChanged(vo: Stored<VirtualOrganization>, condition: Condition): EventDraft {
  const isGood = condition.status === 'True' || expected.has(condition.reason);
  return conditionChanged(virtualOrganizations, vo, condition, isGood);
}

/** Someone deleted the object: it is dissolved first. */
export function deletionNoted(vo: Stored<VirtualOrganization>): EventDraft {
  return {
    object: referenceTo(virtualOrganizations, vo),
    type: 'Normal',
    reason: 'Deleting',
    action: 'Dissolve',
    note: 'The object was deleted: the virtual organization is dissolved first, and then the object goes. Its volumes are set aside unless spec.dissolution.data says Erase.',
  };
}

/** Governance let an administrator be removed. */
export function administratorRemoved(vo: Stored<VirtualOrganization>, { issuer, subject }: Administrator): EventDraft {
  return {
    object: referenceTo(virtualOrganizations, vo),
    type: 'Normal',
    reason: 'AdministratorRemoved',
    action: 'Remove',
    note: `${subject} of ${issuer} is no longer an administrator, as it was asked for and approved.`,
  };
}

/** Someone asked for an administrator to be removed, which governance doesn't let happen yet. */
export function removalNoted(
  vo: Stored<VirtualOrganization>,
  { issuer, subject }: Administrator,
  message: string,
): EventDraft {
  return {
    object: referenceTo(virtualOrganizations, vo),
    type: 'Warning',
    reason: 'AdministratorRemovalWaiting',
    action: 'Remove',
    note: `${subject} of ${issuer} is to be removed as administrator. ${message}`,
  };
}

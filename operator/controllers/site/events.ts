/** The events of a Site: one constructor each. */
import { apiVersionOf } from '#crds/kind.ts';
import { type Site, siteDefinition } from '#crds/site.ts';
import type { EventDraft, ObjectReference } from '#runtime/contracts.ts';
import type { Condition } from '#runtime/types.ts';

function referenceTo(site: Site): ObjectReference {
  const { name, uid } = site.metadata;
  const reference = { apiVersion: apiVersionOf(siteDefinition), kind: siteDefinition.kind, name };
  return uid === undefined ? reference : { ...reference, uid };
}

/** The Site became ready, or stopped being it, or is not ready for another reason than before. */
export function readinessChanged(site: Site, ready: Condition): EventDraft {
  return {
    object: referenceTo(site),
    type: ready.status === 'True' ? 'Normal' : 'Warning',
    reason: ready.reason,
    action: 'Observe',
    note: ready.message,
    dedupeKey: `ready/${ready.status}/${ready.reason}`,
  };
}

/** Nodes stopped being ready or schedulable while the site as a whole stays Ready. */
export function nodesUnavailable(site: Site, nodes: Condition): EventDraft {
  return {
    object: referenceTo(site),
    type: 'Warning',
    reason: nodes.reason,
    action: 'Observe',
    note: nodes.message,
    dedupeKey: `nodes/${nodes.reason}/${nodes.message}`,
  };
}

/** Every node is ready and schedulable again. */
export function nodesRecovered(site: Site, nodes: Condition): EventDraft {
  return {
    object: referenceTo(site),
    type: 'Normal',
    reason: nodes.reason,
    action: 'Observe',
    note: nodes.message,
    dedupeKey: `nodes/${nodes.reason}`,
  };
}

/** The operator made the local Site. */
export function created(site: Site): EventDraft {
  return {
    object: referenceTo(site),
    type: 'Normal',
    reason: 'Created',
    action: 'Create',
    note: 'The operator made this Site from its options; edit it to say more about the site.',
  };
}

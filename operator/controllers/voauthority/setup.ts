import type { AuditLog } from '#common/audit.ts';
import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { virtualOrganizations } from '#crds/virtual-organization.ts';
import { voMemberships } from '#crds/vo-membership.ts';
import { Authority } from '#operator/identity/authority.ts';
import { nameLabel } from '#operator/identity/cert-manager.ts';
import { Published } from '#operator/identity/published-state.ts';
import { Revocations } from '#operator/identity/revocations.ts';
import { StateRecords } from '#operator/identity/state-record.ts';
import { VoKeys } from '#operator/identity/vo-keys.ts';
import type { Manager } from '#runtime/contracts.ts';
import { mapped } from '#runtime/sources.ts';
import type { KubeObject, ObjectKey } from '#runtime/types.ts';
import { VoAuthorityReconciler } from './controller.ts';

/** What signing takes from the process that it runs in. */
export interface VoAuthoritySetup {
  readonly clock: Clock;
  readonly log: Logger;
  readonly audit: AuditLog;
  readonly localSite: string;
  /** Namespace of the operator: keys and records lie there. */
  readonly namespace: string;
}

/** What others need of it: whoever dissolves, and whoever mints tokens. */
export interface VoSigning {
  readonly authority: Authority;
  readonly keys: VoKeys;
  readonly records: StateRecords;
}

/** Adds the controller that signs for virtual organizations to a manager. */
export function addVoAuthorityController(manager: Manager, setup: VoAuthoritySetup): VoSigning {
  const { clock, log, audit, localSite, namespace } = setup;
  const organizations = manager.informer(virtualOrganizations);
  const keys = new VoKeys(manager, namespace);
  const records = new StateRecords(manager, namespace);
  const published = new Published(manager);
  const revocations = new Revocations(manager.informer(voMemberships), clock);
  const authority = new Authority({ keys, records, published, revocations, audit, clock, localSite });
  const organizationOf = ({ metadata }: KubeObject): readonly ObjectKey[] => {
    const name = metadata.labels?.[nameLabel];
    return name === undefined ? [] : [{ name }];
  };
  manager.addController({
    name: 'voauthority',
    primary: organizations,
    // What members do changes the counts in its status, which are not signed.
    changed: (object, old) =>
      object.metadata.generation !== old.metadata.generation ||
      JSON.stringify([object.status?.slices, object.status?.groups, object.status?.epoch]) !==
        JSON.stringify([old.status?.slices, old.status?.groups, old.status?.epoch]),
    reconciler: new VoAuthorityReconciler({
      organizations,
      authority,
      localSite,
      client: manager.client,
      events: manager.events,
      clock,
      log,
    }),
    sources: [
      mapped(keys.informer, organizationOf),
      mapped(records.informer, organizationOf),
      mapped(published.namespaces, organizationOf),
      revocations,
    ],
  });
  return { authority, keys, records };
}

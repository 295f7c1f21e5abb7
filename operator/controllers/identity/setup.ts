import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import type { IdentitySlice } from '#crds/identity-slice.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { Identities } from '#operator/identity/setup.ts';
import { waking } from '#operator/identity/waking.ts';
import type { Manager } from '#runtime/contracts.ts';
import type { Stored } from '#runtime/types.ts';
import { IdentityReconciler, ownerNameIndex } from './controller.ts';

/** What the controller takes from the process it runs in. */
export interface IdentitySetup {
  readonly clock: Clock;
  readonly log: Logger;
  readonly identities: Identities;
}

/** Adds the controller of the ids of VirtualOrganizations to a manager. */
export function addIdentityController(manager: Manager, { clock, log, identities }: IdentitySetup): void {
  const { organizations, slices, book, issuer, counter } = identities;
  slices.addIndex(ownerNameIndex, ({ spec }) => [spec.virtualOrganization.name]);
  manager.addController({
    name: 'identity',
    primary: organizations,
    changed: isWorthALook,
    reconciler: new IdentityReconciler({
      organizations,
      slices,
      book,
      localSite: identities.localSite,
      issuer,
      counter,
      client: manager.client,
      events: manager.events,
      clock,
      log,
    }),
    sources: [
      counter.changes(),
      waking(slices, (event) => {
        const { object } = event;
        const isSame = event.type === 'updated' && isSameBesidesUsers(event.old, object);
        return isSame ? [] : [{ name: object.spec.virtualOrganization.name }];
      }),
    ],
  });
}

/** Changes of status need no look: several controllers write it. */
function isWorthALook(object: Stored<VirtualOrganization>, old: Stored<VirtualOrganization>): boolean {
  const [after, before] = [object.metadata, old.metadata];
  return after.generation !== before.generation || after.deletionTimestamp !== before.deletionTimestamp;
}

/** Users are given ids often, which changes nothing here. */
function isSameBesidesUsers({ spec: before }: IdentitySlice, { spec: after }: IdentitySlice): boolean {
  const count = (groups: object): number => Object.keys(groups).length;
  return before.state === after.state && count(before.groups) === count(after.groups);
}

import type { AuditLog } from '#common/audit.ts';
import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import type { Registry } from '#common/metrics.ts';
import type { IdentitySlice } from '#crds/identity-slice.ts';
import { organizationNamespace } from '#crds/organization.ts';
import type { Site } from '#crds/site.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { voMemberships } from '#crds/vo-membership.ts';
import { AccountWriter, memberAccounts, membershipAnnotation } from '#operator/identity/accounts.ts';
import type { Identities } from '#operator/identity/setup.ts';
import { waking } from '#operator/identity/waking.ts';
import { serviceAccounts } from '#runtime/builtin.ts';
import type { InformerEvent, Manager, Source } from '#runtime/contracts.ts';
import { Finalizers } from '#runtime/finalizers.ts';
import { mapped } from '#runtime/sources.ts';
import { keyOf, type ObjectKey } from '#runtime/types.ts';
import type { Decisions } from '../decisions.ts';
import { AccountReconciler } from './accounts.ts';
import { MembershipReconciler } from './controller.ts';
import { MembershipMetrics } from './metrics.ts';

/** What the controllers take from the process they run in. */
export interface MembershipSetup {
  readonly clock: Clock;
  readonly log: Logger;
  readonly registry: Registry;
  readonly audit: AuditLog;
  readonly decisions: Decisions;
  readonly identities: Identities;
}

/** Marks memberships that may have an account or pods. */
const finalizer = 'xtreemos.io/account';
/** Issuing shares writes: the more wait, the fewer writes each costs. */
const concurrency = 16;

/** Adds the controllers of VOMemberships, one for ids and status and one for accounts, to a manager. */
export function addMembershipControllers(manager: Manager, setup: MembershipSetup): void {
  const { registry, identities, ...parts } = setup;
  const { memberships, view, counter } = identities;
  const accounts = manager.informer(serviceAccounts, memberAccounts);
  const metrics = new MembershipMetrics(registry, counter, () => accounts.size);
  const shared = { ...parts, memberships, view, metrics, events: manager.events };
  manager.addController({
    name: 'vomembership',
    primary: memberships,
    concurrency,
    reconciler: new MembershipReconciler({ ...shared, issuer: identities.issuer, client: manager.client }),
    sources: wakers(identities),
  });
  manager.addController({
    name: 'vomembership-accounts',
    primary: memberships,
    concurrency,
    reconciler: new AccountReconciler({
      ...shared,
      accounts,
      writer: new AccountWriter(manager.client),
      finalizers: new Finalizers(manager.client.of(voMemberships), finalizer),
    }),
    sources: [
      ...wakers(identities),
      mapped(accounts, ({ metadata }) => {
        const name = metadata.annotations?.[membershipAnnotation];
        return name === undefined ? [] : [{ namespace: metadata.namespace, name }];
      }),
    ],
  });
}

/** What changes the standing of members besides their own objects. */
function wakers({ memberships, organizations, sites, slices, index, localSite }: Identities): Source[] {
  const membersOf = (organization: string): ObjectKey[] =>
    index.inNamespace(organizationNamespace(organization)).map(keyOf);
  return [
    // One that is gone leaves its principal, and its id, to the next.
    waking(memberships, (event) => {
      if (event.type !== 'deleted') return [];
      const { metadata, spec } = event.object;
      const namespace = metadata.namespace ?? '';
      const rivals = spec.identity === undefined ? [] : index.withId(namespace, spec.identity);
      return [...index.ofPrincipal(namespace, spec.principal), ...rivals].map(keyOf);
    }),
    waking(organizations, (event) => (isStanding(event) ? [] : membersOf(event.object.metadata.name))),
    waking(slices, (event) => (isSameForMembers(event) ? [] : membersOf(event.object.spec.virtualOrganization.name))),
    waking(sites, (event) => {
      if (event.object.metadata.name !== localSite) return [];
      const before = event.type === 'updated' ? acceptedBy(event.old) : [];
      const after = acceptedBy(event.object);
      return [
        ...before.filter((name) => !after.includes(name)),
        ...after.filter((name) => !before.includes(name)),
      ].flatMap(membersOf);
    }),
  ];
}

/** Whether an event of a virtual organization leaves its members as they are, as a change of its status does. */
function isStanding(event: InformerEvent<VirtualOrganization>): boolean {
  if (event.type !== 'updated') return false;
  const [before, after] = [event.old.metadata, event.object.metadata];
  return (
    before.uid === after.uid &&
    before.generation === after.generation &&
    before.deletionTimestamp === after.deletionTimestamp
  );
}

/** Whether an event of a slice concerns the users in it only, whose memberships say the same. */
function isSameForMembers(event: InformerEvent<IdentitySlice>): boolean {
  if (event.type !== 'updated') return false;
  return Object.keys(event.old.spec.groups).length === Object.keys(event.object.spec.groups).length;
}

function acceptedBy({ spec }: Site): string[] {
  return spec.type === 'Local' ? spec.local.acceptedVirtualOrganizations.map(({ name }) => name) : [];
}

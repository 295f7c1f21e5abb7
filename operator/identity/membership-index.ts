import type { Clock } from '#common/clock.ts';
import type { Principal, SliceId } from '#common/identity/ids.ts';
import { organizationOfNamespace } from '#crds/organization.ts';
import type { VirtualOrganizationStatus } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import type { Informer, Source } from '#runtime/contracts.ts';
import type { ObjectKey, Stored } from '#runtime/types.ts';

/** Memberships of one virtual organization by state in force. */
export type MemberCounts = NonNullable<VirtualOrganizationStatus['members']>;

type State = NonNullable<NonNullable<VOMembership['status']>['state']>;

const principalIndex = 'membership/principal';
const idIndex = 'membership/id';
const namespaceIndex = 'membership/namespace';
const userNameIndex = 'membership/userName';

/**
 * Memberships by what is asked of them, from the shared cache. An answer costs as much as it is long, or as one person has memberships,
 * however many members there are.
 */
export class MembershipIndex {
  private readonly memberships: Informer<VOMembership>;

  constructor(memberships: Informer<VOMembership>) {
    this.memberships = memberships;
    memberships.addIndex(principalIndex, byPrincipal);
    memberships.addIndex(idIndex, byId);
    memberships.addIndex(namespaceIndex, byNamespace);
    memberships.addIndex(userNameIndex, byUserName);
  }

  /** Every membership of one namespace: only for what concerns them all. */
  inNamespace(namespace: string): Stored<VOMembership>[] {
    return this.memberships.byIndex(namespaceIndex, namespace);
  }

  /** The memberships of one principal everywhere; of each namespace the one that counts first: it has an id already, or is the oldest. */
  everywhere(principal: Principal): Stored<VOMembership>[] {
    return this.memberships.byIndex(principalIndex, principalKey(principal)).sort(byRight);
  }

  /** The memberships of one principal in one namespace, the one that counts first. */
  ofPrincipal(namespace: string, principal: Principal): Stored<VOMembership>[] {
    return this.everywhere(principal).filter(({ metadata }) => metadata.namespace === namespace);
  }

  /** The membership that bears a user name. */
  ofUserName(namespace: string, userName: string): Stored<VOMembership> | undefined {
    return this.memberships.byIndex(userNameIndex, `${namespace} ${userName}`)[0];
  }

  /** The memberships of one namespace that carry an id, the one that has it by right first: the oldest. */
  withId(namespace: string, id: SliceId): Stored<VOMembership>[] {
    return this.memberships.byIndex(idIndex, idKey(namespace, id)).sort(byRight);
  }
}

const byPrincipal = ({ spec }: VOMembership): readonly string[] => [principalKey(spec.principal)];
const byNamespace = ({ metadata }: VOMembership): readonly string[] => [metadata.namespace ?? ''];
const byUserName = ({ metadata, status }: VOMembership): readonly string[] =>
  status?.userName === undefined ? [] : [`${metadata.namespace ?? ''} ${status.userName}`];
const byId = ({ metadata, spec }: VOMembership): readonly string[] =>
  spec.identity === undefined ? [] : [idKey(metadata.namespace, spec.identity)];

function principalKey({ issuer, subject }: Principal): string {
  // No issuer holds a space.
  return `${issuer} ${subject}`;
}

function idKey(namespace: string | undefined, { slice, localId }: SliceId): string {
  return `${namespace ?? ''} ${slice} ${localId}`;
}

function byRight(a: Stored<VOMembership>, b: Stored<VOMembership>): number {
  const rank = ({ metadata, spec }: Stored<VOMembership>): string =>
    `${spec.identity === undefined ? 1 : 0} ${metadata.creationTimestamp} ${metadata.name}`;
  return rank(a) < rank(b) ? -1 : 1;
}

/** Changes of counts are told at most once in this time, so that ten thousand approvals are not as many writes. */
const tellAfterMs = 1000;

/** How many members each virtual organization has, kept up by events: a change costs the same however many there are. */
export class MemberCounter {
  private readonly memberships: Informer<VOMembership>;
  private readonly clock: Clock;
  private readonly counts = new Map<string, MemberCounts>();

  constructor(memberships: Informer<VOMembership>, clock: Clock) {
    this.memberships = memberships;
    this.clock = clock;
    memberships.onEvent((event) => {
      if (event.type === 'updated') this.add(event.old, -1);
      this.add(event.object, event.type === 'deleted' ? -1 : 1);
    });
  }

  /** The counts of a virtual organization, by its name. */
  of(organization: string): MemberCounts {
    return { ...(this.counts.get(organization) ?? none) };
  }

  /** All virtual organizations together. */
  total(): MemberCounts {
    const sum = { ...none };
    for (const counts of this.counts.values()) {
      for (const word of Object.keys(sum) as (keyof MemberCounts)[]) sum[word] += counts[word];
    }
    return sum;
  }

  /** Wakes for a virtual organization whose counts changed, at most once a second. */
  changes(): Source {
    return {
      name: 'member-counts',
      synced: async (signal) => this.memberships.synced(signal),
      attach: (enqueue) => {
        const told = new Map<string, { cancel(): void }>();
        const detach = this.memberships.onEvent((event) => {
          const isSame = event.type === 'updated' && stateOf(event.old) === stateOf(event.object);
          const name = organizationOfNamespace(event.object.metadata.namespace);
          if (name === undefined || isSame || told.has(name)) return;
          const initial = event.type === 'added' && event.initial;
          const tell = (): void => {
            told.delete(name);
            enqueue({ name } satisfies ObjectKey, initial);
          };
          told.set(name, this.clock.after(tellAfterMs, tell, { unref: true }));
        });
        return () => {
          detach();
          for (const timer of told.values()) timer.cancel();
        };
      },
    };
  }

  private add(membership: Stored<VOMembership>, by: 1 | -1): void {
    const name = organizationOfNamespace(membership.metadata.namespace);
    if (name === undefined) return;
    const counts = this.counts.get(name) ?? { ...none };
    counts[words[stateOf(membership)]] += by;
    const isEmpty = Object.values(counts).every((count) => count === 0);
    if (isEmpty) this.counts.delete(name);
    else this.counts.set(name, counts);
  }
}

const none: MemberCounts = { active: 0, requested: 0, suspended: 0, expired: 0, banned: 0 };

const words: Readonly<Record<State, keyof MemberCounts>> = {
  Active: 'active',
  Requested: 'requested',
  Suspended: 'suspended',
  Expired: 'expired',
  Banned: 'banned',
};

/** A membership that nobody looked at yet counts as a request. */
function stateOf({ status }: VOMembership): State {
  return status?.state ?? 'Requested';
}

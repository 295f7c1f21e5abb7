import type { Clock } from '#common/clock.ts';
import { buildUserName, globalId, handleFrom, organizationLocalId } from '#common/identity/ids.ts';
import { homeElsewhere, organizationOfNamespace } from '#crds/organization.ts';
import type { Site } from '#crds/site.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import type { Lister } from '#runtime/contracts.ts';
import type { Stored } from '#runtime/types.ts';
import type { IdIssuer } from './id-issuer.ts';
import type { MembershipIndex } from './membership-index.ts';
import type { SliceBook, SliceOwner } from './slice-book.ts';
import { type Standing, standingOf } from './standing.ts';

/** The ids of a member, as credentials, accounts and pods bear them. */
export interface MemberIdentity {
  readonly userName: string;
  readonly uid: number;
  /** Group id of the virtual organization in the slice of the uid: admission policies read it from the number alone. */
  readonly gid: number;
  /** Groups in force that have an id. */
  readonly gids: readonly { readonly group: string; readonly gid: number }[];
}

/** All that is known of one member at one moment. */
export interface MemberFacts {
  readonly membership: Stored<VOMembership>;
  readonly organization: Stored<VirtualOrganization> | undefined;
  readonly standing: Standing;
  /** Undefined while no id was issued, and when the id is not the own one. */
  readonly identity: MemberIdentity | undefined;
  /** Why the id is not the own one; undefined when it is, or there is none. */
  readonly conflict: string | undefined;
}

/** What a view reads. */
export interface MemberViewParts {
  readonly organizations: Lister<VirtualOrganization>;
  readonly sites: Lister<Site>;
  /** Name of the Site of this cluster. */
  readonly localSite: string;
  readonly index: MembershipIndex;
  readonly book: SliceBook;
  readonly issuer: IdIssuer;
  readonly clock: Clock;
}

/** Tells how members stand, from caches only: no request, and no work that grows with their number. */
export class MemberView {
  private readonly parts: MemberViewParts;

  constructor(parts: MemberViewParts) {
    this.parts = parts;
  }

  /** @param membership - from the cache, or newer. */
  of(membership: Stored<VOMembership>): MemberFacts {
    const namespace = membership.metadata.namespace ?? '';
    const name = organizationOfNamespace(namespace);
    const organization = name === undefined ? undefined : this.parts.organizations.get({ name });
    const [first] = this.parts.index.ofPrincipal(namespace, membership.spec.principal);
    const isFirst = first === undefined || first.metadata.uid === membership.metadata.uid;
    const standing = standingOf({
      membership,
      organization,
      isAccepted: organization !== undefined && this.isAccepted(organization),
      duplicateOf: isFirst ? undefined : first.metadata.name,
      nowMs: this.parts.clock.now(),
    });
    const conflict = organization === undefined ? undefined : this.conflictOf(membership, ownerOf(organization));
    const identity =
      organization === undefined || conflict !== undefined
        ? undefined
        : this.identityOf(membership, ownerOf(organization), standing.groups);
    return { membership, organization, standing, identity, conflict };
  }

  private isAccepted(organization: Stored<VirtualOrganization>): boolean {
    const site = this.parts.sites.get({ name: this.parts.localSite });
    if (site?.spec.type !== 'Local') return false;
    return site.spec.local.acceptedVirtualOrganizations.some(
      ({ name, home }) =>
        name === organization.metadata.name && home === homeElsewhere(organization, this.parts.localSite),
    );
  }

  private conflictOf({ metadata, spec }: Stored<VOMembership>, owner: SliceOwner): string | undefined {
    const { identity } = spec;
    if (identity === undefined) return undefined;
    const slices = this.parts.book.slicesOf(owner);
    if (!slices.some((slice) => slice.spec.number === identity.slice)) {
      return `The id lies in slice ${identity.slice}, which does not belong to ${owner.name}; make the membership anew without spec.identity.`;
    }
    const [first] = this.parts.index.withId(metadata.namespace ?? '', identity);
    if (first === undefined || first.metadata.uid === metadata.uid) return undefined;
    return `The id belongs to the membership ${first.metadata.name}; make this one anew without spec.identity.`;
  }

  private identityOf(
    { metadata, spec }: Stored<VOMembership>,
    owner: SliceOwner,
    groups: readonly string[],
  ): MemberIdentity | undefined {
    if (spec.identity === undefined) return undefined;
    const uid = globalId(spec.identity);
    const ids = this.parts.issuer.groupIds(owner);
    return {
      userName: buildUserName(spec.handle ?? handleFrom(metadata.name), uid),
      uid,
      gid: globalId({ slice: spec.identity.slice, localId: organizationLocalId }),
      gids: groups.flatMap((group) => {
        const id = ids.get(group);
        return id === undefined ? [] : [{ group, gid: globalId(id) }];
      }),
    };
  }
}

/** The virtual organization as the owner of slices. */
export function ownerOf({ metadata }: Stored<VirtualOrganization>): SliceOwner {
  return { name: metadata.name, uid: metadata.uid };
}

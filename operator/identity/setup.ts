import type { Clock } from '#common/clock.ts';
import type { LocalRange } from '#common/identity/ids.ts';
import { type IdentitySlice, identitySlices } from '#crds/identity-slice.ts';
import { organizationNamespace } from '#crds/organization.ts';
import { type Site, sites } from '#crds/site.ts';
import { type VirtualOrganization, virtualOrganizations } from '#crds/virtual-organization.ts';
import { type VOMembership, voMemberships } from '#crds/vo-membership.ts';
import type { Informer, Manager } from '#runtime/contracts.ts';
import { IdIssuer } from './id-issuer.ts';
import { MemberCounter, MembershipIndex } from './membership-index.ts';
import { MemberView } from './member-view.ts';
import { SliceBook } from './slice-book.ts';

/** What knows and gives out ids: one of each per process, shared by its controllers. */
export interface Identities {
  /** Name of the Site of this cluster. */
  readonly localSite: string;
  readonly organizations: Informer<VirtualOrganization>;
  readonly memberships: Informer<VOMembership>;
  readonly slices: Informer<IdentitySlice>;
  readonly sites: Informer<Site>;
  readonly index: MembershipIndex;
  readonly counter: MemberCounter;
  readonly book: SliceBook;
  readonly issuer: IdIssuer;
  readonly view: MemberView;
}

/** Puts them together on the caches of a manager. */
export function createIdentities(manager: Manager, localSite: string, clock: Clock): Identities {
  const organizations = manager.informer(virtualOrganizations);
  const memberships = manager.informer(voMemberships);
  const slices = manager.informer(identitySlices);
  const siteInformer = manager.informer(sites);
  const index = new MembershipIndex(memberships);
  const reserved = (): readonly LocalRange[] => {
    const site = siteInformer.get({ name: localSite });
    return site?.spec.type === 'Local' ? site.spec.local.reservedIds : [];
  };
  const book = new SliceBook({ slices, client: manager.client.of(identitySlices), reserved });
  const issuer = new IdIssuer(book, ({ name }, id) => index.withId(organizationNamespace(name), id).length > 0);
  const view = new MemberView({ organizations, sites: siteInformer, localSite, index, book, issuer, clock });
  const counter = new MemberCounter(memberships, clock);
  return { localSite, organizations, memberships, slices, sites: siteInformer, index, counter, book, issuer, view };
}

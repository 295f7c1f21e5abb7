import { createHash } from 'node:crypto';
import type { TokenContent } from '#common/identity/access-token.ts';
import {
  type Action,
  decide,
  type Decision,
  type MemberView,
  type OrganizationView,
  type SiteView,
} from '#common/identity/decide.ts';
import type { Principal } from '#common/identity/ids.ts';
import { homeElsewhere, organizationOfNamespace } from '#crds/organization.ts';
import type { Site } from '#crds/site.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import type { MembershipIndex } from '#operator/identity/membership-index.ts';
import type { Lister } from '#runtime/contracts.ts';
import { isDeleting, type Stored } from '#runtime/types.ts';
import { Refusal } from './refusal.ts';

/** A member and the organization that the membership is of. */
export interface Member {
  readonly membership: Stored<VOMembership>;
  readonly vo: Stored<VirtualOrganization>;
}

/** Finds memberships of principals and tells what they may do, from caches alone. */
export class Members {
  private readonly index: MembershipIndex;
  private readonly organizations: Lister<VirtualOrganization>;
  private readonly sites: Lister<Site>;
  private readonly localSite: string;

  constructor(
    index: MembershipIndex,
    organizations: Lister<VirtualOrganization>,
    sites: Lister<Site>,
    localSite: string,
  ) {
    this.index = index;
    this.organizations = organizations;
    this.sites = sites;
    this.localSite = localSite;
  }

  /** All memberships of somebody; of each organization the one that counts: it has an id, or is the oldest. */
  of(principal: Principal): Member[] {
    const first = new Map<string, Member>();
    for (const membership of this.index.everywhere(principal)) {
      const name = organizationOfNamespace(membership.metadata.namespace) ?? '';
      const vo = this.organizations.get({ name });
      if (vo !== undefined && !first.has(name)) first.set(name, { membership, vo });
    }
    return [...first.values()];
  }

  /** The membership of somebody in one organization. */
  find(principal: Principal, organization: string): Member | undefined {
    return this.of(principal).find(({ vo }) => vo.metadata.name === organization);
  }

  /** The membership that an account of the namespace of an organization stands for. */
  ofUserName(namespace: string, userName: string): Member | undefined {
    const membership = this.index.ofUserName(namespace, userName);
    const vo = this.organizations.get({ name: organizationOfNamespace(namespace) ?? '' });
    return membership === undefined || vo === undefined ? undefined : { membership, vo };
  }

  /** An organization by name. */
  organization(name: string): Stored<VirtualOrganization> | undefined {
    return this.organizations.get({ name });
  }

  /** Whether the member may do this, here and now. */
  decide({ membership, vo }: Member, action: Action): Decision {
    return decide(this.siteView(), organizationView(vo), memberView(membership), action);
  }

  /** As {@link decide}. @throws {Refusal} when they may not. */
  demand(member: Member, action: Action): void {
    const { allowed, message, policy, reason } = this.decide(member, action);
    if (!allowed) throw new Refusal('Forbidden', message, { policy, reason });
  }

  /** Whether the site accepts an organization. */
  isAccepted(name: string): boolean {
    return this.siteView().accepted.includes(name);
  }

  /** Whether the organization of this name has the home that the owner accepts it from. */
  private isFrom({ name, home }: { readonly name: string; readonly home?: string | undefined }): boolean {
    const organization = this.organizations.get({ name });
    return organization === undefined || homeElsewhere(organization, this.localSite) === home;
  }

  private siteView(): SiteView {
    const site = this.sites.get({ name: this.localSite });
    const accepted = site?.spec.type === 'Local' ? site.spec.local.acceptedVirtualOrganizations : [];
    return { name: this.localSite, accepted: accepted.filter((each) => this.isFrom(each)).map(({ name }) => name) };
  }
}

/** What an access token of the member says. The member has an id: that was decided before. */
export function tokenContent({ membership, vo }: Member, audience: string, scope: string | undefined): TokenContent {
  const { spec, status } = membership;
  const capabilities = vo.spec.roles
    .filter(({ name }) => spec.roles.includes(name))
    .flatMap((role) => role.capabilities)
    .concat(spec.capabilities);
  return {
    sub: status?.userName ?? '',
    aud: audience,
    principal: { issuer: spec.principal.issuer, subject: spec.principal.subject },
    uid: status?.uid ?? 0,
    gid: status?.gid ?? 0,
    groups: (status?.gids ?? []).map(({ group, gid }) => ({ name: group, gid })),
    roles: [...spec.roles],
    caps: [...new Set(capabilities)].sort().slice(0, 64),
    ...(scope === undefined ? {} : { scope }),
  };
}

/** Name of the membership that somebody asks for: the same for the same principal, so that asking twice makes one. */
export function requestName({ issuer, subject }: Principal): string {
  return `r-${createHash('sha256')
    .update(JSON.stringify([issuer, subject]))
    .digest('hex')
    .slice(0, 24)}`;
}

function organizationView({ metadata, spec, status }: Stored<VirtualOrganization>): OrganizationView {
  // What the operator enforces may be behind what was decided, or, while it is dissolved, ahead: the stricter one counts.
  const inForce = status?.state;
  const isStopped = isDeleting({ metadata }) || inForce === 'Frozen' || inForce === 'Dissolved';
  return {
    name: metadata.name,
    state: isStopped && spec.state === 'Operational' ? 'Frozen' : spec.state,
    roles: spec.roles,
  };
}

function memberView({ metadata, spec, status }: Stored<VOMembership>): MemberView {
  const decided = spec.state === 'Active' ? (status?.state ?? 'Requested') : spec.state;
  const expires = spec.expirationTime;
  return {
    state: isDeleting({ metadata }) ? 'Expired' : decided,
    hasId: status?.uid !== undefined && status.userName !== undefined,
    expiresAtMs: expires === undefined ? undefined : Date.parse(expires),
    roles: spec.roles,
    capabilities: spec.capabilities,
  };
}

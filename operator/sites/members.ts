import type { Principal } from '#common/identity/ids.ts';
import type { MembershipIndex } from '#operator/identity/membership-index.ts';

/** Members by what they are called here, and by who they are. */
export interface SiteMembers {
  /** Who bears a user name here. */
  principalOf(namespace: string, userName: string): Principal | undefined;
  /** The user name of a member here; undefined when there is no such member, or no name was issued yet. */
  userNameOf(namespace: string, principal: Principal): string | undefined;
}

/** {@link SiteMembers} by the memberships of this site. */
export class MembershipNames implements SiteMembers {
  private readonly index: MembershipIndex;

  constructor(index: MembershipIndex) {
    this.index = index;
  }

  principalOf(namespace: string, userName: string): Principal | undefined {
    const membership = this.index.ofUserName(namespace, userName);
    if (membership === undefined) return undefined;
    const { issuer, subject } = membership.spec.principal;
    return { issuer, subject };
  }

  userNameOf(namespace: string, principal: Principal): string | undefined {
    return this.index.ofPrincipal(namespace, principal)[0]?.status?.userName;
  }
}

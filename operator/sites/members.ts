import type { VOMembership } from '#crds/vo-membership.ts';
import type { Informer } from '#runtime/contracts.ts';

/** Who someone is at every site, whatever each calls them. */
export interface Principal {
  readonly issuer: string;
  readonly subject: string;
}

const byName = 'sites/user-name';
const byPrincipal = 'sites/principal';

/** Members by what they are called here, and by who they are. */
export interface SiteMembers {
  /** Who bears a user name here. */
  principalOf(namespace: string, userName: string): Principal | undefined;
  /** The user name of a member here; undefined when there is no such member, or no name was issued yet. */
  userNameOf(namespace: string, principal: Principal): string | undefined;
}

/** {@link SiteMembers} by the memberships of this site. */
export class MembershipNames implements SiteMembers {
  private readonly memberships: Informer<VOMembership>;

  constructor(memberships: Informer<VOMembership>) {
    this.memberships = memberships;
    memberships.addIndex(byName, ({ metadata, status }) =>
      status?.userName === undefined ? [] : [`${metadata.namespace ?? ''}/${status.userName}`],
    );
    memberships.addIndex(byPrincipal, ({ metadata, spec }) => [principalKey(metadata.namespace ?? '', spec.principal)]);
  }

  principalOf(namespace: string, userName: string): Principal | undefined {
    const [membership] = this.memberships.byIndex(byName, `${namespace}/${userName}`);
    if (membership === undefined) return undefined;
    const { issuer, subject } = membership.spec.principal;
    return { issuer, subject };
  }

  userNameOf(namespace: string, principal: Principal): string | undefined {
    return this.memberships.byIndex(byPrincipal, principalKey(namespace, principal))[0]?.status?.userName;
  }
}

function principalKey(namespace: string, { issuer, subject }: Principal): string {
  return JSON.stringify([namespace, issuer, subject]);
}

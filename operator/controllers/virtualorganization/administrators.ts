import { isSamePrincipal } from '#common/identity/ids.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { MembershipIndex } from '#operator/identity/membership-index.ts';
import type { Administrator } from './governance.ts';
import { namespaceOf, ownersOf, type Subject } from './tenancy.ts';

/** Who the administrators are to Kubernetes: by user name of this cluster, or by the account of their membership. Costs no request. */
export class Administrators {
  private readonly memberships: MembershipIndex;
  private readonly localSite: string;

  constructor(memberships: MembershipIndex, localSite: string) {
    this.memberships = memberships;
    this.localSite = localSite;
  }

  /** Whom RBAC is to give the rights of owners. */
  subjects(vo: VirtualOrganization): Subject[] {
    const namespace = namespaceOf(vo.metadata.name);
    return ownersOf(vo, this.localSite, (administrator) =>
      this.memberships
        .ofPrincipal(namespace, administrator)
        .filter(({ status }) => status?.state === 'Active')
        .map(({ status }) => status?.userName)
        .find((userName) => userName !== undefined),
    );
  }

  /** The administrator whom a user name of Kubernetes stands for, if any. */
  resolve(vo: VirtualOrganization, userName: string): Administrator | undefined {
    const namespace = namespaceOf(vo.metadata.name);
    const prefix = `system:serviceaccount:${namespace}:`;
    const principal = userName.startsWith(prefix)
      ? this.memberships.ofUserName(namespace, userName.slice(prefix.length))?.spec.principal
      : { issuer: `kubernetes:${this.localSite}`, subject: userName };
    if (principal === undefined) return undefined;
    return vo.spec.administrators.find((each) => isSamePrincipal(each, principal));
  }
}

import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import type { Informer } from '#runtime/contracts.ts';
import { type Administrator, isSamePrincipal } from './governance.ts';
import { namespaceOf, ownersOf, type Subject } from './tenancy.ts';

const principalIndex = 'administrators/principal';
const userNameIndex = 'administrators/userName';

/** Who the administrators are to Kubernetes: by user name of this cluster, or by the account of their membership. Costs no request. */
export class Administrators {
  private readonly memberships: Informer<VOMembership>;
  private readonly localSite: string;

  constructor(memberships: Informer<VOMembership>, localSite: string) {
    this.memberships = memberships;
    this.localSite = localSite;
    memberships.addIndex(principalIndex, ({ metadata, spec }) => [principalKey(metadata.namespace, spec.principal)]);
    memberships.addIndex(userNameIndex, ({ metadata, status }) =>
      status?.userName === undefined ? [] : [`${metadata.namespace ?? ''} ${status.userName}`],
    );
  }

  /** Whom RBAC is to give the rights of owners. */
  subjects(vo: VirtualOrganization): Subject[] {
    const namespace = namespaceOf(vo.metadata.name);
    return ownersOf(vo, this.localSite, (administrator) =>
      this.memberships
        .byIndex(principalIndex, principalKey(namespace, administrator))
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
      ? this.memberships.byIndex(userNameIndex, `${namespace} ${userName.slice(prefix.length)}`)[0]?.spec.principal
      : { issuer: `kubernetes:${this.localSite}`, subject: userName };
    if (principal === undefined) return undefined;
    return vo.spec.administrators.find((each) => isSamePrincipal(each, principal));
  }
}

function principalKey(namespace: string | undefined, principal: { issuer: string; subject: string }): string {
  // Neither a namespace nor an issuer holds a space.
  return `${namespace ?? ''} ${principal.issuer} ${principal.subject}`;
}

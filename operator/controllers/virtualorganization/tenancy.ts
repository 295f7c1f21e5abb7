/** What a virtual organization has on a site: every object that the operator keeps for it, as it must be. Pure. */
import { apiVersionOf as apiVersionOfKind, group } from '#crds/kind.ts';
import { jobPriorityAnnotation } from '#crds/organization.ts';
import {
  type VirtualOrganization,
  virtualOrganizationDefinition,
  virtualOrganizations,
} from '#crds/virtual-organization.ts';
import {
  clusterRoleBindings,
  clusterRoles,
  limitRanges,
  namespaces,
  networkPolicies,
  resourceQuotas,
  roleBindings,
  serviceAccounts,
} from '#runtime/builtin.ts';
import { controllerReference, type Kind } from '#runtime/kind.ts';
import type { KubeObject, Stored } from '#runtime/types.ts';
import type { IsolationPlan } from './isolation.ts';
import type { PolicyPlan } from './network.ts';

/** Label of a namespace, and of what the operator keeps cluster-wide for it: the name of the virtual organization. */
export const organizationLabel = 'xtreemos.io/virtual-organization';
/** Label of what the operator keeps inside the namespace; admission lets nobody else write what bears it. */
export const tenancyLabel = 'xtreemos.io/tenancy';
const rbacGroup = 'rbac.authorization.k8s.io';

/** The namespace of a virtual organization. */
export function namespaceOf(voName: string): string {
  return `vo-${voName}`;
}

/** Name of the ClusterRole and ClusterRoleBinding that give its owners their own object. */
export function ownerRoleName(voName: string): string {
  return `xtreemos:vo:${voName}`;
}

/** Someone who may act, as RBAC names them. */
export type Subject =
  | { readonly kind: 'User'; readonly apiGroup: typeof rbacGroup; readonly name: string }
  | { readonly kind: 'ServiceAccount'; readonly name: string; readonly namespace: string };

/**
 * Administrators as RBAC names them: users of this cluster by their own names, others by the account of their membership. Who has neither is
 * left out until they have.
 * @param userNameOf - user name of the member who is this principal, if any.
 */
export function ownersOf(
  vo: VirtualOrganization,
  localSite: string,
  userNameOf: (administrator: VirtualOrganization['spec']['administrators'][number]) => string | undefined,
): Subject[] {
  const namespace = namespaceOf(vo.metadata.name);
  return vo.spec.administrators.flatMap((administrator): Subject[] => {
    const userName = userNameOf(administrator);
    const account: Subject[] = userName === undefined ? [] : [{ kind: 'ServiceAccount', name: userName, namespace }];
    if (administrator.issuer !== `kubernetes:${localSite}`) return account;
    return [{ kind: 'User', apiGroup: rbacGroup, name: administrator.subject }, ...account];
  });
}

/** Everything that the objects are made from. */
export interface TenancyPlan {
  readonly vo: Stored<VirtualOrganization>;
  readonly isolation: Extract<IsolationPlan, { isPossible: true }>;
  readonly policies: readonly PolicyPlan[];
  readonly quota: Readonly<Record<string, string>>;
  readonly limits: readonly object[];
  readonly owners: readonly Subject[];
}

/** An object as it must be; what it doesn't say is left as it is. */
export interface DesiredObject {
  readonly kind: Kind;
  readonly object: KubeObject & Readonly<Record<string, unknown>>;
}

/** How many groups an admission policy can ask for; more need the one that does it in steps (`crds/src/policies/groups.ts`). */
const groupsAskedAtOnce = 26;

/** The namespace alone: it comes first, and is made only where there is none. */
export function desiredNamespace({ vo, isolation }: Pick<TenancyPlan, 'vo' | 'isolation'>): DesiredObject {
  const { name, uid } = vo.metadata;
  const level = 'restricted';
  const gids = (vo.status?.groups ?? []).map(({ gid }) => gid).sort((a, b) => a - b);
  const metadata = {
    name: namespaceOf(name),
    ownerReferences: [controllerReference(virtualOrganizations, vo)],
    labels: {
      [organizationLabel]: name,
      'xtreemos.io/virtual-organization-uid': uid,
      'xtreemos.io/isolation': isolation.level,
      'xtreemos.io/uid-mode': vo.spec.identity.uidMode,
      // Always said, so that nothing older stays behind.
      'xtreemos.io/user-namespace': isolation.needsUserNamespace ? 'required' : 'optional',
      'xtreemos.io/many-groups': String(gids.length > groupsAskedAtOnce),
      'pod-security.kubernetes.io/enforce': level,
      'pod-security.kubernetes.io/audit': level,
      'pod-security.kubernetes.io/warn': level,
    },
    annotations: {
      'xtreemos.io/runtime-class': isolation.runtimeClass ?? '',
      'xtreemos.io/group-ids': gids.join(','),
      [jobPriorityAnnotation]: String(vo.spec.jobs.priorityMax),
    },
  };
  return { kind: namespaces, object: { metadata } };
}

/** What lies in the namespace and beside it, in the order in which it is safe to make: closed doors first, then rights. */
export function desiredObjects(plan: TenancyPlan): DesiredObject[] {
  const { vo, policies, quota, limits } = plan;
  return [
    ...policies.map(({ name, spec }) => ({ kind: networkPolicies, object: { metadata: inside(vo, name), spec } })),
    desiredQuota(vo, quota),
    { kind: limitRanges, object: { metadata: inside(vo, 'tenancy'), spec: { limits } } },
    // Nothing runs as it, and if something did, it would have no token.
    { kind: serviceAccounts, object: { metadata: inside(vo, 'default'), automountServiceAccountToken: false } },
    ...rights(plan),
  ];
}

/** The quota alone: closing it lets nothing new start. */
export function desiredQuota(vo: VirtualOrganization, hard: Readonly<Record<string, string>>): DesiredObject {
  return { kind: resourceQuotas, object: { metadata: inside(vo, 'tenancy'), spec: { hard } } };
}

function inside(vo: VirtualOrganization, name: string): KubeObject['metadata'] {
  return { name, namespace: namespaceOf(vo.metadata.name), labels: { [tenancyLabel]: 'true' } };
}

/** What its owners may: administrate the namespace, and change their own VirtualOrganization; deleting it is for the owner of the site. */
function rights({ vo, owners }: TenancyPlan): DesiredObject[] {
  const { name } = vo.metadata;
  const metadata = {
    name: ownerRoleName(name),
    labels: { [organizationLabel]: name, [tenancyLabel]: 'true' },
    ownerReferences: [controllerReference(virtualOrganizations, vo)],
  };
  const rule = {
    apiGroups: [group],
    resources: [virtualOrganizationDefinition.plural],
    resourceNames: [name],
    verbs: ['get', 'list', 'watch', 'update', 'patch'],
  };
  const reference = (role: string): object => ({ apiGroup: rbacGroup, kind: 'ClusterRole', name: role });
  return [
    { kind: clusterRoles, object: { metadata, rules: [rule] } },
    { kind: clusterRoleBindings, object: { metadata, roleRef: reference(metadata.name), subjects: owners } },
    {
      kind: roleBindings,
      object: {
        metadata: inside(vo, 'administrators'),
        roleRef: reference('xtreemos-vo-administrator'),
        subjects: owners,
      },
    },
  ];
}

/**
 * Whether a namespace was made for exactly this virtual organization. Names and labels prove nothing; the uid of the owner does, and only
 * whoever may make namespaces can write it.
 */
export function isOwnedBy(namespace: KubeObject, vo: Stored<VirtualOrganization>): boolean {
  return (namespace.metadata.ownerReferences ?? []).some(
    ({ apiVersion, kind, uid, controller }) =>
      controller === true &&
      uid === vo.metadata.uid &&
      kind === virtualOrganizationDefinition.kind &&
      apiVersion === apiVersionOfKind(virtualOrganizationDefinition),
  );
}

/**
 * Whether an object says all that is desired. Objects may say more, which defaults and other managers do; lists must be equal.
 * @param desired - parsed JSON; fields that are undefined count as absent.
 */
export function matches(actual: unknown, desired: unknown): boolean {
  if (Array.isArray(desired)) {
    return (
      Array.isArray(actual) &&
      actual.length === desired.length &&
      desired.every((item, index) => matches(actual[index], item))
    );
  }
  if (typeof desired === 'object' && desired !== null) {
    if (typeof actual !== 'object' || actual === null)
      return Object.values(desired).every((item) => item === undefined);
    const fields = actual as Readonly<Record<string, unknown>>;
    return Object.entries(desired).every(([key, item]) => item === undefined || matches(fields[key], item));
  }
  return actual === desired;
}

/** What virtual organizations need of the chart: the roles of their people, and the operator's rights to keep their tenancy. */
import { group } from '#crds/kind.ts';
import type { Add } from './shared.ts';

/** One rule of a role. */
export interface RoleRule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

const read = ['get', 'list', 'watch'];
const write = ['create', 'update', 'patch', 'delete'];
const rbac = 'rbac.authorization.k8s.io';

/** The only roles that the operator may give to somebody else. The names are fixed: `kubectl` users bind them by name too. */
export const organizationRoleNames = ['administrator', 'member', 'observer'].map((role) => `xtreemos-vo-${role}`);

/** What says how things are, without what somebody computes in it. */
const observing: readonly RoleRule[] = [
  {
    apiGroups: [''],
    resources: ['pods', 'services', 'persistentvolumeclaims', 'resourcequotas', 'limitranges', 'events'],
    verbs: read,
  },
  { apiGroups: ['apps'], resources: ['deployments', 'replicasets', 'statefulsets'], verbs: read },
  { apiGroups: ['batch'], resources: ['jobs', 'cronjobs'], verbs: read },
  { apiGroups: ['networking.k8s.io'], resources: ['networkpolicies'], verbs: read },
  { apiGroups: ['events.k8s.io'], resources: ['events'], verbs: read },
  { apiGroups: ['snapshot.storage.k8s.io'], resources: ['volumesnapshots'], verbs: read },
  { apiGroups: [group], resources: ['gridjobs', 'executions', 'reservations', 'claims', 'volumes'], verbs: read },
];

/** Running things. Whose they are, and who may look into them, is for the admission policies; Secrets are for nobody. */
const working: readonly RoleRule[] = [
  { apiGroups: [''], resources: ['pods', 'services', 'persistentvolumeclaims'], verbs: write },
  { apiGroups: [''], resources: ['configmaps'], verbs: [...read, ...write] },
  { apiGroups: [''], resources: ['pods/log'], verbs: ['get'] },
  { apiGroups: [''], resources: ['pods/exec', 'pods/attach', 'pods/portforward'], verbs: ['get', 'create'] },
  { apiGroups: [''], resources: ['pods/ephemeralcontainers'], verbs: ['update', 'patch'] },
  { apiGroups: ['apps'], resources: ['deployments', 'statefulsets'], verbs: write },
  { apiGroups: ['apps'], resources: ['deployments/scale', 'statefulsets/scale'], verbs: ['get', 'update', 'patch'] },
  { apiGroups: ['batch'], resources: ['jobs', 'cronjobs'], verbs: write },
  { apiGroups: ['snapshot.storage.k8s.io'], resources: ['volumesnapshots'], verbs: write },
  { apiGroups: [group], resources: ['gridjobs', 'reservations', 'volumes'], verbs: write },
];

/** Deciding who is a member. */
const administrating: readonly RoleRule[] = [
  { apiGroups: [group], resources: ['vomemberships'], verbs: [...read, ...write] },
  // Nothing is kept under this name: admission policies ask for the right before they let somebody change what belongs to others.
  { apiGroups: [group], resources: ['accounts'], verbs: ['manage'] },
];

const rulesOf: Readonly<Record<string, readonly RoleRule[]>> = {
  'xtreemos-vo-administrator': [...observing, ...working, ...administrating],
  'xtreemos-vo-member': [...observing, ...working],
  'xtreemos-vo-observer': observing,
};

/**
 * The three roles. They are bound in the namespaces of virtual organizations only, by the operator; what stands in them holds there and nowhere
 * else.
 */
export function addOrganizationRoles(add: Add): void {
  for (const name of organizationRoleNames) {
    const id = `${name.replace('xtreemos-', '')}-clusterrole`;
    add(id, `${rbac}/v1`, 'ClusterRole', { metadata: { name }, rules: rulesOf[name] });
  }
}

/** What the operator needs to keep the tenancy of virtual organizations, and to end it. */
export const operatorOrganizationRules: readonly RoleRule[] = [
  // Owners get these verbs on their own object, and nobody can give what they lack.
  { apiGroups: [group], resources: ['virtualorganizations'], verbs: [...read, 'create', 'update', 'patch'] },
  { apiGroups: [group], resources: ['virtualorganizations/status'], verbs: ['get', 'update', 'patch'] },
  // To be named as owner of what is made for them, where the API server asks for it.
  { apiGroups: [group], resources: ['virtualorganizations/finalizers'], verbs: ['update'] },
  { apiGroups: [group], resources: ['vomemberships'], verbs: read },
  { apiGroups: [group], resources: ['identityslices'], verbs: [...read, 'patch'] },
  { apiGroups: [''], resources: ['namespaces'], verbs: [...read, 'create', 'patch', 'delete'] },
  { apiGroups: [''], resources: ['resourcequotas', 'limitranges'], verbs: [...read, 'create', 'patch'] },
  { apiGroups: [''], resources: ['serviceaccounts'], verbs: [...read, 'create', 'patch', 'delete'] },
  { apiGroups: [''], resources: ['pods'], verbs: ['list', 'delete'] },
  { apiGroups: [''], resources: ['configmaps'], verbs: ['list'] },
  { apiGroups: [''], resources: ['persistentvolumeclaims'], verbs: ['list', 'delete'] },
  { apiGroups: [''], resources: ['persistentvolumes'], verbs: ['get', 'list', 'patch'] },
  { apiGroups: ['networking.k8s.io'], resources: ['networkpolicies'], verbs: [...read, 'create', 'patch', 'delete'] },
  { apiGroups: [rbac], resources: ['rolebindings'], verbs: [...read, 'create', 'patch', 'delete'] },
  {
    apiGroups: [rbac],
    resources: ['clusterroles', 'clusterrolebindings'],
    verbs: [...read, 'create', 'patch', 'delete'],
  },
  { apiGroups: [rbac], resources: ['clusterroles'], resourceNames: organizationRoleNames, verbs: ['bind'] },
  // The groups of a member are a right of its account, and nobody can give what they lack.
  { apiGroups: [group], resources: ['groups'], verbs: ['use'] },
  { apiGroups: [rbac], resources: ['roles'], verbs: ['create', 'patch', 'delete'] },
  // Where the API server is, so that nothing that a virtual organization declares leads there.
  { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], resourceNames: ['kubernetes'], verbs: ['get'] },
  { apiGroups: ['node.k8s.io'], resources: ['runtimeclasses'], verbs: ['get'] },
];

/** What signing and the gateway need of the chart: rights, the Service, and who may reach it. */
import { block, plain, text } from './helm.ts';
import type { Add } from './shared.ts';

const rbac = 'rbac.authorization.k8s.io';
const namespace = text('.Release.Namespace');
const named = (suffix: string): string => text(`printf "%s-${suffix}" (include "xtreemos.fullname" .)`);

/** Port of the gateway. */
export const gatewayPort = 7443;

/**
 * Role of the operator inside namespaces of virtual organizations. Bound by the operator to itself there and nowhere else: a cluster-wide binding would
 * let it make tokens of any account.
 */
export const authorityRoleName = 'xtreemos-vo-authority';

/** Name of the Service, which is part of the certificate. */
export const gatewayServiceName = named('gateway');

/** Cluster-wide rights of signing and the gateway; they join the operator's own role. */
export const operatorIdentityRules = [
  { apiGroups: ['xtreemos.io'], resources: ['vomemberships'], verbs: ['create', 'patch'] },
  { apiGroups: ['xtreemos.io'], resources: ['vomemberships/status'], verbs: ['patch'] },
  { apiGroups: [rbac], resources: ['clusterroles'], resourceNames: [authorityRoleName], verbs: ['bind'] },
] as const;

/** Rights in the operator's own namespace: the only Secrets that it may touch. */
export const operatorNamespaceRules = [
  {
    apiGroups: [''],
    resources: ['secrets', 'configmaps'],
    verbs: ['get', 'list', 'watch', 'create', 'update', 'patch', 'delete'],
  },
  {
    apiGroups: ['cert-manager.io'],
    resources: ['certificates', 'issuers'],
    verbs: ['get', 'create', 'patch', 'delete'],
  },
] as const;

/** Adds everything of signing and the gateway. @param subject - the account of the operator. */
export function addIdentity(add: Add, subject: object, selector: object): void {
  add('vo-authority-clusterrole', `${rbac}/v1`, 'ClusterRole', {
    metadata: { name: authorityRoleName },
    rules: [
      { apiGroups: [''], resources: ['configmaps'], verbs: ['create'] },
      { apiGroups: [''], resources: ['configmaps'], resourceNames: ['vo-state'], verbs: ['get', 'patch'] },
      { apiGroups: [''], resources: ['serviceaccounts/token'], verbs: ['create'] },
    ],
  });
  addPublicAddress(add, subject);
  // Whose client certificates the API server takes; the role is Kubernetes's own.
  add('gateway-authentication-rolebinding', `${rbac}/v1`, 'RoleBinding', {
    metadata: { name: named('gateway-authentication'), namespace: 'kube-system' },
    roleRef: { apiGroup: rbac, kind: 'Role', name: 'extension-apiserver-authentication-reader' },
    subjects: [subject],
  });
  add('gateway-service', 'v1', 'Service', {
    metadata: { name: gatewayServiceName, namespace, annotations: block('.Values.gateway.service.annotations') },
    spec: {
      type: text('.Values.gateway.service.type'),
      selector,
      ports: [
        {
          name: 'gateway',
          port: plain('.Values.gateway.service.port'),
          targetPort: 'gateway',
          nodePort: plain('.Values.gateway.service.nodePort'),
          protocol: 'TCP',
          appProtocol: 'https',
        },
      ],
    },
  });
}

/** The operator writes where the gateway is; every user of the cluster may read it. */
function addPublicAddress(add: Add, subject: object): void {
  const publicName = 'xtreemos-gateway';
  const inPublic = (suffix: string): Record<string, unknown> => ({ name: named(suffix), namespace: 'kube-public' });
  const writer = 'gateway-address-writer';
  add('gateway-address-writer-role', `${rbac}/v1`, 'Role', {
    metadata: inPublic(writer),
    rules: [
      { apiGroups: [''], resources: ['configmaps'], verbs: ['create'] },
      { apiGroups: [''], resources: ['configmaps'], resourceNames: [publicName], verbs: ['get', 'patch'] },
      // It owns that ConfigMap, which so goes with the release.
      { apiGroups: [rbac], resources: ['roles'], resourceNames: [named(writer)], verbs: ['get'] },
    ],
  });
  add('gateway-address-writer-rolebinding', `${rbac}/v1`, 'RoleBinding', {
    metadata: inPublic(writer),
    roleRef: { apiGroup: rbac, kind: 'Role', name: named(writer) },
    subjects: [subject],
  });
  const reader = 'gateway-address-reader';
  add('gateway-address-reader-role', `${rbac}/v1`, 'Role', {
    metadata: inPublic(reader),
    rules: [{ apiGroups: [''], resources: ['configmaps'], resourceNames: [publicName], verbs: ['get'] }],
  });
  add('gateway-address-reader-rolebinding', `${rbac}/v1`, 'RoleBinding', {
    metadata: inPublic(reader),
    roleRef: { apiGroup: rbac, kind: 'Role', name: named(reader) },
    subjects: [{ apiGroup: rbac, kind: 'Group', name: 'system:authenticated' }],
  });
}

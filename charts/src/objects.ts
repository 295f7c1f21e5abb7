/** What the chart installs for the operator, made with cdk8s. Each object becomes one template. */
import { group } from '#crds/kind.ts';
import type { operatorOptions } from '#operator/options.ts';
import { block, plain, text } from './helm.ts';
import { memberRules } from './member-rules.ts';
import {
  addIdentity,
  gatewayPort,
  gatewayServiceName,
  operatorIdentityRules,
  operatorNamespaceRules,
} from './identity.ts';
import { addOrganizationRoles, operatorOrganizationRules } from './organizations.ts';
import { operatorJobRules } from './jobs.ts';
import {
  addStorage,
  operatorServerRules,
  operatorStorageRules,
  relayPort,
  relayTlsFolder,
  relayVolume,
  serverEgress,
  storageTlsFolder,
  storageVolume,
} from './storage.ts';
import { overlayPeers, selectorPort, selectorSidecar, selectorTlsFolder, selectorVolumes } from './selector.ts';
import {
  argument as flag,
  containerSecurity,
  dnsPorts,
  fullname,
  httpProbe,
  namespace,
  podDefaults,
  selectorOf,
  templatesOf,
  tokenPath,
  tokenSources,
  type Add,
  type Template,
} from './shared.ts';

const selector = selectorOf('operator');
const ports = { metrics: 8080, health: 8081 };
/** Rights in its own namespace to test whether NetworkPolicy is enforced: on two pods and one policy, besides those for servers. */
const networkProbeRules = [
  { apiGroups: [''], resources: ['pods'], verbs: ['create', 'delete'] },
  { apiGroups: ['networking.k8s.io'], resources: ['networkpolicies'], verbs: ['delete'] },
];
const account = { kind: 'ServiceAccount', name: fullname, namespace };

/** Everything that the operator needs, as templates. */
export function operatorTemplates(): Template[] {
  return templatesOf('operator', (add) => {
    addAccount(add);
    addOrganizationRoles(add);
    addIdentity(add, account, selector);
    addWorkload(add);
    addNetwork(add);
    addStorage(add);
    addPriorities(add);
  });
}

/** The account of the operator and all that it may do. No wildcard, no Secret, and no right to give more than it has itself. */
function addAccount(add: Add): void {
  add('operator-serviceaccount', 'v1', 'ServiceAccount', {
    metadata: { namespace, annotations: block('.Values.serviceAccount.annotations') },
    automountServiceAccountToken: false,
  });
  add('operator-clusterrole', 'rbac.authorization.k8s.io/v1', 'ClusterRole', {
    rules: [
      { apiGroups: [group], resources: ['sites'], verbs: ['get', 'list', 'watch', 'create'] },
      { apiGroups: [group], resources: ['sites/status'], verbs: ['get', 'update', 'patch'] },
      { apiGroups: [''], resources: ['nodes'], verbs: ['get', 'list', 'watch'] },
      ...operatorOrganizationRules,
      ...memberRules,
      ...operatorIdentityRules,
      ...operatorJobRules,
      ...operatorStorageRules,
      { apiGroups: ['events.k8s.io'], resources: ['events'], verbs: ['create', 'patch', 'update'] },
      // Who reads the metrics, and whether they may: questions only, they change nothing.
      { apiGroups: ['authentication.k8s.io'], resources: ['tokenreviews'], verbs: ['create'] },
      { apiGroups: ['authorization.k8s.io'], resources: ['subjectaccessreviews'], verbs: ['create'] },
    ],
  });
  add('operator-clusterrolebinding', 'rbac.authorization.k8s.io/v1', 'ClusterRoleBinding', {
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: fullname },
    subjects: [account],
  });
  add('operator-role', 'rbac.authorization.k8s.io/v1', 'Role', {
    metadata: { namespace },
    rules: [
      { apiGroups: ['coordination.k8s.io'], resources: ['leases'], verbs: ['create'] },
      {
        apiGroups: ['coordination.k8s.io'],
        resources: ['leases'],
        // Its own, and those of the peers whose work runs here.
        verbs: ['get', 'update', 'patch'],
      },
      ...operatorNamespaceRules,
      ...operatorServerRules,
      ...networkProbeRules,
    ],
  });
  add('operator-rolebinding', 'rbac.authorization.k8s.io/v1', 'RoleBinding', {
    metadata: { namespace },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: fullname },
    subjects: [account],
  });
}

/** A flag of the operator; that it knows the flag is checked by the compiler. */
const argument = (option: keyof typeof operatorOptions, expression: string, format?: string): string =>
  flag(option, expression, format);

/** The container of the operator itself. */
function operatorContainer(): object {
  return {
    name: 'operator',
    image: text('include "xtreemos.image" .'),
    imagePullPolicy: text('.Values.image.pullPolicy'),
    args: [
      'operator',
      argument('siteName', '.Values.site.name'),
      argument('siteAttributes', 'include "xtreemos.siteAttributes" .'),
      argument('trustDomain', '.Values.site.trustDomain'),
      argument('reservedRanges', 'join "," .Values.site.reservedRanges'),
      argument('siteHeartbeatMs', 'int .Values.operator.siteHeartbeatSeconds', '%d000'),
      argument('leaseName', 'include "xtreemos.fullname" .'),
      argument('leaseDurationMs', 'int .Values.operator.leaseDurationSeconds', '%d000'),
      argument('gatewayAddress', '.Values.gateway.address'),
      argument('gatewayServicePort', 'int .Values.gateway.service.port', '%d'),
      argument('apiServerAddress', '.Values.gateway.apiServer'),
      `--selector=127.0.0.1:${selectorPort.port}`,
      `--selector-tls=${selectorTlsFolder}`,
      argument('image', 'include "xtreemos.image" .'),
      argument('certificateIssuer', 'printf "%s-ca" (include "xtreemos.fullname" .)'),
      `--storage-tls=${storageTlsFolder}`,
      `--relay-tls=${relayTlsFolder}`,
      `--relay-port=${relayPort.port}`,
      argument('logLevel', '.Values.operator.logLevel'),
      text('ternary "--metrics-auth" "--no-metrics-auth" .Values.metrics.auth'),
    ],
    env: [
      { name: 'XTREEMOS_NAMESPACE', valueFrom: { fieldRef: { fieldPath: 'metadata.namespace' } } },
      { name: 'XTREEMOS_GATEWAY_SERVICE', value: gatewayServiceName },
      { name: 'XTREEMOS_IDENTITY', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
      // A controller makes much short-lived garbage and keeps little: a small young space and one malloc arena keep its
      // memory low (docs/runtime.md).
      { name: 'NODE_OPTIONS', value: '--max-semi-space-size=1' },
      { name: 'MALLOC_ARENA_MAX', value: '1' },
    ],
    ports: [
      { name: 'metrics', containerPort: ports.metrics },
      { name: 'health', containerPort: ports.health },
      { name: 'gateway', containerPort: gatewayPort },
      { name: 'relay', containerPort: relayPort.port },
    ],
    startupProbe: httpProbe('/livez', 'health', 60),
    livenessProbe: httpProbe('/livez', 'health', 6),
    readinessProbe: httpProbe('/readyz', 'health', 2),
    resources: block('.Values.operator.resources'),
    securityContext: containerSecurity,
    volumeMounts: [
      { name: 'token', mountPath: tokenPath, readOnly: true },
      { name: 'selector-tls', mountPath: selectorTlsFolder, readOnly: true },
      { name: 'storage-tls', mountPath: storageTlsFolder, readOnly: true },
      { name: 'relay-tls', mountPath: relayTlsFolder, readOnly: true },
    ],
  };
}

function addWorkload(add: Add): void {
  const labels = { matchLabels: selector };
  add('operator-deployment', 'apps/v1', 'Deployment', {
    metadata: { namespace },
    spec: {
      replicas: plain('.Values.operator.replicas'),
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
      selector: labels,
      template: {
        metadata: { labels: selector, annotations: block('.Values.operator.podAnnotations') },
        spec: {
          ...podDefaults,
          serviceAccountName: fullname,
          nodeSelector: block('.Values.operator.nodeSelector'),
          tolerations: block('.Values.operator.tolerations'),
          terminationGracePeriodSeconds: 30,
          affinity: {
            podAntiAffinity: {
              preferredDuringSchedulingIgnoredDuringExecution: [
                { weight: 100, podAffinityTerm: { topologyKey: 'kubernetes.io/hostname', labelSelector: labels } },
              ],
            },
          },
          containers: [operatorContainer(), selectorSidecar()],
          volumes: [
            { name: 'token', projected: { sources: tokenSources } },
            storageVolume,
            relayVolume,
            ...selectorVolumes,
          ],
        },
      },
    },
  });
  add(
    'operator-poddisruptionbudget',
    'policy/v1',
    'PodDisruptionBudget',
    { metadata: { namespace }, spec: { minAvailable: 1, selector: labels } },
    'and .Values.operator.disruptionBudget (gt (int .Values.operator.replicas) 1)',
  );
}

function addNetwork(add: Add): void {
  add(
    'operator-metrics-clusterrole',
    'rbac.authorization.k8s.io/v1',
    'ClusterRole',
    {
      metadata: { name: text('printf "%s-metrics-reader" (include "xtreemos.fullname" .)') },
      rules: [{ nonResourceURLs: ['/metrics'], verbs: ['get'] }],
    },
    '.Values.metrics.auth',
  );
  add(
    'operator-metrics-service',
    'v1',
    'Service',
    {
      metadata: { name: text('printf "%s-metrics" (include "xtreemos.fullname" .)'), namespace },
      spec: { selector, ports: [{ name: 'metrics', port: ports.metrics, targetPort: 'metrics', protocol: 'TCP' }] },
    },
    '.Values.metrics.service',
  );
  add(
    'operator-networkpolicy',
    'networking.k8s.io/v1',
    'NetworkPolicy',
    {
      metadata: { namespace },
      spec: {
        podSelector: { matchLabels: selector },
        policyTypes: ['Ingress', 'Egress'],
        ingress: [
          { from: block('.Values.metrics.from'), ports: [{ port: ports.metrics, protocol: 'TCP' }] },
          { ports: [{ port: ports.health, protocol: 'TCP' }] },
          // The door of the site: everybody may knock.
          { ports: [{ port: gatewayPort, protocol: 'TCP' }] },
          { from: overlayPeers, ports: [selectorPort] },
          { from: [{ podSelector: { matchLabels: selectorOf('mount-holder') } }], ports: [relayPort] },
        ],
        egress: [
          { ports: dnsPorts },
          { ports: block('include "xtreemos.apiServerPorts" . | fromYamlArray') },
          { ports: block('include "xtreemos.identityProviderPorts" . | fromYamlArray') },
          { ports: block('include "xtreemos.peerPorts" . | fromYamlArray') },
          { to: overlayPeers, ports: [selectorPort] },
          serverEgress,
        ],
      },
    },
    '.Values.networkPolicy.enabled',
  );
}

function addPriorities(add: Add): void {
  add(
    'operator-priorityclass',
    'scheduling.k8s.io/v1',
    'PriorityClass',
    {
      value: plain('int .Values.priorityClass.value'),
      globalDefault: false,
      description: 'The operator of XtreemOS: without it no job starts.',
    },
    '.Values.priorityClass.create',
  );
  const level = fullname;
  add(
    'operator-prioritylevelconfiguration',
    'flowcontrol.apiserver.k8s.io/v1',
    'PriorityLevelConfiguration',
    {
      spec: {
        type: 'Limited',
        limited: {
          nominalConcurrencyShares: plain('int .Values.flowControl.shares'),
          limitResponse: { type: 'Queue', queuing: { queues: 16, handSize: 4, queueLengthLimit: 50 } },
        },
      },
    },
    '.Values.flowControl.enabled',
  );
  add(
    'operator-flowschema',
    'flowcontrol.apiserver.k8s.io/v1',
    'FlowSchema',
    {
      spec: {
        priorityLevelConfiguration: { name: level },
        matchingPrecedence: 1000,
        distinguisherMethod: { type: 'ByUser' },
        rules: [
          {
            subjects: [{ kind: 'ServiceAccount', serviceAccount: { name: fullname, namespace } }],
            // Not a right but a match: every request of this one account (the API's own word for all is the star).
            resourceRules: [
              { verbs: ['*'], apiGroups: ['*'], resources: ['*'], namespaces: ['*'], clusterScope: true },
            ],
            nonResourceRules: [{ verbs: ['*'], nonResourceURLs: ['*'] }],
          },
        ],
      },
    },
    '.Values.flowControl.enabled',
  );
}

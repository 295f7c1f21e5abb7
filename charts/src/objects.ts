/** What the chart installs, made with cdk8s. Each construct becomes one template. */
import { ApiObject, App, Chart } from 'cdk8s';
import { flagOf } from '#common/options.ts';
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

/** One template of the chart. */
export interface Template {
  /** Name of the file, without its ending. */
  readonly name: string;
  readonly object: unknown;
  /** Helm expression; the object is there only when it is true. */
  readonly condition?: string;
}

type Fields = Record<string, unknown> & { readonly metadata?: Readonly<Record<string, unknown>> };

const fullname = text('include "xtreemos.fullname" .');
const namespace = text('.Release.Namespace');
const selector = {
  'app.kubernetes.io/name': 'xtreemos',
  'app.kubernetes.io/instance': text('.Release.Name'),
  'app.kubernetes.io/component': 'operator',
};
const commonLabels = {
  ...selector,
  'app.kubernetes.io/part-of': 'xtreemos',
  'app.kubernetes.io/version': text('.Chart.AppVersion'),
  'app.kubernetes.io/managed-by': text('.Release.Service'),
  'helm.sh/chart': text('printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_")'),
};
const ports = { metrics: 8080, health: 8081 };
const tokenPath = '/var/run/secrets/kubernetes.io/serviceaccount';
const account = { kind: 'ServiceAccount', name: fullname, namespace };

/** Everything that the operator needs, as templates. */
export function operatorTemplates(): Template[] {
  const chart = new Chart(new App(), 'operator', { labels: commonLabels, disableResourceNameHashes: true });
  const conditions = new Map<string, string>();
  const add = (id: string, apiVersion: string, kind: string, fields: Fields, condition?: string): void => {
    const { metadata, ...rest } = fields;
    new ApiObject(chart, id, { apiVersion, kind, metadata: { name: fullname, ...metadata }, ...rest });
    if (condition !== undefined) conditions.set(id, condition);
  };
  addAccount(add);
  addOrganizationRoles(add);
  addIdentity(add, account, selector);
  addWorkload(add);
  addNetwork(add);
  addPriorities(add);
  return chart.node.children
    .filter((child) => ApiObject.isApiObject(child))
    .map((object) => {
      const condition = conditions.get(object.node.id);
      const template = { name: object.node.id, object: object.toJson() as unknown };
      return condition === undefined ? template : { ...template, condition };
    });
}

/** Adds one object to the chart, as one template. */
export type Add = (id: string, apiVersion: string, kind: string, fields: Fields, condition?: string) => void;

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
        resourceNames: [fullname],
        verbs: ['get', 'update', 'patch'],
      },
      ...operatorNamespaceRules,
    ],
  });
  add('operator-rolebinding', 'rbac.authorization.k8s.io/v1', 'RoleBinding', {
    metadata: { namespace },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: fullname },
    subjects: [account],
  });
}

/** A flag of the operator whose value comes from the chart; that the operator knows the flag is checked by the compiler. */
function argument(option: keyof typeof operatorOptions, expression: string, format = '%s'): string {
  return text(`printf "--${flagOf(option)}=${format}" (${expression})`);
}

/** The one container of the pods: no shell, no writable file, no right of the kernel. */
function operatorContainer(): object {
  const httpProbe = (path: string, failureThreshold: number): object => ({
    httpGet: { path, port: 'health' },
    periodSeconds: 5,
    timeoutSeconds: 5,
    failureThreshold,
  });
  return {
    name: 'operator',
    image: text('include "xtreemos.image" .'),
    imagePullPolicy: text('.Values.image.pullPolicy'),
    args: [
      'operator',
      argument('siteName', '.Values.site.name'),
      argument('siteAttributes', 'include "xtreemos.siteAttributes" .'),
      argument('reservedRanges', 'join "," .Values.site.reservedRanges'),
      argument('siteHeartbeatMs', 'int .Values.operator.siteHeartbeatSeconds', '%d000'),
      argument('leaseName', 'include "xtreemos.fullname" .'),
      argument('leaseDurationMs', 'int .Values.operator.leaseDurationSeconds', '%d000'),
      argument('gatewayAddress', '.Values.gateway.address'),
      argument('apiServerAddress', '.Values.gateway.apiServer'),
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
    ],
    startupProbe: httpProbe('/livez', 60),
    livenessProbe: httpProbe('/livez', 6),
    readinessProbe: httpProbe('/readyz', 2),
    resources: block('.Values.operator.resources'),
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    },
    volumeMounts: [{ name: 'token', mountPath: tokenPath, readOnly: true }],
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
          serviceAccountName: fullname,
          // Otherwise a Service called xtreemos-metrics sets XTREEMOS_METRICS_PORT to an address.
          enableServiceLinks: false,
          automountServiceAccountToken: false,
          priorityClassName: text('include "xtreemos.priorityClassName" .'),
          imagePullSecrets: block('.Values.imagePullSecrets'),
          nodeSelector: block('.Values.operator.nodeSelector'),
          tolerations: block('.Values.operator.tolerations'),
          terminationGracePeriodSeconds: 30,
          securityContext: {
            runAsNonRoot: true,
            runAsUser: 65_532,
            runAsGroup: 65_532,
            fsGroup: 65_532,
            seccompProfile: { type: 'RuntimeDefault' },
          },
          affinity: {
            podAntiAffinity: {
              preferredDuringSchedulingIgnoredDuringExecution: [
                { weight: 100, podAffinityTerm: { topologyKey: 'kubernetes.io/hostname', labelSelector: labels } },
              ],
            },
          },
          containers: [operatorContainer()],
          volumes: [{ name: 'token', projected: { sources: tokenSources } }],
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

/** As the kubelet mounts it, but with a life of one hour that the API server doesn't stretch (it stretches 3607 s only). */
const tokenSources = [
  { serviceAccountToken: { path: 'token', expirationSeconds: 3600 } },
  { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
  { downwardAPI: { items: [{ path: 'namespace', fieldRef: { fieldPath: 'metadata.namespace' } }] } },
];

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
  const dns = ['UDP', 'TCP'].map((protocol) => ({ port: 53, protocol }));
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
        ],
        egress: [
          { ports: dns },
          { ports: block('include "xtreemos.apiServerPorts" . | fromYamlArray') },
          { ports: block('include "xtreemos.identityProviderPorts" . | fromYamlArray') },
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

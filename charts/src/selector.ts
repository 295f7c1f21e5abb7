/** What the chart installs for the selectors: one on every node, and one beside the operator that offers nothing. */
import { givesWay, mayBeCleared } from '#crds/claim.ts';
import { group } from '#crds/kind.ts';
import { selectorServerName } from '#proto/selector/client.ts';
import type { selectorOptions } from '#selector/options.ts';
import { addCertificate } from './certificates.ts';
import { block, text } from './helm.ts';
import {
  addAccount,
  argument as flag,
  containerSecurity,
  dnsPorts,
  httpProbe,
  named,
  namespace,
  podDefaults,
  selectorOf,
  templatesOf,
  tokenPath,
  tokenSources,
  type Add,
  type Template,
} from './shared.ts';

const name = named('selector');
const labels = selectorOf('selector');
/** A flag of the selector; that it knows the flag is checked by the compiler. */
const argument = (option: keyof typeof selectorOptions, expression: string): string => flag(option, expression);
/** The sidecar shares its pod's ports with the operator, whose health server has 8081. */
const ports = { grpc: 7946, health: 8081, sidecarHealth: 8082 };
const secrets = { tls: named('selector-tls'), key: named('selector-signing') };
const folders = { tls: '/etc/xtreemos/selector', key: '/etc/xtreemos/site-key', trust: '/etc/xtreemos/site-trust' };
/** Where the TLS certificate of selectors is in every container that speaks to them. */
export const selectorTlsFolder = folders.tls;
/** Read by the group of the pod only. */
const secretMode = 0o440;
/** Of the site's word on its nodes; it is not the key of its certificates. */
const signingDuration = '87600h0m0s';

/** The port that selectors speak on, in a NetworkPolicy. */
export const selectorPort = { port: ports.grpc, protocol: 'TCP' };

/** Who may speak on it: the other selectors of the release, and the operator, which asks and holds. */
export const overlayPeers = [
  {
    podSelector: {
      matchLabels: withoutComponent(),
      matchExpressions: [{ key: 'app.kubernetes.io/component', operator: 'In', values: ['selector', 'operator'] }],
    },
  },
];

/** Volumes of a pod with a selector in it. */
export const selectorVolumes = [
  { name: 'selector-tls', secret: { secretName: secrets.tls, defaultMode: secretMode } },
  {
    name: 'site-key',
    secret: { secretName: secrets.key, defaultMode: secretMode, items: [{ key: 'tls.key', path: 'key.pem' }] },
  },
  {
    name: 'site-trust',
    secret: {
      secretName: secrets.key,
      defaultMode: secretMode,
      items: [{ key: 'tls.crt', path: text('printf "%s.pem" .Values.site.name') }],
    },
  },
];

/** Everything that selectors need, as templates. */
export function selectorTemplates(): Template[] {
  return templatesOf('selector', (add) => {
    addRights(add);
    addCertificates(add);
    addDaemonSet(add);
    addNetwork(add);
  });
}

/** The operator's own member of the overlay: it asks, and offers nothing. */
export function selectorSidecar(): object {
  return selectorContainer(
    'sidecar',
    [argument('logLevel', '.Values.selector.logLevel'), '--no-offers'],
    'metadata.name',
    ports.sidecarHealth,
  );
}

function withoutComponent(): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).filter(([label]) => label !== 'app.kubernetes.io/component'));
}

function selectorContainer(
  kind: 'node' | 'sidecar',
  flags: readonly string[],
  nodeField: string,
  port: number,
): object {
  const healthPort = kind === 'node' ? 'health' : 'selector-health';
  return {
    name: 'selector',
    image: text('include "xtreemos.image" .'),
    imagePullPolicy: text('.Values.image.pullPolicy'),
    args: [
      'selector',
      argument('site', '.Values.site.name'),
      text(`printf "--peers=%s-selector.%s.svc:${ports.grpc}" (include "xtreemos.fullname" .) .Release.Namespace`),
      `--health-port=${port}`,
      `--tls-certificate=${folders.tls}/tls.crt`,
      `--tls-key=${folders.tls}/tls.key`,
      `--tls-ca=${folders.tls}/ca.crt`,
      `--site-key=${folders.key}/key.pem`,
      `--site-trust=${folders.trust}`,
      ...flags,
    ],
    env: [
      { name: 'XTREEMOS_NODE', valueFrom: { fieldRef: { fieldPath: nodeField } } },
      { name: 'XTREEMOS_NAMESPACE', valueFrom: { fieldRef: { fieldPath: 'metadata.namespace' } } },
      { name: 'POD_IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
      { name: 'XTREEMOS_ADVERTISE', value: `$(POD_IP):${ports.grpc}` },
      { name: 'NODE_OPTIONS', value: '--max-semi-space-size=1' },
      { name: 'MALLOC_ARENA_MAX', value: '1' },
    ],
    ports: [
      { name: 'selector', containerPort: ports.grpc },
      { name: healthPort, containerPort: port },
    ],
    startupProbe: httpProbe('/livez', healthPort, 60),
    livenessProbe: httpProbe('/livez', healthPort, 6),
    readinessProbe: httpProbe('/readyz', healthPort, 2),
    resources: block('.Values.selector.resources'),
    securityContext: containerSecurity,
    volumeMounts: [
      ...(kind === 'node' ? [{ name: 'token', mountPath: tokenPath, readOnly: true }] : []),
      { name: 'selector-tls', mountPath: folders.tls, readOnly: true },
      { name: 'site-key', mountPath: folders.key, readOnly: true },
      { name: 'site-trust', mountPath: folders.trust, readOnly: true },
    ],
  };
}

/**
 * A selector reads its node, the node's pods and the Site, writes Claims, and ends pods that give way to reservations, which say so before, or that
 * are of another site whose lease is over; policies hold it to those of its own node.
 */
function addRights(add: Add): void {
  const rules = [
    { apiGroups: [''], resources: ['nodes', 'pods'], verbs: ['list', 'watch'] },
    { apiGroups: [''], resources: ['pods'], verbs: ['delete'] },
    { apiGroups: [''], resources: ['pods/status'], verbs: ['patch'] },
    { apiGroups: [group], resources: ['sites'], verbs: ['list', 'watch'] },
    { apiGroups: [group], resources: ['claims'], verbs: ['get', 'list', 'watch', 'create', 'delete'] },
    { apiGroups: [group], resources: ['claims/status'], verbs: ['patch'] },
  ];
  addAccount(add, 'selector', { name, rules });
  const rbac = 'rbac.authorization.k8s.io';
  const metadata = { name, namespace };
  // Of other sites: their names are not known here.
  const lease = { apiGroups: ['coordination.k8s.io'], resources: ['leases'], verbs: ['get'] };
  add('selector-role', `${rbac}/v1`, 'Role', { metadata, rules: [lease] });
  add('selector-rolebinding', `${rbac}/v1`, 'RoleBinding', {
    metadata,
    roleRef: { apiGroup: rbac, kind: 'Role', name },
    subjects: [{ kind: 'ServiceAccount', ...metadata }],
  });
  addPolicies(add);
}

const nodeNameKey = "'authentication.kubernetes.io/node-name'";

/** A node that was broken into can neither free nor fill another, nor end what others run: its token says which node it is on. */
function addPolicies(add: Add): void {
  addPolicy(add, 'claim', {
    rule: { apiGroups: [group], apiVersions: ['v1alpha1'], resources: ['claims', 'claims/status'] },
    operations: ['CREATE', 'UPDATE', 'DELETE'],
    allowed: "variables.node != '' && variables.stored.spec.nodeName == variables.node",
    message: "'a selector writes Claims of its own node only, not of ' + variables.stored.spec.nodeName",
  });
  const isOfNode = "variables.node != '' && variables.stored.spec.?nodeName.orValue('') == variables.node";
  addPolicy(add, 'pod', {
    rule: { apiGroups: [''], apiVersions: ['v1'], resources: ['pods'] },
    operations: ['DELETE'],
    allowed: `${isOfNode} && (${mayBeCleared('variables.stored')})`,
    message:
      "'a selector ends pods of its own node only, that give way to reservations or are of other sites, not ' + request.name",
  });
  addPolicy(add, 'podstatus', {
    rule: { apiGroups: [''], apiVersions: ['v1'], resources: ['pods/status'] },
    operations: ['UPDATE'],
    allowed: `${isOfNode} && ${givesWay('variables.stored')}`,
    message: "'a selector marks pods of its own node only, that give way to reservations, not ' + request.name",
  });
}

interface NodePolicy {
  readonly rule: { readonly apiGroups: string[]; readonly apiVersions: string[]; readonly resources: string[] };
  readonly operations: readonly string[];
  readonly allowed: string;
  readonly message: string;
}

function addPolicy(add: Add, kind: string, { rule, operations, allowed, message }: NodePolicy): void {
  const policyName = named(`selector-${kind}s`);
  add(`selector-${kind}policy`, 'admissionregistration.k8s.io/v1', 'ValidatingAdmissionPolicy', {
    metadata: { name: policyName },
    spec: {
      failurePolicy: 'Fail',
      matchConstraints: { resourceRules: [{ ...rule, operations }] },
      matchConditions: [
        {
          name: 'by-a-selector',
          expression: text(
            `printf "request.userInfo.username == 'system:serviceaccount:%s:%s-selector'" .Release.Namespace (include "xtreemos.fullname" .)`,
          ),
        },
      ],
      variables: [
        { name: 'stored', expression: "request.operation == 'DELETE' ? oldObject : object" },
        {
          name: 'node',
          expression:
            `has(request.userInfo.extra) && ${nodeNameKey} in request.userInfo.extra ? ` +
            `request.userInfo.extra[${nodeNameKey}][0] : ''`,
        },
      ],
      validations: [{ expression: allowed, messageExpression: message, reason: 'Forbidden' }],
    },
  });
  add(`selector-${kind}policybinding`, 'admissionregistration.k8s.io/v1', 'ValidatingAdmissionPolicyBinding', {
    metadata: { name: policyName },
    spec: { policyName, validationActions: ['Deny', 'Audit'] },
  });
}

function addCertificates(add: Add): void {
  addCertificate(add, 'selector-certificate', secrets.tls, {
    dnsNames: [selectorServerName],
    privateKey: { algorithm: 'ECDSA', size: 256, rotationPolicy: 'Always' },
    usages: ['digital signature', 'server auth', 'client auth'],
  });
  // Peers know the site by this key, so it stays when its certificate is renewed.
  addCertificate(add, 'selector-signing', secrets.key, {
    commonName: text('.Values.site.name'),
    duration: signingDuration,
    privateKey: { algorithm: 'Ed25519', encoding: 'PKCS8', rotationPolicy: 'Never' },
    usages: ['digital signature'],
  });
}

function addDaemonSet(add: Add): void {
  const flags = [argument('logLevel', '.Values.selector.logLevel'), '--kubernetes'];
  add('selector-daemonset', 'apps/v1', 'DaemonSet', {
    metadata: { name, namespace },
    spec: {
      selector: { matchLabels: labels },
      updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '10%' } },
      template: {
        metadata: { labels },
        spec: {
          ...podDefaults,
          serviceAccountName: name,
          nodeSelector: block('.Values.selector.nodeSelector'),
          tolerations: block('.Values.selector.tolerations'),
          terminationGracePeriodSeconds: 10,
          containers: [selectorContainer('node', flags, 'spec.nodeName', ports.health)],
          volumes: [{ name: 'token', projected: { sources: tokenSources } }, ...selectorVolumes],
        },
      },
    },
  });
}

function addNetwork(add: Add): void {
  // Without an address of its own the name stands for every selector; those that start want to find each other, too.
  add('selector-service', 'v1', 'Service', {
    metadata: { name, namespace },
    spec: {
      clusterIP: 'None',
      publishNotReadyAddresses: true,
      selector: labels,
      ports: [{ name: 'selector', port: ports.grpc, targetPort: 'selector', protocol: 'TCP' }],
    },
  });
  add(
    'selector-networkpolicy',
    'networking.k8s.io/v1',
    'NetworkPolicy',
    {
      metadata: { name, namespace },
      spec: {
        podSelector: { matchLabels: labels },
        policyTypes: ['Ingress', 'Egress'],
        ingress: [{ from: overlayPeers, ports: [selectorPort] }, { ports: [{ port: ports.health, protocol: 'TCP' }] }],
        egress: [
          { ports: dnsPorts },
          { ports: block('include "xtreemos.apiServerPorts" . | fromYamlArray') },
          { to: overlayPeers, ports: [selectorPort] },
        ],
      },
    },
    '.Values.networkPolicy.enabled',
  );
}

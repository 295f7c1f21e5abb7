/** What the chart installs for volumes on the nodes: node agent, mount holder, CSI driver, and the controller for plain claims. */
import type { agentOptions, controllerOptions, holderOptions } from '#nodeagent/options.ts';
import { group } from '#crds/kind.ts';
import { csiDriverName } from '#crds/volume.ts';
import { nodeServiceName } from '#operator/storage/names.ts';
import { addCertificate } from './certificates.ts';
import { block, text } from './helm.ts';
import {
  addAccount,
  argument,
  containerSecurity,
  dnsPorts,
  fullname,
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
import { relayAddress, relayPort, serverEgress } from './storage.ts';

const enabled = '.Values.nodeAgent.enabled';
const snapshotGroup = 'snapshot.storage.k8s.io';
const hasSnapshotter = '.Values.csiController.snapshotterImage';
const hasProvisioner = 'and .Values.nodeAgent.enabled .Values.csiController.provisionerImage';
const names = { agent: named('node-agent'), holder: named('mount-holder'), controller: named('csi-controller') };
const labels = {
  agent: selectorOf('node-agent'),
  holder: selectorOf('mount-holder'),
  controller: selectorOf('csi-controller'),
};
const tlsSecret = named('node-tls');
const tlsFolder = '/etc/xtreemos/node';
const healthPort = 8081;
const provisionerPort = 8082;
const snapshotterPort = 8083;
const kubeletDir = text('.Values.nodeAgent.kubeletDir');
const stateDir = '/var/lib/xtreemos';
const csiFolder = '/run/csi';

type Options = typeof agentOptions & typeof holderOptions & typeof controllerOptions;
/** A flag; that a program knows it is checked by the compiler. */
const flag = (option: keyof Options, expression: string, format?: string): string =>
  argument(option, expression, format);

/** Everything for volumes on nodes, as templates. */
export function nodeAgentTemplates(): Template[] {
  return templatesOf('node-agent', (add) => {
    addDriver(add);
    addAgentAccount(add);
    addAgent(add);
    addHolder(add);
    addNetwork(add);
    addController(add);
    addControllerAccount(add);
  });
}

/** Tells Kubernetes how the driver wants to be used: it is told the pod, and owners of files are left alone. */
function addDriver(add: Add): void {
  const spec = {
    attachRequired: false,
    podInfoOnMount: true,
    fsGroupPolicy: 'None',
    volumeLifecycleModes: ['Persistent'],
    storageCapacity: false,
  };
  add('node-agent-csidriver', 'storage.k8s.io/v1', 'CSIDriver', { metadata: { name: csiDriverName }, spec }, enabled);
  addCertificate(add, 'node-agent-certificate', tlsSecret, {
    commonName: nodeServiceName,
    dnsNames: [nodeServiceName],
    privateKey: { algorithm: 'ECDSA', size: 256, rotationPolicy: 'Always' },
    usages: ['digital signature', 'client auth'],
  });
}

/** It reads who may have what, and tells events; it writes nothing else. */
function addAgentAccount(add: Add): void {
  const rules = [
    {
      apiGroups: [group],
      resources: ['volumes', 'filesystems', 'virtualorganizations', 'vomemberships', 'identityslices'],
      verbs: ['list', 'watch'],
    },
    { apiGroups: [''], resources: ['pods', 'namespaces'], verbs: ['get'] },
    { apiGroups: ['events.k8s.io'], resources: ['events'], verbs: ['create', 'patch', 'update'] },
  ];
  addAccount(add, 'node-agent', { name: names.agent, rules, condition: enabled });
}

const image = { image: text('include "xtreemos.image" .'), imagePullPolicy: text('.Values.image.pullPolicy') };
const smallMemory = [
  { name: 'NODE_OPTIONS', value: '--max-semi-space-size=1' },
  { name: 'MALLOC_ARENA_MAX', value: '1' },
];
const stateVolume = { name: 'state', hostPath: { path: stateDir, type: 'DirectoryOrCreate' } };
/** Pods on a node need it, as they need the kubelet. */
const nodePod = {
  ...podDefaults,
  priorityClassName: 'system-node-critical',
  nodeSelector: block('.Values.nodeAgent.nodeSelector'),
  tolerations: block('.Values.nodeAgent.tolerations'),
  // Root, for the sockets and folders of the kubelet are root's.
  securityContext: { runAsUser: 0, runAsGroup: 0, seccompProfile: { type: 'RuntimeDefault' } },
};

/** A part of the kubelet's folder, at the same path as on the node, since the kubelet names paths as it sees them. */
const kubeletPart = (part: string): string => text(`printf "%s/${part}" .Values.nodeAgent.kubeletDir`);

/** Root without any right of the kernel: it mounts nothing itself. */
function addAgent(add: Add): void {
  const parts = { plugins: 'plugins', registry: 'plugins_registry', pods: 'pods' };
  const container = {
    name: 'node-agent',
    ...image,
    args: [
      'nodeagent',
      'agent',
      flag('kubeletDir', '.Values.nodeAgent.kubeletDir'),
      `--state-dir=${stateDir}`,
      `--health-port=${healthPort}`,
      flag('relay', relayAddress),
      flag('logLevel', '.Values.nodeAgent.logLevel'),
    ],
    // Volumes that do not answer hold a thread each while they are asked how full they are.
    env: [
      { name: 'XTREEMOS_NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
      { name: 'UV_THREADPOOL_SIZE', value: '16' },
      ...smallMemory,
    ],
    ports: [{ name: 'health', containerPort: healthPort }],
    startupProbe: httpProbe('/livez', 'health', 60),
    livenessProbe: httpProbe('/livez', 'health', 6),
    readinessProbe: httpProbe('/readyz', 'health', 2),
    resources: block('.Values.nodeAgent.resources'),
    securityContext: containerSecurity,
    volumeMounts: [
      { name: 'token', mountPath: tokenPath, readOnly: true },
      { name: 'state', mountPath: stateDir },
      ...Object.entries(parts).map(([name, part]) => ({
        ...{ name, mountPath: kubeletPart(part) },
        ...(name === 'registry' ? {} : { mountPropagation: 'HostToContainer' }),
      })),
    ],
  };
  const volumes = [
    { name: 'token', projected: { sources: tokenSources } },
    stateVolume,
    ...Object.entries(parts).map(([name, part]) => ({
      name,
      hostPath: { path: kubeletPart(part), type: 'Directory' },
    })),
  ];
  addDaemonSet(
    add,
    'node-agent',
    labels.agent,
    names.agent,
    { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '10%' } },
    {
      ...nodePod,
      ...{ serviceAccountName: names.agent, terminationGracePeriodSeconds: 15, containers: [container], volumes },
    },
  );
}

/**
 * Replaced only when its pod is deleted, since mounts break while it is away; not probed for life for the same reason. It sees
 * processes of the node, to know in which groups a caller is.
 */
function addHolder(add: Add): void {
  const container = {
    name: 'mount-holder',
    ...image,
    args: [
      'nodeagent',
      'mount-holder',
      flag('kubeletDir', '.Values.nodeAgent.kubeletDir'),
      `--state-dir=${stateDir}`,
      `--tls-dir=${tlsFolder}`,
      `--health-port=${healthPort}`,
      flag('reachMs', 'int .Values.mountHolder.reachSeconds', '%d000'),
      flag('logLevel', '.Values.nodeAgent.logLevel'),
    ],
    env: smallMemory,
    ports: [{ name: 'health', containerPort: healthPort }],
    startupProbe: httpProbe('/livez', 'health', 60),
    readinessProbe: httpProbe('/readyz', 'health', 2),
    resources: block('.Values.mountHolder.resources'),
    securityContext: { privileged: true, readOnlyRootFilesystem: true },
    volumeMounts: [
      { name: 'kubelet', mountPath: kubeletDir, mountPropagation: 'Bidirectional' },
      { name: 'state', mountPath: stateDir },
      { name: 'tls', mountPath: tlsFolder, readOnly: true },
    ],
  };
  const volumes = [
    { name: 'kubelet', hostPath: { path: kubeletDir, type: 'Directory' } },
    stateVolume,
    { name: 'tls', secret: { secretName: tlsSecret, defaultMode: 0o400, optional: true } },
  ];
  addDaemonSet(
    add,
    'mount-holder',
    labels.holder,
    names.holder,
    { type: 'OnDelete' },
    {
      ...nodePod,
      ...{ hostPID: true, terminationGracePeriodSeconds: 5, containers: [container], volumes },
    },
  );
}

function addDaemonSet(
  add: Add,
  id: string,
  podLabels: Readonly<Record<string, string>>,
  name: string,
  updateStrategy: object,
  spec: object,
): void {
  const fields = {
    metadata: { name, namespace },
    spec: { selector: { matchLabels: podLabels }, updateStrategy, template: { metadata: { labels: podLabels }, spec } },
  };
  add(`${id}-daemonset`, 'apps/v1', 'DaemonSet', fields, enabled);
}

function addNetwork(add: Add): void {
  const metrics = { from: block('.Values.metrics.from'), ports: [{ port: healthPort, protocol: 'TCP' }] };
  const apiServer = { ports: block('include "xtreemos.apiServerPorts" . | fromYamlArray') };
  const policy = (id: keyof typeof names, egress: readonly object[], condition: string): void =>
    add(
      `${id === 'agent' ? 'node-agent' : id === 'holder' ? 'mount-holder' : 'csi-controller'}-networkpolicy`,
      'networking.k8s.io/v1',
      'NetworkPolicy',
      {
        metadata: { name: names[id], namespace },
        spec: {
          podSelector: { matchLabels: labels[id] },
          policyTypes: ['Ingress', 'Egress'],
          ingress: [metrics],
          egress: [{ ports: dnsPorts }, ...egress],
        },
      },
      condition,
    );
  policy('agent', [apiServer], `and ${enabled} .Values.networkPolicy.enabled`);
  const relay = { to: [{ podSelector: { matchLabels: selectorOf('operator') } }], ports: [relayPort] };
  policy('holder', [{ ports: serverEgress.ports }, relay], `and ${enabled} .Values.networkPolicy.enabled`);
  policy('controller', [apiServer], `and (${hasProvisioner}) .Values.networkPolicy.enabled`);
}

/** Makes Volumes for plain claims, and snapshots: external-provisioner, external-snapshotter, and our answer to them. */
function addController(add: Add): void {
  const container = {
    name: 'csi-controller',
    ...image,
    args: [
      'nodeagent',
      'csi-controller',
      `--socket=${csiFolder}/csi.sock`,
      `--health-port=${healthPort}`,
      flag('logLevel', '.Values.nodeAgent.logLevel'),
    ],
    env: smallMemory,
    ports: [{ name: 'health', containerPort: healthPort }],
    startupProbe: httpProbe('/livez', 'health', 60),
    livenessProbe: httpProbe('/livez', 'health', 6),
    readinessProbe: httpProbe('/readyz', 'health', 2),
    resources: block('.Values.csiController.resources'),
    securityContext: containerSecurity,
    volumeMounts: [
      { name: 'token', mountPath: tokenPath, readOnly: true },
      { name: 'csi', mountPath: csiFolder },
    ],
  };
  const provisioner = sidecarOf('provisioner', '.Values.csiController.provisionerImage', provisionerPort);
  const snapshotter = sidecarOf('snapshotter', hasSnapshotter, snapshotterPort);
  const deployment = (containers: readonly object[]): Record<string, unknown> => {
    const volumes = [
      { name: 'token', projected: { sources: tokenSources } },
      { name: 'csi', emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } },
    ];
    const pod = { ...podDefaults, serviceAccountName: names.controller, containers, volumes };
    const template = { metadata: { labels: labels.controller }, spec: pod };
    return {
      metadata: { name: names.controller, namespace },
      spec: { replicas: 1, selector: { matchLabels: labels.controller }, template },
    };
  };
  for (const [id, containers, condition] of [
    ['csi-controller-deployment', [container, provisioner], `and (${hasProvisioner}) (not ${hasSnapshotter})`],
    [
      'csi-controller-with-snapshots-deployment',
      [container, provisioner, snapshotter],
      `and (${hasProvisioner}) ${hasSnapshotter}`,
    ],
  ] as const) {
    add(id, 'apps/v1', 'Deployment', deployment(containers), condition);
  }
  add(
    'csi-controller-volumesnapshotclass',
    `${snapshotGroup}/v1`,
    'VolumeSnapshotClass',
    { metadata: { name: fullname }, driver: csiDriverName, deletionPolicy: 'Delete' },
    `and (${hasProvisioner}) ${hasSnapshotter}`,
  );
  add(
    'csi-controller-storageclass',
    'storage.k8s.io/v1',
    'StorageClass',
    {
      metadata: { name: fullname },
      provisioner: csiDriverName,
      reclaimPolicy: 'Delete',
      allowVolumeExpansion: true,
      volumeBindingMode: 'Immediate',
      parameters: block('.Values.csiController.parameters'),
    },
    hasProvisioner,
  );
}

/** A program of Kubernetes that asks the driver over its socket. */
function sidecarOf(name: string, sidecarImage: string, port: number): object {
  return {
    name,
    image: text(sidecarImage),
    imagePullPolicy: text('.Values.image.pullPolicy'),
    args: [
      `--csi-address=${csiFolder}/csi.sock`,
      '--extra-create-metadata',
      '--leader-election',
      text('printf "--leader-election-namespace=%s" .Release.Namespace'),
      '--timeout=60s',
      '--retry-interval-start=500ms',
      '--retry-interval-max=60s',
      `--http-endpoint=:${port}`,
    ],
    ports: [{ name, containerPort: port }],
    livenessProbe: httpProbe('/healthz/leader-election', name, 6),
    resources: block('.Values.csiController.resources'),
    securityContext: containerSecurity,
    volumeMounts: [
      { name: 'token', mountPath: tokenPath, readOnly: true },
      { name: 'csi', mountPath: csiFolder },
    ],
  };
}

function addControllerAccount(add: Add): void {
  const read = ['get', 'list', 'watch'];
  const rules = [
    { apiGroups: [group], resources: ['volumes'], verbs: ['get', 'list', 'create', 'patch', 'delete'] },
    { apiGroups: [''], resources: ['persistentvolumes'], verbs: [...read, 'create', 'patch', 'delete'] },
    { apiGroups: [''], resources: ['persistentvolumeclaims'], verbs: [...read, 'update'] },
    { apiGroups: ['storage.k8s.io'], resources: ['storageclasses'], verbs: read },
    {
      apiGroups: [snapshotGroup],
      resources: ['volumesnapshots', 'volumesnapshotclasses', 'volumesnapshotcontents'],
      verbs: read,
    },
    {
      apiGroups: [snapshotGroup],
      resources: ['volumesnapshotcontents', 'volumesnapshotcontents/status'],
      verbs: ['update', 'patch'],
    },
    { apiGroups: [''], resources: ['events'], verbs: ['create', 'patch', 'update'] },
  ];
  addAccount(add, 'csi-controller', { name: names.controller, rules, condition: hasProvisioner });
  const account = { kind: 'ServiceAccount', name: names.controller, namespace };
  add(
    'csi-controller-role',
    'rbac.authorization.k8s.io/v1',
    'Role',
    {
      metadata: { name: names.controller, namespace },
      rules: [
        {
          apiGroups: ['coordination.k8s.io'],
          resources: ['leases'],
          verbs: ['get', 'watch', 'list', 'delete', 'update', 'create', 'patch'],
        },
      ],
    },
    hasProvisioner,
  );
  add(
    'csi-controller-rolebinding',
    'rbac.authorization.k8s.io/v1',
    'RoleBinding',
    {
      metadata: { name: names.controller, namespace },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: names.controller },
      subjects: [account],
    },
    hasProvisioner,
  );
}

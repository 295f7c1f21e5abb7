/**
 * Every field of a pod that may be set in a virtual organization. A field that isn't here is refused, also one that a later Kubernetes
 * adds: the policies list keys, they don't look for bad ones. Fields in `judged` have a rule of their own (`pods.ts`); the others are free,
 * each for the reason given. A test walks the OpenAPI of the API server and fails on a field that is neither here nor in `refused`.
 */

/** What may be said of a part of a pod: free fields with the reason, judged ones with the rule, and refused ones. */
export interface FieldTable {
  readonly free: Readonly<Record<string, string>>;
  readonly judged: Readonly<Record<string, string>>;
  /** Known and not wanted: what to do instead. They are refused by not being in the other two. */
  readonly refused: Readonly<Record<string, string>>;
}

/** Fields of PodSpec. */
export const podFields: FieldTable = {
  free: {
    activeDeadlineSeconds: 'ends the own pod',
    dnsConfig: "the pod's own resolver; where packets may go is the network policy's",
    dnsPolicy: "the pod's own resolver",
    enableServiceLinks: 'names of Services of the own namespace',
    hostname: "the pod's own name in its own UTS namespace",
    overhead: 'the API server compares it with the RuntimeClass',
    preemptionPolicy: 'only less than what the priority gives',
    priority: 'the API server computes it from the PriorityClass, which is judged',
    readinessGates: 'delays only the own pod',
    restartPolicy: 'the own pod',
    schedulingGates: 'delays only the own pod',
    setHostnameAsFQDN: "the pod's own name",
    shareProcessNamespace: 'containers of one pod run as one user',
    subdomain: 'a DNS name inside the own namespace',
    terminationGracePeriodSeconds: 'the API server bounds it; suspension sets its own',
    topologySpreadConstraints: 'spreads over nodes that the pod may use anyway',
  },
  judged: {
    affinity: 'node labels by allow-list, pods of the own namespace only',
    automountServiceAccountToken: 'false',
    containers: 'each',
    ephemeralContainers: 'each',
    hostUsers: 'false where user namespaces are required, unset elsewhere',
    initContainers: 'each',
    nodeName: 'only the scheduler sets it',
    nodeSelector: 'node labels by allow-list',
    os: 'linux',
    priorityClassName: 'allow-list of the site',
    resources: 'no claims of devices',
    runtimeClassName: "the site's sandbox only",
    schedulerName: 'default-scheduler',
    securityContext: 'ids of the member',
    serviceAccount: 'the account of the member',
    serviceAccountName: 'the account of the member',
    tolerations: 'allow-list',
    volumes: 'kinds by allow-list',
  },
  refused: {
    hostAliases: 'use the DNS names of Services',
    hostIPC: 'let processes that share memory run in one pod',
    hostNetwork: 'use the network of the pod',
    hostPID: 'use shareProcessNamespace to see the processes of the own pod',
    hostnameOverride: 'use hostname',
    imagePullSecrets: 'let the owner of the site give the nodes access to the registry',
    resourceClaims: 'request devices as extended resources',
    schedulingGroup: 'let a GridJob ask for a gang',
  },
};

/** Fields of a container of any kind. */
export const containerFields: FieldTable = {
  free: {
    args: 'runs as the member',
    command: 'runs as the member',
    image: 'runs as the member; a group file in it counts for nothing under the Strict policy',
    imagePullPolicy: 'the node decides who may use which image',
    name: 'a name',
    resizePolicy: 'the own container',
    restartPolicy: 'the own container',
    restartPolicyRules: 'the own container',
    stdin: 'the own container',
    stdinOnce: 'the own container',
    targetContainerName: 'a container of the same pod, which runs as the same user',
    terminationMessagePath: 'a path inside the container',
    terminationMessagePolicy: 'the own container',
    tty: 'the own container',
    workingDir: 'a path inside the container',
  },
  judged: {
    env: 'no Secrets',
    envFrom: 'no Secrets',
    lifecycle: 'no other host',
    livenessProbe: 'no other host',
    ports: 'no port of the node',
    readinessProbe: 'no other host',
    resources: 'no claims of devices',
    securityContext: 'no privilege, ids of the member',
    startupProbe: 'no other host',
    volumeMounts: 'the account, no propagation out of the pod',
  },
  refused: { volumeDevices: 'mount the volume as a file system: a raw device has no owners of files' },
};

/** Fields of a pod's securityContext. */
export const podSecurityFields: FieldTable = {
  free: { fsGroupChangePolicy: 'when ownership is set, not which' },
  judged: {
    appArmorProfile: 'RuntimeDefault',
    fsGroup: 'group of the virtual organization',
    runAsGroup: 'group of the virtual organization',
    runAsNonRoot: 'not false',
    runAsUser: 'the member',
    seccompProfile: 'RuntimeDefault',
    supplementalGroups: 'groups of the member',
    supplementalGroupsPolicy: 'Strict',
  },
  refused: {
    seLinuxChangePolicy: 'leave SELinux to the node',
    seLinuxOptions: 'leave SELinux to the node',
    sysctls: 'ask the owner of the site',
    windowsOptions: 'members work on Linux',
  },
};

/** Fields of a container's securityContext. */
export const containerSecurityFields: FieldTable = {
  free: { readOnlyRootFilesystem: 'only less than without' },
  judged: {
    allowPrivilegeEscalation: 'false',
    appArmorProfile: 'RuntimeDefault',
    capabilities: 'drop all, add none',
    privileged: 'not true',
    procMount: 'Default',
    runAsGroup: 'group of the virtual organization',
    runAsNonRoot: 'not false',
    runAsUser: 'the member',
    seccompProfile: 'RuntimeDefault',
  },
  refused: { seLinuxOptions: 'leave SELinux to the node', windowsOptions: 'members work on Linux' },
};

/** Kinds of volumes. `name` is no kind but stands beside it. */
export const volumeFields: FieldTable = {
  free: {
    configMap: 'holds no secret; objects of the own namespace only',
    downwardAPI: 'says what the pod is',
    emptyDir: 'lives and dies with the pod, within its limits',
    name: 'a name',
  },
  judged: { persistentVolumeClaim: 'of the own namespace', projected: 'sources by allow-list' },
  refused: Object.fromEntries(
    [
      'awsElasticBlockStore',
      'azureDisk',
      'azureFile',
      'cephfs',
      'cinder',
      'csi',
      'ephemeral',
      'fc',
      'flexVolume',
      'flocker',
      'gcePersistentDisk',
      'gitRepo',
      'glusterfs',
      'hostPath',
      'image',
      'iscsi',
      'nfs',
      'photonPersistentDisk',
      'portworxVolume',
      'quobyte',
      'rbd',
      'scaleIO',
      'secret',
      'storageos',
      'vsphereVolume',
    ].map((kind) => [kind, 'use emptyDir, configMap, downwardAPI, projected or persistentVolumeClaim']),
  ),
};

/** Sources of a projected volume. */
export const projectionFields: FieldTable = {
  free: { configMap: 'holds no secret', downwardAPI: 'says what the pod is' },
  judged: { serviceAccountToken: 'for the gateway only, written by the operator' },
  refused: {
    clusterTrustBundle: 'trust comes with the credential that the gateway gives',
    podCertificate: 'credentials come from the gateway',
    secret: 'credentials come from the gateway',
  },
};

/** Fields of a port, of one environment variable's source, of `envFrom`, of a mount, of resources and of an affinity term. */
export const smallFields = {
  'io.k8s.api.core.v1.ContainerPort': fields(['name', 'containerPort', 'protocol'], ['hostPort', 'hostIP']),
  'io.k8s.api.core.v1.EnvVarSource': fields(
    ['fieldRef', 'resourceFieldRef', 'configMapKeyRef', 'fileKeyRef'],
    ['secretKeyRef'],
  ),
  'io.k8s.api.core.v1.EnvFromSource': fields(['prefix', 'configMapRef'], ['secretRef']),
  'io.k8s.api.core.v1.VolumeMount': fields(
    ['name', 'readOnly', 'recursiveReadOnly', 'mountPath', 'subPath', 'subPathExpr', 'mountPropagation'],
    [],
  ),
  'io.k8s.api.core.v1.ResourceRequirements': fields(['limits', 'requests'], ['claims']),
  'io.k8s.api.core.v1.PodAffinityTerm': fields(
    ['labelSelector', 'topologyKey', 'matchLabelKeys', 'mismatchLabelKeys'],
    ['namespaces', 'namespaceSelector'],
  ),
  'io.k8s.api.core.v1.NodeSelectorTerm': fields(['matchExpressions'], ['matchFields']),
  'io.k8s.api.core.v1.NodeAffinity': fields(
    ['requiredDuringSchedulingIgnoredDuringExecution', 'preferredDuringSchedulingIgnoredDuringExecution'],
    [],
  ),
  'io.k8s.api.core.v1.Affinity': fields(['nodeAffinity', 'podAffinity', 'podAntiAffinity'], []),
} satisfies Record<string, { readonly allowed: readonly string[]; readonly refused: readonly string[] }>;

function fields(
  allowed: readonly string[],
  refused: readonly string[],
): { readonly allowed: readonly string[]; readonly refused: readonly string[] } {
  return { allowed, refused };
}

/** Keys that a table lets through, judged or free. */
export function allowedKeys(table: FieldTable): string[] {
  return [...Object.keys(table.free), ...Object.keys(table.judged)].sort();
}

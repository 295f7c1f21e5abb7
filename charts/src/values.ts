/**
 * The values of the chart: one source of `values.yaml` (its comments are these descriptions), of `values.schema.json`, and of the paths that
 * templates may name.
 */
import { z } from 'zod';
import { logLevels } from '#common/logger.ts';

const section = <S extends z.core.$ZodLooseShape>(about: string, shape: S): z.ZodObject<S, z.core.$strict> =>
  z.strictObject(shape).meta({ description: about });
const flag = (about: string, preset: boolean): z.ZodDefault<z.ZodBoolean> =>
  z.boolean().meta({ description: about }).default(preset);
const word = (about: string, preset: string, pattern: RegExp, maxLength: number): z.ZodDefault<z.ZodString> =>
  z.string().regex(pattern).max(maxLength).meta({ description: about }).default(preset);
const count = (about: string, preset: number, min: number, max: number): z.ZodDefault<z.ZodInt> =>
  z.int().min(min).max(max).meta({ description: about }).default(preset);
const freeMap = (about: string): z.ZodDefault<z.ZodRecord<z.ZodString, z.ZodString>> =>
  z.record(z.string(), z.string()).meta({ description: about }).default({});
const objects = (about: string, preset: Record<string, unknown>[] = []): z.ZodDefault<z.ZodArray<z.ZodType>> =>
  z.array(z.looseObject({})).meta({ description: about }).default(preset);

const words = (about: string, pattern: RegExp): z.ZodDefault<z.ZodArray<z.ZodString>> =>
  z.array(z.string().regex(pattern).max(317)).max(64).meta({ description: about }).default([]);

const label = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const labelOrNothing = /^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$/;
const amount = z.union([
  z.number().min(0),
  z
    .string()
    .max(32)
    .regex(/^[0-9.]+([eE][0-9]+|[numkMGTPE]i?)?$/),
]);
const amounts = (
  about: string,
  preset: Record<string, string>,
): z.ZodDefault<z.ZodRecord<z.ZodString, typeof amount>> =>
  z.record(z.string(), amount).meta({ description: about }).default(preset);

/** Every value of the chart. */
export const valuesSchema = z.strictObject({
  fullnameOverride: word(
    'Name of all that is installed; by default it is made of the name of the release and `xtreemos`.',
    '',
    labelOrNothing,
    50,
  ),
  image: section('The image of the product. One image holds every program.', {
    repository: word('Registry and name.', 'xtreemos.io/xtreemos', /^[a-z0-9][a-zA-Z0-9._:/-]*$/, 255),
    tag: word('Tag; by default the version of the chart.', '', /^[A-Za-z0-9._-]*$/, 128),
    digest: word('Digest, for example `sha256:…`; wins over the tag.', '', /^(sha256:[0-9a-f]{64})?$/, 71),
    pullPolicy: z
      .enum(['IfNotPresent', 'Always', 'Never'])
      .meta({ description: 'When nodes pull the image.' })
      .default('IfNotPresent'),
  }),
  imagePullSecrets: objects('Secrets for a private registry, for example `[{name: registry}]`.'),
  site: section(
    'The local site. The operator makes the `Site` object from this when there is none; edit that object afterwards.',
    {
      name: word('Name of this site. It stays; choose one that no peer has.', 'local', label, 63),
      trustDomain: word(
        'Trust domain under which other sites know this one, for example `rennes.example.org`. By default its name. It stays: with another, sites have to be joined anew.',
        '',
        /^[a-z0-9._-]*$/,
        255,
      ),
      attributes: z
        .record(
          z.string().max(63),
          z
            .string()
            .max(253)
            .regex(/^[^,=]*$/),
        )
        .meta({
          description: 'What the site says of itself, for example `{country: FR, organization: Example University}`.',
        })
        .default({}),
      reservedRanges: z
        .array(z.string().regex(/^[0-9a-fA-F:.]+\/[0-9]{1,3}$/))
        .max(64)
        .meta({
          description:
            'Address ranges that virtual organizations never reach, whatever they declare. Nodes, their pod ranges and the API server are known; name the ranges of pods and services where nodes do not tell them (`kubectl get nodes -o jsonpath={.items[*].spec.podCIDRs}` is empty).',
        })
        .default([]),
    },
  ),
  operator: section('The operator.', {
    replicas: count('Pods. One acts, the others wait to take over.', 2, 1, 9),
    logLevel: z.enum(logLevels).meta({ description: 'How much is logged.' }).default('info'),
    resources: section('What each pod gets.', {
      requests: amounts('What is kept for it.', { cpu: '50m', memory: '128Mi' }),
      limits: amounts('What it can not exceed.', { memory: '512Mi' }),
    }),
    leaseDurationSeconds: count(
      'After this time without a sign of life of the acting pod another takes over, seconds.',
      15,
      5,
      600,
    ),
    siteHeartbeatSeconds: count(
      'How often `status.lastSeenTime` of the local Site is refreshed, seconds.',
      60,
      5,
      3600,
    ),
    nodeSelector: freeMap('Labels of the nodes that it may run on.'),
    tolerations: objects('Taints that it bears.'),
    podAnnotations: freeMap('Annotations of its pods.'),
    disruptionBudget: flag('Keep at least one pod while nodes are drained (only with two replicas or more).', true),
  }),
  gateway: section('The door of the site for users, port 7443 (TLS).', {
    address: word(
      '`host:port` under which users reach it from outside; it goes into its certificate and to `kube-public`. By default the Service inside the cluster.',
      '',
      /^(([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5})?$/,
      259,
    ),
    apiServer: word(
      'URL of the API server as users reach it, for example `https://cluster.example.org:6443`: it goes into what members use with `kubectl`. By default as the operator reaches it, which works inside the cluster only.',
      '',
      /^(https:\/\/[^\s?#]+)?$/,
      259,
    ),
    service: section('The Service in front of it.', {
      type: z
        .enum(['ClusterIP', 'NodePort', 'LoadBalancer'])
        .meta({ description: 'Who can reach it: the cluster, users by the nodes, or users by a load balancer.' })
        .default('ClusterIP'),
      port: count('Port of the Service.', 7443, 1, 65_535),
      nodePort: count('Port on the nodes, for types that have one; 0 takes any free one.', 0, 0, 65_535),
      annotations: freeMap('Annotations, for example for a load balancer.'),
    }),
  }),
  selector: section(
    'The selectors: one on every node, which keeps the account of its node, and one beside each operator.',
    {
      logLevel: z.enum(logLevels).meta({ description: 'How much is logged.' }).default('info'),
      resources: section('What each gets.', {
        requests: amounts('What is kept for it.', { cpu: '20m', memory: '96Mi' }),
        limits: amounts('What it can not exceed.', { memory: '256Mi' }),
      }),
      nodeSelector: freeMap('Labels of the nodes that offer themselves; by default all.'),
      tolerations: objects('Taints that it bears: by default all. Work is offered only on nodes without taints.', [
        { operator: 'Exists' },
      ]),
    },
  ),
  nodeAgent: section('Volumes on the nodes: the CSI driver, as a node agent and a mount holder on every node.', {
    enabled: flag('Install them. Without them no pod gets a Volume.', true),
    kubeletDir: word(
      'Root folder of the kubelets (their `--root-dir`).',
      '/var/lib/kubelet',
      /^\/[A-Za-z0-9._/-]*[A-Za-z0-9]$/,
      255,
    ),
    logLevel: z.enum(logLevels).meta({ description: 'How much is logged.' }).default('info'),
    resources: section('What each node agent gets.', {
      requests: amounts('What is kept for it.', { cpu: '10m', memory: '80Mi' }),
      limits: amounts('What it can not exceed.', { memory: '256Mi' }),
    }),
    nodeSelector: freeMap('Labels of the nodes that serve volumes; by default all.'),
    tolerations: objects('Taints that they bear: by default all.', [{ operator: 'Exists' }]),
  }),
  mountHolder: section(
    'The mount holders. Privileged, since they mount. An upgrade replaces one only when its pod is deleted: drain the node first, for mounts break while it is away.',
    {
      resources: section('What each gets. Each mounted Volume has a process of some 80 MiB in it.', {
        requests: amounts('What is kept for it.', { cpu: '50m', memory: '160Mi' }),
        limits: amounts('What it can not exceed; by default nothing is set, since mounts would break.', {}),
      }),
      reachSeconds: count('How long servers may be away while a Volume is being mounted, seconds.', 60, 0, 600),
    },
  ),
  csiController: section('Volumes for plain PersistentVolumeClaims, by a StorageClass of the name of the release.', {
    provisionerImage: word(
      'Image of external-provisioner 5 or later, for example `registry.k8s.io/sig-storage/csi-provisioner:v6.3.0`. Without one there is no StorageClass, and Volumes are made as objects only.',
      '',
      /^([a-z0-9][a-zA-Z0-9._:/@-]*)?$/,
      255,
    ),
    snapshotterImage: word(
      "Image of external-snapshotter's sidecar 8 or later, for example `registry.k8s.io/sig-storage/csi-snapshotter:v8.7.0`. With it, and `provisionerImage`, VolumeSnapshots of Volumes are taken; the cluster must have the kinds and the snapshot-controller of external-snapshotter, the latter in `kube-system`.",
      '',
      /^([a-z0-9][a-zA-Z0-9._:/@-]*)?$/,
      255,
    ),
    parameters: freeMap(
      'Parameters of the StorageClass: `fileSystem` (NAMESPACE/NAME), `stripeWidth`, `stripeSizeKiB`, `replicationPolicy`, `replicas`, `mode`.',
    ),
    resources: section('What each of its containers gets.', {
      requests: amounts('What is kept for it.', { cpu: '10m', memory: '64Mi' }),
      limits: amounts('What it can not exceed.', { memory: '256Mi' }),
    }),
  }),
  certificates: section('Certificates, by cert-manager, which has to be installed in the cluster.', {
    create: flag(
      'Make a certificate authority for this site and the certificates of its programs. When false, the Secrets that the pods name have to be there: `-selector-tls` (tls.crt, tls.key, ca.crt; name selector.xtreemos.io) and `-selector-signing` (Ed25519; tls.crt, tls.key), and for file systems with TLS `-node-tls` (tls.crt, tls.key, ca.crt; name node-agent.xtreemos.io).',
      true,
    ),
  }),
  serviceAccount: section('The account that the operator acts as.', {
    annotations: freeMap('Annotations, for example for a cloud identity.'),
  }),
  priorityClass: section('Priority of the operator over other pods.', {
    create: flag('Make a PriorityClass of its own and use it.', true),
    value: count('The higher, the earlier it is scheduled.', 900_000_000, 0, 1_000_000_000),
  }),
  metrics: section('Metrics in Prometheus format, port 8080, path `/metrics`.', {
    service: flag('Make a Service for them.', true),
    auth: flag(
      'Serve them over TLS (self-signed) and only to accounts that may get `/metrics`: bind the ClusterRole that ends in `-metrics-reader` to the account of your collector. When false, in plain HTTP to everybody whom the network policy lets in.',
      true,
    ),
    from: objects(
      'Who may read them when the network policy is on: peers of a NetworkPolicy, for example `[{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]`. By default pods of the namespace of the operator; an empty list means everybody.',
      [{ podSelector: {} }],
    ),
  }),
  monitoring: section(
    'What the Prometheus operator and Grafana get. Their kinds have to be there for alerts and monitors.',
    {
      dashboards: flag('Make a ConfigMap with dashboards, labelled for the sidecar of Grafana.', false),
      alerts: flag('Make a PrometheusRule: full OSDs, lost replicas, slow requests, mounts that do not serve.', false),
      monitors: flag('Make PodMonitors for servers of file systems and for node agents.', false),
      labels: freeMap('Labels of these objects, for example those that your Prometheus selects by.'),
    },
  ),
  networkPolicy: section('Who may talk to the operator, and to whom it may talk.', {
    enabled: flag('Make a NetworkPolicy.', true),
    apiServerPorts: z
      .array(z.int().min(1).max(65_535))
      .min(1)
      .max(16)
      .meta({ description: 'TCP ports that the API server listens on.' })
      .default([443, 6443]),
    peerPorts: z
      .array(z.int().min(1).max(65_535))
      .min(1)
      .max(16)
      .meta({ description: 'TCP ports that the gateways of other sites listen on.' })
      .default([7443]),
    identityProviderPorts: z
      .array(z.int().min(1).max(65_535))
      .min(1)
      .max(16)
      .meta({ description: 'TCP ports that OpenID providers listen on.' })
      .default([443]),
  }),
  flowControl: section('The share of the API server that the operator gets (API priority and fairness).', {
    enabled: flag('Make a FlowSchema and a PriorityLevelConfiguration.', true),
    shares: count('Its share, relative to the other levels (`workload-low` has 100).', 20, 1, 1000),
  }),
  admission: section('What pods of members of virtual organizations may have, besides what the policies let through.', {
    priorityClassNames: words(
      'PriorityClasses that they may name. If the cluster has a default one, it must be here: every pod gets it.',
      /^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$/,
    ),
    nodeLabels: words(
      'Keys of node labels that they may select on, for example `nvidia.com/gpu.product`, besides architecture, system, host name, zone and region.',
      /^[A-Za-z0-9][-A-Za-z0-9_./]*$/,
    ),
    podAnnotations: words(
      'Annotations that they may set: whole keys, or beginnings of keys that end in `/`, for example `prometheus.io/`.',
      /^[A-Za-z0-9][-A-Za-z0-9_./]*$/,
    ),
  }),
  crds: section('The CustomResourceDefinitions. They are templates, so that `helm upgrade` upgrades them.', {
    install: flag('Install and upgrade them with the release.', true),
    keep: flag(
      '`helm uninstall` leaves them, and so every object of the users, with the admission policies that guard them. When false, uninstalling deletes all of them for good.',
      true,
    ),
  }),
  global: z
    .looseObject({})
    .meta({ description: 'Not used; there because Helm passes it to every chart that is part of another.' })
    .default({}),
});

/** The JSON schema of the values, strict: an unknown key is an error of the user. */
export function valuesJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(valuesSchema, { io: 'input', target: 'draft-7' });
}

interface Described {
  readonly description?: string;
  readonly default?: unknown;
  readonly properties?: Readonly<Record<string, Described>>;
  readonly enum?: readonly unknown[];
  readonly minimum?: number;
  readonly maximum?: number;
}

/** `values.yaml`: every value with its default and, above it, what it means. */
export function valuesYaml(notice: string): string {
  return `# ${notice}\n${lines(valuesJsonSchema(), '').join('\n')}\n`;
}

function lines(schema: Described, indent: string): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const comment = comments(field).map((text) => `${indent}# ${text}`);
    if (field.properties !== undefined && field.default === undefined) {
      return [...(indent === '' ? [''] : []), ...comment, `${indent}${name}:`, ...lines(field, `${indent}  `)];
    }
    return [...(indent === '' ? [''] : []), ...comment, `${indent}${name}: ${flow(field.default)}`];
  });
}

function comments(field: Described): string[] {
  const facts = [
    field.enum === undefined ? '' : `One of ${field.enum.map(String).join(', ')}.`,
    field.minimum === undefined || field.maximum === undefined ? '' : `${field.minimum} to ${field.maximum}.`,
  ];
  const sentence = [field.description ?? '', ...facts].filter((part) => part !== '').join(' ');
  return wrap(sentence, 110);
}

/** A default in YAML's flow style, as prettier writes it. */
function flow(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(flow).join(', ')}]`;
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).map(([key, item]) => `${key}: ${flow(item)}`);
    return entries.length === 0 ? '{}' : `{ ${entries.join(', ')} }`;
  }
  if (typeof value === 'string') return /^[A-Za-z][A-Za-z0-9/._-]*$/.test(value) ? value : `'${value}'`;
  return String(value);
}

function wrap(text: string, width: number): string[] {
  const result: string[] = [];
  let line = '';
  for (const part of text.split(' ')) {
    if (line !== '' && line.length + 1 + part.length > width) {
      result.push(line);
      line = part;
    } else line = line === '' ? part : `${line} ${part}`;
  }
  return [...result, line];
}

/** Whether a template may name this value, for example `.Values.site.name`. */
export function isKnownValue(expression: string): boolean {
  let schema: Described | undefined = valuesJsonSchema();
  for (const name of expression.split('.').slice(2)) schema = schema?.properties?.[name];
  return schema !== undefined;
}

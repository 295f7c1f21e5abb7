/** What is installed into every site: cluster DNS and cert-manager. */
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { parseAllDocuments } from 'yaml';

import type { InstancePlan, SitePlan } from './addresses.ts';
import { writeFileAtomic } from './files.ts';
import { type KubeClient, type KubeObject, waitFor } from './kube-client.ts';
import { runCommand } from './shell.ts';
import { podImage } from './system-images.ts';
import { cacheRoot, type Tools } from './tools.ts';
import { certManagerVersion, kubernetesVersion } from './tools-catalog.ts';

/** What `renderCertManager` reads. */
export const addonTools = ['helm', 'cert-manager-chart', 'cert-manager-crds'] as const;

/** Kind → its collection's plural, and whether it lives in a namespace. Only what the add-ons use. */
const kinds: Readonly<Record<string, readonly [string, boolean]>> = {
  Namespace: ['namespaces', false],
  CustomResourceDefinition: ['customresourcedefinitions', false],
  ClusterRole: ['clusterroles', false],
  ClusterRoleBinding: ['clusterrolebindings', false],
  Role: ['roles', true],
  RoleBinding: ['rolebindings', true],
  ServiceAccount: ['serviceaccounts', true],
  ConfigMap: ['configmaps', true],
  Service: ['services', true],
  Deployment: ['deployments', true],
  MutatingWebhookConfiguration: ['mutatingwebhookconfigurations', false],
  ValidatingWebhookConfiguration: ['validatingwebhookconfigurations', false],
  ClusterIssuer: ['clusterissuers', false],
  StorageClass: ['storageclasses', false],
  PersistentVolume: ['persistentvolumes', false],
  Certificate: ['certificates', true],
};

/** URL path of an object in the API. @throws for a kind that no add-on uses. */
export function pathOf(object: KubeObject): string {
  const { apiVersion = '', kind = '', metadata } = object;
  const [plural, isNamespaced] = kinds[kind] ?? [];
  if (plural === undefined) throw new Error(`addons.ts doesn't know the plural of kind ${kind}`);
  const base = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const namespace = isNamespaced === true ? `/namespaces/${metadata?.namespace ?? 'default'}` : '';
  return `${base}${namespace}/${plural}/${metadata?.name ?? ''}`;
}

/** Applies objects in the order that they need each other: namespaces and kinds first, then all at once. */
export async function applyObjects(client: KubeClient, objects: readonly KubeObject[]): Promise<void> {
  const isFirst = ({ kind }: KubeObject): boolean => kind === 'Namespace' || kind === 'CustomResourceDefinition';
  for (const group of [objects.filter(isFirst), objects.filter((object) => !isFirst(object))]) {
    await Promise.all(group.map(async (object) => client.apply(pathOf(object), object)));
  }
}

/** Applies the objects of the YAML files of a folder. @param names - of the files. */
export async function applyFolder(client: KubeClient, folder: string, names: RegExp): Promise<void> {
  const files = readdirSync(folder).filter((file) => names.test(file));
  const documents = files.flatMap((file) => parseAllDocuments(readFileSync(join(folder, file), 'utf8')));
  await applyObjects(
    client,
    documents.map((each) => each.toJS() as KubeObject | null).filter((each) => each !== null),
  );
}

/** Waits until a Deployment's pods of its current generation are available. */
export async function waitDeployment(
  client: KubeClient,
  namespace: string,
  name: string,
  limitMs = 300_000,
): Promise<void> {
  await waitFor(
    `Deployment ${namespace}/${name} is available`,
    async () => {
      const object = await client.json('GET', `/apis/apps/v1/namespaces/${namespace}/deployments/${name}`);
      const status = object.status as { availableReplicas?: number; observedGeneration?: number } | undefined;
      const wanted = (object.spec as { replicas?: number } | undefined)?.replicas ?? 1;
      return (status?.availableReplicas ?? 0) >= wanted;
    },
    { limitMs, pauseMs: 200 },
  );
}

/** Volumes that each node has on its disk. */
const volumesPerNode = 12;
/** StorageClass of those. */
const localClass = 'local';
/** Where they are on a node. */
export const localVolumeFolders: readonly string[] = Array.from(
  { length: volumesPerNode },
  (_, index) => `/var/lib/local-volumes/${index}`,
);

/** The default StorageClass: folders of the nodes, as PersistentVolumes that are there from the start. */
export function localStorageObjects(site: SitePlan): KubeObject[] {
  const annotations = { 'storageclass.kubernetes.io/is-default-class': 'true' };
  const nodeAffinity = (node: string): object => {
    const expression = { key: 'kubernetes.io/hostname', operator: 'In', values: [node] };
    return { required: { nodeSelectorTerms: [{ matchExpressions: [expression] }] } };
  };
  const spec = { accessModes: ['ReadWriteOnce'], storageClassName: localClass, capacity: { storage: '20Gi' } };
  return [
    {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'StorageClass',
      metadata: { name: localClass, annotations },
      provisioner: 'kubernetes.io/no-provisioner',
      volumeBindingMode: 'WaitForFirstConsumer',
    },
    ...site.nodes.flatMap((node) =>
      localVolumeFolders.map((path, index) => ({
        apiVersion: 'v1',
        kind: 'PersistentVolume',
        metadata: { name: `local-${node.name}-${index}` },
        spec: { ...spec, local: { path }, nodeAffinity: nodeAffinity(node.name) },
      })),
    ),
  ] as KubeObject[];
}

/** CoreDNS with the names of the cluster, and `SITE.sites.xtreemos.test` for every site's gateway address. */
export function dnsObjects(instance: InstancePlan, site: SitePlan): KubeObject[] {
  const labels = { 'k8s-app': 'kube-dns' };
  const metadata = { name: 'coredns', namespace: 'kube-system', labels };
  const gateways = instance.sites.map(
    (each) => `        ${each.nodes[0]?.address ?? ''} ${each.name}.sites.xtreemos.test`,
  );
  const corefile = `cluster.local:5353 in-addr.arpa:5353 {
    errors
    kubernetes cluster.local in-addr.arpa {
        pods insecure
        ttl 5
    }
    loadbalance
}
sites.xtreemos.test:5353 {
    errors
    hosts {
${gateways.join('\n')}
        ttl 5
    }
}
.:5353 {
    errors
    health :8080 {
        lameduck 1s
    }
    ready :8181
    template ANY ANY {
        rcode NXDOMAIN
    }
}
`;
  const rbac = { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'system:coredns' };
  return [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata },
    { apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { Corefile: corefile } },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRole',
      metadata: { name: 'system:coredns', labels },
      rules: [
        { apiGroups: [''], resources: ['endpoints', 'services', 'pods', 'namespaces'], verbs: ['list', 'watch'] },
        { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: ['list', 'watch'] },
      ],
    },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRoleBinding',
      metadata: { name: 'system:coredns', labels },
      roleRef: rbac,
      subjects: [{ kind: 'ServiceAccount', name: 'coredns', namespace: 'kube-system' }],
    },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { ...metadata, name: 'kube-dns' },
      spec: {
        clusterIP: site.dnsService,
        selector: labels,
        ports: [
          { name: 'dns', port: 53, targetPort: 5353, protocol: 'UDP' },
          { name: 'dns-tcp', port: 53, targetPort: 5353, protocol: 'TCP' },
        ],
      },
    },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata,
      spec: {
        replicas: 1,
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: {
            serviceAccountName: 'coredns',
            priorityClassName: 'system-cluster-critical',
            dnsPolicy: 'Default',
            terminationGracePeriodSeconds: 2,
            // DNS is wanted back soon when its node is lost.
            tolerations: ['not-ready', 'unreachable'].map((key) => {
              return {
                key: `node.kubernetes.io/${key}`,
                operator: 'Exists',
                effect: 'NoExecute',
                tolerationSeconds: 10,
              };
            }),
            securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
            containers: [
              {
                name: 'coredns',
                image: podImage('coredns'),
                imagePullPolicy: 'Never',
                args: ['-conf', '/etc/coredns/Corefile'],
                volumeMounts: [{ name: 'config', mountPath: '/etc/coredns', readOnly: true }],
                readinessProbe: { httpGet: { path: '/ready', port: 8181 }, periodSeconds: 1 },
                securityContext: {
                  allowPrivilegeEscalation: false,
                  readOnlyRootFilesystem: true,
                  capabilities: { drop: ['ALL'] },
                },
              },
            ],
            volumes: [{ name: 'config', configMap: { name: 'coredns' } }],
          },
        },
      },
    },
  ];
}

/** Renders cert-manager's own chart with the kept Helm; the result is cached. */
export async function renderCertManager(tools: Tools): Promise<KubeObject[]> {
  const sets = [
    'installCRDs=true',
    'startupapicheck.enabled=false',
    'global.leaderElection.namespace=cert-manager',
    ...(['', 'webhook.', 'cainjector.'] as const).flatMap((prefix) => {
      const program = prefix === '' ? 'controller' : (prefix.slice(0, -1) as 'webhook' | 'cainjector');
      const [repository, tag] = podImage(`cert-manager-${program}`).split(':');
      return [`${prefix}image.repository=${repository ?? ''}`, `${prefix}image.tag=${tag ?? ''}`];
    }),
  ];
  const key = createHash('sha256')
    .update(JSON.stringify([sets, tools.path('cert-manager-chart')]))
    .digest('hex');
  const path = join(cacheRoot(), 'manifests', `cert-manager-${key.slice(0, 16)}.yaml`);
  if (!existsSync(path)) writeFileAtomic(path, await helmTemplate(tools, sets), 0o644);
  const namespace: KubeObject = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'cert-manager' } };
  const documents = parseAllDocuments(readFileSync(path, 'utf8'));
  return [namespace, ...documents.map((each) => each.toJS() as KubeObject | null).filter((each) => each !== null)];
}

/** The module holds the chart as sources of a release: the version is filled in, and the CRDs join the templates. */
async function helmTemplate(tools: Tools, sets: readonly string[]): Promise<string> {
  const chart = mkdtempSync(join(tmpdir(), 'cert-manager-chart-'));
  try {
    cpSync(tools.path('cert-manager-chart'), chart, { recursive: true });
    const sources = readFileSync(join(chart, 'Chart.template.yaml'), 'utf8');
    const bare = sources.slice(0, sources.indexOf('annotations:')).replaceAll('v0.1.0', certManagerVersion);
    writeFileSync(join(chart, 'Chart.yaml'), bare);
    mkdirSync(join(chart, 'templates', 'crds'));
    const crds = tools.path('cert-manager-crds');
    for (const file of readdirSync(crds).filter((each) => each.endsWith('.yaml'))) {
      const text = readFileSync(join(crds, file), 'utf8').replaceAll(/^.*\{\{- include "labels".*$/gm, '');
      writeFileSync(join(chart, 'templates', 'crds', file), text);
    }
    const flags = ['--namespace', 'cert-manager', '--kube-version', kubernetesVersion];
    return await runCommand([
      tools.path('helm'), 'template', 'cert-manager', chart, ...flags, ...sets.flatMap((set) => ['--set', set]),
    ]); // prettier-ignore
  } finally {
    rmSync(chart, { recursive: true, force: true });
  }
}

/** Waits until cert-manager issues: a self-signed ClusterIssuer (which stays) and a Certificate (which doesn't). */
export async function waitCertManager(client: KubeClient, limitMs = 300_000): Promise<void> {
  const issuer: KubeObject = {
    apiVersion: 'cert-manager.io/v1',
    kind: 'ClusterIssuer',
    metadata: { name: 'self-signed' },
    spec: { selfSigned: {} },
  };
  const certificate: KubeObject = {
    apiVersion: 'cert-manager.io/v1',
    kind: 'Certificate',
    metadata: { name: 'ready-check', namespace: 'cert-manager' },
    spec: {
      secretName: 'ready-check',
      dnsNames: ['ready-check.test'],
      privateKey: { algorithm: 'ECDSA', size: 256 },
      issuerRef: { kind: 'ClusterIssuer', name: 'self-signed' },
    },
  };
  // The webhook checks both, so applying them fails until it answers.
  await waitFor('cert-manager accepts a Certificate', async () => {
    await applyObjects(client, [issuer]);
    await applyObjects(client, [certificate]);
    return true;
  }, { limitMs, pauseMs: 250 }); // prettier-ignore
  await waitFor('cert-manager issues a Certificate', async () => {
    const { status } = await client.json('GET', pathOf(certificate));
    const conditions = (status?.conditions ?? []) as { type: string; status: string }[];
    return conditions.some(({ type, status: value }) => type === 'Ready' && value === 'True');
  }, { limitMs, pauseMs: 250 }); // prettier-ignore
  await client.text('DELETE', pathOf(certificate));
  await client.text('DELETE', '/api/v1/namespaces/cert-manager/secrets/ready-check');
}

/** The rendered chart with the real Helm, and on a real API server (without nodes: no pod starts here, e2e/suites/install does that). */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { kinds } from '#crds/kinds.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { runHelm } from '#sites/helm.ts';
import { KubeClient, waitFor } from '#sites/kube-client.ts';
import YAML from 'yaml';
import { alertRules } from './alerts.ts';
import { fileSystemDashboard } from './dashboard.ts';

jest.setTimeout(60_000);
const chart = path.resolve(import.meta.dirname, '../xtreemos');
const namespace = 'xtreemos-system';
/** No cert-manager runs there. */
const flags = ['--namespace', namespace, '--set', 'certificates.create=false'];
const crdPath = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/sites.xtreemos.io';
const sitesPath = '/apis/xtreemos.io/v1alpha1/sites';

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly annotations?: Readonly<Record<string, string>> };
  readonly spec: Readonly<Record<string, unknown>>;
}

let scratch: string;
let plane: AloneControlPlane;
let client: KubeClient;

beforeAll(async () => {
  scratch = mkdtempSync(path.join(tmpdir(), 'xtreemos-chart-'));
  plane = await startControlPlane({ dir: path.join(scratch, 'plane'), name: 'chart' });
  client = new KubeClient(plane.credentials);
  await client.json('POST', '/api/v1/namespaces', {
    body: {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: namespace, labels: { 'pod-security.kubernetes.io/enforce': 'restricted' } },
    },
  });
}, 600_000);

afterAll(async () => {
  client.close();
  await plane.stop();
  rmSync(scratch, { recursive: true, force: true });
});

const helm = async (...args: string[]): Promise<string> =>
  runHelm(args, { kubeconfig: plane.kubeconfigPath, home: path.join(scratch, 'helm'), timeoutMs: 60_000 });

async function rendered(...args: string[]): Promise<Manifest[]> {
  const text = await helm('template', 'grid', chart, '--namespace', namespace, ...args);
  return YAML.parseAllDocuments(text)
    .map((document) => document.toJS() as Manifest | null)
    .filter((manifest) => manifest !== null);
}

/** How many objects of each kind there are. */
function kindsOf(manifests: readonly Manifest[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { kind } of manifests) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}
const others = (manifests: readonly Manifest[]): Manifest[] =>
  manifests.filter(({ kind }) => kind !== 'CustomResourceDefinition' && !kind.includes('AdmissionPolicy'));
const find = (manifests: readonly Manifest[], kind: string): Manifest | undefined =>
  manifests.find((manifest) => manifest.kind === kind);

test('helm lint is content, strictly', async () => {
  expect(await helm('lint', '--strict', chart)).toContain('0 chart(s) failed');
});

describe('helm template', () => {
  test('renders everything by default', async () => {
    const manifests = await rendered();
    expect(manifests.filter(({ kind }) => kind === 'CustomResourceDefinition')).toHaveLength(kinds.length);
    expect(manifests.filter(({ kind }) => kind === 'ValidatingAdmissionPolicy').length).toBeGreaterThan(9);
    expect(kindsOf(others(manifests))).toEqual({
      ...{ ClusterRole: 8, ClusterRoleBinding: 3, Role: 4, RoleBinding: 5, ServiceAccount: 3 },
      ...{ DaemonSet: 3, Deployment: 1, PodDisruptionBudget: 1, PriorityClass: 1, Service: 4, NetworkPolicy: 4 },
      ...{ FlowSchema: 1, PriorityLevelConfiguration: 1, Certificate: 6, Issuer: 2, CSIDriver: 1 },
      // Of PersistentVolumes that the operator makes itself.
      StorageClass: 1,
    });
  });

  test('leaves out what is switched off', async () => {
    const off = [
      'metrics.auth',
      'crds.install',
      'certificates.create',
      'flowControl.enabled',
      'networkPolicy.enabled',
      'priorityClass.create',
      'metrics.service',
      'nodeAgent.enabled',
    ];
    const manifests = await rendered(
      ...off.flatMap((name) => ['--set', `${name}=false`]),
      '--set',
      'operator.replicas=1',
    );
    expect(manifests.some(({ kind }) => kind === 'CustomResourceDefinition')).toBe(false);
    expect(kindsOf(others(manifests))).toEqual({
      ...{ ClusterRole: 6, ClusterRoleBinding: 2, Role: 4, RoleBinding: 5, ServiceAccount: 2 },
      ...{ DaemonSet: 1, Deployment: 1, Service: 2, StorageClass: 1 },
    });
    const { spec } = find(manifests, 'Deployment') as unknown as { spec: { template: { spec: object } } };
    expect(spec.template.spec).toMatchObject({ priorityClassName: '' });
  });

  test('gives Prometheus and Grafana what they are to have, braces and all', async () => {
    const switches = ['dashboards', 'alerts', 'monitors'].flatMap((name) => ['--set', `monitoring.${name}=true`]);
    const manifests = await rendered(...switches, '--set', 'monitoring.labels.release=prometheus');
    const rule = find(manifests, 'PrometheusRule') as unknown as { spec: object; metadata: { labels: object } };
    expect(rule.spec).toEqual({ groups: alertRules() });
    expect(rule.metadata.labels).toMatchObject({ release: 'prometheus' });
    const { data } = find(manifests, 'ConfigMap') as unknown as { data: Record<string, string> };
    const dashboard = JSON.parse(data['xtreemos-file-systems.json'] ?? '') as { description: string };
    expect(dashboard).toEqual(fileSystemDashboard(dashboard.description));
    expect(manifests.filter(({ kind }) => kind === 'PodMonitor')).toHaveLength(2);
  });

  test('carries every value to its place', async () => {
    const values = path.join(scratch, 'values.yaml');
    const given = {
      fullnameOverride: 'grid-operator',
      image: { repository: 'registry.example.org/x', digest: `sha256:${'a'.repeat(64)}`, pullPolicy: 'Always' },
      imagePullSecrets: [{ name: 'registry' }],
      site: {
        name: 'rennes',
        reservedRanges: ['10.244.0.0/16', 'fd00::/48'],
        attributes: { country: 'FR', organization: 'Say "hello": {{ no }}' },
      },
      operator: {
        replicas: 3,
        logLevel: 'debug',
        leaseDurationSeconds: 7,
        siteHeartbeatSeconds: 9,
        resources: { requests: { cpu: 1 }, limits: {} },
        nodeSelector: { 'kubernetes.io/os': 'linux' },
        tolerations: [{ key: 'a', operator: 'Exists' }],
        podAnnotations: { note: 'true' },
      },
      gateway: {
        address: 'gateway.example.org:7443',
        apiServer: 'https://cluster.example.org:6443',
        service: { type: 'NodePort', port: 443, nodePort: 30443, annotations: { a: 'b' } },
      },
      selector: {
        logLevel: 'warn',
        resources: { requests: { cpu: 2 }, limits: {} },
        nodeSelector: { rack: 'r12' },
        tolerations: [{ key: 'b', operator: 'Exists' }],
      },
      serviceAccount: { annotations: { role: 'x' } },
      networkPolicy: { apiServerPorts: [7777], identityProviderPorts: [8888] },
      metrics: { auth: false, from: [{ namespaceSelector: { matchLabels: { a: 'b' } } }] },
    };
    writeFileSync(values, YAML.stringify(given));
    const manifests = await rendered('--values', values);
    expect(find(manifests, 'Deployment')).toMatchObject({
      metadata: { name: 'grid-operator', namespace },
      spec: {
        replicas: 3,
        template: {
          metadata: { annotations: { note: 'true' } },
          spec: {
            imagePullSecrets: [{ name: 'registry' }],
            nodeSelector: { 'kubernetes.io/os': 'linux' },
            tolerations: [{ key: 'a', operator: 'Exists' }],
            containers: [
              {
                image: `registry.example.org/x@sha256:${'a'.repeat(64)}`,
                imagePullPolicy: 'Always',
                resources: { requests: { cpu: 1 } },
                args: [
                  'operator',
                  '--site-name=rennes',
                  '--site-attributes=country=FR,organization=Say "hello": {{ no }}',
                  '--trust-domain=',
                  '--reserved-ranges=10.244.0.0/16,fd00::/48',
                  '--site-heartbeat-ms=9000',
                  '--lease-name=grid-operator',
                  '--lease-duration-ms=7000',
                  '--gateway-address=gateway.example.org:7443',
                  '--gateway-service-port=443',
                  '--api-server-address=https://cluster.example.org:6443',
                  '--selector=127.0.0.1:7946',
                  '--selector-tls=/etc/xtreemos/selector',
                  `--image=registry.example.org/x@sha256:${'a'.repeat(64)}`,
                  '--certificate-issuer=grid-operator-ca',
                  '--storage-tls=/etc/xtreemos/storage',
                  '--relay-tls=/etc/xtreemos/relay',
                  '--relay-port=7444',
                  '--log-level=debug',
                  '--no-metrics-auth',
                ],
              },
              { name: 'selector' },
            ],
          },
        },
      },
    });
    const named = (kind: string, name: string): Manifest | undefined =>
      manifests.find((manifest) => manifest.kind === kind && manifest.metadata.name === name);
    expect(manifests.find(({ metadata }) => metadata.name === 'grid-operator-gateway')).toMatchObject({
      metadata: { annotations: { a: 'b' } },
      spec: { type: 'NodePort', ports: [{ port: 443, nodePort: 30443 }] },
    });
    expect(named('ServiceAccount', 'grid-operator')?.metadata.annotations).toEqual({ role: 'x' });
    expect(named('DaemonSet', 'grid-operator-selector')).toMatchObject({
      metadata: { name: 'grid-operator-selector' },
      spec: {
        template: {
          spec: {
            nodeSelector: { rack: 'r12' },
            tolerations: [{ key: 'b', operator: 'Exists' }],
            containers: [
              {
                resources: { requests: { cpu: 2 } },
                args: expect.arrayContaining([
                  '--site=rennes',
                  `--peers=grid-operator-selector.${namespace}.svc:7946`,
                  '--log-level=warn',
                ]) as unknown,
              },
            ],
          },
        },
      },
    });
    const policies = manifests.filter(({ kind }) => kind === 'NetworkPolicy');
    expect(policies.find(({ metadata }) => metadata.name === 'grid-operator')?.spec).toMatchObject({
      ingress: [
        { from: [{ namespaceSelector: { matchLabels: { a: 'b' } } }] },
        {},
        {},
        {},
        { ports: [{ port: 7444 }] },
      ],
      egress: [
        {},
        { ports: [{ port: 7777, protocol: 'TCP' }] },
        {},
        { ports: [{ port: 7443, protocol: 'TCP' }] },
        {},
        {},
      ],
    });
  });

  test('makes volumes for plain claims only with an image of external-provisioner', async () => {
    const provisioner = 'csiController.provisionerImage=registry.example.org/csi-provisioner:v6';
    const manifests = await rendered('--set', `${provisioner},csiController.parameters.replicationPolicy=Quorum`);
    expect(kindsOf(others(manifests))).toMatchObject({ Deployment: 2, StorageClass: 2, DaemonSet: 3 });
    const provisioning = (those: readonly Manifest[]): object[] =>
      those.filter(
        (each) => each.kind === 'StorageClass' && 'provisioner' in each && each.provisioner === 'csi.xtreemos.io',
      );
    expect(provisioning(manifests)).toMatchObject([{ parameters: { replicationPolicy: 'Quorum' } }]);
    expect(provisioning(await rendered())).toEqual([]);
  });

  test('takes snapshots only with an image of external-snapshotter, and tells the policies which class is ours', async () => {
    const images = ['provisioner', 'snapshotter'].map(
      (name) => `csiController.${name}Image=registry.example.org/csi-${name}:v8`,
    );
    const manifests = await rendered('--set', images.join(','));
    expect(kindsOf(others(manifests))).toMatchObject({ Deployment: 2, VolumeSnapshotClass: 1 });
    const containers = manifests.flatMap((each) =>
      each.kind === 'Deployment' && each.metadata.name.endsWith('csi-controller')
        ? (each as unknown as { spec: { template: { spec: { containers: { name: string }[] } } } }).spec.template.spec
            .containers
        : [],
    );
    expect(containers.map(({ name }) => name)).toEqual(['csi-controller', 'provisioner', 'snapshotter']);
    const classOf = (those: readonly Manifest[]): string | undefined =>
      /"name":"volumeClass","expression":"('[^"]*')"/.exec(JSON.stringify(those))?.[1];
    expect(classOf(manifests)).toBe("'grid-xtreemos'");
    const plain = await rendered();
    expect(classOf(plain)).toBe("''");
    expect(plain.filter(({ kind }) => kind === 'VolumeSnapshotClass')).toEqual([]);
  });

  test('has the policies that fill in only where the API serves them', async () => {
    const api = 'admissionregistration.k8s.io/v1/MutatingAdmissionPolicy';
    const fillIn = (manifests: readonly Manifest[]): Manifest[] =>
      manifests.filter(({ kind }) => kind === 'MutatingAdmissionPolicy');
    expect(fillIn(await rendered())).toEqual([]);
    expect(fillIn(await rendered('--api-versions', api))).toHaveLength(9);
  });

  test('carries what the site publishes, its name and the operator into the policies', async () => {
    const manifests = await rendered(
      '--set',
      'admission.nodeLabels={nvidia.com/gpu.product},admission.priorityClassNames={batch},site.name=rennes',
    );
    const policies = JSON.stringify(manifests.filter(({ kind }) => kind.startsWith('ValidatingAdmissionPolicy')));
    expect(policies).toContain(String.raw`"expression":"[\"nvidia.com/gpu.product\"]"`);
    expect(policies).toContain(String.raw`"expression":"[\"batch\"]"`);
    expect(policies).toContain(`"expression":"'system:serviceaccount:${namespace}:grid-xtreemos'"`);
    expect(policies).toContain('"paramRef":{"name":"rennes"');
  });

  test.each([
    ['an annotation with quotes', "admission.podAnnotations={a'b}", /\/admission\/podAnnotations/],
    ['an unknown value', 'operator.replica=3', /additional properties 'replica' not allowed/],
    ['too many replicas', 'operator.replicas=99', /\/operator\/replicas/],
    ['a level that does not exist', 'operator.logLevel=loud', /\/operator\/logLevel/],
    ['a site name in capitals', 'site.name=Rennes', /\/site\/name/],
    ['an attribute that would break the list', 'site.attributes.a=b\\,c', /\/site\/attributes\/a/],
  ])('refuses %s and names it', async (_, setting, message) => {
    await expect(rendered('--set', setting)).rejects.toThrow(message);
  });
});

describe('on a real API server', () => {
  test('installs into a namespace that enforces Pod Security "restricted"', async () => {
    const older = path.join(scratch, 'older');
    cpSync(chart, older, { recursive: true });
    const file = path.join(older, 'templates/crd-sites.yaml');
    const content = readFileSync(file, 'utf8');
    const without = content.replace(/^( +)xtreemosVersion:\n(?:\1 +.*\n)+/m, '');
    expect(without).not.toBe(content);
    writeFileSync(file, without);
    const notes = await helm('install', 'grid', older, ...flags);
    expect(notes).toContain('kubectl get site local --watch');
    const stored = JSON.stringify(await client.json('GET', crdPath));
    expect(stored).not.toContain('"xtreemosVersion":{');
  });

  test('helm upgrade upgrades the CustomResourceDefinition and keeps objects', async () => {
    const body = {
      ...{ apiVersion: 'xtreemos.io/v1alpha1', kind: 'Site' },
      ...{ metadata: { name: 'mine' }, spec: { type: 'Local', local: {} } },
    };
    // Until the API server knows the new kinds it answers 503 where a policy fills in.
    await waitFor('a Site is made', async () => client.json('POST', sitesPath, { body }), { limitMs: 30_000 });
    await helm('upgrade', 'grid', chart, ...flags);
    expect(JSON.stringify(await client.json('GET', crdPath))).toContain('"xtreemosVersion":{');
    expect(await client.find(`${sitesPath}/mine`)).toBeDefined();
  });

  test('helm uninstall leaves the CustomResourceDefinition and the objects, and installing again takes them over', async () => {
    await helm('uninstall', 'grid', '--namespace', namespace);
    expect(await client.find(`/apis/apps/v1/namespaces/${namespace}/deployments/grid-xtreemos`)).toBeUndefined();
    expect(await client.find('/apis/rbac.authorization.k8s.io/v1/clusterroles/grid-xtreemos')).toBeUndefined();
    expect(await client.find(`${sitesPath}/mine`)).toBeDefined();
    await helm('install', 'grid', chart, ...flags);
    expect(await client.find(`${sitesPath}/mine`)).toBeDefined();
  });

  test('helm uninstall deletes them when crds.keep was set to false', async () => {
    await helm('upgrade', 'grid', chart, ...flags, '--set', 'crds.keep=false');
    await helm('uninstall', 'grid', '--namespace', namespace);
    await waitFor('the kind is gone', async () => (await client.find(crdPath)) === undefined, { limitMs: 20_000 });
    expect(await client.find(`${sitesPath}/mine`)).toBeUndefined();
  });
});

import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';

import { openSites, type TestSite, waitFor } from '#sites/harness.ts';
import { aPod, canReach, podAddress, waitPods, withNamespace } from '#sites/testing.ts';

jest.setTimeout(180_000);

const namespace = 'suite-cluster';
let site: TestSite;
let removeNamespace: () => Promise<void>;

beforeAll(async () => {
  const { sites } = await openSites();
  site = sites[0]!;
  removeNamespace = await withNamespace(site, namespace, { 'pod-security.kubernetes.io/enforce': 'restricted' });
  await site.apply(site.nodes.slice(0, 2).map((node, index) => aPod({ name: `server-${index + 1}`, namespace, node })));
  await waitPods(site, namespace, 'server-1', 'server-2');
});

afterAll(async () => removeNamespace());

describe('a site', () => {
  test('runs pods on every node', async () => {
    const { items } = await site.get<{ items: { spec: { nodeName: string } }[] }>('pods', '-n', namespace);
    expect(items.map((pod) => pod.spec.nodeName).sort()).toEqual([...site.nodes].slice(0, 2).sort());
  });

  test('lets pods of different nodes talk, both ways', async () => {
    const [first, second] = [
      await podAddress(site, namespace, 'server-1'),
      await podAddress(site, namespace, 'server-2'),
    ];
    await waitFor('1 reaches 2', async () => canReach(site, namespace, 'server-1', `${second}:8080`), {
      limitMs: 20_000,
    });
    await waitFor('2 reaches 1', async () => canReach(site, namespace, 'server-2', `${first}:8080`), {
      limitMs: 20_000,
    });
  });

  test('resolves a service by name and balances it over its pods', async () => {
    const service = { apiVersion: 'v1', kind: 'Service', metadata: { name: 'both', namespace } };
    await site.apply([{ ...service, spec: { selector: { tier: 'both' }, ports: [{ port: 80, targetPort: 'http' }] } }]);
    await site.kubectl(['label', 'pod', '-n', namespace, 'server-1', 'server-2', 'tier=both', '--overwrite']);
    const answers = await waitFor('both pods answered', async () => {
      const script = 'for i in 1 2 3 4 5 6 7 8; do timeout 2 wget -q -O - http://both/ || true; done';
      const { stdout } = await site.exec(namespace, 'server-1', script, 40_000);
      const found = new Set(stdout.trim().split('\n'));
      return found.size >= 2 ? found : undefined;
    });
    expect([...answers].sort()).toEqual(['server-1', 'server-2']);
  });

  test('says that a name outside the cluster does not exist', async () => {
    const { status, stdout, stderr } = await site.exec(namespace, 'server-1', 'nslookup example.com');
    expect(status).not.toBe(0);
    expect(stdout + stderr).toMatch(/NXDOMAIN/);
  });

  test('gives logs and exec through the API server', async () => {
    await site.apply([aPod({ name: 'talker', namespace, script: 'echo said-once; exec sleep 600' })]);
    await waitPods(site, namespace, 'talker');
    expect(await site.kubectl(['logs', '-n', namespace, 'talker'])).toBe('said-once\n');
    const { stdout, status } = await site.exec(namespace, 'talker', 'id -u; exit 3');
    expect([stdout, status]).toEqual(['1000\n', 3]);
  });

  test('shows hostPath folders of one node on that node only, and passes mounts on to running pods', async () => {
    const hostPath = { path: '/var/lib/suite-cluster', type: 'DirectoryOrCreate' };
    const privileged = 'suite-privileged';
    const remove = await withNamespace(site, privileged);
    const podOn = (name: string, node: string | undefined, propagation: string): unknown => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace: privileged },
      spec: {
        nodeSelector: { 'kubernetes.io/hostname': node },
        terminationGracePeriodSeconds: 0,
        volumes: [{ name: 'host', hostPath }],
        containers: [
          {
            name: 'main',
            image: 'xtreemos.io/busybox:1',
            imagePullPolicy: 'Never',
            command: ['/bin/sleep', '600'],
            securityContext: { privileged: propagation === 'Bidirectional' },
            volumeMounts: [{ name: 'host', mountPath: '/host', mountPropagation: propagation }],
          },
        ],
      },
    });
    await site.apply([
      podOn('mounter', site.nodes[0], 'Bidirectional'),
      podOn('watcher', site.nodes[0], 'HostToContainer'),
      podOn('elsewhere', site.nodes[1], 'HostToContainer'),
    ]);
    await waitPods(site, privileged, 'mounter', 'watcher', 'elsewhere');
    const mount = 'mkdir -p /host/m && mount -t tmpfs tmpfs /host/m && echo inside > /host/m/file';
    expect((await site.exec(privileged, 'mounter', mount)).status).toBe(0);
    expect((await site.exec(privileged, 'watcher', 'cat /host/m/file')).stdout).toBe('inside\n');
    expect((await site.exec(privileged, 'elsewhere', 'ls /host')).stdout).toBe('');
    expect((await site.exec(privileged, 'mounter', 'umount /host/m')).status).toBe(0);
    await remove();
  });

  test('lets a named user do only what RBAC grants', async () => {
    const asAlice = ['--context', `alice@${site.name}`, '-n', namespace];
    expect((await site.tryKubectl([...asAlice, 'get', 'pods'])).stderr).toMatch(/pods is forbidden: User "alice"/);
    await site.kubectl(['create', 'rolebinding', 'alice', '-n', namespace, '--clusterrole=view', '--user=alice']);
    await waitFor('alice may read', async () => (await site.tryKubectl([...asAlice, 'get', 'pods'])).status === 0);
    const pod = await site.tryKubectl([...asAlice, 'delete', 'pod', 'server-1']);
    expect(pod.stderr).toMatch(/forbidden/);
  });

  test('writes down who asked for what', async () => {
    const { stdout } = await site.exec(namespace, 'server-1', 'echo audited');
    expect(stdout).toBe('audited\n');
    const audit = await openAudit(site.name);
    expect(audit).toMatch(/"username":"alice".*"resource":"pods"/);
  });
});

describe('cert-manager', () => {
  test('issues a certificate signed by an authority of the namespace', async () => {
    const metadata = { namespace };
    await site.apply([
      {
        apiVersion: 'cert-manager.io/v1',
        kind: 'Certificate',
        metadata: { ...metadata, name: 'authority' },
        spec: {
          isCA: true,
          commonName: 'suite authority',
          secretName: 'authority',
          privateKey: { algorithm: 'ECDSA', size: 256 },
          issuerRef: { name: 'self-signed', kind: 'ClusterIssuer' },
        },
      },
      {
        apiVersion: 'cert-manager.io/v1',
        kind: 'Issuer',
        metadata: { ...metadata, name: 'authority' },
        spec: { ca: { secretName: 'authority' } },
      },
      {
        apiVersion: 'cert-manager.io/v1',
        kind: 'Certificate',
        metadata: { ...metadata, name: 'leaf' },
        spec: {
          secretName: 'leaf',
          dnsNames: ['leaf.suite.test'],
          privateKey: { algorithm: 'ECDSA', size: 256 },
          issuerRef: { name: 'authority', kind: 'Issuer' },
        },
      },
    ]);
    await site.kubectl(['wait', '-n', namespace, '--for=condition=Ready', 'certificate/leaf', '--timeout=90s'], {
      timeoutMs: 100_000,
    });
    const secret = await site.get<{ data: Record<string, string> }>('secret', 'leaf', '-n', namespace);
    const { X509Certificate } = await import('node:crypto');
    const pem = (key: string): Buffer => Buffer.from(secret.data[key] ?? '', 'base64');
    const leaf = new X509Certificate(pem('tls.crt'));
    expect(leaf.subjectAltName).toBe('DNS:leaf.suite.test');
    expect(leaf.verify(new X509Certificate(pem('ca.crt')).publicKey)).toBe(true);
  });
});

async function openAudit(name: string): Promise<string> {
  const { readFileSync } = await import('node:fs');
  const [, instance = '', letter = ''] = /^(.*)-([a-p])$/.exec(name) ?? [];
  const root = process.env.XTREEMOS_SITES_DIR ?? '/var/lib/xtreemos-sites';
  return readFileSync(`${root}/${instance}/${letter}/cp/data/audit.log`, 'utf8');
}

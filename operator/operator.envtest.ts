/** The operator as processes of its own against a real API server, with the rights that the chart gives it, and fake nodes. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import type { Site } from '#crds/site.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { KubeClient, type KubeObject, waitFor } from '#sites/kube-client.ts';
import { aNode, aPeerSite } from './testing/builders.ts';
import { installChart, operatorNamespace } from './testing/installed.ts';
import { OperatorProcess } from './testing/process.ts';

jest.setTimeout(60_000);
const namespace = operatorNamespace;
const sitesPath = '/apis/xtreemos.io/v1alpha1/sites';
const leasePath = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/xtreemos`;
const flags = [
  '--lease-name',
  'xtreemos',
  '--lease-duration-ms',
  '3000',
  '--site-name',
  'home',
  '--site-heartbeat-ms',
  '2000',
];

let scratch: string;
let plane: AloneControlPlane;
let client: KubeClient;
let kubeconfig: string;
const replicas: OperatorProcess[] = [];

beforeAll(async () => {
  scratch = mkdtempSync(path.join(tmpdir(), 'xtreemos-operator-'));
  plane = await startControlPlane({ dir: path.join(scratch, 'plane'), name: 'operator' });
  client = new KubeClient(plane.credentials);
  kubeconfig = await installChart(plane, client, scratch);
  await createNode('n1');
  await createNode('n2');
}, 600_000);

afterAll(async () => {
  for (const replica of replicas) await replica.end('SIGKILL');
  client.close();
  await plane.stop();
  rmSync(scratch, { recursive: true, force: true });
});

async function createNode(name: string): Promise<void> {
  const node = aNode(name);
  await client.json('POST', '/api/v1/nodes', { body: node });
  await setReady(name, true);
}

async function setReady(name: string, isReady: boolean): Promise<void> {
  const { status } = aNode(name, { isReady });
  const conditions = status?.conditions?.map((condition) => ({ ...condition, reason: 'Test', message: 'test' }));
  await client.json('PATCH', `/api/v1/nodes/${name}/status`, {
    body: { status: { ...status, conditions } },
    contentType: 'application/merge-patch+json',
  });
}

async function start(...args: string[]): Promise<OperatorProcess> {
  const replica = await OperatorProcess.start(kubeconfig, ...flags, ...args);
  replicas.push(replica);
  return replica;
}

const siteNamed = async (name: string): Promise<Site | undefined> => {
  const found: unknown = await client.find(`${sitesPath}/${name}`);
  return found as Site | undefined;
};

const reasonOf = (site: Site | undefined, type: string): string | undefined =>
  site?.status?.conditions?.find((condition) => condition.type === type)?.reason;

test('refuses wrong options with a message that names them, and ends with 2', async () => {
  const replica = await start('--site-name', 'Not A Name');
  expect(await replica.end('SIGCONT')).toBe(2);
  expect(replica.log).toContain('--site-name: "Not A Name" is not valid');
});

test('makes the Site of this cluster and tells what it has', async () => {
  const replica = await start('--site-attributes', 'country=FR');
  const site = await waitFor('Site home is Ready', async () => {
    const found = await siteNamed('home');
    return reasonOf(found, 'Ready') === 'NodesAvailable' ? found : undefined;
  });
  expect(site).toMatchObject({
    spec: { type: 'Local', local: { attributes: { country: 'FR' } } },
    status: {
      nodes: { count: 2, ready: 2 },
      capacity: { cpu: '8', memory: '16Gi', pods: '220' },
      kubernetesVersion: expect.stringMatching(/^v1\./),
    },
  });
  await waitFor('all caches are filled', async () => (await replica.health('/readyz')) === 200);
  expect(await replica.health('/livez')).toBe(200);
});

test('gives its metrics to those who may get them, and to no one else (threat 58)', async () => {
  const replica = replicas.at(-1)!;
  const account = `/api/v1/namespaces/${namespace}/serviceaccounts`;
  const body = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'collector' } };
  await client.json('POST', account, { body });
  const answer = await client.json('POST', `${account}/collector/token`, { body: { spec: {} } });
  const { token } = answer.status as { token: string };
  expect((await replica.metrics()).status).toBe(401);
  expect((await replica.metrics('forged')).status).toBe(401);
  expect((await replica.metrics(token)).status).toBe(403);
  const second = await client.json('POST', `${account}/xtreemos/token`, { body: { spec: {} } });
  expect((await replica.metrics((second.status as { token: string }).token)).status).toBe(403);
  await client.json('POST', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
    body: {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRoleBinding',
      metadata: { name: 'collector' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'xtreemos-metrics-reader' },
      subjects: [{ kind: 'ServiceAccount', name: 'collector', namespace }],
    },
  });
  // A new token, since the refusal of the first is remembered for a moment.
  const third = await client.json('POST', `${account}/collector/token`, {
    body: { spec: { expirationSeconds: 1200 } },
  });
  const metrics = await replica.metrics((third.status as { token: string }).token);
  expect(metrics.status).toBe(200);
  expect(metrics.text).toContain('xtreemos_site_nodes{state="ready"} 2');
});

test('sees a node that is not ready any more, and its return', async () => {
  await setReady('n2', false);
  const degraded = await waitFor('n2 is missed', async () => {
    const found = await siteNamed('home');
    return found?.status?.nodes?.ready === 1 ? found : undefined;
  });
  expect(reasonOf(degraded, 'Ready')).toBe('NodesAvailable');
  expect(reasonOf(degraded, 'NodesReady')).toBe('SomeNodesNotReady');
  expect(degraded.status?.allocatable).toMatchObject({ cpu: '4' });
  await setReady('n2', true);
  await waitFor('n2 is back', async () => reasonOf(await siteNamed('home'), 'NodesReady') === 'AllNodesReady');
});

test('keeps what the owner of the site wrote', async () => {
  const spec = {
    local: { attributes: { country: 'FR', organization: 'Example' }, isolation: ['Namespace', 'UserNamespace'] },
  };
  await client.json('PATCH', `${sitesPath}/home`, { body: { spec }, contentType: 'application/merge-patch+json' });
  const site = await waitFor('the new generation is observed', async () => {
    const found = await siteNamed('home');
    return found?.status?.observedGeneration === found?.metadata.generation ? found : undefined;
  });
  expect(site.spec).toMatchObject(spec);
});

test('a peer that is not reached says why', async () => {
  const { metadata, spec } = aPeerSite('far');
  const peer = { ...(spec as { peer: object }).peer, trustBundle: '-----BEGIN CERTIFICATE-----\nMIIB\n' };
  const body = {
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'Site',
    metadata: { name: metadata.name },
    spec: { ...spec, peer },
  };
  await client.json('POST', sitesPath, { body });
  const site = await waitFor('the peer has a condition', async () => {
    const found = await siteNamed('far');
    return reasonOf(found, 'Ready') === 'Unreachable' ? found : undefined;
  });
  expect(site.status?.conditions?.[0]).toMatchObject({
    status: 'False',
    message: expect.stringContaining('cert-manager makes it'),
  });
});

test('makes the Site again when it was deleted', async () => {
  const before = await siteNamed('home');
  await client.json('DELETE', `${sitesPath}/home`);
  const again = await waitFor('Site home is back', async () => {
    const found = await siteNamed('home');
    return reasonOf(found, 'Ready') === 'NodesAvailable' ? found : undefined;
  });
  expect(again.metadata.uid).not.toBe(before?.metadata.uid);
});

test('tells its history as events', async () => {
  const events = await waitFor('events', async () => {
    const { items } = await client.list('/apis/events.k8s.io/v1/namespaces/default/events');
    const reasons = items.map((event) => (event as KubeObject & { reason: string }).reason);
    return reasons.includes('SomeNodesNotReady') ? reasons : undefined;
  });
  expect(events).toEqual(expect.arrayContaining(['Created', 'NodesAvailable', 'Unreachable', 'AllNodesReady']));
});

test('a quiet cluster gets a heartbeat and no other write', async () => {
  const first = await siteNamed('home');
  const versions = new Set<string>();
  await waitFor('two heartbeats', async () => {
    const site = await siteNamed('home');
    versions.add(String(site?.metadata.resourceVersion));
    return Date.parse(site?.status?.lastSeenTime ?? '') >= Date.parse(first?.status?.lastSeenTime ?? '') + 4000;
  });
  expect(versions.size).toBeLessThanOrEqual(4);
});

test('another replica takes over from a killed leader, and the status moves on', async () => {
  const [, leader] = replicas;
  const follower = await start();
  await waitFor('the follower is ready', async () => (await follower.health('/readyz')) === 200);
  expect(follower.log).not.toContain('Holding the lease');
  const before = (await client.json('GET', leasePath)).spec as { holderIdentity: string };
  await leader?.end('SIGKILL');
  await waitFor('the follower holds the lease', () => follower.log.includes('Holding the lease'), { limitMs: 15_000 });
  expect((await client.json('GET', leasePath)).spec).not.toMatchObject({ holderIdentity: before.holderIdentity });
  await setReady('n1', false);
  await waitFor('the status moves', async () => (await siteNamed('home'))?.status?.nodes?.ready === 1);
});

test('stops gracefully on SIGTERM: gives up the lease and ends with 0', async () => {
  expect(await replicas.at(-1)?.end('SIGTERM')).toBe(0);
  expect((await client.json('GET', leasePath)).spec).toMatchObject({ holderIdentity: '' });
});

test('its rights sufficed for all of this and for no more', async () => {
  for (const replica of replicas) expect(replica.log).not.toMatch(/forbidden/i);
  const review = async (resource: string, verb: string, group = ''): Promise<unknown> => {
    const body = {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SubjectAccessReview',
      spec: {
        user: `system:serviceaccount:${namespace}:xtreemos`,
        groups: ['system:serviceaccounts', 'system:authenticated'],
        resourceAttributes: { resource, verb, group },
      },
    };
    return (await client.json('POST', '/apis/authorization.k8s.io/v1/subjectaccessreviews', { body })).status?.allowed;
  };
  expect(await review('sites', 'list', 'xtreemos.io')).toBe(true);
  expect(await review('secrets', 'get')).toBe(false);
  // It keeps logs in them, and lists them when a virtual organization is dissolved.
  for (const verb of ['watch', 'delete']) expect(await review('configmaps', verb)).toBe(false);
  expect(await review('pods', 'update')).toBe(false);
  expect(await review('sites', 'delete', 'xtreemos.io')).toBe(false);
  expect(await review('clusterroles', 'escalate', 'rbac.authorization.k8s.io')).toBe(false);
});

test('goes on after the API server was gone for less than the lease lasts', async () => {
  const replica = await start('--lease-duration-ms', '60000');
  await waitFor('it leads', () => replica.log.includes('Holding the lease'));
  await plane.killApiServer();
  await plane.restartApiServer();
  await waitFor('the API server answers', async () => client.find('/api/v1/nodes/n1'), { limitMs: 20_000 });
  await setReady('n1', true);
  await waitFor('the status moves', async () => (await siteNamed('home'))?.status?.nodes?.ready === 2, {
    limitMs: 40_000,
  });
  expect(replica.log).not.toContain('the lease was lost');
});

/** A site owner installs XtreemOS with Helm, looks at the site, upgrades, and takes it away again. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import type { Site } from '#crds/site.ts';
import { openSites, type TestSite, type TestSites, waitFor } from '#sites/harness.ts';
import { aPod, waitPods, withNamespace } from '#sites/testing.ts';
import { loadProduct } from '../product.ts';

jest.setTimeout(180_000);

const root = path.resolve(import.meta.dirname, '../../..');
const chart = path.join(root, 'charts/xtreemos');
const namespace = 'suite-install';
const outside = 'suite-install-outside';
const settings = [
  'site.name=home',
  'site.attributes.country=FR',
  'operator.leaseDurationSeconds=6',
  'operator.siteHeartbeatSeconds=5',
];
/** Without the node agent: its mount holder is privileged, which a restricted namespace refuses. */
const helmFlags = [
  ...['--set', 'nodeAgent.enabled=false'],
  '--namespace',
  namespace,
  '--wait',
  '--timeout',
  '120s',
  ...settings.flatMap((each) => ['--set', each]),
];

interface Pod {
  readonly metadata: { readonly name: string };
  readonly spec: { readonly nodeName: string };
}

let shared: TestSites;
let site: TestSite;
let scratch: string;
let removeOutside: () => Promise<void>;

/** What `helm uninstall` leaves on purpose. */
const kept =
  'crd,validatingadmissionpolicy,validatingadmissionpolicybinding,mutatingadmissionpolicy,mutatingadmissionpolicybinding';

beforeAll(async () => {
  scratch = mkdtempSync(path.join(tmpdir(), 'xtreemos-install-'));
  shared = await openSites();
  site = shared.sites[0]!;
  await loadProduct(site);
  const restricted = { 'pod-security.kubernetes.io/enforce': 'restricted' };
  await withNamespace(site, namespace, restricted);
  removeOutside = await withNamespace(site, outside, restricted);
}, 300_000);

afterAll(async () => {
  await site.tryKubectl(['delete', kept, '-l', 'app.kubernetes.io/part-of=xtreemos', '--wait=false']);
  await site.tryKubectl(['delete', 'namespace', namespace, '--wait=false']);
  await removeOutside();
  rmSync(scratch, { recursive: true, force: true });
});

const home = async (): Promise<Site> => site.get<Site>('site', 'home');
const reasonOf = (object: Site, type: string): string | undefined =>
  object.status?.conditions?.find((condition) => condition.type === type)?.reason;

async function operatorPods(): Promise<readonly Pod[]> {
  const selector = 'app.kubernetes.io/component=operator';
  return (await site.get<{ items: Pod[] }>('pods', '-n', namespace, '-l', selector)).items;
}

/** Name of the pod that holds the lease. */
async function leader(): Promise<string> {
  const lease = await site.get<{ spec: { holderIdentity?: string } }>('lease', 'xtreemos', '-n', namespace);
  return lease.spec.holderIdentity?.split('_')[0] ?? '';
}

/** The chart as an older version had it: its kind has one column less. */
function olderChart(): string {
  const older = path.join(scratch, 'older');
  cpSync(chart, older, { recursive: true });
  const file = path.join(older, 'templates/crd-sites.yaml');
  const content = readFileSync(file, 'utf8');
  const without = content.replace(/^( +)- name: Seen\n(?:\1 +.*\n)+/m, '');
  if (without === content) throw new Error(`${file} has no column to leave out`);
  writeFileSync(file, without);
  return older;
}

describe('installing', () => {
  test('helm install brings up two replicas in a namespace that enforces Pod Security "restricted"', async () => {
    const notes = await site.helm(['install', 'xtreemos', olderChart(), ...helmFlags]);
    expect(notes).toContain('kubectl get site home --watch');
    const deployment = await site.get<{ status: { readyReplicas: number } }>('deployment', 'xtreemos', '-n', namespace);
    expect(deployment.status.readyReplicas).toBe(2);
    const nodes = new Set((await operatorPods()).map((pod) => pod.spec.nodeName));
    expect(nodes.size).toBe(Math.min(2, site.nodes.length));
  });

  test('kubectl get site shows it Ready with its nodes', async () => {
    await site.kubectl(['wait', '--for=condition=Ready', 'site/home', '--timeout=60s']);
    await site.kubectl(['wait', '--for=condition=NetworkIsolated', 'site/home', '--timeout=120s'], {
      timeoutMs: 130_000,
    });
    const table = await site.kubectl(['get', 'site', 'home']);
    const count = site.nodes.length;
    expect(table).toMatch(/^NAME +TYPE +READY +ISOLATED +NODES +AVAILABLE +CPU +MEMORY +KUBERNETES +AGE$/m);
    expect(table).toMatch(new RegExp(`^home +Local +True +True +${count} +${count} +\\S+ +\\S+ +v1\\.`, 'm'));
    expect((await home()).spec).toMatchObject({ type: 'Local', local: { attributes: { country: 'FR' } } });
  });

  test('kubectl explains the kind', async () => {
    expect(await site.kubectl(['explain', 'site.spec.local.isolation'])).toContain(
      'keep pods of different members apart',
    );
  });

  test('the metrics can be reached from its own namespace only', async () => {
    for (const each of [namespace, outside]) await site.apply([aPod({ name: 'reader', namespace: each })]);
    await waitPods(site, namespace, 'reader');
    await waitPods(site, outside, 'reader');
    const connect = `timeout 3 nc xtreemos-metrics.${namespace} 8080 </dev/null`;
    await waitFor(
      'its own namespace reaches them',
      async () => (await site.exec(namespace, 'reader', connect)).status === 0,
    );
    expect((await site.exec(outside, 'reader', connect)).status).not.toBe(0);
  });
});

describe('while it runs', () => {
  test('a node that is cordoned is not counted as available', async () => {
    const node = site.nodes.at(-1)!;
    await site.kubectl(['cordon', node]);
    try {
      const cordoned = await waitFor('the cordon is seen', async () => {
        const found = await home();
        return found.status?.nodes?.ready === site.nodes.length - 1 ? found : undefined;
      });
      expect(cordoned.status?.conditions?.find(({ type }) => type === 'NodesReady')?.message).toContain(node);
    } finally {
      await site.kubectl(['uncordon', node]);
    }
    await waitFor('all are back', async () => reasonOf(await home(), 'NodesReady') === 'AllNodesReady');
  });

  test('when the leader is killed the other replica takes over, and the status goes on', async () => {
    const before = await leader();
    await site.kubectl(['delete', 'pod', before, '-n', namespace, '--grace-period=0', '--force']);
    const killedAt = Date.now();
    await waitFor('another pod leads', async () => ![before, ''].includes(await leader()), { limitMs: 30_000 });
    await waitFor('the status is refreshed', async () => {
      return Date.parse((await home()).status?.lastSeenTime ?? '') > killedAt;
    });
    await site.kubectl(['rollout', 'status', 'deployment/xtreemos', '-n', namespace, '--timeout=60s']);
  });

  test('a node that is cut off is seen as not ready, even when it is the node of the leader', async () => {
    const { faults } = shared;
    if (faults === undefined) throw new Error('this provider has no faults: run with PROVIDER=local');
    const name = await leader();
    const node = (await operatorPods()).find((pod) => pod.metadata.name === name)?.spec.nodeName ?? '';
    await faults.cutApi(site.name, node);
    try {
      const cut = await waitFor(
        'the node is missed',
        async () => {
          const found = await home();
          return found.status?.nodes?.ready === site.nodes.length - 1 ? found : undefined;
        },
        { limitMs: 90_000 },
      );
      expect(reasonOf(cut, 'Ready')).toBe('NodesAvailable');
      expect(await leader()).not.toBe(name);
    } finally {
      await faults.healApi(site.name, node);
    }
    await waitFor('the node is back', async () => reasonOf(await home(), 'NodesReady') === 'AllNodesReady', {
      limitMs: 60_000,
    });
  });
});

describe('upgrading', () => {
  test('helm upgrade upgrades the kind and leaves what the owner wrote', async () => {
    const patch = JSON.stringify({ spec: { local: { attributes: { organization: 'Example University' } } } });
    await site.kubectl(['patch', 'site', 'home', '--type=merge', '-p', patch]);
    await site.helm(['upgrade', 'xtreemos', chart, ...helmFlags, '--set', 'operator.logLevel=debug']);
    const table = await waitFor('the new column is served', async () => {
      const text = await site.kubectl(['get', 'site', 'home']);
      return text.includes('SEEN') ? text : undefined;
    });
    expect(table).toMatch(/^home +Local +True/m);
    const upgraded = await home();
    expect(upgraded.spec).toMatchObject({
      local: { attributes: { country: 'FR', organization: 'Example University' } },
    });
  });
});

describe('taking it away', () => {
  test('helm uninstall leaves the kinds and the objects', async () => {
    await site.helm(['uninstall', 'xtreemos', '--namespace', namespace, '--wait']);
    expect((await site.tryKubectl(['get', 'deployment', 'xtreemos', '-n', namespace])).status).not.toBe(0);
    expect((await site.tryKubectl(['get', 'clusterrole', 'xtreemos'])).status).not.toBe(0);
    expect((await home()).spec).toMatchObject({ local: { attributes: { organization: 'Example University' } } });
    const told = ['get', 'configmap', 'xtreemos-gateway', '-n', 'kube-public'];
    await waitFor('nobody is told of a gateway', async () => (await site.tryKubectl(told)).status !== 0);
  });

  test('the documented command removes the rest', async () => {
    await site.kubectl(['delete', kept, '-l', 'app.kubernetes.io/part-of=xtreemos', '--timeout=60s'], {
      timeoutMs: 70_000,
    });
    expect((await site.tryKubectl(['get', 'sites'])).status).not.toBe(0);
    const policies = await site.kubectl(['get', kept.replace('crd,', ''), '-o', 'name']);
    expect(policies.split('\n').filter((name) => name.includes('xtreemos'))).toEqual([]);
  });
});

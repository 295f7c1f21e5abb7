/** Nodes of a real site are found and promised by the selectors that the chart installs, and never promised twice. */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { claimLabel, type ClaimObject } from '#crds/claim.ts';
import type { GrpcResourceSelection } from '#proto/selector/client.ts';
import type { HoldRequest, Offer, Query, Summary } from '#proto/selector/contract.ts';
import { openSites, type TestSite, type TestSites, waitFor } from '#sites/harness.ts';
import { aPod, waitPods, withNamespace } from '#sites/testing.ts';
import { loadProduct } from '../product.ts';
import { SelectorDoor } from './door.ts';

jest.setTimeout(240_000);

const root = path.resolve(import.meta.dirname, '../../..');
const namespace = 'suite-selection';
const organization = 'vo-physics';
const owner = 'suite';

let shared: TestSites;
let site: TestSite;
let door: SelectorDoor;
let selection: GrpcResourceSelection;
let removeOrganization: () => Promise<void>;

beforeAll(async () => {
  shared = await openSites();
  site = shared.sites[0]!;
  await loadProduct(site);
  const restricted = { 'pod-security.kubernetes.io/enforce': 'restricted' };
  await withNamespace(site, namespace, restricted);
  removeOrganization = await withNamespace(site, organization, restricted);
  // The mount holder is privileged, which this namespace refuses; everything else runs in it.
  const settings = [
    ...['site.name=home', 'site.attributes.country=FR', 'operator.replicas=1', 'crds.keep=false'],
    'nodeAgent.enabled=false',
  ];
  await site.helm([
    ...[
      'install',
      'xtreemos',
      path.join(root, 'charts/xtreemos'),
      '--namespace',
      namespace,
      '--wait',
      '--timeout',
      '180s',
    ],
    ...settings.flatMap((each) => ['--set', each]),
  ]);
  await waitFor('the Site is there', async () => (await site.tryKubectl(['get', 'site', 'home'])).status === 0);
  const accepted = { spec: { local: { acceptedVirtualOrganizations: [{ name: 'physics' }] } } };
  await site.kubectl(['patch', 'site', 'home', '--type=merge', '-p', JSON.stringify(accepted)]);
  await probesAreOver();
  door = new SelectorDoor(site, namespace);
  selection = await door.client();
  await found(aQuery(), site.nodes);
}, 480_000);

afterAll(async () => {
  selection.close();
  door.close();
  await site.tryKubectl(['delete', 'claims', '--all', '-n', organization]);
  await removeOrganization();
  await site.tryKubectl(['label', 'nodes', '--all', 'attributes.xtreemos.io/rack-']);
  await site.helm(['uninstall', 'xtreemos', '--namespace', namespace, '--wait']);
  await site.tryKubectl(['delete', 'namespace', namespace, '--wait=false']);
});

/** The operator tries once whether the network is closed, with pods that take room. */
async function probesAreOver(): Promise<void> {
  await site.kubectl(['wait', '--for=condition=NetworkIsolated', 'site/home', '--timeout=180s'], {
    timeoutMs: 190_000,
  });
  const probes = ['pods', '-n', namespace, '-l', 'xtreemos.io/network-probe'];
  await site.kubectl(['wait', '--for=delete', ...probes, '--timeout=60s'], { timeoutMs: 70_000 });
}

const aQuery = (fields: Partial<Query> = {}): Query => ({
  ...{ id: 'suite', constraints: [], predicates: [], demand: {}, virtualOrganization: 'physics' },
  ...fields,
});

const aHold = (id: string, cpu: number, fields: Partial<HoldRequest> = {}): HoldRequest => ({
  ...{ id, owner, virtualOrganization: 'physics', demand: { cpu }, ttlMs: 20_000 },
  ...fields,
});

async function ask(query: Query): Promise<{ offers: Offer[]; summary: Summary | undefined }> {
  const offers: Offer[] = [];
  let summary: Summary | undefined;
  for await (const message of selection.select(query, { wanted: 100, timeoutMs: 5_000 })) {
    if ('offer' in message) offers.push(message.offer);
    else summary = message.summary;
  }
  return { offers: offers.sort((a, b) => a.node.localeCompare(b.node)), summary };
}

/** Asks until exactly these nodes are offered. */
async function found(query: Query, nodes: readonly string[]): Promise<Offer[]> {
  return waitFor(
    `${nodes.join(' and ')} are offered`,
    async () => {
      const { offers } = await ask(query);
      return JSON.stringify(offers.map(({ node }) => node)) === JSON.stringify([...nodes].sort()) ? offers : undefined;
    },
    { limitMs: 90_000, pauseMs: 500 },
  );
}

async function freeCpu(node: string): Promise<number> {
  const { offers } = await ask(aQuery());
  const offer = offers.find((one) => one.node === node);
  if (offer === undefined) throw new Error(`${node} makes no offer now`);
  return offer.free.cpu ?? 0;
}

async function claimsOf(node: string): Promise<ClaimObject[]> {
  const selector = `spec.nodeName=${node}`;
  return (await site.get<{ items: ClaimObject[] }>('claims', '-A', '--field-selector', selector)).items;
}

/** A pod that asks for CPU, of nobody in particular unless labelled. */
function aWorker(name: string, node: string, cpu: number, where: string, labels: Record<string, string> = {}): object {
  const pod = aPod({ name, namespace: where, node, labels }) as unknown as { spec: { containers: object[] } };
  const [container] = pod.spec.containers;
  return {
    ...pod,
    spec: { ...pod.spec, containers: [{ ...container, resources: { requests: { cpu: `${cpu}m` } } }] },
  };
}

describe('finding', () => {
  test('every node says what it is: from its Node, its machine and its Site', async () => {
    const offers = await found(aQuery(), site.nodes);
    for (const { site: name, node, attributes, live } of offers) {
      const object = await site.get<{ status: { nodeInfo: { kernelVersion: string } } }>('node', node);
      expect(name).toBe('home');
      expect(attributes).toMatchObject({
        kernel: object.status.nodeInfo.kernelVersion,
        'site.country': 'FR',
        os: 'linux',
      });
      for (const numeric of ['cpu.count', 'memory', 'disk']) expect(attributes[numeric]).toBeGreaterThan(0);
      expect(live).toMatchObject({ memoryPressure: 0, runningPods: expect.any(Number), load1: expect.any(Number) });
    }
  });

  test('a label of the owner becomes an attribute while everything runs', async () => {
    const node = site.nodes.at(-1)!;
    await site.kubectl(['label', 'node', node, 'attributes.xtreemos.io/rack=r12']);
    const constraints = [{ attribute: 'rack', in: ['r12'] }];
    await found(aQuery({ constraints }), [node]);
  });

  test('a node that is cordoned says so, and a virtual organization that the site does not accept gets nothing', async () => {
    const node = site.nodes.at(-1)!;
    await site.kubectl(['cordon', node]);
    try {
      const others = site.nodes.filter((each) => each !== node);
      await found(aQuery(), others);
      expect((await ask(aQuery())).summary?.refusals).toEqual({ 'The node is cordoned': 1 });
    } finally {
      await site.kubectl(['uncordon', node]);
    }
    await waitFor('every node refuses', async () => {
      const { offers, summary } = await ask(aQuery({ virtualOrganization: 'biology' }));
      expect(offers).toEqual([]);
      return summary?.refusals['Site home does not accept this virtual organization'] === site.nodes.length;
    });
  });
});

describe('promising', () => {
  test('a confirmed hold is a Claim that kubectl shows, and a release takes it away', async () => {
    const node = site.nodes[0]!;
    const at = await door.at(node);
    const before = await freeCpu(node);
    expect(await selection.hold(at, aHold('shown', 300))).toMatchObject({ granted: true });
    expect(await freeCpu(node)).toBe(before - 300);
    expect(await claimsOf(node)).toEqual([]);
    await selection.confirm(at, { id: 'shown', owner });
    expect(await site.kubectl(['get', 'gclaim', '-n', organization])).toMatch(
      new RegExp(`^shown +${node} +Firm +300m `, 'm'),
    );
    await selection.release(at, { id: 'shown', owner });
    expect(await claimsOf(node)).toEqual([]);
    expect(await freeCpu(node)).toBe(before);
  });

  test('a foreign pod takes room that then is not promised, and a pod under a claim takes none besides', async () => {
    const node = site.nodes[0]!;
    const at = await door.at(node);
    const before = await freeCpu(node);
    const most = before - 200;
    await site.apply([aWorker('foreign', node, 500, organization)]);
    await waitPods(site, organization, 'foreign');
    await waitFor('the pod is counted', async () => (await freeCpu(node)) === before - 500);
    expect(await selection.hold(at, aHold('too-much', most))).toMatchObject({ granted: false });
    await selection.hold(at, aHold('covers', 400));
    await selection.confirm(at, { id: 'covers', owner });
    await site.apply([aWorker('covered', node, 400, organization, { [claimLabel]: 'covers' })]);
    await waitPods(site, organization, 'covered');
    expect(await freeCpu(node)).toBe(before - 900);
    await site.kubectl(['delete', 'pod', 'foreign', 'covered', '-n', organization]);
    await selection.release(at, { id: 'covers', owner });
    await waitFor('everything is free again', async () => (await freeCpu(node)) === before);
  });

  test('a Claim whose owner is deleted goes with it, and its place is free again', async () => {
    const node = site.nodes[0]!;
    const at = await door.at(node);
    const before = await freeCpu(node);
    await site.kubectl(['create', 'configmap', 'job', '-n', organization]);
    const { metadata } = await site.get<{ metadata: { uid: string } }>('configmap', 'job', '-n', organization);
    const ownerReference = { apiVersion: 'v1', kind: 'ConfigMap', name: 'job', uid: metadata.uid };
    await selection.hold(at, aHold('owned', 250, { ownerReference }));
    await selection.confirm(at, { id: 'owned', owner });
    await site.kubectl(['delete', 'configmap', 'job', '-n', organization]);
    await waitFor('the claim is gone', async () => (await freeCpu(node)) === before, { limitMs: 90_000 });
  });

  test('a virtual organization without a namespace here can not confirm, and is told why', async () => {
    const accepted = { spec: { local: { acceptedVirtualOrganizations: [{ name: 'physics' }, { name: 'nowhere' }] } } };
    await site.kubectl(['patch', 'site', 'home', '--type=merge', '-p', JSON.stringify(accepted)]);
    const at = await door.at(site.nodes[0]!);
    const hold = aHold('homeless', 10, { virtualOrganization: 'nowhere' });
    await waitFor('it is accepted', async () => (await selection.hold(at, hold)).granted);
    await expect(selection.confirm(at, { id: 'homeless', owner })).rejects.toThrow('no namespace vo-nowhere');
    await selection.release(at, { id: 'homeless', owner });
  });
});

describe('when things break', () => {
  test('a selector killed at any point never promises more than its node has', async () => {
    const node = site.nodes[0]!;
    const capacity = await freeCpu(node);
    const share = Math.floor(capacity / 4);
    const confirmed = new Set<string>();
    for (let round = 0; round < 4; round++) {
      const at = await door.at(node);
      // Eight clients want a quarter each; the process dies while they ask.
      const clients = Array.from({ length: 8 }, async (_, index) => {
        const id = `r${round}-${index}`;
        const answer = await selection.hold(at, aHold(id, share));
        if (!answer.granted) return;
        await selection.confirm(at, { id, owner });
        confirmed.add(id);
      });
      await sleep(round * 20);
      await door.restart(node);
      await Promise.allSettled(clients);
      await door.ready(node);
      const written = (await claimsOf(node)).map((claim) => claim.metadata.name);
      expect(written.length * share).toBeLessThanOrEqual(capacity);
      // Whatever was answered "confirmed" is still there.
      expect(written).toEqual(expect.arrayContaining([...confirmed]));
      const again = await door.at(node);
      expect(await selection.hold(again, aHold('whole', capacity))).toMatchObject({ granted: written.length === 0 });
      if (round % 2 === 0) continue;
      for (const id of written) await selection.release(again, { id, owner });
      confirmed.clear();
    }
    const at = await door.at(node);
    for (const claim of await claimsOf(node)) await selection.release(at, { id: claim.metadata.name, owner });
    await waitFor('all is free again', async () => (await freeCpu(node)) === capacity);
  });

  test('a node that is restarted still keeps what it promised', async () => {
    const { faults } = shared;
    if (faults === undefined) throw new Error('this provider has no faults: run with PROVIDER=local');
    const [operator] = await door.pods('operator');
    const node = site.nodes.find((each) => each !== operator?.spec.nodeName)!;
    const before = await freeCpu(node);
    const at = await door.at(node);
    await selection.hold(at, aHold('kept', 400));
    await selection.confirm(at, { id: 'kept', owner });
    const { status } = await door.ready(node);
    await faults.killNode(site.name, node);
    await faults.startNode(site.name, node);
    await door.ready(node, (status.containerStatuses?.[0]?.restartCount ?? 0) + 1);
    const again = await door.at(node);
    await found(aQuery(), site.nodes);
    expect(await freeCpu(node)).toBe(before - 400);
    await selection.release(again, { id: 'kept', owner });
    expect(await freeCpu(node)).toBe(before);
  });
});

describe('what is not allowed', () => {
  test('a job pod can not reach the gossip port (threat 13)', async () => {
    await site.apply([aPod({ name: 'prober', namespace: organization })]);
    await waitPods(site, organization, 'prober');
    const [pod] = (
      await site.get<{ items: { status: { podIP: string } }[] }>(
        ...['pods', '-n', namespace, '-l', 'app.kubernetes.io/component=selector'],
      )
    ).items;
    const connect = `timeout 3 nc ${pod?.status.podIP ?? ''} 7946 </dev/null`;
    expect((await site.exec(organization, 'prober', connect)).status).not.toBe(0);
    await site.kubectl(['delete', 'pod', 'prober', '-n', organization]);
  });

  test('the account of selectors writes Claims of the node that its token is bound to, and of no other', async () => {
    const account = `system:serviceaccount:${namespace}:xtreemos-selector`;
    const claim = {
      apiVersion: 'xtreemos.io/v1alpha1',
      kind: 'Claim',
      metadata: { name: 'forged', namespace: organization },
      spec: { nodeName: site.nodes[0], owner, resources: { cpu: '1' }, startTime: '2026-01-01T00:00:00Z' },
    };
    const forged = await site.tryKubectl(['create', '-f', '-', `--as=${account}`], { input: JSON.stringify(claim) });
    expect(forged.status).not.toBe(0);
    expect(forged.stderr).toContain('a selector writes Claims of its own node only');
  });
});

/** The test of the network against a real API server with Pod Security, with the rights of the chart; kubelets and network are pretended. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { type Clock, systemClock } from '#common/clock.ts';
import type { Site } from '#crds/site.ts';
import { installChart, operatorNamespace as namespace } from '#operator/testing/installed.ts';
import { OperatorProcess } from '#operator/testing/process.ts';
import { networkPolicies, type Pod, pods } from '#runtime/builtin.ts';
import type { Client } from '#runtime/contracts.ts';
import { createClient, HttpTransport, kubeConfigCredentials } from '#runtime/index.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { KubeClient, waitFor } from '#sites/kube-client.ts';
import { NetworkTest } from './network-test.ts';
import { callerPod, denyingPolicy, listenerPod, policyName, podName } from './objects.ts';
import { PretendedNetwork } from './testing/pretended-network.ts';

jest.setTimeout(120_000);

/** Everything that waits for minutes here waits for seconds. */
const haste = 20;
const hasty: Clock = {
  ...systemClock,
  monotonic: () => systemClock.monotonic() * haste,
  sleep: async (ms, signal) => systemClock.sleep(ms / haste, signal),
};
const image = 'xtreemos.io/xtreemos:test';

let scratch: string;
let plane: AloneControlPlane;
let admin: KubeClient;
let kubeconfig: string;
let world: Client;
const transports: HttpTransport[] = [];
let network: PretendedNetwork;

beforeAll(async () => {
  scratch = mkdtempSync(path.join(tmpdir(), 'xtreemos-network-'));
  plane = await startControlPlane({ dir: path.join(scratch, 'plane'), name: 'network', withControllers: true });
  admin = new KubeClient(plane.credentials);
  kubeconfig = await installChart(plane, admin, scratch);
  // As strict as a namespace can be: what the operator makes has to meet it.
  const labels = { 'pod-security.kubernetes.io/enforce': 'restricted' };
  await admin.json('PATCH', `/api/v1/namespaces/${namespace}`, {
    body: { metadata: { labels } },
    contentType: 'application/merge-patch+json',
  });
  await waitFor('pods can be made', async () => admin.find(`/api/v1/namespaces/${namespace}/serviceaccounts/default`));
  world = connect(plane.kubeconfigPath).client;
}, 600_000);

afterAll(async () => {
  for (const transport of transports) await transport.close();
  admin.close();
  await plane.stop();
  rmSync(scratch, { recursive: true, force: true });
});

beforeEach(() => {
  network = new PretendedNetwork(world, namespace, hasty);
});

afterEach(async () => {
  await network.stop();
  await waitFor('nothing is left', async () => (await left()).length === 0, { limitMs: 60_000 });
});

function connect(file: string): { client: Client; transport: HttpTransport } {
  const transport = new HttpTransport({ credentials: kubeConfigCredentials({ file }) });
  transports.push(transport);
  return { transport, client: createClient(transport, { fieldManager: 'network-test' }) };
}

/** A test as the operator carries it out, with its rights. */
const aTest = (client: Client, identity = 'nobody'): NetworkTest =>
  new NetworkTest({ client, clock: hasty, namespace, image, identity });

const run = async (): Promise<unknown> => aTest(connect(kubeconfig).client).run(new AbortController().signal);

/** Names of what a test makes, and is there. */
async function left(): Promise<string[]> {
  const found = await Promise.all([
    world.of(pods).find({ namespace, name: podName('listener') }),
    world.of(pods).find({ namespace, name: podName('caller') }),
    world.of(networkPolicies).find({ namespace, name: policyName }),
  ]);
  return found.flatMap((each) => (each === undefined ? [] : [each.metadata.name]));
}

describe('the test of the network (threat 13)', () => {
  test('sees that policies are enforced, and leaves nothing behind', async () => {
    expect(await run()).toEqual({ kind: 'Enforced' });
    expect(await left()).toEqual([]);
  });

  test.each([
    ['ingress', 'listener'],
    ['egress', 'caller'],
  ] as const)('sees that policies on %s are ignored', async (direction, denied) => {
    network.habits[direction] = false;
    expect(await run()).toEqual({ kind: 'NotEnforced', denied });
    expect(await left()).toEqual([]);
  });

  test('takes a network that is broken for no proof that policies are enforced', async () => {
    network.habits.connects = false;
    expect(await run()).toMatchObject({ kind: 'Inconclusive', message: expect.stringContaining('without any policy') });
  });

  test('says why its pods do not start', async () => {
    network.habits.starts = false;
    expect(await run()).toMatchObject({
      kind: 'Inconclusive',
      message: expect.stringMatching(/Pod xtreemos-network-probe-listener .* did not start: .*no nodes available/),
    });
    expect(await left()).toEqual([]);
  });

  test('says why its pods can not be made', async () => {
    const quotas = `/api/v1/namespaces/${namespace}/resourcequotas`;
    const spec = { hard: { pods: '0' } };
    await admin.json('POST', quotas, {
      body: { apiVersion: 'v1', kind: 'ResourceQuota', metadata: { name: 'full' }, spec },
    });
    try {
      await waitFor('the quota is known', async () => {
        const quota = await admin.json('GET', `${quotas}/full`);
        return (quota.status as { hard?: { pods?: string } } | undefined)?.hard?.pods === '0';
      });
      expect(await run()).toMatchObject({ kind: 'Inconclusive', message: expect.stringContaining('exceeded quota') });
    } finally {
      await admin.json('DELETE', `${quotas}/full`);
    }
  });

  test('begins anew after an operator that died in the middle of one', async () => {
    network.habits.egress = false;
    const { client, transport } = connect(kubeconfig);
    const dying = aTest(client).run(new AbortController().signal);
    await waitFor('a policy stands', async () => (await left()).length === 3);
    // Nothing leaves it any more: as if its process were gone.
    await transport.close();
    await dying;
    const before = await world.of(pods).get({ namespace, name: podName('listener') });
    network.habits.egress = true;
    expect(await run()).toEqual({ kind: 'Enforced' });
    const after = await world.of(pods).find({ namespace, name: podName('listener') });
    expect(after?.metadata.uid).not.toBe(before.metadata.uid);
  });

  test('leaves nothing behind when it is stopped in the middle', async () => {
    network.habits.ingress = false;
    const stop = new AbortController();
    const stopped = aTest(connect(kubeconfig).client).run(stop.signal);
    await waitFor('a policy stands', async () => (await left()).length === 3);
    stop.abort(new Error('the operator is being stopped'));
    await expect(stopped).rejects.toThrow('the operator is being stopped');
    expect(await left()).toEqual([]);
  });

  test('goes with the pod of an operator that does not come back', async () => {
    const container = listenerPod({ namespace, image, self: undefined }).spec!;
    await world.of(pods).create({ metadata: { name: 'xtreemos-0', namespace }, spec: container });
    const self = await world.of(pods).get({ namespace, name: 'xtreemos-0' });
    const terms = { namespace, image, self };
    network.habits.starts = false;
    for (const pod of [listenerPod(terms), callerPod(terms, '10.0.0.1')]) await world.of(pods).create(pod);
    await world.of(networkPolicies).apply(denyingPolicy(terms, 'caller'));
    expect(await left()).toHaveLength(3);
    await world.of(pods).delete({ namespace, name: 'xtreemos-0' });
    await waitFor('the garbage collector has removed all', async () => (await left()).length === 0, {
      limitMs: 60_000,
    });
  });
});

describe('an operator that runs (threat 13)', () => {
  test('says on its Site, and in a metric, what it found out', async () => {
    const sites = '/apis/xtreemos.io/v1alpha1/sites';
    const operator = await OperatorProcess.start(
      kubeconfig,
      ...['--lease-name', 'xtreemos', '--site-name', 'home', '--image', image, '--no-metrics-auth'],
    );
    try {
      const made: Pod[] = [];
      await waitFor(
        'the network is known to be closed',
        async () => {
          const caller = await world.of(pods).find({ namespace, name: podName('caller') });
          if (caller !== undefined) made.push(caller);
          const site = (await admin.find(`${sites}/home`)) as Site | undefined;
          const found = site?.status?.conditions?.find(({ type }) => type === 'NetworkIsolated');
          return found?.status === 'True' && found.reason === 'Enforced';
        },
        { limitMs: 60_000 },
      );
      expect(made[0]?.spec?.initContainers?.[0]).toMatchObject({ image, args: expect.arrayContaining(['reached']) });
      const url = `http://127.0.0.1:${operator.metricsPort}/metrics`;
      const metrics = await (await fetch(url)).text();
      expect(metrics).toContain('xtreemos_site_network_isolated{status="True"} 1');
      expect(metrics).toContain('xtreemos_site_network_isolated{status="False"} 0');
    } finally {
      await operator.end('SIGTERM');
    }
    expect(operator.log).not.toMatch(/forbidden/i);
  });
});

import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';

import { Faults } from '#sites/faults.ts';
import { openSites, providerName, sharedName, type TestSite, waitFor } from '#sites/harness.ts';
import { findRecord, type Instance, sitesRoot } from '#sites/instance.ts';
import { down, openInstance, remainsOf, statusOf, up } from '#sites/lifecycle.ts';
import { tryCommand } from '#sites/shell.ts';
import { aPod, canReach, podAddress, waitPods, withNamespace } from '#sites/testing.ts';

jest.setTimeout(240_000);

// Names that two runs of the suites under different names don't share.
const name = `${sharedName()}-side`;
const namespace = 'suite-lifecycle';
const quiet = (): void => undefined;
// kind's clusters are Docker's to start and harm; these tests are of our own provider.
const describeLocal = providerName() === 'local' ? describe : describe.skip;

describeLocal('two sites of one node beside the shared ones', () => {
  let instance: Instance;
  let faults: Faults;
  let a: TestSite;
  let b: TestSite;

  beforeAll(async () => {
    await down(name, quiet);
    ({ instance } = await up({ name, sites: 2, nodes: 1, report: quiet }));
    faults = new Faults(instance);
    const { sites } = await openSites(name);
    [a, b] = [sites[0]!, sites[1]!];
    await Promise.all([a, b].map(async (site) => withNamespace(site, namespace)));
    const files =
      'mkdir -p /tmp/www; dd if=/dev/zero of=/tmp/www/index.html bs=1k count=256; exec busybox httpd -f -p 8080 -h /tmp/www';
    await a.apply([aPod({ name: 'caller', namespace })]);
    const service = { apiVersion: 'v1', kind: 'Service', metadata: { name: 'gateway', namespace } };
    await b.apply([
      aPod({ name: 'server', namespace, script: files }),
      // A gateway's address: a port of the node.
      {
        ...service,
        spec: {
          selector: { app: 'server' },
          externalIPs: [b.gatewayAddress],
          ports: [{ port: 7443, targetPort: 8080 }],
        },
      },
    ]);
    await Promise.all([waitPods(a, namespace, 'caller'), waitPods(b, namespace, 'server')]);
  });

  afterAll(async () => {
    await down(name, quiet);
  });

  const reachesGateway = async (): Promise<boolean> => canReach(a, namespace, 'caller', `${b.gatewayAddress}:7443`);

  test('use other addresses than the shared ones, and both answer', async () => {
    const shared = (await openSites()).sites[0]!;
    expect(shared.gatewayAddress.split('.')[1]).not.toBe(b.gatewayAddress.split('.')[1]);
    expect(await shared.kubectl(['get', 'nodes', '-o', 'name'])).toContain(shared.nodes[0]);
    expect(await b.kubectl(['get', 'nodes', '-o', 'name'])).toBe(`node/${b.nodes[0]!}\n`);
  });

  test('reach each other at gateway addresses, but not pod to pod', async () => {
    const server = await podAddress(b, namespace, 'server');
    await waitFor('the gateway answers', reachesGateway, { limitMs: 20_000 });
    expect(await canReach(a, namespace, 'caller', `${server}:8080`)).toBe(false);
    const byName = `timeout 2 wget -q -O /dev/null http://${b.name}.sites.xtreemos.test:7443/`;
    expect((await a.exec(namespace, 'caller', byName)).status).toBe(0);
  });

  test('are cut from each other and healed', async () => {
    await faults.cut('a', 'b');
    expect(await reachesGateway()).toBe(false);
    expect(statusOf(await openInstance(name)).cuts).toEqual([['a', 'b']]);
    await faults.heal('b', 'a');
    await waitFor('the gateway answers', reachesGateway, { limitMs: 20_000 });
  });

  test('have a slow link between them when told so', async () => {
    const seconds = async (): Promise<number> => {
      const started = performance.now();
      const fetch = `wget -q -O /dev/null http://${b.gatewayAddress}:7443/`;
      expect((await a.exec(namespace, 'caller', fetch)).status).toBe(0);
      return (performance.now() - started) / 1000;
    };
    expect(await seconds()).toBeLessThan(2);
    await faults.slow('b', 'a', 500); // 256 KiB at 500 kbit/s take 4.2 s
    expect(await seconds()).toBeGreaterThan(3);
    await faults.slow('b', 'a', 0);
    expect(await seconds()).toBeLessThan(2);
  });

  test('have a node cut off its API server, and no other', async () => {
    const { machine } = instance.site('a').node('1');
    const probe = `timeout 2 busybox nc -w 1 ${instance.site('a').plan.controlPlane} 6443 </dev/null && echo open || echo closed`;
    expect(await machine.script(probe)).toBe('open\n');
    await faults.cutApi('a', '1');
    expect(await machine.script(probe)).toBe('closed\n');
    expect(await machine.script(`timeout 2 busybox wget -q -O - http://${b.gatewayAddress}:7443/ | wc -c`)).toBe(
      '262144\n',
    );
    await faults.healApi('a', '1');
    await waitFor('exec works again', reachesGateway, { limitMs: 30_000 });
  });

  test('have a node frozen and thawed', async () => {
    faults.freezeNode('b', '1');
    expect(await reachesGateway()).toBe(false);
    faults.thawNode('b', '1');
    await waitFor('the gateway answers', reachesGateway, { limitMs: 30_000 });
  });

  test('have a node killed and started again, with its pods', async () => {
    const { machine } = instance.site('b').node('1');
    await faults.killNode('b', '1');
    expect(machine.group.pids()).toEqual([]);
    expect(await reachesGateway()).toBe(false);
    await faults.startNode('b', '1');
    await waitFor('the gateway answers', reachesGateway, { limitMs: 90_000 });
  });

  test('have any process killed and started again', async () => {
    await faults.killProcess('b', 'cp', 'etcd');
    expect((await b.tryKubectl(['get', 'nodes', '--request-timeout=3s'])).status).not.toBe(0);
    await faults.restartProcess('b', 'cp', 'etcd');
    await waitFor(
      'the API answers',
      async () => (await b.tryKubectl(['get', 'nodes', '--request-timeout=3s'])).status === 0,
      {
        limitMs: 60_000,
      },
    );
    await expect(faults.killProcess('b', 'cp', 'nginx')).rejects.toThrow(
      /no process nginx on cp of b; there are: .*etcd/,
    );
  });

  test('have a disk filled and freed', async () => {
    const { machine } = instance.site('a').node('1');
    await faults.addDisk('a', '1', '/var/lib/suite', 16);
    await faults.fillDisk('a', '1', '/var/lib/suite');
    await expect(machine.script('dd if=/dev/zero of=/var/lib/suite/file bs=1 count=1')).rejects.toThrow(
      /No space left on device/,
    );
    await faults.freeDisk('a', '1', '/var/lib/suite');
    await machine.script('echo more > /var/lib/suite/file');
    await faults.removeDisk('a', '1', '/var/lib/suite');
    expect(await machine.script('ls /var/lib/suite')).toBe('');
  });

  test('brought up again, keep what runs and start what ended', async () => {
    const pidsOf = (): Map<string, number> =>
      new Map(instance.site('a').node('1').machine.processes.list().map((entry) => [entry.name, entry.process.pid])); // prettier-ignore
    const before = pidsOf();
    await faults.killProcess('a', '1', 'kube-proxy');
    await up({ name, sites: 2, nodes: 1, report: quiet });
    const after = pidsOf();
    expect(after.get('kubelet')).toBe(before.get('kubelet'));
    expect(after.get('kube-proxy')).not.toBe(before.get('kube-proxy'));
    await expect(up({ name, sites: 1, nodes: 1, report: quiet })).rejects.toThrow(/take it down first/);
  });

  test('taken down, leave nothing behind and others alone', async () => {
    const { index } = instance.record;
    expect(await remainsOf(name, index)).not.toEqual([]);
    expect(await down(name, quiet)).toBe(true);
    expect(await remainsOf(name, index)).toEqual([]);
    expect(await down(name, quiet)).toBe(false);
    const shared = (await openSites()).sites[0]!;
    expect(await shared.kubectl(['get', '--raw', '/readyz'])).toBe('ok');
  });
});

describeLocal('a start that is killed', () => {
  const interrupted = `${sharedName()}-kill`;
  const main = join(import.meta.dirname, '../../sites/main.ts');

  afterAll(async () => {
    await down(interrupted, quiet);
  });

  test.each([1, 2])('is cleared by the next start (try %i)', async () => {
    const delayMs = randomInt(300, 9000);
    const child = spawn(process.execPath, [main, 'up', '--name', interrupted, '--nodes', '1'], { stdio: 'ignore' });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    child.kill('SIGKILL');
    await ended;
    const state = `killed after ${delayMs} ms`;
    const { instance } = await up({ name: interrupted, sites: 1, nodes: 1, report: quiet });
    const nodes = await tryCommand([
      instance.tools.path('kubectl'), `--kubeconfig=${instance.kubeconfigPath}`, 'get', 'nodes', '-o', 'name',
    ]); // prettier-ignore
    expect([state, nodes.stdout]).toEqual([state, `node/${interrupted}-a-1\n`]);
    const { index } = findRecord(interrupted)!;
    await down(interrupted, quiet);
    expect([state, await remainsOf(interrupted, index)]).toEqual([state, []]);
    expect(existsSync(join(sitesRoot(), interrupted))).toBe(false);
  });
});

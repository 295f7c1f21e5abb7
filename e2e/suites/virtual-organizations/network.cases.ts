import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { waitFor } from '#sites/harness.ts';
import { canReach, podAddress, waitPods } from '#sites/testing.ts';
import { neighbour, outside, type TenancyScene } from './tenancy-scene.ts';

/** Addresses that a pod of the owner of the site adds to a node: a metadata service as clouds have it, and some server far away. */
const metadataService = '169.254.169.254';
const farServer = '198.51.100.7';

/** What pods of an organization reach, and what they don't. */
export function networkCases(scene: TenancyScene): void {
  describe('the network (threat 13)', () => {
    const targets = new Map<string, string>();
    let user: string;
    let probe: string;

    beforeAll(async () => {
      const node = scene.site.nodes[0]!;
      user = await scene.account('physics', 'alice');
      probe = `${user}-probe`;
      // The owner of the site puts servers where clouds have theirs, and a neighbour without any policy.
      const addresses = `ip addr add ${metadataService}/32 dev lo; ip addr add ${farServer}/32 dev lo; sleep 1; echo up; while true; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\nok' | nc -l -p 8099; done`;
      const container = {
        name: 'main',
        image: 'xtreemos.io/busybox:1',
        imagePullPolicy: 'Never',
        command: ['/bin/sh', '-c', addresses],
      };
      await scene.site.apply([
        {
          apiVersion: 'v1',
          kind: 'Pod',
          metadata: { name: 'servers', namespace: outside },
          spec: {
            hostNetwork: true,
            terminationGracePeriodSeconds: 0,
            nodeSelector: { 'kubernetes.io/hostname': node },
            containers: [{ ...container, securityContext: { capabilities: { add: ['NET_ADMIN'] } } }],
          },
        },
        neighbour(node),
      ]);
      await waitPods(scene.site, outside, 'servers', 'neighbour');
      await scene.form('chemistry', { state: 'Operational' });
      await scene.accept({ name: 'physics' }, { name: 'chemistry' });
      await scene.reason('chemistry', 'Ready', 'Operational');
      const other = await scene.join('chemistry', 'alice');
      await scene.runAs('chemistry', other, `${other}-other`, node);
      await scene.runAs('physics', user, probe, node);
      await scene.runAs('physics', user, `${user}-sister`, node);
      const internal = await scene.site.get<{ status: { addresses: { type: string; address: string }[] } }>(
        'node',
        node,
      );
      const address = internal.status.addresses.find(({ type }) => type === 'InternalIP')!.address;
      targets.set('the kubelet', `${address} 10250`);
      targets.set('the API server', 'kubernetes.default.svc.cluster.local 443');
      targets.set('the metadata service', `${metadataService} 8099`);
      // The sites of the tests give nodes no pod range of their own: the owner names it (scene.site.reservedRanges).
      targets.set('a pod without policies', `${await podAddress(scene.site, outside, 'neighbour')} 8080`);
      targets.set(
        'a pod of another virtual organization',
        `${await podAddress(scene.site, 'vo-chemistry', `${other}-other`)} 8080`,
      );
      targets.set('a sister pod', `${await podAddress(scene.site, 'vo-physics', `${user}-sister`)} 8080`);
      targets.set('some server', `${farServer} 8099`);
    });

    afterAll(async () => {
      const undo = `ip addr del ${metadataService}/32 dev lo; ip addr del ${farServer}/32 dev lo`;
      await scene.site.exec(outside, 'servers', undo);
    });

    const connects = async (namespace: string, pod: string, target: string): Promise<boolean> =>
      (await scene.site.exec(namespace, pod, `timeout 3 nc -w 2 ${target} </dev/null >/dev/null`)).status === 0;
    const nowhere = [
      'the kubelet',
      'the API server',
      'the metadata service',
      'a pod without policies',
      'a pod of another virtual organization',
    ];

    test('there is something to keep away from: a pod without policies reaches all but the pods of virtual organizations', async () => {
      for (const name of ['the kubelet', 'the API server', 'the metadata service', 'some server'])
        expect([name, await connects(outside, 'neighbour', targets.get(name)!)]).toEqual([name, true]);
      for (const name of ['a pod of another virtual organization', 'a sister pod'])
        expect([name, await connects(outside, 'neighbour', targets.get(name)!)]).toEqual([name, false]);
    });

    test('by default a pod reaches nothing but DNS', async () => {
      for (const [name, target] of targets)
        expect([name, await connects('vo-physics', probe, target)]).toEqual([name, false]);
      const dns = await scene.site.exec(
        'vo-physics',
        probe,
        'timeout 10 nslookup kubernetes.default.svc.cluster.local',
      );
      expect(dns.status).toBe(0);
    });

    test('what is declared opens, and even the whole world leaves out what belongs to the site', async () => {
      const network = {
        internal: true,
        egress: [
          { name: 'world', cidr: '0.0.0.0/0' },
          { name: 'cheat', cidr: `${metadataService}/32` },
        ],
      };
      const patched = await scene.as('alice', [
        'patch',
        'vo',
        'physics',
        '--type=merge',
        '-p',
        JSON.stringify({ spec: { network } }),
      ]);
      expect([patched.stderr, patched.status]).toEqual(['', 0]);
      const vo = await scene.reason('physics', 'TenancyReady', 'EgressRefused');
      expect(vo.status?.conditions?.find(({ type }) => type === 'TenancyReady')?.message).toContain('cheat');
      await waitFor('some server is reached', async () => connects('vo-physics', probe, targets.get('some server')!));
      await waitFor('the sister pod is reached', async () =>
        canReach(scene.site, 'vo-physics', probe, targets.get('a sister pod')!.replace(' ', ':')),
      );
      for (const name of nowhere)
        expect([name, await connects('vo-physics', probe, targets.get(name)!)]).toEqual([name, false]);
    });
  });
}

import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';

import { openSites, type TestSite, waitFor } from '#sites/harness.ts';
import { aPod, canReach, podAddress, waitPods, withNamespace } from '#sites/testing.ts';

jest.setTimeout(180_000);

const namespace = 'suite-policy';
const other = 'suite-policy-other';
let site: TestSite;
const cleanups: (() => Promise<void>)[] = [];
const addresses = new Map<string, string>();

/** `near` and `far` call `server`; `near` is on its node, `far` isn't; `stranger` is in another namespace. */
beforeAll(async () => {
  site = (await openSites()).sites[0]!;
  const [first, second] = [site.nodes[0]!, site.nodes[1]!];
  cleanups.push(await withNamespace(site, namespace), await withNamespace(site, other, { team: 'other' }));
  await site.apply([
    aPod({ name: 'server', namespace, node: first }),
    aPod({ name: 'near', namespace, node: first }),
    aPod({ name: 'far', namespace, node: second }),
    aPod({ name: 'stranger', namespace: other, node: second }),
  ]);
  await waitPods(site, namespace, 'server', 'near', 'far');
  await waitPods(site, other, 'stranger');
  for (const name of ['server', 'near', 'far']) addresses.set(name, await podAddress(site, namespace, name));
  addresses.set('stranger', await podAddress(site, other, 'stranger'));
});

afterAll(async () => {
  for (const cleanup of cleanups) await cleanup();
});

/** Applies one policy alone, and removes whatever was there before. */
async function onlyPolicy(spec: unknown): Promise<void> {
  await site.kubectl(['delete', 'networkpolicy', '--all', '-n', namespace]);
  if (spec === undefined) return;
  const metadata = { name: 'policy', namespace };
  await site.apply([{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata, spec }]);
}

/** Waits until exactly these callers reach the server, and checks once more that it stays so. */
async function expectCallers(expected: readonly string[]): Promise<void> {
  const reached = async (): Promise<string[]> => {
    const callers = [
      ...(['near', 'far'] as const).map((pod) => [namespace, pod] as const),
      [other, 'stranger'] as const,
    ];
    const answers = await Promise.all(
      callers.map(async ([from, pod]) =>
        (await canReach(site, from, pod, `${addresses.get('server')!}:8080`)) ? [pod] : [],
      ),
    );
    return answers.flat();
  };
  await waitFor(`only ${expected.join(', ')} reach the server`, async () => {
    return (await reached()).join() === expected.join();
  }, { limitMs: 20_000 }); // prettier-ignore
  expect(await reached()).toEqual(expected);
}

const server = { matchLabels: { app: 'server' } };

describe('NetworkPolicy', () => {
  test('lets everybody in while there is none', async () => {
    await onlyPolicy(undefined);
    await expectCallers(['near', 'far', 'stranger']);
  });

  test('denied by default, keeps out callers of the same node as well', async () => {
    await onlyPolicy({ podSelector: server, policyTypes: ['Ingress'] });
    await expectCallers([]);
  });

  test.each([
    ['a pod selector', { from: [{ podSelector: { matchLabels: { app: 'near' } } }] }, ['near']],
    ['another pod selector', { from: [{ podSelector: { matchLabels: { app: 'far' } } }] }, ['far']],
    ['a namespace selector', { from: [{ namespaceSelector: { matchLabels: { team: 'other' } } }] }, ['stranger']],
    [
      'a selector of pods in selected namespaces',
      {
        from: [
          { namespaceSelector: { matchLabels: { team: 'other' } }, podSelector: { matchLabels: { app: 'near' } } },
        ],
      },
      [],
    ],
    ['the right port', { ports: [{ port: 8080 }] }, ['near', 'far', 'stranger']],
    ['a named port', { ports: [{ port: 'http' }] }, ['near', 'far', 'stranger']],
    ['a range of ports', { ports: [{ port: 8000, endPort: 8100 }] }, ['near', 'far', 'stranger']],
    ['another port only', { ports: [{ port: 9090 }] }, []],
  ])('lets in by %s', async (_what, rule, expected) => {
    await onlyPolicy({ podSelector: server, ingress: [rule] });
    await expectCallers(expected);
  });

  test('lets in by address block, with exceptions', async () => {
    const block = { cidr: '10.0.0.0/8', except: [`${addresses.get('near')!}/32`] };
    await onlyPolicy({ podSelector: server, ingress: [{ from: [{ ipBlock: block }] }] });
    await expectCallers(['far', 'stranger']);
  });

  test('keeps in by egress rules, on the same node as well', async () => {
    await onlyPolicy({ podSelector: { matchLabels: { app: 'near' } }, policyTypes: ['Egress'] });
    await expectCallers(['far', 'stranger']);
    await onlyPolicy({ podSelector: {}, policyTypes: ['Egress'] });
    await expectCallers(['stranger']);
  });

  test.each([
    ['a pod selector', [{ podSelector: server }], ['near', 'far', 'stranger']],
    ['the wrong selector', [{ podSelector: { matchLabels: { app: 'far' } } }], ['stranger']],
  ])('lets out by %s', async (_what, to, expected) => {
    await onlyPolicy({ podSelector: {}, policyTypes: ['Egress'], egress: [{ to, ports: [{ port: 8080 }] }] });
    await expectCallers(expected);
  });

  test('lets out by address block', async () => {
    const to = [{ ipBlock: { cidr: `${addresses.get('server')!}/32` } }];
    await onlyPolicy({ podSelector: {}, policyTypes: ['Egress'], egress: [{ to }] });
    await expectCallers(['near', 'far', 'stranger']);
  });

  test('keeps a pod that may go nowhere from its own node and the API server', async () => {
    await onlyPolicy({ podSelector: { matchLabels: { app: 'near' } }, policyTypes: ['Egress'] });
    const node = await site.get<{ status: { addresses: { type: string; address: string }[] } }>('node', site.nodes[0]!);
    const address = node.status.addresses.find(({ type }) => type === 'InternalIP')!.address;
    const probe = async (pod: string, target: string): Promise<number> => {
      return (await site.exec(namespace, pod, `timeout 2 nc -w 1 ${target} </dev/null >/dev/null`)).status;
    };
    await waitFor('near is kept in', async () => (await probe('near', `${address} 10250`)) !== 0, { limitMs: 20_000 });
    expect(await probe('near', 'kubernetes.default.svc.cluster.local 443')).not.toBe(0);
    expect(await probe('far', `${address} 10250`)).toBe(0);
  });

  test('leaves probes of the kubelet alone', async () => {
    await onlyPolicy({ podSelector: {}, policyTypes: ['Ingress', 'Egress'] });
    const pod = aPod({ name: 'probed', namespace, node: site.nodes[0]! }) as { spec: { containers: object[] } };
    const [container] = pod.spec.containers;
    const readinessProbe = { httpGet: { path: '/', port: 8080 }, periodSeconds: 1 };
    await site.apply([{ ...pod, spec: { ...pod.spec, containers: [{ ...container, readinessProbe }] } }]);
    await waitPods(site, namespace, 'probed');
  });

  test('is in force before the first program of a new pod could break it', async () => {
    await onlyPolicy({ podSelector: { matchLabels: { app: 'eager' } }, policyTypes: ['Egress'] });
    const url = `http://${addresses.get('server')!}:8080/`;
    const script = `for i in 1 2 3 4 5 6 7 8; do timeout 0.4 wget -q -O - ${url} && echo reached; done; echo tried; sleep 600`;
    await site.apply([aPod({ name: 'eager', namespace, node: site.nodes[1]!, script })]);
    await waitPods(site, namespace, 'eager');
    const logs = await waitFor('eager tried', async () => {
      const text = await site.kubectl(['logs', '-n', namespace, 'eager']);
      return text.includes('tried') ? text : undefined;
    });
    expect(logs).not.toMatch(/reached/);
  });
});

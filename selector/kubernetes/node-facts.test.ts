import { describe, expect, test } from '@jest/globals';
import type { Site } from '#crds/site.ts';
import type { Node } from '#runtime/builtin.ts';
import { acceptedBy, allocatableOf, amountOf, attributesOf, pressureOf, reasonAgainstNode } from './node-facts.ts';

type Status = NonNullable<Node['status']>;

const machine = { cpuModel: 'Example 9000', diskBytes: 500e9 };

function aNode(fields: { labels?: Record<string, string>; spec?: Node['spec']; status?: Partial<Status> } = {}): Node {
  const { labels = {}, spec = {}, status = {} } = fields;
  return {
    metadata: { name: 'n1', labels },
    spec,
    status: {
      nodeInfo: { architecture: 'arm64', operatingSystem: 'linux', kernelVersion: '6.18.5-cloud' } as never,
      capacity: { cpu: '8', memory: '16Gi', pods: '110', 'nvidia.com/gpu': '2' },
      allocatable: { cpu: '7900m', memory: '15Gi', pods: '110', 'hugepages-2Mi': '0', 'nvidia.com/gpu': '2' },
      conditions: [{ type: 'Ready', status: 'True' }],
      ...status,
    },
  };
}

function aSite(attributes: Record<string, string>): Site {
  const local = { attributes, acceptedVirtualOrganizations: [{ name: 'physics' }], isolation: [] };
  return { metadata: { name: 'home' }, spec: { type: 'Local', local } } as unknown as Site;
}

describe('attributes of a node', () => {
  test('come from the Node, the machine, labels of the owner and the Site', () => {
    const labels = {
      'attributes.xtreemos.io/rack': 'r12',
      'attributes.xtreemos.io/watts': '350.5',
      'topology.kubernetes.io/zone': 'north',
      'kubernetes.io/hostname': 'n1',
    };
    expect(attributesOf(aNode({ labels }), machine, aSite({ country: 'FR' }))).toEqual({
      attributes: {
        ...{ arch: 'arm64', os: 'linux', kernel: '6.18.5-cloud', 'kernel.versionCode': 6 * 65_536 + 18 * 256 + 5 },
        ...{ 'cpu.model': 'Example 9000', 'cpu.count': 8, memory: 16 * 2 ** 30, disk: 500e9 },
        ...{ 'nvidia.com/gpu': 2, rack: 'r12', watts: 350.5, zone: 'north', 'site.country': 'FR' },
      },
      leftOut: [],
    });
  });

  test('a label can not replace what the machine says (threat 49)', () => {
    const { attributes, leftOut } = attributesOf(
      aNode({ labels: { 'attributes.xtreemos.io/arch': 'amd64', 'attributes.xtreemos.io/cpu.count': '999' } }),
      machine,
      undefined,
    );
    expect(attributes).toMatchObject({ arch: 'arm64', 'cpu.count': 8 });
    expect(leftOut).toEqual(['arch', 'cpu.count']);
  });

  test('beyond 32, and where the name is no attribute name, they are left out and named', () => {
    const many = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`attributes.xtreemos.io/l${i + 10}`, 'x']));
    const labels = { ...many, 'attributes.xtreemos.io/Bad_': 'x' };
    const { attributes, leftOut } = attributesOf(aNode({ labels }), machine, aSite({ country: 'FR' }));
    expect(Object.keys(attributes)).toHaveLength(32);
    expect(leftOut).toEqual(expect.arrayContaining(['Bad_', 'l39', 'site.country']));
  });
});

describe('what a node has to give', () => {
  test('is its allocatable, cpu in millicores, rounded down', () => {
    expect(allocatableOf(aNode())).toEqual({ cpu: 7_900, memory: 15 * 2 ** 30, pods: 110, 'nvidia.com/gpu': 2 });
    expect(allocatableOf(undefined)).toEqual({});
  });

  test.each([
    ['cpu', '0.1005', 'up', 101],
    ['cpu', '0.1005', 'down', 100],
    ['memory', '1.5Ki', 'up', 1_536],
    ['memory', '100m', 'up', 1],
  ] as const)('%s %s rounded %s', (name, quantity, rounding, expected) => {
    expect(amountOf(name, quantity, rounding)).toBe(expected);
  });
});

describe('a node takes no new work', () => {
  test.each<[string, Node | undefined, string | undefined]>([
    ['that is well', aNode(), undefined],
    ['that is gone', undefined, 'The node is not known to its cluster'],
    ['that is cordoned', aNode({ spec: { unschedulable: true } }), 'The node is cordoned'],
    ['that is not ready', aNode({ status: { conditions: [] } }), 'The node is not ready'],
    [
      'that is tainted',
      aNode({ spec: { taints: [{ key: 'dedicated', effect: 'NoSchedule' }] } }),
      'The node is tainted: dedicated',
    ],
    ['that prefers none', aNode({ spec: { taints: [{ key: 'x', effect: 'PreferNoSchedule' }] } }), undefined],
  ])('%s', (_, node, reason) => {
    expect(reasonAgainstNode(node)).toBe(reason);
  });

  test('pressure is a live value', () => {
    const conditions = [{ type: 'MemoryPressure', status: 'True' }];
    expect(pressureOf(aNode({ status: { conditions } }))).toEqual({
      ...{ memoryPressure: 1, diskPressure: 0, pidPressure: 0 },
    });
  });
});

test('only virtual organizations that the local Site accepts may have a node; without a Site none may', () => {
  expect(acceptedBy(aSite({}))).toEqual(['physics']);
  expect(acceptedBy(undefined)).toEqual([]);
});

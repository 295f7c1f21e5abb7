import { describe, expect, test } from '@jest/globals';
import type { Pod } from '#runtime/builtin.ts';
import type { Stored } from '#runtime/types.ts';
import { boundPodOf, demandOf, isOccupying } from './bound-pods.ts';

const requests = (cpu: string, memory = '0'): { resources: { requests: Record<string, string> } } => ({
  resources: { requests: { cpu, memory } },
});

function aPod(spec: object, more: { status?: object; metadata?: object } = {}): Stored<Pod> {
  return {
    metadata: {
      name: 'p',
      namespace: 'default',
      uid: 'u',
      resourceVersion: '1',
      creationTimestamp: '',
      ...more.metadata,
    },
    spec: { nodeName: 'n1', containers: [], ...spec },
    status: more.status ?? {},
  };
}

describe('what a pod occupies', () => {
  test.each<[string, Pod, number]>([
    ['the sum of its containers', aPod({ containers: [requests('100m'), requests('1')] }), 1_100],
    ['its hungriest init container', aPod({ containers: [requests('1')], initContainers: [requests('3')] }), 3_000],
    [
      'sidecars with the containers',
      aPod({ containers: [requests('1')], initContainers: [{ ...requests('500m'), restartPolicy: 'Always' }] }),
      1_500,
    ],
    [
      'an init container beside the sidecars started before it, not those after',
      aPod({
        containers: [requests('100m')],
        initContainers: [
          { ...requests('500m'), restartPolicy: 'Always' },
          requests('2'),
          { ...requests('1'), restartPolicy: 'Always' },
        ],
      }),
      2_500,
    ],
    ['overhead on top', aPod({ containers: [requests('1')], overhead: { cpu: '250m' } }), 1_250],
    ['requests of the pod as a whole', aPod({ containers: [requests('1')], ...requests('4') }), 4_000],
    [
      'what is still allocated while it shrinks',
      aPod(
        { containers: [{ name: 'main', ...requests('1') }] },
        { status: { containerStatuses: [{ name: 'main', allocatedResources: { cpu: '2' } }] } },
      ),
      2_000,
    ],
  ])('%s', (_, pod, cpu) => {
    expect(demandOf(pod)).toMatchObject({ cpu, pods: 1 });
  });

  test('a pod without requests still is one pod', () => {
    expect(demandOf(aPod({ containers: [{}] }))).toEqual({ pods: 1 });
  });
});

test.each([
  ['runs', aPod({}, { status: { phase: 'Running' } }), true],
  ['waits for its image', aPod({}, { status: { phase: 'Pending' } }), true],
  ['has succeeded', aPod({}, { status: { phase: 'Succeeded' } }), false],
  ['has no node yet', aPod({ nodeName: undefined }, { status: { phase: 'Pending' } }), false],
])('whether a pod that %s occupies a node', (_, pod, expected) => {
  expect(isOccupying(pod)).toBe(expected);
});

test('a pod names its claim by a label, and only in the namespace of a virtual organization', () => {
  const labels = { 'xtreemos.io/claim': 'c1' };
  expect(boundPodOf(aPod({}, { metadata: { namespace: 'vo-physics', labels } }))).toMatchObject({
    claim: 'c1',
    virtualOrganization: 'physics',
  });
  expect(boundPodOf(aPod({}, { metadata: { namespace: 'default', labels } }))).toEqual({
    uid: 'u',
    demand: { pods: 1 },
  });
});

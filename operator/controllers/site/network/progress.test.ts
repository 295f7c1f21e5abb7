import { describe, expect, test } from '@jest/globals';
import type { Pod } from '#runtime/builtin.ts';
import { callerPod, denyingPolicy, listenerPod, steps } from './objects.ts';
import { obstacleOf, readCaller } from './progress.ts';

const terms = { namespace: 'xtreemos-system', image: 'xtreemos:1', self: undefined };

type Status = NonNullable<Pod['status']>;
type State = NonNullable<NonNullable<Status['containerStatuses']>[number]['state']>;

/** The caller whose containers stand like this, in the order of the steps. */
function aCaller(states: readonly (number | 'running' | 'waiting')[], fields: Partial<Status> = {}): Pod {
  const stateOf = (state: number | string): State => {
    if (typeof state === 'number') return { terminated: { exitCode: state } };
    return state === 'running' ? { running: {} } : { waiting: { reason: 'PodInitializing' } };
  };
  const statuses = states.map((state, index) => {
    const common = { image: 'xtreemos:1', imageID: '', ready: false, restartCount: 0 };
    return { ...common, name: steps[index]!.name, state: stateOf(state) };
  });
  const last = steps.length - 1;
  return {
    ...callerPod(terms, '10.0.0.1'),
    status: {
      phase: 'Pending',
      initContainerStatuses: statuses.slice(0, last),
      containerStatuses: statuses.slice(last),
      ...fields,
    },
  };
}

describe('the calling pod (threat 13)', () => {
  test.each<[string, Pod, unknown]>([
    ['waits before anything runs', aCaller(['waiting']), { kind: 'waiting' }],
    ['waits without any status', callerPod(terms, '10.0.0.1'), { kind: 'waiting' }],
    ['is in its first step', aCaller(['running']), { kind: 'at', step: { name: 'open' } }],
    [
      'is in a step as soon as the one before has ended, so that the policy is there in time',
      aCaller([0, 'waiting']),
      { kind: 'at', step: { name: 'listener-denied', denied: 'listener' } },
    ],
    ['is in its last step', aCaller([0, 0, 0, 0, 'running']), { kind: 'at', step: { name: 'open-at-last' } }],
    [
      'shows that policies are enforced by all steps',
      aCaller([0, 0, 0, 0, 0]),
      { kind: 'over', verdict: { kind: 'Enforced' } },
    ],
    [
      'shows that they are not when it reaches whom everything is denied to',
      aCaller([0, 3], { phase: 'Failed' }),
      { kind: 'over', verdict: { kind: 'NotEnforced', denied: 'listener' } },
    ],
    [
      'shows that they are not when it reaches others while everything is denied to itself',
      aCaller([0, 0, 0, 3], { phase: 'Failed' }),
      { kind: 'over', verdict: { kind: 'NotEnforced', denied: 'caller' } },
    ],
    [
      'shows nothing when it reaches nobody without a policy',
      aCaller([3], { phase: 'Failed' }),
      { kind: 'over', verdict: { kind: 'Inconclusive', message: expect.stringContaining('without any policy') } },
    ],
    [
      'shows nothing when the way stays closed without a policy: it may have been broken before',
      aCaller([0, 0, 3], { phase: 'Failed' }),
      { kind: 'over', verdict: { kind: 'Inconclusive', message: expect.stringContaining('taken away') } },
    ],
    [
      'shows nothing when a program fails',
      aCaller([0, 1], { phase: 'Failed' }),
      {
        kind: 'over',
        verdict: { kind: 'Inconclusive', message: expect.stringContaining('listener-denied ended with 1') },
      },
    ],
    [
      'shows nothing when it is ended from outside',
      aCaller([0, 'waiting'], { phase: 'Failed', reason: 'Evicted', message: 'The node was low on memory' }),
      { kind: 'over', verdict: { kind: 'Inconclusive', message: expect.stringContaining('low on memory') } },
    ],
  ])('%s', (_, pod, expected) => {
    expect(readCaller(pod)).toMatchObject(expected as object);
  });

  test('is told why it does not start, in few words', () => {
    const unscheduled = { type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message: 'x'.repeat(9999) };
    expect(obstacleOf(aCaller([], { conditions: [unscheduled] }))).toHaveLength(256);
    const refused = aCaller(['waiting']);
    const [status] = refused.status!.initContainerStatuses!;
    status!.state = { waiting: { reason: 'ErrImageNeverPull', message: 'no image' } };
    expect(obstacleOf(refused)).toBe('ErrImageNeverPull: no image');
    expect(obstacleOf(callerPod(terms, '10.0.0.1'))).toBe('it was not looked at by a scheduler');
  });
});

describe('the objects of the test (threat 13)', () => {
  test('a policy denies exactly one of them everything both ways, as virtual organizations are closed', () => {
    const policies = (['listener', 'caller'] as const).map((part) => denyingPolicy(terms, part));
    const labels = [listenerPod(terms), callerPod(terms, '10.0.0.1')].map(({ metadata }) => metadata.labels);
    for (const [index, { spec }] of policies.entries()) {
      expect(spec).toMatchObject({ policyTypes: ['Ingress', 'Egress'] });
      expect([spec?.ingress, spec?.egress]).toEqual([undefined, undefined]);
      const [wanted] = Object.entries(spec?.podSelector?.matchLabels ?? {});
      expect(labels.map((each) => each?.[wanted![0]] === wanted![1])).toEqual([index === 0, index === 1]);
    }
  });

  test('go with the pod of the operator, and take its way to images', () => {
    const self = {
      metadata: { name: 'xtreemos-0', namespace: 'xtreemos-system', uid: 'u1', resourceVersion: '1' },
      spec: {
        imagePullSecrets: [{ name: 'registry' }],
        containers: [{ name: 'operator', image: 'xtreemos:1', imagePullPolicy: 'Always' as const }],
      },
    };
    const pod = callerPod({ ...terms, self: self as never }, '10.0.0.1');
    expect(pod.metadata.ownerReferences).toEqual([{ apiVersion: 'v1', kind: 'Pod', name: 'xtreemos-0', uid: 'u1' }]);
    expect(pod.spec?.imagePullSecrets).toEqual([{ name: 'registry' }]);
    expect(pod.spec?.initContainers?.map(({ imagePullPolicy }) => imagePullPolicy)).toEqual(Array(4).fill('Always'));
  });
});

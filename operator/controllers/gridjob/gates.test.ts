import { describe, expect, test } from '@jest/globals';
import type { GridJob } from '#crds/grid-job.ts';
import type { Stored } from '#runtime/types.ts';
import { aGridJob } from '#operator/testing/jobs.ts';
import { dependencyCycle, dependencyGate, inherited } from './gates.ts';

function statusOf(state: 'going' | 'started' | 'succeeded' | 'failed' | 'killed', tasks = {}): never {
  const status = state === 'succeeded' ? 'True' : state === 'going' || state === 'started' ? 'Unknown' : 'False';
  const reason = state === 'killed' ? 'Killed' : state === 'failed' ? 'TaskFailed' : 'Other';
  return {
    conditions: [{ type: 'Succeeded', status, reason, message: '', lastTransitionTime: '' }],
    ...(state === 'going' ? {} : { startTime: '2026-01-01T00:00:00Z' }),
    tasks,
  } as never;
}
const among =
  (...jobs: Stored<GridJob>[]) =>
  (name: string) =>
    jobs.find((job) => job.metadata.name === name);

describe('dependencyGate', () => {
  test.each([
    ['Succeeded', 'going', 'shut'],
    ['Succeeded', 'succeeded', 'open'],
    ['Succeeded', 'failed', 'hopeless'],
    ['Failed', 'failed', 'open'],
    ['Failed', 'succeeded', 'hopeless'],
    ['Started', 'going', 'shut'],
    ['Started', 'started', 'open'],
    ['Ended', 'started', 'shut'],
    ['Ended', 'failed', 'open'],
  ] as const)('that wants %s of a job that is %s is %s', (when, state, is) => {
    const job = aGridJob('job', { dependsOn: [{ job: 'first', when }] });
    expect(dependencyGate(job, among(aGridJob('first', {}, statusOf(state)))).is).toBe(is);
  });

  test('waits for a job that does not exist yet, by name', () => {
    const gate = dependencyGate(aGridJob('job', { dependsOn: [{ job: 'first' }] }), among());
    expect(gate).toMatchObject({ is: 'shut', message: 'Waits for first, which does not exist (yet).' });
  });

  test('lets single tasks go on whose counterparts have succeeded', () => {
    const job = aGridJob('job', { tasks: { count: 9 }, dependsOn: [{ job: 'first', perIndex: true }] });
    const gate = dependencyGate(job, among(aGridJob('first', {}, statusOf('started', { succeededIndexes: '0-2,5' }))));
    expect(gate.is === 'open' ? gate.allowed?.toString() : gate.is).toBe('0-2,5');
  });
});

test('a circle of dependencies is found and named', () => {
  const [a, b] = [aGridJob('a', { dependsOn: [{ job: 'b' }] }), aGridJob('b', { dependsOn: [{ job: 'a' }] })];
  expect(dependencyCycle(a, among(a, b))).toBe('a → b → a');
  expect(dependencyCycle(aGridJob('c', { dependsOn: [{ job: 'd' }] }), among(aGridJob('d')))).toBeUndefined();
});

describe('a job within a tree', () => {
  const parent = { job: 'parent', uid: 'uid-parent' };

  test('is suspended with its parent', () => {
    expect(inherited(aGridJob('child', { parent }), among(aGridJob('parent', { suspend: true }))).isSuspended).toBe(
      true,
    );
  });

  test.each([
    ['was killed', aGridJob('parent', {}, statusOf('killed'))],
    ['is gone', undefined],
    [
      'is another of the same name',
      { ...aGridJob('parent'), metadata: { ...aGridJob('parent').metadata, uid: 'other' } },
    ],
  ])('ends when its parent %s', (_, above) => {
    expect(inherited(aGridJob('child', { parent }), () => above).endedParent).toBe('parent');
  });

  test('ends when its parent had ended by itself, and was sent a signal then', () => {
    const signal = { name: 'KILL', sequence: 1 } as const;
    const above = aGridJob('parent', { signal }, statusOf('succeeded'));
    expect(inherited(aGridJob('child', { parent }), among(above))).toMatchObject({ endedParent: 'parent', signal });
  });

  test('goes on when its parent has ended by itself', () => {
    const above = aGridJob('parent', {}, statusOf('succeeded'));
    expect(inherited(aGridJob('child', { parent }), among(above)).endedParent).toBeUndefined();
  });
});

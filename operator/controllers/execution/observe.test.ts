import { describe, expect, test } from '@jest/globals';
import { givesWayTo } from '#crds/claim.ts';
import type { Pod } from '#runtime/builtin.ts';
import type { Stored, StoredMeta } from '#runtime/types.ts';
import { aGridJob, anExecution, ended, running, withStatus } from '#operator/testing/jobs.ts';
import { sortTasks } from '#operator/controllers/gridjob/plan.ts';
import { isLost, isRoutine, observe, rowsOf, type Observation } from './observe.ts';
import { taskPod, type PodSurroundings } from './pod.ts';

const around: PodSurroundings = {
  ...{
    site: 'home',
    uidMode: 'Global',
    runtimeClassName: undefined,
    dedicatedTo: undefined,
    home: undefined,
    gids: [],
  },
};
const placements = [{ run: 'r1', node: 'n1', tasks: '0-2', hold: 'h1' }];
const execution = anExecution('job', { taskCount: 3, placements });

const podOf = (index: number, status: NonNullable<Pod['status']>, more = {}): Stored<Pod> =>
  withStatus(taskPod(execution, { run: 'r1', index, node: 'n1', hold: 'h1' }, around, 0), status, more);
const look = (pods: Stored<Pod>[], of = execution, nodes = ['n1'], ended: readonly number[] = []): Observation =>
  observe(of, pods, {
    nodeExists: (name) => nodes.includes(name),
    siteName: 'home',
    elsewhere: (_, { index, run }) => ({ index, run, state: 'Running' }),
    hasGivenWay: (_, { index }) => ended.includes(index),
  });
const chosen = {
  type: 'DisruptionTarget',
  status: 'True' as const,
  reason: givesWayTo.priority,
  message: 'Room is needed.',
};

describe('observe', () => {
  test('asks for the pods of placed tasks that have none', () => {
    const { missing, findings } = look([podOf(1, running)]);
    expect(missing.map(({ index }) => index)).toEqual([0, 2]);
    expect(findings.get(1)).toMatchObject({ state: 'Running', startTime: '2026-01-01T00:00:05Z', node: 'n1' });
    expect(findings.get(0)).toMatchObject({ state: 'Starting' });
  });

  test('takes a run that was asked to end before it ended for lost, and one that had failed before for failed', () => {
    // It ended at 00:01:00, see `ended`.
    const asked = (deletionTimestamp: string): Partial<StoredMeta> => ({
      ...{ deletionTimestamp, deletionGracePeriodSeconds: 30 },
    });
    const { findings } = look([
      podOf(0, ended(143), asked('2026-01-01T00:01:20Z')),
      podOf(1, { ...ended(143), conditions: [chosen] }, asked('2026-01-01T00:01:20Z')),
      podOf(2, ended(3), asked('2026-01-01T00:05:00Z')),
    ]);
    expect([0, 1, 2].map((index) => findings.get(index)?.reason)).toEqual(['PodDeleted', 'Preempted', 'ExitCode']);
    expect([0, 1, 2].map((index) => isLost(findings.get(index)!))).toEqual([true, true, false]);
  });

  test('knows the end of a run when the kubelet takes its pod away, which tells no more when it was asked to end', () => {
    const status = ended(137);
    const takenAway = { deletionTimestamp: '2026-01-01T00:01:01Z', deletionGracePeriodSeconds: 0 };
    expect(look([podOf(0, status, takenAway)]).findings.get(0)).toMatchObject({ reason: 'PodDeleted' });
    const row = look([podOf(0, ended(3))]).findings.get(0)!;
    const known = { tasks: tasksWith({ rows: [row] }) };
    const later = look([podOf(0, ended(3), takenAway)], anExecution('job', { taskCount: 3, placements }, known));
    expect(later.findings.get(0)).toEqual({ ...row, reason: 'ExitCode' });
  });

  test('takes a run whose promised time was over for lost', () => {
    const { findings } = look([podOf(0, { phase: 'Failed', reason: 'DeadlineExceeded' })]);
    expect(findings.get(0)).toMatchObject({ state: 'Failed', reason: 'TimeOver' });
  });

  test('counts those that succeeded, and goes on counting them when their pods are gone', () => {
    const { succeeded, missing } = look([podOf(0, ended(0))]);
    expect(succeeded.toString()).toBe('0');
    const status = { tasks: tasksWith({ succeededIndexes: '0' }) };
    const later = look([], anExecution('job', { taskCount: 3, placements }, status));
    expect(later.succeeded.toString()).toBe('0');
    expect(missing.map(({ index }) => index)).toEqual([1, 2]);
    expect(later.missing.map(({ index }) => index)).toEqual([1, 2]);
  });

  test('says how a task failed, with its exit status and last words', () => {
    const status = ended(7);
    status.containerStatuses![0]!.state!.terminated!.message = 'no such file';
    const { findings } = look([podOf(0, status)]);
    expect(findings.get(0)).toMatchObject({
      state: 'Failed',
      exitCode: 7,
      reason: 'ExitCode',
      message: 'It ended with exit status 7. no such file',
    });
    expect(isLost(findings.get(0)!)).toBe(false);
  });

  test.each<[string, string, NonNullable<Pod['status']>]>([
    [
      'a node that had no more room',
      'NodeRefused',
      { phase: 'Failed', reason: 'OutOfcpu', message: 'Node has no room' },
    ],
    ['an eviction', 'Evicted', { phase: 'Failed', reason: 'Evicted', message: 'disk pressure' }],
    [
      'a disruption',
      'Evicted',
      {
        phase: 'Failed',
        conditions: [
          { type: 'DisruptionTarget', status: 'True', reason: 'DeletionByTaintManager', message: 'tainted' },
        ],
      },
    ],
  ])('does not hold %s against the task', (_, reason, status) => {
    const { findings } = look([podOf(0, status)]);
    expect(findings.get(0)).toMatchObject({ state: 'Failed', reason });
    expect(isLost(findings.get(0)!)).toBe(true);
  });

  test('gives up a task whose node is gone, and one whose pod someone deleted while it ran', () => {
    expect(look([], execution, []).findings.get(0)).toMatchObject({ state: 'Failed', reason: 'NodeLost' });
    const status = { tasks: tasksWith({ rows: [{ index: 0, run: 'r1', state: 'Running' as const }] }) };
    const { findings, missing } = look([], anExecution('job', { taskCount: 3, placements }, status));
    expect(findings.get(0)).toMatchObject({ state: 'Failed', reason: 'PodDeleted' });
    expect(missing.map(({ index }) => index)).toEqual([1, 2]);
  });

  test('tells a pod that was chosen to give way from one of the same job that somebody deleted', () => {
    const { spec } = anExecution('job', { taskCount: 3, placements, preemptible: true });
    const job = { ...execution, spec };
    const asked = { deletionTimestamp: '2026-01-01T00:01:20Z', deletionGracePeriodSeconds: 30 };
    const seen = look(
      [podOf(0, { ...running, conditions: [chosen] }, asked), podOf(1, running, asked), podOf(2, running)],
      job,
    );
    expect([0, 1, 2].map((index) => seen.findings.get(index)?.reason)).toEqual(['GivingWay', 'Ending', undefined]);
    const gone = { ...job, status: { tasks: tasksWith({ rows: [...seen.findings.values()] }) } };
    const { findings } = look([], gone, ['n1'], [2]);
    expect([0, 1, 2].map((index) => findings.get(index)?.reason)).toEqual(['Preempted', 'PodDeleted', 'Preempted']);
  });

  test('keeps a failure in mind when its pod is gone', () => {
    const row = { index: 0, run: 'r1', state: 'Failed' as const, exitCode: 3, reason: 'ExitCode' };
    const { findings, missing } = look(
      [],
      anExecution('job', { taskCount: 3, placements }, { tasks: tasksWith({ rows: [row] }) }),
    );
    expect(findings.get(0)).toEqual(row);
    expect(missing.map(({ index }) => index)).toEqual([1, 2]);
  });

  test('ends pods of runs that are no longer placed, and all that go on when the part is closed', () => {
    const elsewhere = anExecution('job', { taskCount: 3, placements: [{ run: 'r2', node: 'n2', tasks: '0' }] });
    expect(look([podOf(0, running)], elsewhere, ['n1', 'n2'])).toMatchObject({
      surplus: [{ metadata: { name: podOf(0, running).metadata.name } }],
      missing: [{ run: 'r2', index: 0 }],
    });
    const closed = anExecution('job', { taskCount: 3, placements, isClosed: true });
    const { surplus, missing } = look([podOf(0, running), podOf(1, ended(0))], closed);
    expect(surplus).toHaveLength(1);
    expect(missing).toEqual([]);
  });

  test.each([
    ['has told nothing of it yet', undefined],
    ['saw it start last', { tasks: tasksWith({ rows: [{ index: 0, run: 'r1', state: 'Starting' as const }] }) }],
  ])('says of a run without a pod that it is over when the part is closed, and %s', (_, status) => {
    const closed = anExecution('job', { placements: [{ run: 'r1', node: 'n1', tasks: '0' }], isClosed: true }, status);
    const { findings, missing } = look([], closed);
    expect(findings.get(0)).toMatchObject({ state: 'Killed', reason: 'Closed' });
    expect(missing).toEqual([]);
    const told = { ...closed, status: { tasks: tasksWith({ rows: [findings.get(0)] }) } };
    expect(sortTasks(aGridJob('job'), told, 0).active.size).toBe(0);
    expect(sortTasks(aGridJob('job'), told, 0).failed.size).toBe(0);
  });

  test('does not take a pod for ended that is only being ended', () => {
    const { findings } = look([podOf(0, running, { deletionTimestamp: '2026-01-01T00:02:00Z' })]);
    expect(findings.get(0)).toMatchObject({ state: 'Running', reason: 'Ending' });
  });

  test('shows why a container does not start', () => {
    const waiting = { reason: 'ErrImagePull', message: 'no such image' };
    const container = { name: 'task', image: '', imageID: '', ready: false, restartCount: 0, state: { waiting } };
    const { findings } = look([podOf(0, { phase: 'Pending', containerStatuses: [container] })]);
    expect(findings.get(0)).toMatchObject({ state: 'Starting', ...waiting });
  });
});

test('rows are bounded, and failures come first', () => {
  const rows = Array.from({ length: 500 }, (_, index) => ({
    ...{ index, run: 'r' },
    state: index === 400 ? ('Failed' as const) : ('Starting' as const),
  }));
  expect(rowsOf(rows)).toHaveLength(128);
  expect(rowsOf(rows)[0]).toMatchObject({ index: 400 });
});

function tasksWith(more: object): NonNullable<NonNullable<typeof execution.status>['tasks']> {
  return { waiting: 0, starting: 0, running: 0, succeeded: 0, failed: 0, rows: [], ...more };
}

describe('what has to be written down at once', () => {
  const isHeld = (pods: Stored<Pod>[], of = execution): boolean => {
    const { findings, succeeded } = look(pods, of);
    return isRoutine(of, [...findings.values()], succeeded);
  };
  const asked = { deletionTimestamp: '2026-01-01T00:01:20Z', deletionGracePeriodSeconds: 30 };

  test('is not that tasks start and run', () => {
    expect(isHeld([])).toBe(true);
    expect(isHeld([podOf(0, running), podOf(1, running)])).toBe(true);
  });

  test.each<[string, Stored<Pod>[], typeof execution]>([
    ['that a task has succeeded', [podOf(0, ended(0))], execution],
    ['that a task has failed', [podOf(0, ended(3))], execution],
    ['that somebody ends a task', [podOf(0, running, asked)], execution],
    [
      'what becomes of a part that was closed',
      [podOf(0, running)],
      { ...execution, spec: { ...execution.spec, isClosed: true } },
    ],
    ['what another site asks about', [podOf(0, running)], { ...execution, spec: { ...execution.spec, part: 'uid' } }],
    [
      'what runs at another site',
      [podOf(0, running)],
      {
        ...execution,
        spec: { ...execution.spec, placements: [...placements, { run: 'r2', site: 'far', node: 'f1', tasks: '2' }] },
      },
    ],
    [
      'that pods are no longer refused',
      [podOf(0, running)],
      {
        ...execution,
        status: {
          conditions: [
            {
              type: 'Placed',
              status: 'False',
              reason: 'Refused',
              message: 'no',
              lastTransitionTime: '2026-01-01T00:00:00Z',
            },
          ],
        },
      },
    ],
  ])('is %s', (_, pods, of) => {
    expect(isHeld(pods, of)).toBe(false);
  });
});

import { describe, expect, test } from '@jest/globals';
import type { TaskRow } from '#crds/grid-job.ts';
import { IndexSet } from '#operator/scheduling/index-set.ts';
import { aGridJob, anExecution } from '#operator/testing/jobs.ts';
import { nextTasks, placed, sortTasks, type TaskSets } from './plan.ts';

const now = Date.parse('2026-01-01T01:00:00Z');
const job = aGridJob('job', { tasks: { count: 6 }, retries: { limit: 1, backoffSeconds: 60 } });
const placements = [{ run: 'r1', node: 'n1', tasks: '0-3' }];

interface Given {
  rows?: Partial<TaskRow>[];
  succeededIndexes?: string;
  failures?: { count: number; tasks: string }[];
  of?: typeof job;
}

function sets({ rows = [], succeededIndexes, failures = [], of = job }: Given): TaskSets {
  const tasks = { waiting: 0, starting: 0, running: 0, succeeded: 0, failed: 0, succeededIndexes, rows };
  const status = { tasks } as never;
  return sortTasks(of, anExecution('job', { taskCount: 6, placements, failures }, status), now);
}
const failed = (index: number, more: Partial<TaskRow> = {}): Partial<TaskRow> => ({
  ...{ index, run: 'r1', state: 'Failed', reason: 'ExitCode', exitCode: 1, endTime: '2026-01-01T00:00:00Z' },
  ...more,
});
const text = (found: TaskSets): Record<string, string> =>
  Object.fromEntries(
    (['succeeded', 'failed', 'active', 'ready', 'backingOff'] as const).map((name) => [name, found[name].toString()]),
  );

describe('sortTasks', () => {
  test('has every task ready before anything is placed', () => {
    expect(text(sortTasks(job, undefined, now))).toMatchObject({ ready: '0-5', active: '' });
  });

  test('has placed tasks active until their run ends', () => {
    expect(text(sets({ succeededIndexes: '1' }))).toEqual({
      ...{ succeeded: '1', failed: '', active: '0,2-3', ready: '4-5', backingOff: '' },
    });
  });

  test('tries a failed task again after its wait, and gives it up when it fails too often', () => {
    expect(text(sets({ rows: [failed(0)] }))).toMatchObject({ ready: '0,4-5', active: '1-3', failed: '' });
    const soon = sets({ rows: [failed(0, { endTime: '2026-01-01T00:59:30Z' })] });
    expect(text(soon)).toMatchObject({ backingOff: '0', ready: '4-5' });
    expect(soon.nextRetryAt - now).toBe(30_000);
    expect(text(sets({ rows: [failed(0)], failures: [{ count: 1, tasks: '0' }] }))).toMatchObject({ failed: '0' });
  });

  test('does not count a lost run, and starts it again at once', () => {
    const found = sets({ rows: [failed(0, { reason: 'NodeLost' })], failures: [{ count: 1, tasks: '0' }] });
    expect(text(found)).toMatchObject({ ready: '0,4-5', failed: '' });
    expect(found.failures.size).toBe(0);
  });

  test('takes no notice of what is said of an earlier run', () => {
    expect(text(sets({ rows: [failed(0, { run: 'r0' })] }))).toMatchObject({ active: '0-3' });
  });

  test.each([
    ['FailJob', { failed: '0' }, true],
    ['FailTask', { failed: '0' }, false],
    ['Retry', { failed: '', ready: '0,4-5' }, false],
  ])('follows the rule %s for an exit status', (action, expected, isFatal) => {
    const rules = [{ exitCodes: [1], action }];
    const of = aGridJob('job', { tasks: { count: 6 }, retries: { limit: 1, backoffSeconds: 1, rules } });
    const found = sets({ rows: [failed(0)], of });
    expect(text(found)).toMatchObject(expected);
    expect(found.fatal !== undefined).toBe(isFatal);
  });
});

describe('nextTasks', () => {
  test('keeps within the parallelism and what dependencies allow', () => {
    const of = aGridJob('job', { tasks: { count: 6, parallelism: 5 } });
    expect(nextTasks(of, sets({ of }), undefined).tasks.toString()).toBe('4');
    expect(nextTasks(of, sets({ of }), IndexSet.of([5])).tasks.toString()).toBe('5');
  });

  test('asks for what a gang still lacks', () => {
    const of = aGridJob('job', { tasks: { count: 6, gangMinimum: 6 } });
    expect(nextTasks(of, sortTasks(of, undefined, now), undefined).gangMinimum).toBe(6);
    expect(nextTasks(of, sets({ of }), undefined).gangMinimum).toBe(2);
  });
});

describe('placed', () => {
  test('drops runs that ended, counts their failures and adds the new runs', () => {
    const found = sets({ rows: [failed(0)], succeededIndexes: '1' });
    const before = { placements, failures: [] };
    const grant = {
      run: 'r2',
      site: 'home',
      node: 'n2',
      tasks: IndexSet.of([0, 4]),
      hold: 'h2',
      reservation: 'c1',
      until: 0,
    };
    expect(placed(before, found, [grant], 'home')).toEqual({
      placements: [
        { run: 'r1', node: 'n1', tasks: '2-3' },
        { run: 'r2', node: 'n2', tasks: '0,4', hold: 'h2', reservation: 'c1', until: '1970-01-01T00:00:00.000Z' },
      ],
      failures: [{ count: 1, tasks: '0' }],
    });
  });
});

import { describe, expect, test } from '@jest/globals';
import { jobAnswer } from '#common/identity/gateway-api.ts';
import { jobTreeBounds, jobTreeLabel } from '#crds/grid-access.ts';
import type { GridJob } from '#crds/grid-job.ts';
import { aGridJob } from '#operator/testing/jobs.ts';
import type { Stored } from '#runtime/types.ts';
import { answerOf, belowIn, checkRoom, treeOf } from './tree.ts';

const child = (name: string, parent: string, spec: object = {}): Stored<GridJob> => {
  const job = aGridJob(name, { parent: { job: parent, uid: `uid-${parent}` }, ...spec });
  return { ...job, metadata: { ...job.metadata, labels: { [jobTreeLabel]: 'uid-root' } } };
};
const root = aGridJob('root', { gridAccess: true });
const names = (jobs: readonly Stored<GridJob>[]): string[] => jobs.map(({ metadata }) => metadata.name).sort();

describe('a tree of jobs', () => {
  test('is known by its first job', () => {
    expect([treeOf(root), treeOf(child('a', 'root'))]).toEqual(['uid-root', 'uid-root']);
  });

  test('is cut where a job stands: what is above and beside it, and what others put there, is not below', () => {
    const a = child('a', 'root');
    const tree = [a, child('b', 'root'), child('a1', 'a'), child('a11', 'a1'), child('b1', 'b')];
    tree.push(child('forged', 'a', { owner: 'u-bob-2013300124' }), child('lost', 'gone'));
    expect(names(belowIn(tree, root))).toEqual(['a', 'a1', 'a11', 'b', 'b1']);
    expect(names(belowIn(tree, a))).toEqual(['a1', 'a11']);
  });

  test('ends in time when parents go round in a circle', () => {
    const tree = [child('a', 'b'), child('b', 'a')];
    expect(names(belowIn(tree, tree[0]!))).toEqual(['a', 'b']);
    expect(() => checkRoom(tree, tree[0]!)).toThrow(/jobs above this one/);
  });

  test('is bounded in depth', () => {
    const chain = Array.from({ length: jobTreeBounds.depthMax }, (_, i) =>
      child(`j${i + 1}`, i === 0 ? 'root' : `j${i}`),
    );
    expect(() => checkRoom(chain, root)).not.toThrow();
    expect(() => checkRoom(chain, chain.at(-2)!)).not.toThrow();
    expect(() => checkRoom(chain, chain.at(-1)!)).toThrow(/There are 8 jobs above this one already/);
  });

  test('is bounded in size', () => {
    const many = Array.from({ length: jobTreeBounds.jobsMax }, (_, i) => child(`j${i}`, 'root'));
    expect(() => checkRoom(many.slice(1), root)).not.toThrow();
    expect(() => checkRoom(many.slice(3), root, 2)).not.toThrow();
    expect(() => checkRoom(many.slice(3), root, 3)).toThrow(/There are 512 jobs in this tree/);
    expect(() => checkRoom(many, root)).toThrow(/There are 512 jobs in this tree: .*ttlSecondsAfterFinished/);
  });
});

test('what a task is told of a job fits the schema that it is read with', () => {
  const status = {
    ...{ state: 'Running', startTime: '2026-01-01T00:00:00Z' },
    tasks: { waiting: 1, starting: 0, running: 1, succeeded: 0, failed: 0, rows: [] },
    conditions: [
      {
        ...{ type: 'Matched', status: 'False', reason: 'Waiting', message: 'x'.repeat(5_000) },
        lastTransitionTime: '2026-01-01T00:00:00Z',
      },
    ],
  } as unknown as GridJob['status'];
  for (const job of [root, child('a', 'root', { signal: { name: 'TERM', sequence: 1 } }), aGridJob('b', {}, status)]) {
    const told = JSON.parse(JSON.stringify(answerOf(job))) as unknown;
    expect(jobAnswer.parse(told)).toEqual(told);
    expect(JSON.stringify(told).length).toBeLessThan(2_000);
  }
});

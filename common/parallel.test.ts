import { describe, expect, test } from '@jest/globals';
import { inParallel, tryAll } from './parallel.ts';

const turn = async (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe.each(['inParallel', 'tryAll'])('%s', (name) => {
  type Run = (items: readonly number[], atOnce: number, work: (item: number) => Promise<void>) => Promise<unknown>;
  const run: Run = name === 'inParallel' ? inParallel : tryAll;

  test('does everything, and no more at once than is allowed', async () => {
    const [done, open] = [[] as number[], { now: 0, most: 0 }];
    await run([1, 2, 3, 4, 5, 6, 7], 3, async (item) => {
      open.most = Math.max(open.most, ++open.now);
      await turn();
      open.now--;
      done.push(item);
    });
    expect([done.sort(), open.most]).toEqual([[1, 2, 3, 4, 5, 6, 7], 3]);
    await run([], 3, async () => Promise.reject(new Error('there is nothing to do')));
  });

  test('throws the first failure once what was begun has ended', async () => {
    const ended: number[] = [];
    const work = async (item: number): Promise<void> => {
      if (item === 2) throw new Error('two');
      await turn();
      ended.push(item);
    };
    await expect(run([1, 2, 3, 4, 5], 2, work)).rejects.toThrow('two');
    expect(ended).toEqual(name === 'inParallel' ? [1] : [1, 3, 4, 5]);
  });
});

test('results come in the order of the items, also when the first takes longest', async () => {
  const slow = async (item: number): Promise<number> => {
    for (let left = 4 - item; left > 0; left--) await turn();
    return 10 * item;
  };
  expect(await inParallel([1, 2, 3], 3, slow)).toEqual([10, 20, 30]);
});

import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { WaitingQueue } from './waiting-queue.ts';

interface Item {
  readonly from: number;
  readonly at: number;
  readonly size: number;
}

describe('a queue that has bringers wait', () => {
  test('hands everything on, in the order of each who brings, with no more under way than allowed', async () => {
    const sources = fc.array(fc.array(fc.nat(20), { maxLength: 20 }), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(sources, fc.nat(30), async (sizes, sizeMax) => {
        const queue = new WaitingQueue<Item>(sizeMax, ({ size }) => size);
        let underWay = 0;
        let most = 0;
        const bring = async (list: readonly number[], from: number): Promise<void> => {
          for (const [at, size] of list.entries()) {
            underWay += size;
            most = Math.max(most, underWay);
            await queue.push({ from, at, size });
          }
        };
        const brought = Promise.all(sizes.map(async (list, from) => bring(list, from))).then(() => queue.end());
        const got: Item[] = [];
        for await (const item of queue) {
          underWay -= item.size;
          got.push(item);
          await Promise.resolve();
        }
        await brought;
        for (const [from, list] of sizes.entries())
          expect(got.filter((each) => each.from === from).map(({ size }) => size)).toEqual(list);
        // Each who brings may have one more in hand, and so may who takes.
        const largest = sizes.map((list) => Math.max(0, ...list));
        const inHands = largest.reduce((sum, each) => sum + each, Math.max(...largest));
        expect(most).toBeLessThanOrEqual(sizeMax + inHands);
      }),
    );
  });

  test('throws the failure after what came before it', async () => {
    const queue = new WaitingQueue<Item>(10, () => 1);
    void queue.push({ from: 0, at: 0, size: 1 });
    queue.end(new Error('broken'));
    void queue.push({ from: 0, at: 1, size: 1 });
    const got: Item[] = [];
    const taking = (async () => {
      for await (const item of queue) got.push(item);
    })();
    await expect(taking).rejects.toThrow('broken');
    expect(got).toHaveLength(1);
  });

  test('lets go of who waits when nobody takes any more', async () => {
    const queue = new WaitingQueue<Item>(0, () => 1);
    const bring = async (from: number): Promise<void> => queue.push({ from, at: 0, size: 1 });
    const waiting = [bring(0), bring(1)];
    for await (const item of queue) {
      expect(item.from).toBe(0);
      break;
    }
    await Promise.all(waiting);
  });
});

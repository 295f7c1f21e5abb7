import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { DirtyBudget, WriteBehind } from './write-behind.ts';

const marks = { onFirst: () => undefined, onClean: () => undefined };

describe('WriteBehind', () => {
  test('joins small writes that adjoin each other', async () => {
    const sent: [number, number][] = [];
    const writes = new WriteBehind(new DirtyBudget(1 << 20), 4096, marks);
    for (let at = 0; at < 4096; at += 512) {
      await writes.write(at, Buffer.alloc(512), async (offset, data) => void sent.push([offset, data.length]));
    }
    await writes.drain();
    expect(sent).toEqual([[0, 4096]]);
  });

  test('tells when there are unsent bytes, and when there are none any more', async () => {
    const seen: string[] = [];
    const told = { onFirst: () => void seen.push('first'), onClean: () => void seen.push('clean') };
    const writes = new WriteBehind(new DirtyBudget(1 << 20), 4096, told);
    await writes.write(0, Buffer.alloc(10), async () => void seen.push('sent'));
    expect(writes.isDirty).toBe(true);
    await writes.drain();
    expect(seen).toEqual(['first', 'sent', 'clean']);
  });

  test('keeps a failure until somebody asks, and sends what comes after it', async () => {
    const writes = new WriteBehind(new DirtyBudget(1 << 20), 16, marks);
    await writes.write(0, Buffer.alloc(16), async () => Promise.reject(new Error('disk full')));
    await writes.write(16, Buffer.alloc(16), async () => undefined);
    await writes.drain();
    expect([writes.failureCount, writes.error?.message]).toEqual([1, 'disk full']);
  });

  test('stays marked after a failure: nobody knows yet whether an answer that tells of it will arrive', async () => {
    const seen: string[] = [];
    const told = { onFirst: () => void seen.push('first'), onClean: () => void seen.push('clean') };
    const writes = new WriteBehind(new DirtyBudget(1 << 20), 16, told);
    await writes.write(0, Buffer.alloc(16), async () => Promise.reject(new Error('disk full')));
    await writes.drain();
    expect([writes.isDirty, writes.mayHaveLost, seen]).toEqual([false, true, ['first']]);
  });

  test('waits for room when the budget is used up', async () => {
    const budget = new DirtyBudget(100);
    const writes = new WriteBehind(budget, 50, marks);
    const releases: (() => void)[] = [];
    const slow = async (): Promise<void> => await new Promise<void>((resolve) => releases.push(resolve));
    await writes.write(0, Buffer.alloc(60), slow);
    let isTaken = false;
    const second = Promise.resolve(writes.write(60, Buffer.alloc(60), slow)).then(() => (isTaken = true));
    await new Promise((resolve) => setImmediate(resolve));
    expect(isTaken).toBe(false);
    releases.shift()?.();
    await second;
    releases.shift()?.();
    await writes.drain();
    expect(budget.usedBytes).toBe(0);
  });

  test('leaves the same bytes as writing one after the other, however slow each is', async () => {
    const write = fc.record({ offset: fc.nat(60), length: fc.integer({ min: 1, max: 40 }), delay: fc.nat(3) });
    await fc.assert(
      fc.asyncProperty(fc.array(write, { maxLength: 25 }), async (list) => {
        const [expected, actual] = [Buffer.alloc(128), Buffer.alloc(128)];
        const writes = new WriteBehind(new DirtyBudget(64), 16, marks);
        for (const [index, { offset, length, delay }] of list.entries()) {
          const data = Buffer.alloc(length, index + 1);
          data.copy(expected, offset);
          const taken = writes.write(offset, data, async (at, bytes) => {
            for (let turn = 0; turn < delay; turn++) await new Promise((resolve) => setImmediate(resolve));
            bytes.copy(actual, at);
          });
          if (taken !== undefined) await taken;
          data.fill(255);
        }
        await writes.drain();
        expect(actual).toEqual(expected);
      }),
    );
  });
});

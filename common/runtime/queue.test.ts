import { describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { type QueueItem, type QueueOptions, WorkQueue } from './queue.ts';
import { settle, testParts } from './testing/parts.ts';

function aQueue(options: Partial<QueueOptions> = {}) {
  const clock = new VirtualClock();
  return { clock, queue: new WorkQueue({ ...testParts(clock), name: 'test', ...options }) };
}

/** Takes and finishes everything that waits. */
async function drain(queue: WorkQueue): Promise<string[]> {
  const keys: string[] = [];
  while (queue.depth > 0) {
    const item = (await queue.take())!;
    queue.finish(item.key);
    keys.push(item.key);
  }
  return keys;
}

describe('WorkQueue', () => {
  test('a key that is added twice is handed out once', async () => {
    const { queue } = aQueue();
    for (const key of ['a', 'b', 'a', 'a']) queue.add(key, 'change');
    expect(await drain(queue)).toEqual(['a', 'b']);
  });

  test('a key that is added while it is worked on comes again after it is finished, not before', async () => {
    const { queue } = aQueue();
    queue.add('a', 'change');
    await queue.take();
    queue.add('a', 'change');
    expect(queue.depth).toBe(0);
    queue.finish('a');
    expect(await drain(queue)).toEqual(['a']);
  });

  test('changes go before resyncs, and every eighth turn is a resync', async () => {
    const { queue } = aQueue();
    for (let i = 0; i < 3; i++) queue.add(`r${i}`, 'resync');
    for (let i = 0; i < 12; i++) queue.add(`c${i}`, 'change');
    const keys = await drain(queue);
    expect(keys.slice(0, 8)).toEqual(['c0', 'c1', 'c2', 'c3', 'c4', 'c5', 'c6', 'r0']);
    expect(keys.at(-1)).toBe('r2');
    expect(keys).toHaveLength(15);
  });

  test('a key that waits for a resync moves up when it changes', async () => {
    const { queue } = aQueue();
    for (const key of ['a', 'b', 'c']) queue.add(key, 'resync');
    queue.add('c', 'change');
    expect(await drain(queue)).toEqual(['c', 'a', 'b']);
  });

  test('a worker that waits gets a key as soon as it is added', async () => {
    const { queue } = aQueue();
    const item = queue.take();
    queue.add('a', 'change');
    expect(await item).toEqual({ key: 'a', lane: 'change' });
  });

  test('a delayed key comes at its time, and the earlier of two times counts', async () => {
    const { clock, queue } = aQueue();
    queue.addAfter('a', 5_000, 'resync');
    queue.addAfter('a', 1_000, 'change');
    queue.addAfter('a', 9_000, 'resync');
    clock.advance(999);
    expect(queue.depth).toBe(0);
    clock.advance(1);
    expect(await queue.take()).toEqual({ key: 'a', lane: 'change' });
    queue.finish('a');
    clock.advance(60_000);
    expect(queue.depth).toBe(0);
  });

  test('a delay beyond what timers can count is kept all the same', () => {
    const { clock, queue } = aQueue();
    const days60 = 60 * 24 * 3600_000;
    queue.addAfter('a', days60, 'resync');
    clock.advance(days60 - 1);
    expect(queue.depth).toBe(0);
    clock.advance(1);
    expect(queue.depth).toBe(1);
  });

  test('failures wait twice as long each time, up to the limit, until the key is forgotten', async () => {
    const { queue } = aQueue({ backoff: { baseMs: 100, maxMs: 1_000 } });
    const delays: number[] = [];
    for (let i = 0; i < 6; i++) delays.push(queue.addFailed('a', 'change'));
    for (const [i, ceiling] of [100, 200, 400, 800, 1_000, 1_000].entries()) {
      expect(delays[i]).toBeGreaterThanOrEqual(ceiling / 2);
      expect(delays[i]).toBeLessThanOrEqual(ceiling);
    }
    queue.forget('a');
    expect(queue.addFailed('a', 'change')).toBeLessThanOrEqual(100);
  });

  test('a key leaves nothing behind once it is done', async () => {
    const { clock, queue } = aQueue();
    for (let i = 0; i < 100; i++) {
      queue.add('a', 'change');
      queue.addAfter('b', 10, 'change');
      queue.addFailed('c', 'change');
      clock.advance(200);
      await drain(queue);
      queue.forget('c');
    }
    expect(queue.size).toBe(0);
  });

  test('closing wakes the workers with nothing and stops the timer', async () => {
    const { clock, queue } = aQueue();
    const waiting = queue.take();
    queue.addAfter('a', 1_000, 'change');
    queue.close();
    expect(await waiting).toBeUndefined();
    expect(await queue.take()).toBeUndefined();
    clock.advance(10_000);
    queue.add('b', 'change');
    expect(queue.depth).toBe(0);
  });

  test('a key in work at the close can still be finished', async () => {
    const { queue } = aQueue();
    queue.add('a', 'change');
    await queue.take();
    queue.close();
    expect(() => queue.finish('a')).not.toThrow();
    expect(() => queue.finish('a')).toThrow(/without being taken/);
  });

  test('keys beyond the limit are dropped, and the owner is told once there is room', async () => {
    const { queue } = aQueue({ keysMax: 4 });
    for (let i = 0; i < 6; i++) queue.add(`k${i}`, 'change');
    expect(queue.size).toBe(4);
    expect(queue.takeOverflow()).toBe(false);
    await drain(queue);
    expect(queue.takeOverflow()).toBe(true);
    expect(queue.takeOverflow()).toBe(false);
  });

  test('two workers never have the same key', async () => {
    const { queue } = aQueue();
    queue.add('a', 'change');
    const first = await queue.take();
    let second: QueueItem | undefined;
    void queue.take().then((item) => (second = item));
    queue.add('a', 'change');
    await settle();
    expect(second).toBeUndefined();
    queue.finish(first!.key);
    await settle();
    expect(second).toEqual({ key: 'a', lane: 'change' });
  });
});

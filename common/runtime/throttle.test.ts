import { describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import type { Priority } from './contracts.ts';
import { Throttle, type ThrottleOptions } from './throttle.ts';
import { settle } from './testing/parts.ts';

function aThrottle(options: Partial<ThrottleOptions> = {}) {
  const clock = new VirtualClock();
  const throttle = new Throttle({ qps: 10, burst: 2, inFlightMax: 100, waitingMax: 100, ...options }, clock);
  const order: string[] = [];
  const ask = (name: string, priority: Priority, holds = true): void => {
    void Promise.resolve(throttle.acquire(priority, holds)).then(() => order.push(name));
  };
  return { clock, throttle, order, ask };
}

describe('Throttle', () => {
  test('lets the burst through at once and the rest at the rate', async () => {
    const { clock, order, ask } = aThrottle();
    for (let i = 0; i < 12; i++) ask(`r${i}`, 'write');
    await settle();
    expect(order).toHaveLength(2);
    await clock.advanceAsync(500);
    await settle();
    expect(order).toHaveLength(7);
    await clock.advanceAsync(500);
    await settle();
    expect(order).toHaveLength(12);
  });

  test('reads go before writes and writes before background work', async () => {
    const { clock, order, ask } = aThrottle({ burst: 1 });
    ask('first', 'background');
    ask('background', 'background');
    ask('write', 'write');
    ask('read', 'read');
    await clock.advanceAsync(1_000);
    await settle();
    expect(order).toEqual(['first', 'read', 'write', 'background']);
  });

  test('a lease never waits, even when the bucket is empty and all places are taken', async () => {
    const { order, ask } = aThrottle({ burst: 1, inFlightMax: 1 });
    for (let i = 0; i < 5; i++) ask(`w${i}`, 'write');
    ask('lease', 'lease');
    await settle();
    expect(order).toEqual(['w0', 'lease']);
  });

  test('background work is not starved by a stream of writes', async () => {
    const { clock, order, ask } = aThrottle({ burst: 1 });
    ask('w', 'write');
    ask('background', 'background');
    for (let i = 0; i < 60; i++) ask(`w${i}`, 'write');
    await clock.advanceAsync(3_000);
    await settle();
    expect(order).toContain('background');
  });

  test('holds back requests beyond those allowed at once until one is released', async () => {
    const { throttle, order, ask } = aThrottle({ qps: Infinity, burst: 10, inFlightMax: 2 });
    for (let i = 0; i < 3; i++) ask(`w${i}`, 'write');
    ask('watch', 'read', false);
    await settle();
    expect(order).toEqual(['w0', 'w1', 'watch']);
    throttle.release();
    await settle();
    expect(order).toEqual(['w0', 'w1', 'watch', 'w2']);
  });

  test('a request that gives up leaves the queue', async () => {
    const { throttle, ask } = aThrottle({ burst: 1 });
    ask('first', 'write');
    const abort = new AbortController();
    const waiting = throttle.acquire('write', true, abort.signal);
    expect(throttle.waiting).toBe(1);
    abort.abort(new Error('no longer wanted'));
    await expect(waiting).rejects.toThrow('no longer wanted');
    expect(throttle.waiting).toBe(0);
  });

  test('refuses more waiters than its limit', async () => {
    const { throttle, ask } = aThrottle({ burst: 1, waitingMax: 2 });
    for (const name of ['a', 'b', 'c']) ask(name, 'write');
    await expect(throttle.acquire('write', true)).rejects.toThrow(/2 requests wait already/);
  });

  test('closing refuses everyone who waits and leaves no timer', async () => {
    const { clock, throttle } = aThrottle({ burst: 1 });
    await throttle.acquire('write', true);
    const waiting = Promise.resolve(throttle.acquire('write', true));
    const refused = expect(waiting).rejects.toThrow('closed');
    throttle.close(new Error('closed'));
    await refused;
    expect(throttle.waiting).toBe(0);
    clock.advance(10_000);
    expect(clock.pending).toBe(0);
  });

  test.each([{ qps: 0 }, { burst: 0.5 }, { inFlightMax: -1 }])('refuses the limit %j', (limit) => {
    expect(() => aThrottle(limit)).toThrow(RangeError);
  });
});

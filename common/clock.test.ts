import { describe, expect, test } from '@jest/globals';
import { systemClock, VirtualClock } from './clock.ts';

describe('VirtualClock', () => {
  test('fires timers in order of time, then of creation', () => {
    const clock = new VirtualClock();
    const fired: string[] = [];
    clock.after(20, () => fired.push('late'));
    clock.after(10, () => fired.push('first'));
    clock.after(10, () => fired.push('second'));
    clock.advance(15);
    expect(fired).toEqual(['first', 'second']);
    clock.advance(5);
    expect(fired).toEqual(['first', 'second', 'late']);
  });

  test('fires a timer that a timer made, when it is due in the same advance', () => {
    const clock = new VirtualClock();
    const at: number[] = [];
    clock.after(1, () => clock.after(1, () => at.push(clock.monotonic())));
    clock.advance(10);
    expect(at).toEqual([2]);
    expect(clock.monotonic()).toBe(10);
  });

  test('never fires a cancelled timer', () => {
    const clock = new VirtualClock();
    clock.after(1, () => expect(true).toBe(false)).cancel();
    clock.advance(5);
    expect(clock.pending).toBe(0);
  });

  test('a step moves the wall clock and leaves the monotonic one', () => {
    const clock = new VirtualClock(1_000);
    clock.step(-500);
    clock.advance(1);
    expect([clock.now(), clock.monotonic()]).toEqual([501, 1]);
  });

  test('an aborted sleep rejects with the reason', async () => {
    const clock = new VirtualClock();
    const abort = new AbortController();
    const asleep = clock.sleep(1_000, abort.signal);
    abort.abort(new Error('stopped'));
    await expect(asleep).rejects.toThrow('stopped');
    await expect(systemClock.sleep(1_000, abort.signal)).rejects.toThrow('stopped');
  });

  test('keeps order with many timers', () => {
    const clock = new VirtualClock();
    const seen: number[] = [];
    for (let i = 0; i < 1_000; i++) clock.after((i * 7_919) % 1_000, () => seen.push(clock.monotonic()));
    while (clock.tick());
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(seen).toHaveLength(1_000);
  });
});

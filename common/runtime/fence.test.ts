import { describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { FencedError } from './errors.ts';
import { LeaseFence } from './fence.ts';

function anOpenFence(durationMs = 10_000) {
  const clock = new VirtualClock();
  const fence = new LeaseFence(clock);
  const renew = (): void => fence.extend({ monotonicMs: clock.monotonic(), wallMs: clock.now() }, durationMs);
  renew();
  return { clock, fence, renew };
}

describe('LeaseFence', () => {
  test('is closed until the first renewal, without being lost', () => {
    const fence = new LeaseFence(new VirtualClock());
    expect(() => fence.check()).toThrow(FencedError);
    expect(fence.isLost).toBe(false);
  });

  test('stays open as long as renewals come in time', () => {
    const { clock, fence, renew } = anOpenFence();
    for (let i = 0; i < 20; i++) {
      clock.advance(9_999);
      expect(() => fence.check()).not.toThrow();
      renew();
    }
  });

  test('closes at its time and tells those who write, once', () => {
    const { clock, fence } = anOpenFence();
    const told: FencedError[] = [];
    fence.track((reason) => told.push(reason));
    const untrack = fence.track(() => told.push(new FencedError('untracked')));
    untrack();
    clock.advance(20_000);
    expect(told.map(({ name }) => name)).toEqual(['FencedError']);
    expect(told[0]?.message).toMatch(/not renewed in time/);
  });

  test('stays lost, whatever renewal arrives late', () => {
    const { clock, fence, renew } = anOpenFence();
    clock.advance(20_000);
    renew();
    expect(fence.isOpen).toBe(false);
    expect(fence.isLost).toBe(true);
  });

  test('counts from when the renewal was sent, not from when its answer came', () => {
    const { clock, fence } = anOpenFence();
    const sent = { monotonicMs: clock.monotonic(), wallMs: clock.now() };
    clock.advance(8_000);
    fence.extend(sent, 10_000);
    expect(fence.remainingMs).toBe(2_000);
  });

  test('a process that was frozen finds it closed before any timer ran', () => {
    // A clock whose timers never fire: all that runs after the thaw is the write itself.
    let monotonic = 0;
    const fence = new LeaseFence({
      now: () => monotonic,
      monotonic: () => monotonic,
      after: () => ({ cancel: () => undefined }),
      sleep: async () => undefined,
    });
    fence.extend({ monotonicMs: 0, wallMs: 0 }, 10_000);
    expect(fence.isOpen).toBe(true);
    monotonic = 10_000;
    expect(() => fence.check()).toThrow(FencedError);
  });

  test('closes when only the wall clock moved on, as after the sleep of a machine', () => {
    const { clock, fence } = anOpenFence();
    clock.step(10_000);
    expect(fence.isOpen).toBe(false);
  });

  test('does not stay open longer when the wall clock is set back', () => {
    const { clock, fence } = anOpenFence();
    clock.step(-3600_000);
    clock.advance(10_001);
    expect(fence.isOpen).toBe(false);
  });
});

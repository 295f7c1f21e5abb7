import { remember } from '#common/remember.ts';
import type { Clock } from '#common/clock.ts';

/** A rate, and how much may come at once. */
export interface Rate {
  readonly perSecond: number;
  readonly burst: number;
}

/**
 * Token buckets by key, such as an address. At most `keysMax` are kept: whoever was not seen for longest is forgotten, and has a full bucket when
 * coming again, so that a flood of keys costs memory of a fixed size.
 */
export class RateLimiter {
  private readonly clock: Clock;
  private readonly rate: Rate;
  private readonly keysMax: number;
  private readonly buckets = new Map<string, { level: number; atMs: number }>();

  constructor(clock: Clock, rate: Rate, keysMax = 10_000) {
    this.clock = clock;
    this.rate = rate;
    this.keysMax = keysMax;
  }

  /** Takes one. @returns 0 when there was one, else how many seconds to wait for it. */
  take(key: string): number {
    const now = this.clock.monotonic();
    const { perSecond, burst } = this.rate;
    const known = this.buckets.get(key);
    const level = known === undefined ? burst : Math.min(burst, known.level + ((now - known.atMs) / 1000) * perSecond);
    const isThere = level >= 1;
    remember(this.buckets, key, { level: isThere ? level - 1 : level, atMs: now }, this.keysMax);
    return isThere ? 0 : Math.ceil((1 - level) / perSecond);
  }
}

/** Counts what is open at the same time, by key. */
export class Counter {
  private readonly counts = new Map<string, number>();

  /** @returns how many there are now. */
  add(key: string): number {
    const count = (this.counts.get(key) ?? 0) + 1;
    this.counts.set(key, count);
    return count;
  }

  remove(key: string): void {
    const count = (this.counts.get(key) ?? 0) - 1;
    if (count > 0) this.counts.set(key, count);
    else this.counts.delete(key);
  }
}

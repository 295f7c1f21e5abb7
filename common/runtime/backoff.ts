import type { Random } from '#common/random.ts';

/** Exponential back-off with full jitter. */
export interface BackoffOptions {
  /** Upper bound of the first delay, milliseconds. */
  readonly baseMs: number;
  /** Upper bound of every delay, milliseconds. */
  readonly maxMs: number;
}

/**
 * A delay for the given attempt (0 for the first): uniform in (0, min(maxMs, baseMs * 2^attempt)].
 * Source: M. Brooker, "Exponential Backoff And Jitter" (AWS, 2015), "full jitter": it spreads retries best.
 */
export function fullJitterMs(options: BackoffOptions, attempt: number, random: Random): number {
  const ceiling = Math.min(options.maxMs, options.baseMs * 2 ** Math.min(attempt, 30));
  return Math.max(1, ceiling * random.next());
}

/**
 * As {@link fullJitterMs}, but never less than half of the ceiling: for items of a work queue, where a first retry
 * that comes at once would only meet the same fault.
 */
export function halfJitterMs(options: BackoffOptions, attempt: number, random: Random): number {
  const ceiling = Math.min(options.maxMs, options.baseMs * 2 ** Math.min(attempt, 30));
  return ceiling * (0.5 + random.next() / 2);
}

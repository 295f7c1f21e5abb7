import { setTimeout as nodeSleep } from 'node:timers/promises';

/** A handle that stops a timer. Stopping twice, or after it fired, does nothing. */
export interface Timer {
  cancel(): void;
}

/**
 * Where time comes from. Everything that waits or stamps takes a Clock in its constructor, so that tests and
 * simulations run on a virtual one.
 */
export interface Clock {
  /** Wall-clock time, milliseconds since the Unix epoch. May step; never use it for durations. */
  now(): number;
  /** Monotonic time in milliseconds from an arbitrary origin. Never steps back. */
  monotonic(): number;
  /** Calls `fn` once after `delayMs` milliseconds. The timer doesn't keep the process alive when `unref` is set. */
  after(delayMs: number, fn: () => void, options?: { unref?: boolean }): Timer;
  /**
   * Waits `delayMs` milliseconds.
   * @throws the signal's reason when `signal` aborts first.
   */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

/** The clock of the machine. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after: (delayMs, fn, options) => {
    const timer = setTimeout(fn, delayMs);
    if (options?.unref === true) timer.unref();
    return { cancel: () => clearTimeout(timer) };
  },
  sleep: async (delayMs, signal) => {
    try {
      await nodeSleep(delayMs, undefined, signal === undefined ? undefined : { signal });
    } catch (error) {
      throw signal?.aborted === true ? signal.reason : error;
    }
  },
};

interface Pending {
  readonly at: number;
  readonly seq: number;
  readonly fn: () => void;
  cancelled: boolean;
}

/**
 * A clock that moves only when told to. Timers fire in order of their time, then of their creation.
 * Wall and monotonic time start at `startMs` and 0, and `step` moves the wall clock alone (a clock step).
 */
export class VirtualClock implements Clock {
  private heap: Pending[] = [];
  private seq = 0;
  private elapsed = 0;
  private wallOffset: number;

  constructor(startMs = Date.UTC(2026, 0, 1)) {
    this.wallOffset = startMs;
  }

  now(): number {
    return this.wallOffset + this.elapsed;
  }

  monotonic(): number {
    return this.elapsed;
  }

  /** Timers that have not fired yet; cancelled ones may be counted until their time. */
  get pending(): number {
    return this.heap.length;
  }

  /** Moves the wall clock by `deltaMs` (negative: back) without firing timers. */
  step(deltaMs: number): void {
    this.wallOffset += deltaMs;
  }

  after(delayMs: number, fn: () => void): Timer {
    const entry: Pending = { at: this.elapsed + Math.max(0, delayMs), seq: this.seq++, fn, cancelled: false };
    this.push(entry);
    return { cancel: () => void (entry.cancelled = true) };
  }

  async sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const onAbort = (): void => {
        timer.cancel();
        reject(signal?.reason as Error);
      };
      const timer = this.after(delayMs, () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      });
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Fires the next timer, if any, moving time to it. @returns false when none is left. */
  tick(): boolean {
    for (;;) {
      const next = this.pop();
      if (next === undefined) return false;
      if (next.cancelled) continue;
      this.elapsed = next.at;
      next.fn();
      return true;
    }
  }

  /** Runs every timer that is due within `durationMs`, then stands at the end of it. Promises are not awaited. */
  advance(durationMs: number): void {
    const end = this.elapsed + durationMs;
    for (let next = this.heap[0]; next !== undefined && next.at <= end; next = this.heap[0]) {
      this.pop();
      if (next.cancelled) continue;
      this.elapsed = next.at;
      next.fn();
    }
    this.elapsed = end;
  }

  /** As `advance`, but lets promise continuations run between timers. */
  async advanceAsync(durationMs: number): Promise<void> {
    const end = this.elapsed + durationMs;
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve));
      const next = this.heap[0];
      if (next === undefined || next.at > end) break;
      this.pop();
      if (next.cancelled) continue;
      this.elapsed = next.at;
      next.fn();
    }
    this.elapsed = end;
  }

  private push(entry: Pending): void {
    const heap = this.heap;
    let index = heap.push(entry) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || !isBefore(entry, above)) break;
      heap[index] = above;
      index = parent;
    }
    heap[index] = entry;
  }

  private pop(): Pending | undefined {
    const heap = this.heap;
    const top = heap[0];
    const last = heap.pop();
    if (top === undefined || last === undefined || heap.length === 0) return top;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      const left = heap[child];
      if (left === undefined) break;
      const right = heap[child + 1];
      let least = left;
      if (right !== undefined && isBefore(right, left)) {
        child++;
        least = right;
      }
      if (!isBefore(least, last)) break;
      heap[index] = least;
      index = child;
    }
    heap[index] = last;
    return top;
  }
}

function isBefore(a: Pending, b: Pending): boolean {
  return a.at < b.at || (a.at === b.at && a.seq < b.seq);
}

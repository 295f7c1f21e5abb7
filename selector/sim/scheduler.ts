import type { Clock, Timer } from '#common/clock.ts';

const ringSize = 65_536;

interface Entry {
  fn: (() => void) | undefined;
}

/**
 * A virtual clock for very many timers: a timing wheel of one-millisecond slots, so that setting and firing cost the
 * same for ten nodes and for 100,000. Timers of one millisecond fire in the order they were set.
 */
export class Scheduler implements Clock {
  private readonly ring: (Entry | (() => void))[][] = Array.from({ length: ringSize }, () => []);
  private readonly far = new Map<number, (Entry | (() => void))[]>();
  private elapsed = 0;
  private readonly startMs: number;

  constructor(startMs = Date.UTC(2026, 0, 1)) {
    this.startMs = startMs;
  }

  now(): number {
    return this.startMs + this.elapsed;
  }

  monotonic(): number {
    return this.elapsed;
  }

  after(delayMs: number, fn: () => void): Timer {
    const entry: Entry = { fn };
    this.put(delayMs, entry);
    return { cancel: () => void (entry.fn = undefined) };
  }

  /** As `after`, for what is never cancelled. */
  post(delayMs: number, fn: () => void): void {
    this.put(delayMs, fn);
  }

  async sleep(delayMs: number): Promise<void> {
    await new Promise<void>((resolve) => this.post(delayMs, resolve));
  }

  /** Fires everything due within `durationMs`, or until `isDone` says so after some millisecond. */
  run(durationMs: number, isDone?: () => boolean): void {
    const end = this.elapsed + durationMs;
    for (;;) {
      this.fire();
      if (isDone?.() === true || this.elapsed >= end) return;
      this.elapsed++;
      const due = this.far.size === 0 ? undefined : this.far.get(this.elapsed);
      if (due !== undefined) {
        this.far.delete(this.elapsed);
        this.ring[this.elapsed % ringSize]?.unshift(...due);
      }
    }
  }

  private fire(): void {
    const slot = this.ring[this.elapsed % ringSize];
    if (slot === undefined || slot.length === 0) return;
    // What fires may add to this very slot: the iterator reads the length anew each time.
    for (const entry of slot) {
      if (typeof entry === 'function') entry();
      else entry.fn?.();
    }
    slot.length = 0;
  }

  private put(delayMs: number, entry: Entry | (() => void)): void {
    const at = this.elapsed + Math.max(0, Math.ceil(delayMs));
    if (at - this.elapsed < ringSize) {
      this.ring[at % ringSize]?.push(entry);
      return;
    }
    const list = this.far.get(at);
    if (list === undefined) this.far.set(at, [entry]);
    else list.push(entry);
  }
}

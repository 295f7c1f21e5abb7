import type { Clock, Timer } from '#common/clock.ts';
import { FencedError } from './errors.ts';

/** Stops writes of a process that doesn't hold the lease. */
export interface Fence {
  /** @throws {FencedError} unless writing is allowed at this very moment. */
  check(): void;
  /**
   * Calls `onLost` when writing stops being allowed.
   * @returns a function that takes the callback back.
   */
  track(onLost: (reason: FencedError) => void): () => void;
}

type State = 'waiting' | 'open' | 'lost';

/**
 * A fence that is open until a moment in time, moved on with each renewal of the lease. It looks at the clock at
 * every check, so that a process which was frozen (SIGSTOP, a paused VM, a long garbage collection) finds it closed
 * before any of its timers has run. Once lost it stays lost: leading again takes a new process, or a new fence.
 *
 * Time is the worse of the monotonic and the wall clock: the monotonic one may stand still while a machine sleeps, the
 * wall clock may be set back. A wall clock that is set forward can only close the fence early, which is safe.
 */
export class LeaseFence implements Fence {
  private readonly clock: Clock;
  private state: State = 'waiting';
  private untilMonotonicMs = 0;
  private untilWallMs = 0;
  private reason = 'this process does not hold the lease yet';
  private readonly watchers = new Set<(reason: FencedError) => void>();
  private timer: Timer | undefined;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /**
   * Opens the fence, or keeps it open.
   * @param since - when the successful renewal was *sent*: the lease may count from then.
   * @param durationMs - how long from `since` writing is allowed; less than the lease lasts, by the clock allowance.
   */
  extend(since: { readonly monotonicMs: number; readonly wallMs: number }, durationMs: number): void {
    if (this.state === 'lost') return;
    this.state = 'open';
    this.untilMonotonicMs = since.monotonicMs + durationMs;
    this.untilWallMs = since.wallMs + durationMs;
    this.arm();
  }

  /** Whether writing is allowed now. Closes the fence for good when its time has passed. */
  get isOpen(): boolean {
    if (this.state !== 'open') return false;
    if (this.clock.monotonic() < this.untilMonotonicMs && this.clock.now() < this.untilWallMs) return true;
    this.close('the lease was not renewed in time');
    return false;
  }

  get isLost(): boolean {
    return this.state === 'lost';
  }

  /** How long it stays open without a renewal, milliseconds; 0 when closed. */
  get remainingMs(): number {
    if (!this.isOpen) return 0;
    return Math.min(this.untilMonotonicMs - this.clock.monotonic(), this.untilWallMs - this.clock.now());
  }

  /** Closes for good and stops writes under way. Again: nothing. */
  close(reason: string): void {
    if (this.state === 'lost') return;
    this.state = 'lost';
    this.reason = reason;
    this.timer?.cancel();
    const error = this.error();
    const watchers = [...this.watchers];
    this.watchers.clear();
    for (const watcher of watchers) watcher(error);
  }

  check(): void {
    if (!this.isOpen) throw this.error();
  }

  track(onLost: (reason: FencedError) => void): () => void {
    this.watchers.add(onLost);
    return () => void this.watchers.delete(onLost);
  }

  /** Writes under way are stopped when the time is up, not only when the next one asks. */
  private arm(): void {
    this.timer?.cancel();
    const remainingMs = this.remainingMs;
    if (remainingMs > 0) this.timer = this.clock.after(remainingMs + 1, () => this.arm());
  }

  private error(): FencedError {
    return new FencedError(`Write stopped: ${this.reason}. The process that holds the lease does it instead`);
  }
}

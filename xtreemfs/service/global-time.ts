import type { Clock, Timer } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';

/** What keeps the time. */
export interface GlobalTimeOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Asks a DIR for its time, milliseconds since the Unix epoch. */
  readonly ask: (signal: AbortSignal) => Promise<number>;
  /** Default 60,000. */
  readonly intervalMs?: number;
}

const roundTripMaxMs = 1_000;

/**
 * The time that all services of an installation share: that of the DIR, asked every minute, with half the round trip
 * added; answers that took more than a second are not used (protocol reference, 5.2). Between answers it runs with the
 * machine's monotonic clock, so a step of the wall clock does not reach leases and capabilities. It starts as the
 * machine's own time, and never goes back by itself: a step back at a new answer is taken as it is.
 */
export class GlobalTime {
  private readonly options: GlobalTimeOptions;
  private readonly abort = new AbortController();
  private offsetMs: number;
  private timer: Timer | undefined;
  private synced = false;

  constructor(options: GlobalTimeOptions) {
    this.options = options;
    this.offsetMs = options.clock.now() - options.clock.monotonic();
  }

  /** Milliseconds since the Unix epoch. */
  now(): number {
    return Math.floor(this.offsetMs + this.options.clock.monotonic());
  }

  /** Whether a DIR has been heard. */
  get isSynchronized(): boolean {
    return this.synced;
  }

  /** Asks now, then at each interval until `stop`. */
  async start(): Promise<void> {
    await this.synchronize();
    this.schedule();
  }

  stop(): void {
    this.timer?.cancel();
    this.abort.abort(new Error('stopped'));
  }

  /** Asks once. @returns whether the answer was used. */
  async synchronize(): Promise<boolean> {
    const { clock, ask, logger } = this.options;
    const before = clock.monotonic();
    try {
      const told = await ask(this.abort.signal);
      const after = clock.monotonic();
      if (after - before > roundTripMaxMs) {
        logger.warn('Ignoring the time of the DIR: the answer took too long', { roundTripMs: after - before });
        return false;
      }
      this.offsetMs = told + (after - before) / 2 - after;
      this.synced = true;
      return true;
    } catch (error) {
      if (!this.abort.signal.aborted) {
        logger.warn('Cannot ask a DIR for the time', { problem: describeError(error) });
      }
      return false;
    }
  }

  private schedule(): void {
    if (this.abort.signal.aborted) return;
    const { clock, intervalMs = 60_000 } = this.options;
    // Until a DIR is heard, ask more often.
    const delayMs = this.synced ? intervalMs : Math.min(intervalMs, 5_000);
    this.timer = clock.after(delayMs, () => void this.synchronize().then(() => this.schedule()), { unref: true });
  }
}

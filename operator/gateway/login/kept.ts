import type { Clock } from '#common/clock.ts';

/** What was fetched is used for so long when the provider doesn't answer: two days. */
const staleMaxMs = 48 * 3_600_000;
/** It is fetched anew after so long. */
const freshMs = 3_600_000;
/** How often a fetch is tried at most: whatever users bring, they can not order more requests to the provider than these. */
const pauseMs = { known: 30_000, unknown: 2000 };

/**
 * Something that a provider publishes, kept so that logins go on while the provider is away (threat 45). Fetches happen one at a time and rarely,
 * whoever asks; where one is under way, those who need what is newer wait for it.
 */
export class Kept<T> {
  private readonly fetch: () => Promise<T>;
  private readonly clock: Clock;
  private known: { readonly value: T; readonly atMs: number } | undefined;
  private triedAtMs = -Infinity;
  private running: Promise<void> | undefined;
  private lastProblem: unknown;

  /** @param fetch - gets it, within bounds of time and size of its own; rejects when it can't be had. */
  constructor(fetch: () => Promise<T>, clock: Clock) {
    this.fetch = fetch;
    this.clock = clock;
  }

  /** Why the last fetch failed; undefined after one that didn't. */
  get problem(): unknown {
    return this.lastProblem;
  }

  /**
   * What is known: an hour old at most while the provider answers, two days at most while it doesn't; undefined where there is nothing like that.
   * @param isWanting - something is missing in what is known: fetch although it is fresh.
   */
  async get(isWanting = false): Promise<T | undefined> {
    const now = this.clock.monotonic();
    const age = this.age(now);
    const pause = age > staleMaxMs ? pauseMs.unknown : pauseMs.known;
    if (age > freshMs || isWanting) {
      if (this.running === undefined && now - this.triedAtMs >= pause) {
        this.triedAtMs = now;
        this.running = this.renew().finally(() => (this.running = undefined));
      }
      await this.running;
    }
    return this.age(this.clock.monotonic()) > staleMaxMs ? undefined : this.known?.value;
  }

  /** Milliseconds since what is known was fetched; endless when nothing is. */
  private age(now: number): number {
    return now - (this.known?.atMs ?? -Infinity);
  }

  private async renew(): Promise<void> {
    try {
      const value = await this.fetch();
      this.known = { value, atMs: this.clock.monotonic() };
      this.lastProblem = undefined;
    } catch (error) {
      // What is known stays in use.
      this.lastProblem = error;
    }
  }
}

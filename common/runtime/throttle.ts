import type { Clock, Timer } from '#common/clock.ts';
import { type Priority, priorities } from './contracts.ts';

/** Limits of one client towards one API server. */
export interface ThrottleOptions {
  /** Requests per second in the long run. Infinity: the server's own priority and fairness decides. */
  readonly qps: number;
  /** Requests that may go at once after a quiet time. */
  readonly burst: number;
  /** Requests without an answer at the same time; watches don't count. */
  readonly inFlightMax: number;
  /** Requests that may wait for their turn. */
  readonly waitingMax: number;
}

/** client-go's 5/10 is meant for kubectl; controllers there run at 20–100. */
export const defaultThrottle: ThrottleOptions = { qps: 100, burst: 200, inFlightMax: 128, waitingMax: 20_000 };

/** Of this many grants under load, one goes to the least lane that waits, so that none starves. */
const fairShare = 16;

interface Waiter {
  readonly holds: boolean;
  grant(): void;
  refuse(reason: Error): void;
}

/**
 * A token bucket with lanes: when requests have to wait, those of an earlier lane (contracts.ts, `priorities`) go
 * first. Requests of the `lease` lane never wait: they take tokens on credit, since a leader that can't renew because of
 * its own traffic loses its lease.
 */
export class Throttle {
  private readonly options: ThrottleOptions;
  private readonly clock: Clock;
  private readonly lanes = new Map<Priority, Set<Waiter>>(priorities.map((name) => [name, new Set()]));
  private tokens: number;
  private refilledAt: number;
  private inFlight = 0;
  private grants = 0;
  private timer: Timer | undefined;

  constructor(options: ThrottleOptions, clock: Clock) {
    for (const [name, value] of Object.entries(options)) {
      if (!(value > 0)) throw new RangeError(`throttle.${name} must be above 0, not ${value}`);
    }
    if (options.burst < 1) throw new RangeError(`throttle.burst must be at least 1, not ${options.burst}`);
    this.options = options;
    this.clock = clock;
    this.tokens = options.burst;
    this.refilledAt = clock.monotonic();
  }

  /** Requests that wait for their turn. */
  get waiting(): number {
    let count = 0;
    for (const lane of this.lanes.values()) count += lane.size;
    return count;
  }

  /**
   * Waits for a turn. With `holds`, a place among the requests under way is taken until `release`.
   * @returns undefined when the turn is now, so that the usual case costs no promise.
   * @throws the signal's reason when it aborts first; an Error when too many wait.
   */
  acquire(priority: Priority, holds: boolean, signal?: AbortSignal): Promise<void> | undefined {
    signal?.throwIfAborted();
    this.refill();
    if (priority === 'lease' || (this.waiting === 0 && this.hasRoom(holds))) {
      this.take(holds);
      return undefined;
    }
    if (this.waiting >= this.options.waitingMax) {
      return Promise.reject(
        new Error(
          `${this.options.waitingMax} requests wait already: lower the controllers' concurrency or raise the qps`,
        ),
      );
    }
    return this.wait(priority, holds, signal);
  }

  /** Gives the place of a request that held one to the next. */
  release(): void {
    this.inFlight--;
    this.grantWaiting();
  }

  /** Refuses everyone who waits and stops the timer. */
  close(reason: Error): void {
    this.timer?.cancel();
    for (const lane of this.lanes.values()) {
      for (const waiter of [...lane]) waiter.refuse(reason);
    }
  }

  private async wait(priority: Priority, holds: boolean, signal: AbortSignal | undefined): Promise<void> {
    const lane = this.lane(priority);
    await new Promise<void>((resolve, reject) => {
      const onAbort = (): void => {
        lane.delete(waiter);
        reject(signal?.reason as Error);
      };
      const settle = (): void => {
        lane.delete(waiter);
        signal?.removeEventListener('abort', onAbort);
      };
      const waiter: Waiter = {
        holds,
        grant: () => {
          settle();
          resolve();
        },
        refuse: (reason) => {
          settle();
          reject(reason);
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      lane.add(waiter);
      this.grantWaiting();
    });
  }

  private grantWaiting(): void {
    this.refill();
    for (;;) {
      const lane = this.nextLane();
      const waiter = lane?.values().next().value;
      if (lane === undefined || waiter === undefined) return;
      if (!this.hasRoom(waiter.holds)) break;
      this.grants++;
      this.take(waiter.holds);
      waiter.grant();
    }
    if (this.tokens < 1) this.wakeWhenRefilled();
  }

  private nextLane(): Set<Waiter> | undefined {
    const waiting = priorities.map((name) => this.lane(name)).filter((lane) => lane.size > 0);
    return this.grants % fairShare === fairShare - 1 ? waiting.at(-1) : waiting[0];
  }

  private hasRoom(holds: boolean): boolean {
    return this.tokens >= 1 && (!holds || this.inFlight < this.options.inFlightMax);
  }

  private take(holds: boolean): void {
    this.tokens--;
    if (holds) this.inFlight++;
  }

  private refill(): void {
    const now = this.clock.monotonic();
    if (this.options.qps === Infinity) this.tokens = this.options.burst;
    else {
      const earned = ((now - this.refilledAt) / 1000) * this.options.qps;
      this.tokens = Math.min(this.options.burst, this.tokens + earned);
    }
    this.refilledAt = now;
  }

  private wakeWhenRefilled(): void {
    this.timer?.cancel();
    const delayMs = Math.ceil(((1 - this.tokens) / this.options.qps) * 1000);
    this.timer = this.clock.after(delayMs, () => {
      this.timer = undefined;
      this.grantWaiting();
    });
  }

  private lane(priority: Priority): Set<Waiter> {
    const lane = this.lanes.get(priority);
    if (lane === undefined) throw new TypeError(`No such priority: ${priority}`);
    return lane;
  }
}

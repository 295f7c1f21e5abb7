import type { Clock, Timer } from '#common/clock.ts';
import type { Random } from '#common/random.ts';
import { type BackoffOptions, halfJitterMs } from './backoff.ts';
import { DelayHeap } from './delay-heap.ts';
import { FifoSet } from './fifo-set.ts';
import type { RuntimeMetrics } from './metrics.ts';

/** `change`: someone changed something. `resync`: another look at what was there already. */
export type Lane = 'change' | 'resync';

/** A key handed to a worker. */
export interface QueueItem {
  readonly key: string;
  readonly lane: Lane;
}

/** How a queue is put together. */
export interface QueueOptions {
  /** Label of metrics. */
  readonly name: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly metrics: RuntimeMetrics;
  /** Of keys that failed. Default 100 ms to 5 min. */
  readonly backoff?: BackoffOptions | undefined;
  /**
   * Keys that may be known at once (waiting, delayed, worked on); default 1,000,000. Keys beyond are dropped, and
   * `takeOverflow` tells, upon which the owner has to look at everything again.
   */
  readonly keysMax?: number | undefined;
}

/** Of this many keys one is taken from the resync lane though changes wait, so that it never starves. */
const fairShare = 8;
const defaultBackoff: BackoffOptions = { baseMs: 100, maxMs: 300_000 };
const defaultKeysMax = 1_000_000;

interface Entry {
  /** Lane in which the key waits. */
  lane: Lane | undefined;
  addedAt: number;
  isWorked: boolean;
  /** Lane of the next turn, when the key was added while being worked on. */
  again: Lane | undefined;
  failures: number;
}

/**
 * The work queue of a controller: a key waits at most once, is worked on by one worker at a time, and comes again
 * when it was added meanwhile. Changes go before resyncs. Failed keys wait with exponential back-off and jitter.
 */
export class WorkQueue {
  private readonly options: QueueOptions;
  private readonly clock: Clock;
  private readonly keysMax: number;
  private readonly entries = new Map<string, Entry>();
  private readonly waiting: Readonly<Record<Lane, FifoSet>> = { change: new FifoSet(), resync: new FifoSet() };
  private readonly delayed = new DelayHeap<Lane>();
  private readonly takers: ((item: QueueItem | undefined) => void)[] = [];
  private timer: Timer | undefined;
  private timerAt = Infinity;
  private turns = 0;
  private isClosed = false;
  private hasOverflowed = false;

  constructor(options: QueueOptions) {
    this.options = options;
    this.clock = options.clock;
    this.keysMax = options.keysMax ?? defaultKeysMax;
  }

  /** Keys that wait for a worker now. */
  get depth(): number {
    return this.waiting.change.size + this.waiting.resync.size;
  }

  /** Keys known in any way. */
  get size(): number {
    return this.entries.size;
  }

  /** Adds a key. A key that waits for a resync already moves up when it changes. After `close`: nothing. */
  add(key: string, lane: Lane): void {
    const entry = this.isClosed ? undefined : this.entry(key);
    if (entry === undefined) return;
    if (entry.isWorked) entry.again = before(entry.again, lane);
    else this.enqueue(key, entry, lane);
  }

  /** Adds a key after a time; when it is delayed already, the earlier time counts. */
  addAfter(key: string, delayMs: number, lane: Lane): void {
    if (delayMs <= 0) {
      this.add(key, lane);
      return;
    }
    if (this.isClosed || this.entry(key) === undefined) return;
    this.delayed.set(key, this.clock.monotonic() + delayMs, lane, before);
    this.arm();
  }

  /** Adds a key that failed, after a time that doubles with each failure in a row. @returns the time, milliseconds. */
  addFailed(key: string, lane: Lane): number {
    const entry = this.entry(key);
    if (entry === undefined) return 0;
    const delayMs = halfJitterMs(this.options.backoff ?? defaultBackoff, entry.failures++, this.options.random);
    this.addAfter(key, delayMs, lane);
    return delayMs;
  }

  /** Forgets the failures of a key: it worked, or trying again is pointless. */
  forget(key: string): void {
    const entry = this.entries.get(key);
    if (entry === undefined) return;
    entry.failures = 0;
    this.dropIfIdle(key, entry);
  }

  /** Failures in a row of a key. */
  failuresOf(key: string): number {
    return this.entries.get(key)?.failures ?? 0;
  }

  /** The next key, when there is one; each taken key must be given to `finish`. @returns undefined once closed. */
  async take(): Promise<QueueItem | undefined> {
    if (this.isClosed) return undefined;
    return this.next() ?? new Promise((resolve) => this.takers.push(resolve));
  }

  /** The worker is done with a key: it may be taken again. */
  finish(key: string): void {
    const entry = this.entries.get(key);
    if (entry?.isWorked !== true) throw new TypeError(`Key ${key} was finished without being taken`);
    entry.isWorked = false;
    const again = entry.again;
    entry.again = undefined;
    if (again !== undefined && !this.isClosed) this.enqueue(key, entry, again);
    else this.dropIfIdle(key, entry);
  }

  /** True once after keys were dropped, when there is room again for all that must be looked at anew. */
  takeOverflow(): boolean {
    if (!this.hasOverflowed || this.entries.size > this.keysMax / 2) return false;
    this.hasOverflowed = false;
    return true;
  }

  /** Hands out nothing more: workers that wait get undefined. Keys being worked on may still be finished. */
  close(): void {
    this.isClosed = true;
    this.timer?.cancel();
    this.timer = undefined;
    this.waiting.change.clear();
    this.waiting.resync.clear();
    for (const taker of this.takers.splice(0)) taker(undefined);
  }

  private entry(key: string): Entry | undefined {
    const known = this.entries.get(key);
    if (known !== undefined) return known;
    if (this.entries.size >= this.keysMax) {
      this.hasOverflowed = true;
      return undefined;
    }
    const made: Entry = { lane: undefined, addedAt: 0, isWorked: false, again: undefined, failures: 0 };
    this.entries.set(key, made);
    return made;
  }

  private enqueue(key: string, entry: Entry, lane: Lane): void {
    const { metrics, name } = this.options;
    if (entry.lane === undefined) {
      entry.addedAt = this.clock.monotonic();
      metrics.queueAdds.inc({ controller: name, lane });
    } else {
      if (entry.lane === lane || lane === 'resync') return;
      this.waiting[entry.lane].delete(key);
      this.showDepth(entry.lane);
    }
    entry.lane = lane;
    this.waiting[lane].add(key);
    const taker = this.takers.shift();
    if (taker === undefined) this.showDepth(lane);
    else taker(this.next());
  }

  private next(): QueueItem | undefined {
    const lane = this.nextLane();
    const key = this.waiting[lane].shift();
    if (key === undefined) return undefined;
    const entry = this.entry(key);
    if (entry === undefined) return undefined;
    entry.lane = undefined;
    entry.isWorked = true;
    this.turns++;
    this.showDepth(lane);
    const { metrics, name } = this.options;
    metrics.queueSeconds.observe({ controller: name, lane }, (this.clock.monotonic() - entry.addedAt) / 1000);
    return { key, lane };
  }

  private nextLane(): Lane {
    const { change, resync } = this.waiting;
    if (change.size === 0) return 'resync';
    return resync.size > 0 && this.turns % fairShare === fairShare - 1 ? 'resync' : 'change';
  }

  private arm(): void {
    const firstAt = this.delayed.firstAt;
    if (firstAt === undefined || firstAt >= this.timerAt) return;
    this.timer?.cancel();
    this.timerAt = firstAt;
    // Node's timers overflow beyond 2^31 ms; a far time is simply looked at again.
    const delayMs = Math.min(Math.max(0, firstAt - this.clock.monotonic()), 0x7fff_ffff);
    this.timer = this.clock.after(delayMs, () => {
      this.timerAt = Infinity;
      this.releaseDue();
      this.arm();
    });
  }

  private releaseDue(): void {
    const now = this.clock.monotonic();
    for (let due = this.delayed.popDue(now); due !== undefined; due = this.delayed.popDue(now)) {
      this.add(due.key, due.value);
    }
  }

  private dropIfIdle(key: string, entry: Entry): void {
    const isIdle = entry.lane === undefined && !entry.isWorked && entry.failures === 0 && !this.delayed.has(key);
    if (isIdle) this.entries.delete(key);
  }

  private showDepth(lane: Lane): void {
    this.options.metrics.queueDepth.set({ controller: this.options.name, lane }, this.waiting[lane].size);
  }
}

/** The lane that goes first of two. */
function before(a: Lane | undefined, b: Lane): Lane {
  return a === 'change' ? 'change' : b;
}

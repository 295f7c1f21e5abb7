import { freemem, loadavg, totalmem } from 'node:os';
import type { Clock, Timer } from '#common/clock.ts';

/** Live values by name. */
export type LiveValues = Readonly<Record<string, number>>;

/** Where live values come from; on Kubernetes the kubelet's summary adds to the machine's own. */
export type LiveSource = () => LiveValues;

/** The machine's own values: `load1`, `load5` (runnable processes), `memoryFree` and `memoryTotal` (bytes). */
export const machineSource: LiveSource = () => {
  const [load1 = 0, load5 = 0] = loadavg();
  return { load1, load5, memoryFree: freemem(), memoryTotal: totalmem() };
};

const subscribersMax = 256;
/** A value is told of when it moved by this part of what was last told, so that noise stays quiet. */
const noteworthyShare = 0.05;

/**
 * Reads live values once a period and tells subscribers of noteworthy changes. Subscribers are bounded; one that is
 * too many is refused.
 */
export class LiveFeed {
  private values: LiveValues;
  private readonly subscribers = new Set<{ told: LiveValues; listener: (values: LiveValues) => void }>();
  private readonly source: LiveSource;
  private readonly clock: Clock;
  private readonly periodMs: number;
  private timer: Timer | undefined;
  private isTelling = false;

  constructor(source: LiveSource, clock: Clock, periodMs = 2_000) {
    this.source = source;
    this.clock = clock;
    this.periodMs = periodMs;
    this.values = source();
  }

  /** The values last read. */
  get current(): LiveValues {
    return this.values;
  }

  get subscriberCount(): number {
    return this.subscribers.size;
  }

  start(): void {
    this.timer = this.clock.after(this.periodMs, () => this.tick(), { unref: true });
  }

  stop(): void {
    this.timer?.cancel();
  }

  /** What is free has changed: everybody is told, once for all changes of one turn of the event loop. */
  changed(): void {
    if (this.isTelling || this.subscribers.size === 0) return;
    this.isTelling = true;
    queueMicrotask(() => {
      this.isTelling = false;
      for (const { listener } of [...this.subscribers]) listener(this.values);
    });
  }

  /** Reads now and tells who has to know. */
  refresh(): void {
    this.values = this.source();
    for (const subscriber of [...this.subscribers]) {
      if (!isNoteworthy(subscriber.told, this.values)) continue;
      subscriber.told = this.values;
      subscriber.listener(this.values);
    }
  }

  /**
   * Calls `listener` with the values now and after every noteworthy change.
   * @returns a function that ends the subscription; undefined when there are too many.
   */
  subscribe(listener: (values: LiveValues) => void): (() => void) | undefined {
    if (this.subscribers.size >= subscribersMax) return undefined;
    const subscriber = { told: this.values, listener };
    this.subscribers.add(subscriber);
    listener(this.values);
    return () => this.subscribers.delete(subscriber);
  }

  private tick(): void {
    this.refresh();
    this.start();
  }
}

function isNoteworthy(told: LiveValues, now: LiveValues): boolean {
  const names = new Set([...Object.keys(told), ...Object.keys(now)]);
  for (const name of names) {
    const before = told[name];
    const after = now[name];
    if (before === undefined || after === undefined) return true;
    if (Math.abs(after - before) > noteworthyShare * Math.max(Math.abs(before), 1e-9)) return true;
  }
  return false;
}

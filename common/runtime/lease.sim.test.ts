import { expect, test } from '@jest/globals';
import { type Clock, type Timer, VirtualClock } from '#common/clock.ts';
import { SeededRandom } from '#common/random.ts';
import { LeaseFence } from './fence.ts';
import { LeaseElector } from './lease.ts';
import { FakeLeases } from './testing/fake-leases.ts';
import { testParts } from './testing/parts.ts';

/** The machine's clock as a process sees it that is stopped (SIGSTOP) now and then: its timers fire only afterwards. */
class FreezableClock implements Clock {
  private readonly base: VirtualClock;
  private frozen: (() => void)[] | undefined;

  constructor(base: VirtualClock) {
    this.base = base;
  }

  now(): number {
    return this.base.now();
  }

  monotonic(): number {
    return this.base.monotonic();
  }

  freeze(): void {
    this.frozen ??= [];
  }

  /** Runs the timers that came due meanwhile, in an order that a thaw may well give: any. */
  thaw(random: SeededRandom): void {
    const due = this.frozen?.toSorted(() => random.next() - 0.5) ?? [];
    this.frozen = undefined;
    for (const fire of due) fire();
  }

  after(delayMs: number, fn: () => void): Timer {
    let isCancelled = false;
    const fire = (): void => {
      if (!isCancelled) fn();
    };
    const timer = this.base.after(delayMs, () => {
      if (this.frozen === undefined) fire();
      else this.frozen.push(fire);
    });
    return {
      cancel: () => {
        isCancelled = true;
        timer.cancel();
      },
    };
  }

  async sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const timer = this.after(delayMs, resolve);
      signal?.addEventListener('abort', () => {
        timer.cancel();
        reject(signal.reason as Error);
      });
    });
  }
}

/** A process: candidate, then leader, then gone and started anew. */
function startProcess(base: VirtualClock, leases: FakeLeases, random: SeededRandom, name: string) {
  const clock = new FreezableClock(base);
  const network = { lossChance: 0.1, delayMaxMs: 400, isCut: false };
  const state = { clock, network, fence: new LeaseFence(clock), terms: 0 };
  const live = async (): Promise<never> => {
    for (let life = 0; ; life++) {
      state.fence = new LeaseFence(clock);
      const options = { namespace: 'x', name: 'y', identity: `${name}-${life}` };
      const parts = { ...testParts(clock, random.int(1e9)), clock, fence: state.fence, client: leases.client(network) };
      const elector = new LeaseElector(options, parts);
      const signal = new AbortController().signal;
      await elector.acquire(signal);
      state.terms++;
      await elector.hold(signal).catch(() => undefined);
    }
  };
  void live();
  return state;
}

test.each([11, 22, 33])(
  'with seed %i no two processes may write at the same time, and after healing one may',
  async (seed) => {
    const random = new SeededRandom(seed);
    const base = new VirtualClock();
    const leases = new FakeLeases(base, random);
    const all = ['a', 'b', 'c'].map((name) => startProcess(base, leases, random.fork(), name));
    const writers = (): number => all.filter(({ fence }) => fence.isOpen).length;
    // Act one: cuts and freezes, some longer than the lease.
    for (let step = 0; step < 4_000; step++) {
      const process = all[random.int(all.length)]!;
      const roll = random.int(100);
      if (roll === 0) process.network.isCut = true;
      else if (roll < 4) process.network.isCut = false;
      else if (roll === 4) process.clock.freeze();
      else if (roll < 8) process.clock.thaw(random);
      await base.advanceAsync(random.int(500));
      expect(writers()).toBeLessThanOrEqual(1);
    }
    expect(all.reduce((sum, { terms }) => sum + terms, 0)).toBeGreaterThan(3);
    // Act two: everything heals.
    for (const process of all) {
      process.network.isCut = false;
      process.network.lossChance = 0;
      process.clock.thaw(random);
    }
    for (let step = 0; step < 400; step++) {
      await base.advanceAsync(100);
      expect(writers()).toBeLessThanOrEqual(1);
    }
    expect(writers()).toBe(1);
  },
);

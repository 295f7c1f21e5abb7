/**
 * Flease on a virtual network and clock: messages are delayed, lost, doubled and reordered; nodes are cut off, crash
 * and come back without memory; clocks differ and drift within the bound. At no instant two nodes see themselves as
 * primary, and master epochs rise from lease to lease. When the faults end, a lease is agreed on.
 */
import { describe, expect, test } from '@jest/globals';
import { VirtualClock, type Clock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { SeededRandom } from '#common/random.ts';
import { Flease, NoLeaseError } from './flease.ts';
import { decodeFlease, encodeFlease } from './flease-message.ts';
import { upstreamTimers, type FleaseTimers } from './flease-proposer.ts';

const seeds = Number(process.env.XTREEMOS_SIM_SEEDS ?? 4);
const cell = '/file/v:1';
const shortTimers: FleaseTimers = { leaseMs: 4_000, dMaxMs: 300, messageTimeoutMs: 250, retriesMax: 3 };

interface Node {
  readonly uuid: string;
  flease: Flease | undefined;
  /** Survives crashes. */
  epoch: number;
  offsetMs: number;
  driftPpm: number;
  isCutOff: boolean;
}

class World {
  readonly clock = new VirtualClock(1_700_000_000_000);
  readonly random: SeededRandom;
  readonly nodes: Node[];
  readonly timers: FleaseTimers;
  readonly epochs: number[] = [];
  lossRate = 0;
  delayMaxMs = 20;
  private lastPrimary: string | undefined;

  constructor(seed: number, count: number, timers: FleaseTimers) {
    this.random = new SeededRandom(seed);
    this.timers = timers;
    this.nodes = Array.from({ length: count }, (_, index) => ({
      uuid: `osd-${index}`,
      flease: undefined,
      epoch: 0,
      // Any two clocks differ by less than dMax, also after drifting for the whole simulation.
      offsetMs: this.random.int(timers.dMaxMs * 0.6),
      driftPpm: this.random.int(200),
      isCutOff: false,
    }));
    for (const node of this.nodes) this.start(node, false);
  }

  start(node: Node, mustWait: boolean): void {
    const globalNow = (): number => {
      const elapsed = this.clock.monotonic();
      return Math.floor(this.clock.now() + node.offsetMs + (elapsed * node.driftPpm) / 1e6);
    };
    const flease: Flease = new Flease({
      identity: node.uuid,
      clock: mortal(this.clock, () => node.flease === flease),
      globalNow,
      random: this.random.fork(),
      logger: silentLogger,
      timers: this.timers,
      store: {
        loadEpoch: async () => node.epoch,
        saveEpoch: async (_, epoch) => {
          await this.clock.sleep(this.random.int(10));
          node.epoch = Math.max(node.epoch, epoch);
        },
        loadView: async () => 0,
      },
      send: (to, message) => {
        if (node.flease === flease) this.deliver(node, to, encodeFlease(message));
      },
      mustWait,
    });
    node.flease = flease;
    flease.open(cell, this.others(node), 0);
  }

  crash(node: Node): void {
    node.flease = undefined;
  }

  restart(node: Node): void {
    this.crash(node);
    this.start(node, true);
  }

  others(node: Node): string[] {
    return this.nodes.filter((other) => other !== node).map(({ uuid }) => uuid);
  }

  /** Fails when two live nodes are primary, or a new primary has no higher epoch than all before. */
  check(): void {
    const primaries = this.nodes.flatMap(({ uuid, flease }) => {
      const lease = flease?.lease(cell);
      return lease?.role === 'primary' ? [{ uuid, epoch: lease.masterEpoch }] : [];
    });
    expect(primaries.length).toBeLessThanOrEqual(1);
    const [primary] = primaries;
    if (primary === undefined) return;
    const name = `${primary.uuid}/${primary.epoch}`;
    if (name === this.lastPrimary) return;
    expect(primary.epoch).toBeGreaterThan(Math.max(0, ...this.epochs));
    this.lastPrimary = name;
    this.epochs.push(primary.epoch);
  }

  async run(durationMs: number, stepMs = 5): Promise<void> {
    const end = this.clock.monotonic() + durationMs;
    while (this.clock.monotonic() < end) {
      await this.clock.advanceAsync(stepMs);
      this.check();
    }
  }

  /** Asks a node for a lease, as a client's request does. */
  ask(node: Node): void {
    node.flease?.acquire(cell).catch((error: unknown) => expect(error).toBeInstanceOf(NoLeaseError));
  }

  private deliver(from: Node, to: string, bytes: Buffer): void {
    const copies = this.random.int(20) === 0 ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      if (this.random.next() < this.lossRate) continue;
      this.clock.after(this.random.int(this.delayMaxMs), () => {
        const target = this.nodes.find(({ uuid }) => uuid === to);
        if (target === undefined || target.isCutOff || from.isCutOff) return;
        target.flease?.receive(from.uuid, decodeFlease(bytes)!);
      });
    }
  }
}

/** A clock whose timers do nothing when their node has crashed. */
function mortal(clock: Clock, isAlive: () => boolean): Clock {
  return {
    now: () => clock.now(),
    monotonic: () => clock.monotonic(),
    after: (delayMs, fn) => clock.after(delayMs, () => { if (isAlive()) fn(); }), // prettier-ignore
    sleep: async (delayMs, signal) => clock.sleep(delayMs, signal),
  };
}

const groups = [
  ['three nodes', 3],
  ['five nodes', 5],
] as const;
const times = [
  ["upstream's times", upstreamTimers],
  ['short times', shortTimers],
] as const;

describe.each(groups)('%s', (_, count) => {
  describe.each(times)('with %s', (__, timers) => {
    test.each(Array.from({ length: seeds }, (___, index) => index + 1))(
      'never have two primaries, and agree when faults end (seed %i)',
      async (seed) => {
        const world = new World(seed, count, timers);
        for (let act = 0; act < 30; act++) {
          world.lossRate = world.random.int(4) * 0.1;
          world.delayMaxMs = 1 + world.random.int(timers.messageTimeoutMs);
          const node = world.nodes[world.random.int(count)]!;
          switch (world.random.int(7)) {
            case 0:
              world.crash(node);
              break;
            case 1:
              node.isCutOff = true;
              break;
            case 2:
              node.isCutOff = false;
              if (node.flease === undefined) world.start(node, true);
              break;
            case 3:
              if (node.flease?.lease(cell).role === 'primary') {
                const { flease } = node;
                void flease.release(cell).then(() => flease.open(cell, world.others(node), 0));
              }
              break;
            case 4:
              // All but one lose their memory and come back at once.
              for (const other of world.nodes) if (other !== node) world.restart(other);
              break;
            case 5:
              // The primary is cut off and cannot renew.
              for (const any of world.nodes) any.isCutOff = any.flease?.lease(cell).role === 'primary';
              break;
            default:
              break;
          }
          const end = world.clock.monotonic() + 200 + world.random.int(1.5 * timers.leaseMs);
          while (world.clock.monotonic() < end) {
            for (const any of world.nodes) if (world.random.int(3) === 0) world.ask(any);
            await world.run(200, 20);
          }
        }
        world.lossRate = 0;
        world.delayMaxMs = 20;
        for (const node of world.nodes) {
          node.isCutOff = false;
          if (node.flease === undefined) world.start(node, true);
        }
        for (let round = 0; round < 40; round++) {
          for (const node of world.nodes) world.ask(node);
          await world.run(timers.leaseMs / 4, 20);
        }
        const roles = world.nodes.map(({ flease }) => flease?.lease(cell).role);
        expect(roles.filter((role) => role === 'primary')).toHaveLength(1);
        expect(roles.filter((role) => role === 'backup')).toHaveLength(count - 1);
      },
      60_000,
    );
  });
});

describe('a lease', () => {
  test('is renewed for as long as the file is open, with the same epoch', async () => {
    const world = new World(1, 3, upstreamTimers);
    world.ask(world.nodes[0]!);
    await world.run(100_000, 50);
    expect(world.epochs).toEqual([1]);
    expect(world.nodes[0]!.flease!.lease(cell)).toMatchObject({ role: 'primary' });
    expect(world.nodes[1]!.flease!.lease(cell)).toMatchObject({ role: 'backup', holder: 'osd-0' });
  });

  test('of a node that crashed is taken over within six seconds with short times', async () => {
    const world = new World(2, 3, shortTimers);
    world.ask(world.nodes[0]!);
    await world.run(10_000, 20);
    world.crash(world.nodes[0]!);
    const crashedAt = world.clock.monotonic();
    while (world.nodes[1]!.flease!.lease(cell).role !== 'primary') {
      world.ask(world.nodes[1]!);
      await world.run(100, 20);
      expect(world.clock.monotonic() - crashedAt).toBeLessThan(6_000);
    }
  });

  test('that is handed over is taken within a second, also with long times', async () => {
    const world = new World(3, 3, upstreamTimers);
    world.ask(world.nodes[0]!);
    await world.run(5_000);
    void world.nodes[0]!.flease!.release(cell);
    world.check();
    expect(world.nodes[0]!.flease!.lease(cell).role).toBe('none');
    const releasedAt = world.clock.monotonic();
    await world.run(200);
    while (world.nodes[1]!.flease!.lease(cell).role !== 'primary') {
      world.ask(world.nodes[1]!);
      await world.run(50);
      expect(world.clock.monotonic() - releasedAt).toBeLessThan(1_000);
    }
  });

  test('is not given out by a node that still waits after a crash', async () => {
    const world = new World(4, 3, shortTimers);
    world.start(world.nodes[0]!, true);
    await expect(world.nodes[0]!.flease!.acquire(cell)).rejects.toThrow('waits for old leases to end');
  });

  test('is refused to a node whose view is old', async () => {
    const world = new World(5, 3, shortTimers);
    for (const node of world.nodes.slice(1)) node.flease!.open(cell, world.others(node), 3);
    const outcome = world.nodes[0]!.flease!.acquire(cell).catch((error: unknown) => error);
    await world.run(2_000);
    expect(await outcome).toMatchObject({ name: 'NoLeaseError', view: 3 });
  });

  test('is refused to everybody when the view is invalidated, and given again with the next view', async () => {
    const world = new World(6, 3, shortTimers);
    world.ask(world.nodes[0]!);
    await world.run(1_000);
    for (const node of world.nodes) node.flease!.invalidate(cell);
    world.check();
    expect(world.nodes.map(({ flease }) => flease!.lease(cell).role)).toEqual(['none', 'none', 'none']);
    await expect(world.nodes[1]!.flease!.acquire(cell)).rejects.toThrow('invalidated');
    await world.run(shortTimers.leaseMs + 2 * shortTimers.dMaxMs);
    for (const node of world.nodes) node.flease!.open(cell, world.others(node), 1);
    world.ask(world.nodes[2]!);
    await world.run(1_000);
    expect(world.nodes[2]!.flease!.lease(cell).role).toBe('primary');
  });

  test('cannot be had without a majority', async () => {
    const world = new World(7, 3, shortTimers);
    world.crash(world.nodes[1]!);
    world.crash(world.nodes[2]!);
    const outcome = world.nodes[0]!.flease!.acquire(cell).catch((error: unknown) => error);
    await world.run(5_000);
    expect(String(await outcome)).toContain('no majority of the replicas answered');
  });

  test('clocks that differ by more than the bound are reported', async () => {
    const world = new World(8, 3, shortTimers);
    world.nodes[0]!.offsetMs = 0;
    world.nodes[1]!.offsetMs = world.nodes[2]!.offsetMs = 100;
    world.ask(world.nodes[0]!);
    await world.run(3_000);
    world.nodes[1]!.offsetMs = world.nodes[2]!.offsetMs = 20_000;
    world.nodes[0]!.flease!.close(cell);
    world.nodes[0]!.flease!.open(cell, world.others(world.nodes[0]!), 0);
    const outcome = world.nodes[0]!.flease!.acquire(cell).catch((error: unknown) => error);
    await world.clock.advanceAsync(10_000);
    expect(await outcome).toBeInstanceOf(NoLeaseError);
  });
});

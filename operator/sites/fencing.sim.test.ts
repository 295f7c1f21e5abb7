/** Jobs of one site that run at another, while links, processes and clocks fail: a task never runs twice at once, and none is forgotten. */
import { describe, expect, jest, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { SeededRandom } from '#common/random.ts';
import { type Execution, executions } from '#crds/execution.ts';
import { isEnded, type RunFinding, runsOf } from '#operator/controllers/execution/observe.ts';
import { anExecution } from '#operator/testing/jobs.ts';
import type { Stored } from '#runtime/types.ts';
import { AwayParts } from './away.ts';
import { MemoryKind } from './testing/memory-api.ts';
import { noVolumes, TestLink, WorkingSite } from './testing/two-sites.ts';

jest.setTimeout(120_000);
const second = 1_000;
const minute = 60 * second;
const graceSeconds = 5;

/** A job of one task, which its home has run at the other site, and itself for a while when it was lost there. */
interface Job {
  readonly name: string;
  run: number;
  known: RunFinding | undefined;
  homeUntil: number;
  readonly lost: string[];
  /** Containers of its task that run now, wherever. */
  copies: number;
  starts: number;
}

class World {
  readonly clock = new VirtualClock();
  readonly random: SeededRandom;
  readonly link: TestLink;
  readonly far: WorkingSite;
  readonly jobs: Job[];
  readonly doubled: string[] = [];
  private readonly executions: MemoryKind<Execution>;
  private away: { readonly parts: AwayParts; readonly life: AbortController } | undefined;

  constructor(seed: number, jobs: number) {
    this.random = new SeededRandom(seed);
    this.link = new TestLink(this.clock, this.random);
    this.executions = new MemoryKind(executions, this.clock, this.random);
    this.far = new WorkingSite(
      this.clock,
      this.random,
      this.link,
      (name) => this.begin(this.jobNamed(name), 'there'),
      (name) => {
        this.jobNamed(name).copies--;
      },
    );
    this.jobs = Array.from({ length: jobs }, (_, index) => ({
      ...{ name: `job-${index}`, run: 0, known: undefined, homeUntil: Infinity, lost: [], copies: 0, starts: 0 },
    }));
    this.far.start();
    this.startHome();
    for (const job of this.jobs) {
      const template = { image: 'busybox', command: ['sleep'], terminationGraceSeconds: graceSeconds };
      this.executions.write({ ...anExecution(job.name, { template, keepLogs: false }), metadata: metaOf(job) });
      this.placeAway(job);
    }
  }

  startHome(): void {
    const life = new AbortController();
    const parts = new AwayParts({
      ...{ executions: this.executions.cache(), channels: this.link.channels, clock: this.clock, log: silentLogger },
      members: { principalOf: () => ({ issuer: 'i', subject: 's' }), userNameOf: () => undefined },
      volumes: noVolumes,
      keepLogs: async () => Promise.resolve(),
    });
    this.away = { parts, life };
    void parts.run(life.signal);
  }

  killHome(): void {
    this.away?.life.abort(new Error('killed'));
    this.away = undefined;
  }

  /** Time goes by, and the home looks at its jobs. */
  async pass(durationMs: number): Promise<void> {
    for (let gone = 0; gone < durationMs; gone += 500) {
      await this.clock.advanceAsync(500);
      for (const job of this.jobs) this.look(job);
    }
  }

  /** Has the home give the task up by itself, as when a job is suspended. */
  suspend(job: Job): void {
    const execution = this.executionOf(job);
    if (execution.spec.placements.length > 0) this.place(job, [{ ...execution.spec.placements[0]!, isEnding: true }]);
  }

  private look(job: Job): void {
    if (this.away === undefined) return;
    if (job.homeUntil < Infinity) {
      if (this.clock.monotonic() < job.homeUntil) return;
      job.copies--;
      job.homeUntil = Infinity;
      this.placeAway(job);
      return;
    }
    const execution = this.executionOf(job);
    for (const task of runsOf(execution)) {
      job.known = this.away.parts.findingOf(execution, task, job.known);
      if (!isEnded(job.known)) continue;
      job.lost.push(job.known.reason ?? job.known.state);
      this.begin(job, 'at home');
      this.place(job, []);
      job.homeUntil = this.clock.monotonic() + 3 * second + this.random.int(20 * second);
    }
  }

  private begin(job: Job, where: string): void {
    job.starts++;
    if (++job.copies > 1)
      this.doubled.push(`${job.name} ${where} at ${this.clock.monotonic()} after ${job.lost.at(-1) ?? 'nothing'}`);
  }

  private placeAway(job: Job): void {
    this.place(job, [{ run: `r${++job.run}`, site: 'far', node: 'n1', tasks: '0', hold: `${job.name}-${job.run}` }]);
  }

  private place(job: Job, placements: Execution['spec']['placements']): void {
    const execution = this.executionOf(job);
    this.executions.write({ ...execution, spec: { ...execution.spec, placements } });
  }

  private executionOf(job: Job): Stored<Execution> {
    return this.executions.objects.get(`vo-physics/${job.name}`)!;
  }

  private jobNamed(name: string): Job {
    return this.jobs.find((job) => job.name === name)!;
  }
}

const metaOf = ({ name }: Job): Stored<Execution>['metadata'] => ({
  ...{ name, namespace: 'vo-physics', uid: `uid-${name}`, resourceVersion: '0' },
  creationTimestamp: '2026-01-01T00:00:00Z',
});

/** One thing that goes wrong, for so long at most. */
interface Trouble {
  readonly mostMs: number;
  begin(world: World): void;
  end(world: World): void;
}

const linkTrouble = (
  change: (random: SeededRandom) => Partial<Pick<TestLink, 'there' | 'back' | 'delayMaxMs'>>,
): Trouble => ({
  mostMs: 2 * minute,
  begin: ({ link, random }) => void Object.assign(link, change(random)),
  end: ({ link }) => link.mend(),
});

const troubles: Readonly<Record<string, Trouble>> = {
  cut: linkTrouble(() => ({ there: 'lost', back: 'lost' })),
  oneWay: linkTrouble((random) => (random.int(2) === 0 ? { there: 'lost' } : { back: 'lost' })),
  stuck: linkTrouble((random) => ({ there: 'stuck', back: random.int(2) === 0 ? 'stuck' : 'lost' })),
  slow: linkTrouble(() => ({ delayMaxMs: 12 * second })),
  homeRestart: {
    mostMs: 20 * second,
    begin: (world) => world.killHome(),
    end: (world) => world.startHome(),
  },
  /** Within what a change of leader takes. */
  farRestart: {
    mostMs: 15 * second,
    begin: ({ far }) => far.kill(),
    end: ({ far }) => far.start(),
  },
  /** Nobody is there to end what is not its own any more, but the nodes themselves. */
  farGone: {
    mostMs: 4 * minute,
    begin: ({ far }) => far.kill(),
    end: ({ far }) => far.start(),
  },
  clockSet: {
    mostMs: 2 * minute,
    begin: ({ far, random }) => void (far.clock.offsetMs += (random.int(2) === 0 ? -10 : 10) * minute),
    end: () => undefined,
  },
  suspend: {
    mostMs: 20 * second,
    begin: (world) => world.suspend(world.jobs[world.random.int(world.jobs.length)]!),
    end: () => undefined,
  },
};

describe('work at another site', () => {
  test.each([1, 2, 3, 4])('never runs twice at once, and goes on after everything (seed %d)', async (seed) => {
    const world = new World(seed, 6);
    await world.pass(10 * second);
    const names = Object.keys(troubles);
    for (let count = 0; count < 40; count++) {
      const pair = [...new Set([names[world.random.int(names.length)]!, names[world.random.int(names.length)]!])];
      const both = pair.map((name) => troubles[name]!);
      for (const trouble of both) trouble.begin(world);
      await world.pass(world.random.int(Math.min(...both.map(({ mostMs }) => mostMs))));
      for (const trouble of both) trouble.end(world);
      await world.pass(world.random.int(40 * second));
      expect({ pair, doubled: world.doubled }).toEqual({ pair, doubled: [] });
    }
    world.link.mend();
    await world.pass(5 * minute);
    expect(world.doubled).toEqual([]);
    expect(new Set(world.jobs.flatMap(({ lost }) => lost))).toContain('SiteLost');
    for (const job of world.jobs) expect({ name: job.name, copies: job.copies }).toEqual({ name: job.name, copies: 1 });
  });

  test.each([1, 2])('is not moved by what is short (seed %d)', async (seed) => {
    const world = new World(seed, 4);
    await world.pass(10 * second);
    const short = ['cut', 'oneWay', 'stuck', 'slow', 'homeRestart', 'farRestart'];
    for (let count = 0; count < 30; count++) {
      const trouble = troubles[short[world.random.int(short.length)]!]!;
      trouble.begin(world);
      await world.pass(world.random.int(12 * second));
      trouble.end(world);
      await world.pass((10 + world.random.int(20)) * second);
    }
    for (const { lost, starts, copies } of world.jobs)
      expect({ lost, starts, copies }).toEqual({ lost: [], starts: 1, copies: 1 });
  });
});

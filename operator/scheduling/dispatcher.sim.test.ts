/** Many jobs of several job managers on real ledgers, in one process and on a virtual clock. */
import { describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { createRegistry } from '#common/metrics.ts';
import { SeededRandom } from '#common/random.ts';
import { Predicates } from '#proto/selector/predicate.ts';
import { FakeResourceSelection } from '#proto/selector/testing/fake.ts';

import { Dispatcher, type Grant, type Want } from './dispatcher.ts';
import { IndexSet } from './index-set.ts';
import { DispatchMetrics } from './metrics.ts';
import { shapeOf } from './shape.ts';

const nodeCpu = 4_000;

interface Running {
  readonly grant: Grant;
  readonly job: SimJob;
}

interface SimJob {
  readonly key: string;
  readonly tasks: number;
  readonly gang: number;
  readonly cpu: number;
  readonly runMs: number;
  readonly submittedAt: number;
  home: number;
  started: number;
  ended: number;
  startedAt: number;
}

/** A world of nodes with ledgers, and job managers that submit to them. */
class World {
  readonly clock = new VirtualClock();
  readonly random: SeededRandom;
  readonly selection: FakeResourceSelection;
  readonly dispatchers: Dispatcher[] = [];
  readonly jobs = new Map<string, SimJob>();
  readonly running = new Map<string, Running[]>();
  peakUse = 0;
  private readonly abort = new AbortController();
  private readonly ends: Promise<void>[] = [];
  private readonly predicates = new Predicates(this.clock);

  constructor(seed: number, nodes: number, homes: number) {
    this.random = new SeededRandom(seed);
    const all = Array.from({ length: nodes }, (_, index) => ({
      name: `n${index}`,
      attributes: { arch: 'amd64' },
      allocatable: { cpu: nodeCpu, memory: 2 ** 34 },
    }));
    this.selection = new FakeResourceSelection(this.clock, all);
    for (const { name } of all) this.running.set(name, []);
    for (let home = 0; home < homes; home++) this.addHome(home);
  }

  private addHome(home: number): void {
    const dispatcher = new Dispatcher({
      selection: this.selection,
      predicates: this.predicates,
      clock: this.clock,
      random: this.random,
      log: silentLogger,
      metrics: new DispatchMetrics(createRegistry()),
      holder: `home-${home}`,
      reserved: () => [],
    });
    dispatcher.onAnswer((key) => this.take(home, key));
    this.dispatchers.push(dispatcher);
    this.ends.push(dispatcher.run(this.abort.signal));
  }

  submit(home: number, fields: Partial<SimJob> & { key: string }): void {
    const job: SimJob = {
      ...{ tasks: 1, gang: 0, cpu: 1_000, runMs: 5_000, submittedAt: this.clock.now(), home },
      ...{ started: 0, ended: 0, startedAt: NaN },
      ...fields,
    };
    this.jobs.set(job.key, job);
    this.want(job);
  }

  private want(job: SimJob): void {
    this.dispatchers[job.home]!.want({
      key: job.key,
      uid: `${job.key}-00000000`,
      shape: shapeOf(
        'physics',
        {
          requirements: { static: [{ attribute: 'arch', in: ['amd64'] }], dynamic: [] },
          placement: { spread: this.random.int(2) === 0 ? 'Pack' : 'Spread' },
          resources: { cpu: `${job.cpu}m`, memory: '1Mi', devices: [] },
        },
        this.predicates,
      ),
      tasks: IndexSet.range(job.started, job.tasks),
      gangMinimum: job.started === 0 ? job.gang : 0,
      priority: 0,
      submittedAt: job.submittedAt,
      owner: { apiVersion: 'xtreemos.io/v1alpha1', kind: 'GridJob', name: 'job', uid: 'uid' },
    } satisfies Want);
  }

  private take(home: number, key: string): void {
    const answer = this.dispatchers[home]!.take(key);
    const job = this.jobs.get(key);
    if (answer === undefined || job === undefined || answer.grants.length === 0) return;
    const got = answer.grants.reduce((sum, { tasks }) => sum + tasks.size, 0);
    if (job.started === 0) {
      expect(got).toBeGreaterThanOrEqual(job.gang);
      job.startedAt = this.clock.now();
    }
    job.started += got;
    for (const grant of answer.grants) this.start(job, grant);
    if (job.started < job.tasks) this.want(job);
  }

  /** Pods are bound under the hold, run, and go. */
  private start(job: SimJob, grant: Grant): void {
    const here = this.running.get(grant.node)!;
    const entry = { grant, job };
    here.push(entry);
    this.bind(grant.node);
    this.clock.after(job.runMs * (0.5 + this.random.next()), () => {
      here.splice(here.indexOf(entry), 1);
      job.ended += grant.tasks.size;
      this.bind(grant.node);
      for (const dispatcher of this.dispatchers) dispatcher.nudge();
    });
  }

  private bind(node: string): void {
    const pods = this.running.get(node)!.flatMap(({ grant, job }) =>
      [...grant.tasks].map((index) => ({
        ...{ uid: `${job.key}-${index}-${grant.run}`, claim: grant.hold, virtualOrganization: 'physics' },
        demand: { cpu: job.cpu, memory: 2 ** 20 },
      })),
    );
    const use = pods.reduce((sum, { demand }) => sum + demand.cpu, 0);
    this.peakUse = Math.max(this.peakUse, use);
    this.selection.setPods(node, pods);
  }

  async untilAllEnded(limitMs: number): Promise<void> {
    const end = this.clock.monotonic() + limitMs;
    while (this.clock.monotonic() < end && [...this.jobs.values()].some((job) => job.ended < job.tasks)) {
      await this.clock.advanceAsync(250);
    }
  }

  async close(): Promise<void> {
    this.abort.abort(new Error('the world ends'));
    await this.clock.advanceAsync(60_000);
    await Promise.all(this.ends);
  }
}

describe('job managers that compete for the same nodes', () => {
  test.each([1, 2, 3, 4, 5, 6])(
    'never get more than there is, never block each other, and finish all 200 jobs and gangs (seed %d)',
    async (seed) => {
      const world = new World(seed, 8, 3);
      for (let index = 0; index < 200; index++) {
        const isGang = index % 10 === 0;
        const tasks = isGang ? 4 + world.random.int(20) : 1 + world.random.int(3);
        world.submit(index % 3, { key: `vo-physics/j${index}`, tasks, gang: isGang ? tasks : 0 });
      }
      await world.untilAllEnded(30 * 60_000);
      const unfinished = [...world.jobs.values()].filter((job) => job.ended !== job.tasks).map((job) => job.key);
      expect(unfinished).toEqual([]);
      expect(world.peakUse).toBeLessThanOrEqual(nodeCpu);
      await world.close();
    },
    120_000,
  );

  test.each([1, 2, 3])(
    'start a gang as large as the site although small jobs keep coming (seed %d)',
    async (seed) => {
      const world = new World(seed, 4, 1);
      for (let index = 0; index < 16; index++) world.submit(0, { key: `vo-physics/first${index}` });
      await world.clock.advanceAsync(1_000);
      world.submit(0, { key: 'vo-physics/gang', tasks: 16, gang: 16 });
      const gang = world.jobs.get('vo-physics/gang')!;
      for (let index = 0; index < 1_000 && Number.isNaN(gang.startedAt); index++) {
        world.submit(0, { key: `vo-physics/small${index}` });
        await world.clock.advanceAsync(300);
      }
      // Small jobs could fill the site for ever: 16 run for 5 s on average, and one comes every 0.3 s.
      expect(gang.startedAt - gang.submittedAt).toBeLessThan(60_000);
      await world.untilAllEnded(30 * 60_000);
      expect(world.peakUse).toBeLessThanOrEqual(nodeCpu);
      await world.close();
    },
    120_000,
  );

  test('go on although the first in line is larger than any node', async () => {
    const world = new World(7, 2, 1);
    world.submit(0, { key: 'vo-physics/huge', cpu: 2 * nodeCpu });
    await world.clock.advanceAsync(40_000);
    for (let index = 0; index < 20; index++) world.submit(0, { key: `vo-physics/small${index}` });
    await world.clock.advanceAsync(5 * 60_000);
    const small = [...world.jobs.values()].filter(({ key }) => key !== 'vo-physics/huge');
    expect(small.filter(({ ended }) => ended === 0)).toEqual([]);
    await world.close();
  });
});

test('the backlog is the jobs that have just come: those without an answer, and those who did not take theirs', async () => {
  const world = new World(1, 1, 1);
  const [dispatcher] = world.dispatchers;
  // More than the node has room for: who was told so waits, and is no backlog.
  for (let index = 0; index < 6; index++) world.submit(0, { key: `physics/j${index}`, runMs: 60_000 });
  expect(dispatcher?.backlog).toBe(6);
  await world.clock.advanceAsync(1_000);
  expect(dispatcher?.backlog).toBe(0);
  await world.close();
});

/**
 * Sites, links and operators are lost while tasks of one site run at another. Whatever happens, no task ever runs twice at once: the processes
 * themselves are counted, on the machine that bears all nodes. Losses are noticed and made up for in time, and what is back is clean.
 */
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import type { Execution } from '#crds/execution.ts';
import type { Site } from '#crds/site.ts';
import { providerName, waitFor } from '#sites/harness.ts';
import { groupOf } from '#sites/instance.ts';
import { aTask } from '../job-objects.ts';
import type { Login, Product } from '../product.ts';
import { peerNames, TwoSites } from './two-sites.ts';
import { type Copy, Witness } from './witness.ts';

jest.setTimeout(600_000);
const second = 1_000;
const name = 'suite-loss';
const namespace = `vo-${name}`;
const far = peerNames.away;
/** Of the lease under which a site runs what is not its own. */
const leaseMs = 30 * second;
const noticedMs = 15 * second;
const restartedMs = 60 * second;
/** Kubernetes looks every 20 s for pods whose Node is gone, and believes it after 40 s; then the task is looked at anew. */
const forgottenMs = 120 * second;
// kind's clusters are Docker's to harm.
const describeLocal = providerName() === 'local' ? describe : describe.skip;

describeLocal('of two sites', () => {
  let sites: TwoSites;
  let witness: Witness;
  let alice: Login;

  beforeAll(async () => {
    sites = await TwoSites.start({
      ...{ name, nodes: 2, isNamed: true, populate: async (product) => product.join('alice') },
      settings: (isHome) => ['operator.siteHeartbeatSeconds=5', `site.attributes.country=${isHome ? 'FR' : 'IT'}`],
    });
    await sites.away.member('alice');
    alice = await sites.home.logIn('alice');
    witness = new Witness(sites.instance);
    witness.start();
  }, 600_000);

  afterAll(async () => {
    witness.stop();
    process.stderr.write(`The longest time between two looks at the processes was ${witness.longestPauseMs} ms\n`);
    await TwoSites.remove(name);
  });

  afterEach(() => {
    expect(witness.doubled()).toEqual([]);
  });

  const isThere = 'node["site.country"] == "IT"';

  /**
   * Submits a job, and waits until it runs at the other site.
   * @param where - by default it may run at both and likes the other one better.
   */
  async function startThere(job: string, where: object = { rank: `${isThere} ? 1.0 : 0.0` }): Promise<Copy> {
    await sites.submit(job, { ...where, template: aTask('exec sleep 3600') }, alice);
    await sites.jobIs(job, ({ status }) => status?.tasks?.running === 1 && status.tasks.rows[0]?.site === far);
    return waitFor(`${job} runs there`, () => witness.runningCopiesOf(job)[0]);
  }

  /** Waits until a task has been started anew after it ended. @returns the new run. */
  async function movedFrom(before: Copy, limitMs: number): Promise<Copy> {
    return waitFor(
      `${before.job} is started elsewhere`,
      () => witness.copiesOf(before.job).find(({ run }) => run !== before.run),
      { limitMs },
    );
  }

  const finish = async (...jobs: string[]): Promise<void> => {
    for (const job of jobs) await sites.home.site.kubectl(['delete', 'gridjob', job, '-n', namespace, '--wait=false']);
    await waitFor(
      'nothing of it is left at the other site',
      async () => {
        const { items } = await sites.away.site.get<{ items: Execution[] }>('executions', '-n', namespace);
        return items.length === 0 || undefined;
      },
      { limitMs: 120_000 },
    );
  };

  const connection = async ({ site }: Product, peer: string): Promise<string> =>
    (await site.get<Site>('site', peer)).status?.conditions?.find(({ type }) => type === 'Ready')?.reason ?? '';

  /** Waits until a site says of its peer what it should. @returns how long that took, milliseconds. */
  async function says(product: Product, peer: string, reason: string, limitMs: number): Promise<number> {
    const since = Date.now();
    await waitFor(`${peer} is ${reason}`, async () => (await connection(product, peer)) === reason || undefined, {
      ...{ limitMs, pauseMs: 200 },
    });
    return Date.now() - since;
  }

  /** A job runs there, something is lost for good, and the job goes on at home. */
  async function losing(
    job: string,
    lose: () => Promise<void>,
  ): Promise<{ before: Copy; after: Copy; lostAt: number }> {
    const before = await startThere(job);
    const lostAt = Date.now();
    await lose();
    await says(sites.home, far, 'Unreachable', noticedMs - (Date.now() - lostAt));
    const after = await movedFrom(before, leaseMs + restartedMs);
    expect(sites.home.site.nodes).toContain(after.node);
    expect(after.startedAt - lostAt).toBeLessThan(leaseMs + restartedMs);
    const moved = await sites.jobIs(job, ({ status }) => status?.tasks?.running === 1);
    expect(moved.status?.tasks?.rows[0]).toMatchObject({ site: peerNames.home });
    process.stderr.write(
      `${job}: ended after ${Math.round((before.lastSeenAt - lostAt) / second)} s, started elsewhere after ${Math.round((after.startedAt - lostAt) / second)} s\n`,
    );
    return { before, after, lostAt };
  }

  /** What was lost is back: it is used again, keeps nothing of before, and what moved stays where it is. */
  async function isBack(job: string, after: Copy): Promise<void> {
    await says(sites.home, far, 'Connected', 120 * second);
    await says(sites.away, peerNames.home, 'Connected', 120 * second);
    // Its selectors may come back later than its gateway: the job waits for them, and runs nowhere else.
    const again = await startThere(`${job}-again`, { requirements: { dynamic: [isThere] } });
    expect(again.node).not.toBe(after.node);
    expect(witness.runningCopiesOf(job)).toEqual([expect.objectContaining({ run: after.run })]);
    await finish(job, `${job}-again`);
    expect(witness.copiesOf(job)).toHaveLength(2);
  }

  test.each([
    [
      'both ways',
      async ({ faults }: TwoSites) => faults.cut('a', 'b'),
      async ({ faults }: TwoSites) => faults.heal('a', 'b'),
    ],
    [
      'towards the home',
      async ({ faults }: TwoSites) => faults.cutOneWay('b', 'a'),
      async ({ faults }: TwoSites) => faults.healOneWay('b', 'a'),
    ],
  ])('a link that is cut for a moment (%s) moves nothing', async (way, cut, heal) => {
    const job = `glitch-${way.split(' ')[0]}`;
    const before = await startThere(job);
    await cut(sites);
    await new Promise((resolve) => setTimeout(resolve, 15 * second));
    await heal(sites);
    await says(sites.home, far, 'Connected', 30 * second);
    // A lease later it would have been ended.
    await new Promise((resolve) => setTimeout(resolve, leaseMs));
    expect(witness.copiesOf(job)).toEqual([expect.objectContaining({ run: before.run })]);
    expect(witness.runningCopiesOf(job)).toHaveLength(1);
    await finish(job);
  });

  test.each([
    [
      'cut',
      async ({ faults }: TwoSites) => faults.cut('a', 'b'),
      async ({ faults }: TwoSites) => faults.heal('a', 'b'),
    ],
    [
      'cut-there',
      async ({ faults }: TwoSites) => faults.cutOneWay('a', 'b'),
      async ({ faults }: TwoSites) => faults.healOneWay('a', 'b'),
    ],
    [
      'cut-back',
      async ({ faults }: TwoSites) => faults.cutOneWay('b', 'a'),
      async ({ faults }: TwoSites) => faults.healOneWay('b', 'a'),
    ],
  ])('a link that stays cut (%s) ends tasks at the other site, and then they start at home', async (job, cut, heal) => {
    const { before, after, lostAt } = await losing(job, async () => cut(sites));
    expect(before.lastSeenAt - lostAt).toBeGreaterThan(leaseMs - 5 * second);
    await says(sites.away, peerNames.home, 'Unreachable', second);
    await heal(sites);
    await isBack(job, after);
  });

  test('a site that loses its power', async () => {
    const { after } = await losing('dark', async () => sites.faults.killSite('b'));
    await sites.switchOn();
    await isBack('dark', after);
  });

  test('a site whose operator is gone ends what is not its own all the same', async () => {
    const scale = async (replicas: number): Promise<unknown> =>
      sites.away.site.kubectl(['scale', 'deployment/xtreemos', '-n', name, `--replicas=${replicas}`]);
    const { after } = await losing('headless', async () => {
      await scale(0);
    });
    await scale(2);
    await isBack('headless', after);
  });

  /** Kills every process of the operator of a site where it stands. @returns how many those were. */
  async function crash({ site }: Product): Promise<number> {
    const words = ['get', 'pods', '-n', name, '-l', 'app.kubernetes.io/component=operator'];
    const pods = (await site.kubectl([...words, '-o', 'jsonpath={.items[*].metadata.name}'])).split(' ');
    let count = 0;
    for (const pid of groupOf(sites.instance).pids()) {
      const isOne = (): boolean => {
        const env = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
        return pods.some((pod) => env.includes(`HOSTNAME=${pod}`));
      };
      try {
        if (!isOne()) continue;
        process.kill(pid, 'SIGKILL');
        count++;
      } catch {
        // It ended meanwhile.
      }
    }
    return count;
  }

  test.each([
    ['home', ({ home }: TwoSites) => home],
    ['other', ({ away }: TwoSites) => away],
  ])('a task never notices that every operator of the %s site was killed', async (which, of) => {
    const job = `unmoved-${which}`;
    const before = await startThere(job);
    for (let count = 0; count < 2; count++) {
      expect(await crash(of(sites))).toBeGreaterThan(0);
      await new Promise((resolve) => setTimeout(resolve, 5 * second));
    }
    await says(sites.home, far, 'Connected', 60 * second);
    await new Promise((resolve) => setTimeout(resolve, leaseMs));
    expect(witness.copiesOf(job)).toEqual([expect.objectContaining({ run: before.run })]);
    expect(witness.runningCopiesOf(job)).toHaveLength(1);
    const kill = JSON.stringify({ spec: { signal: { name: 'KILL', sequence: 1 } } });
    await sites.home.site.kubectl([...alice.login, 'patch', 'gridjob', job, '--type=merge', '-p', kill]);
    await sites.jobIs(job, ({ status }) => status?.state === 'Killed');
    await finish(job);
  });

  test('a node of the other site that loses its power takes tasks with it until it is back, or its owner says that it is gone', async () => {
    const before = await startThere('node');
    const number = String(sites.away.site.nodes.indexOf(before.node) + 1);
    await sites.faults.killNode('b', number);
    const lostAt = Date.now();
    await waitFor(
      'the site says that a node is away',
      async () => {
        const site = await sites.home.site.get<Site>('site', far);
        return site.status?.nodes?.ready === 1 || undefined;
      },
      { limitMs: 60_000 },
    );
    process.stderr.write(`node: noticed after ${Math.round((Date.now() - lostAt) / second)} s\n`);
    await sites.away.site.kubectl(['delete', 'node', before.node]);
    const after = await movedFrom(before, forgottenMs);
    expect(after.node).not.toBe(before.node);
    await sites.faults.startNode('b', number);
    await new Promise((resolve) => setTimeout(resolve, 10 * second));
    expect(witness.runningCopiesOf('node')).toEqual([expect.objectContaining({ run: after.run })]);
    await finish('node');
  });
});

/** Work that gives way to jobs of higher priority, against a real API server; also when the operator ends in the middle. */
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { gridJobs } from '#crds/grid-job.ts';
import { JobsWorld, merge, namespace, state, template } from '#operator/testing/jobs-world.ts';
import { events as eventKind, pods } from '#runtime/builtin.ts';
import type { Client } from '#runtime/contracts.ts';
import { waitFor } from '#sites/kube-client.ts';

jest.setTimeout(60_000);
let world: JobsWorld;
let client: Client;

beforeAll(async () => {
  world = await JobsWorld.start('preemption');
  ({ client } = world);
}, 300_000);

afterAll(async () => world.stop());

const submit: JobsWorld['submit'] = async (...args) => world.submit(...args);
const get: JobsWorld['get'] = async (...args) => world.get(...args);
const part: JobsWorld['part'] = async (...args) => world.part(...args);
const until: JobsWorld['until'] = async (...args) => world.until(...args);

afterEach(async () => {
  for (const where of [namespace, 'vo-chemistry']) {
    const { items } = await client.of(gridJobs).list({ namespace: where });
    for (const { metadata } of items) await client.of(gridJobs).delete({ namespace: where, name: metadata.name }, { propagationPolicy: 'Background' }); // prettier-ignore
    const isGone = async (): Promise<boolean> => (await client.of(pods).list({ namespace: where })).items.length === 0;
    await waitFor('nothing runs', isGone, { limitMs: 30_000 });
  }
});
const end = async (name: string): Promise<void> => {
  await client.of(gridJobs).patch({ namespace, name }, merge({ spec: { signal: { name: 'KILL', sequence: 1 } } }));
  await until(name, state('Killed'));
};

describe('a job of higher priority', () => {
  const reasons = async (name: string): Promise<string[]> => {
    const fieldSelector = `regarding.name=${name}`;
    const { items } = await client.of(eventKind).list({ namespace, fieldSelector });
    return items.map(({ reason }) => reason ?? '');
  };
  const fill = async (spec: object, where = namespace): Promise<string> => {
    const name = await submit({ template: template('stay'), tasks: { count: 12 }, ...spec }, undefined, where);
    await until(name, (job) => job.status?.tasks?.running === 12, 30_000, where);
    return name;
  };
  /** Told that it waits, after it was tried more than once, while the other still runs whole. */
  const untouched = async (filler: string, urgent: string, where = namespace): Promise<void> => {
    await until(urgent, (job) => job.status?.waiting?.[0]?.nodes === 3);
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    expect((await get(urgent)).status?.state).toBe('Waiting');
    expect((await get(filler, where)).status?.tasks?.running).toBe(12);
  };

  test('has work that gives way end for it, no more than it needs, which starts again when it is done', async () => {
    const filler = await fill({ preemptible: true });
    const urgent = await submit({ priority: 10, template: template('stay') });
    await until(urgent, (job) => job.status?.tasks?.running === 1);
    const after = await until(filler, (job) => (job.status?.tasks?.running ?? 0) + (job.status?.tasks?.starting ?? 0) === 11); // prettier-ignore
    expect(after.status?.tasks).toMatchObject({ waiting: 1, failed: 0 });
    const lost = after.status?.tasks?.rows.find(({ state: is }) => is === 'Failed');
    expect(lost).toMatchObject({ reason: 'Preempted', message: expect.stringMatching(/job of higher priority/) });
    await waitFor('both are told', async () =>
      (await reasons(filler)).includes('Preempted') && (await reasons(urgent)).includes('Preempting'),
    ); // prettier-ignore
    await end(urgent);
    await until(filler, (job) => job.status?.tasks?.running === 12);
    expect((await part(filler)).spec.failures).toEqual([]);
  });

  test('that is a gang gets room for all of it at once', async () => {
    const filler = await fill({ preemptible: true });
    const gang = { tasks: { count: 5, gangMinimum: 5 }, template: template('stay') };
    const urgent = await submit({ priority: 1, ...gang });
    await until(urgent, (job) => job.status?.tasks?.running === 5);
    expect((await get(filler)).status?.tasks?.running).toBeLessThanOrEqual(7);
    await end(urgent);
    await until(filler, (job) => job.status?.tasks?.running === 12);
  });

  test.each<[string, object, object]>([
    ['does not give way', {}, { priority: 10 }],
    ['is of the same priority', { preemptible: true, priority: 10 }, { priority: 10 }],
    [
      'would not be enough',
      { preemptible: true },
      { priority: 10, template: { image: 'ok', resources: { cpu: '3', memory: '128Mi' } } },
    ],
  ])('ends nothing that %s', async (_, low, high) => {
    await untouched(await fill(low), await submit({ ...high }));
  });

  test('ends nothing of another virtual organization', async () => {
    const other = 'vo-chemistry';
    await world.addNamespace(other);
    await untouched(await fill({ preemptible: true }, other), await submit({ priority: 1_000 }), other);
  });
});

describe('an operator that ends in the middle of a preemption', () => {
  /** Runs that were ended, of twelve that were there. */
  const endedRuns = (filler: string): number =>
    new Set(world.kubelet.asked.filter((pod) => pod.includes(`-${filler}-`))).size;

  test.each<[string, string, number]>([
    ['before any pod is marked', 'PATCH', 1],
    ['when some are marked and none is deleted', 'DELETE', 1],
    ['when some are deleted', 'DELETE', 3],
  ])(
    '%s: no more is ended than is needed, none is lost, and nobody takes the room back',
    async (_, method, nth) => {
      const tasks = { count: 12 };
      const filler = await submit({ template: template('lingers'), tasks, preemptible: true });
      // What was promised to jobs of the test before may be held for half a minute.
      await until(filler, (job) => job.status?.tasks?.running === 12, 60_000);
      let seen = 0;
      const died = world.operator.dieBefore(
        (asked) => asked.method === method && /\/pods\/[^/?]+(\/status)?(\?|$)/.test(asked.path) && ++seen === nth,
      );
      const urgent = await submit({ priority: 5, tasks: { count: 4, gangMinimum: 4 }, template: template('stay') });
      await died;
      await world.restartOperator();
      await until(urgent, (job) => job.status?.tasks?.running === 4, 45_000);
      expect(endedRuns(filler)).toBe(4);
      const after = await until(filler, (job) => job.status?.tasks?.running === 8 && job.status.tasks.waiting === 4);
      expect(after.status?.tasks?.failed).toBe(0);
      await end(urgent);
      await until(filler, (job) => job.status?.tasks?.running === 12, 45_000);
      expect(endedRuns(filler)).toBe(4);
      expect((await part(filler)).spec.failures).toEqual([]);
    },
    180_000,
  );
});

/** The controllers of jobs against a real API server: the life of a job, and of many at once. */
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { gridJobs } from '#crds/grid-job.ts';
import { keptLogsName, readKeptLogs } from '#crds/kept-logs.ts';
import { podLabels } from '#crds/execution.ts';
import { owner } from '#operator/testing/jobs.ts';
import { JobsWorld, merge, namespace, nodeNames, state, template } from '#operator/testing/jobs-world.ts';
import { configMaps, pods } from '#runtime/builtin.ts';
import type { Client } from '#runtime/contracts.ts';
import { waitFor } from '#sites/kube-client.ts';

jest.setTimeout(60_000);
let world: JobsWorld;
let client: Client;

beforeAll(async () => {
  world = await JobsWorld.start('jobs');
  ({ client } = world);
}, 300_000);

afterEach(() => {
  world.refusal = undefined;
});

afterAll(async () => world.stop());

const submit: JobsWorld['submit'] = async (...args) => world.submit(...args);
const get: JobsWorld['get'] = async (...args) => world.get(...args);
const part: JobsWorld['part'] = async (...args) => world.part(...args);
const until: JobsWorld['until'] = async (...args) => world.until(...args);

describe('a job', () => {
  test('places itself, runs as its owner, and tells that it succeeded', async () => {
    const job = await until(await submit({}), state('Succeeded'));
    expect(job.status).toMatchObject({
      exitCode: 0,
      tasks: { succeeded: 1, failed: 0, running: 0, succeededIndexes: '0' },
      executions: [{ site: 'home' }],
    });
    const [pod] = (await client.of(pods).list({ namespace, labelSelector: `${podLabels.job}=${job.metadata.name}` }))
      .items;
    expect(pod?.spec).toMatchObject({ serviceAccountName: owner, securityContext: { runAsUser: 2013300123 } });
  });

  test('that fails tells the exit status, and is tried again as often as it says', async () => {
    const failed = await until(await submit({ template: template('exit-3') }), state('Failed'));
    expect(failed.status).toMatchObject({ exitCode: 3 });
    expect(failed.status?.conditions?.find(({ type }) => type === 'Succeeded')).toMatchObject({
      ...{ status: 'False', reason: 'TaskFailed', message: 'The task failed. It ended with exit status 3.' },
    });
    const name = await submit({ template: template('flaky'), retries: { limit: 1, backoffSeconds: 0 } });
    await until(name, state('Succeeded'));
    expect((await part(name)).spec.failures).toEqual([{ count: 1, tasks: '0' }]);
  });

  test('whose node had no more room after all goes elsewhere, and nothing is held against it', async () => {
    const name = await submit({ template: template('refused') });
    await until(name, state('Succeeded'));
    expect((await part(name)).spec.failures).toEqual([]);
  });

  test('of many tasks runs each exactly once', async () => {
    const name = await submit({ tasks: { count: 40 } });
    const job = await until(name, state('Succeeded'));
    expect(job.status?.tasks).toMatchObject({ succeeded: 40, succeededIndexes: '0-39' });
    const runs = world.kubelet.ran.filter((pod) => pod.includes(`-${name}-`));
    expect(new Set(runs).size).toBe(40);
    expect(runs).toHaveLength(40);
  });

  test('that finds no node says why and what would help', async () => {
    const big = { image: 'ok', resources: { cpu: '64', memory: '128Mi' } };
    const job = await until(await submit({ template: big }), (now) => now.status?.waiting !== undefined);
    expect(job.status?.waiting).toEqual([
      {
        ...{ site: 'home', nodes: 3, reason: 'Not enough free cpu: 64000 wanted, 2000 free' },
        remedy: expect.stringMatching(/resources\.cpu/),
      },
    ]);
    const nowhere = { static: [{ attribute: 'arch', in: ['vax'] }] };
    const other = await until(
      await submit({ requirements: nowhere }),
      (now) => now.status?.conditions?.some(({ reason }) => reason === 'NothingMatches') === true,
    );
    await client.of(gridJobs).delete({ namespace, name: other.metadata.name });
    await client.of(gridJobs).delete({ namespace, name: job.metadata.name });
  });

  test('with an expression that can not be evaluated is refused by name', async () => {
    const name = await submit({ requirements: { dynamic: ['live.load1 <'] } });
    const job = await until(
      name,
      (now) => now.status?.conditions?.some(({ type, status }) => type === 'Accepted' && status === 'False') === true,
    );
    expect(job.status?.conditions?.find(({ type }) => type === 'Accepted')).toMatchObject({
      ...{ reason: 'InvalidExpression', message: expect.stringMatching(/requirements\.dynamic\[0\]/) },
    });
  });

  test('tells that it runs before its part is written, and a new operator sees the same from the pod', async () => {
    const name = await submit({ template: template('stay') });
    const isRunning: Parameters<typeof until>[1] = (job) => job.status?.tasks?.running === 1;
    await until(name, isRunning);
    expect((await part(name)).status).toBeUndefined();
    await world.restartOperator();
    await client.of(gridJobs).patch({ namespace, name }, merge({ spec: { signal: { name: 'TERM', sequence: 1 } } }));
    await until(name, state('Killed'));
    expect((await part(name)).status?.tasks).toMatchObject({ running: 0, rows: [{ index: 0, state: 'Failed' }] });
    expect(world.kubelet.ran.filter((pod) => pod.includes(`-${name}-`))).toHaveLength(1);
  });

  test('of a member who may not run it does not start until they may', async () => {
    world.refusal = 'The member is suspended.';
    const name = await submit({});
    await until(name, (now) => now.status?.conditions?.some(({ reason }) => reason === 'MemberNotActive') === true);
    world.refusal = undefined;
    await until(name, state('Succeeded'));
  });
});

describe('logs of tasks', () => {
  const keptOf = async (name: string): Promise<ReturnType<typeof readKeptLogs>> => {
    const found = await client.of(configMaps).find({ namespace, name: keptLogsName(name) });
    return found === undefined ? [] : readKeptLogs(found, (await part(name)).metadata.uid);
  };
  const untilKept = async (name: string, count: number): Promise<Awaited<ReturnType<typeof keptOf>>> =>
    waitFor(`${count} logs of ${name} are kept`, async () => {
      const kept = await keptOf(name);
      return kept.length === count ? kept : undefined;
    });

  test('stay when the pods are gone, with the job', async () => {
    const name = await submit({ tasks: { count: 5 } });
    const kept = await untilKept(name, 5);
    expect(kept.map(({ index, isFailed }) => [index, isFailed])).toEqual(
      [0, 1, 2, 3, 4].map((index) => [index, false]),
    );
    expect(kept[3]?.text).toMatch(new RegExp(`^I am ${owner}-${name}-.*-3\\n$`));
    await client.of(gridJobs).delete({ namespace, name }, { propagationPolicy: 'Background' });
    await waitFor('the logs are gone with the job', async () => (await keptOf(name).catch(() => [])).length === 0);
  });

  test('are kept of what is ended before its time, and of nothing when the job says so', async () => {
    const name = await submit({ template: template('stay') });
    const secret = await submit({ keepLogs: false });
    await until(name, (job) => job.status?.tasks?.running === 1);
    await client.of(gridJobs).patch({ namespace, name }, merge({ spec: { signal: { name: 'KILL', sequence: 1 } } }));
    expect(await untilKept(name, 1)).toMatchObject([{ index: 0, isFailed: true }]);
    await until(secret, state('Succeeded'));
    expect(await keptOf(secret)).toEqual([]);
  });

  test("are not put into somebody else's ConfigMap", async () => {
    const name = 'foreign-logs';
    const data = { 'mine.txt': 'precious' };
    await client.of(configMaps).apply({ metadata: { namespace, name: keptLogsName(name) }, data });
    await until(await submit({}, name), state('Succeeded'));
    await waitFor('its log was read', async () =>
      Promise.resolve(world.taskLogs.read.some((pod) => pod.includes(`-${name}-`))),
    );
    await untilKept(await submit({ dependsOn: [{ job: name }] }), 1);
    expect((await client.of(configMaps).get({ namespace, name: keptLogsName(name) })).data).toEqual(data);
  });
});

describe('control', () => {
  const kill = async (name: string): Promise<unknown> =>
    client.of(gridJobs).patch({ namespace, name }, merge({ spec: { signal: { name: 'KILL', sequence: 1 } } }));
  const submitBelow = async (parent: string, spec: object = { template: template('stay') }): Promise<string> =>
    submit({ ...spec, parent: { job: parent, uid: (await get(parent)).metadata.uid } });

  test('suspends, resumes and kills', async () => {
    const name = await submit({ template: template('stay') });
    await until(name, (job) => job.status?.tasks?.running === 1);
    await client.of(gridJobs).patch({ namespace, name }, merge({ spec: { suspend: true } }));
    await until(name, (job) => state('Suspended')(job) && job.status?.tasks?.running === 0);
    await client.of(gridJobs).patch({ namespace, name }, merge({ spec: { suspend: false } }));
    await until(name, (job) => job.status?.tasks?.running === 1);
    await client.of(gridJobs).patch({ namespace, name }, merge({ spec: { signal: { name: 'TERM', sequence: 1 } } }));
    const job = await until(name, state('Killed'));
    expect(job.status?.conditions?.find(({ type }) => type === 'Succeeded')).toMatchObject({ reason: 'Killed' });
  });

  test('ends a whole tree with its root', async () => {
    const root = await submit({ template: template('stay') });
    const child = await submitBelow(root);
    await until(child, (job) => job.status?.tasks?.running === 1);
    await kill(root);
    await until(root, state('Killed'));
    await until(child, state('Killed'));
  });

  test('suspends and resumes a whole tree with its root', async () => {
    const root = await submit({ template: template('stay') });
    const child = await submitBelow(root);
    const grandchild = await submitBelow(child);
    const family = [root, child, grandchild];
    for (const name of family) await until(name, (job) => job.status?.tasks?.running === 1);
    await client.of(gridJobs).patch({ namespace, name: root }, merge({ spec: { suspend: true } }));
    for (const name of family) await until(name, (job) => state('Suspended')(job) && job.status?.tasks?.running === 0);
    await client.of(gridJobs).patch({ namespace, name: root }, merge({ spec: { suspend: false } }));
    for (const name of family) await until(name, (job) => job.status?.tasks?.running === 1);
    await kill(root);
    for (const name of family) await until(name, state('Killed'));
  });

  test('ends what is below a job that has ended, and keeps that one for it', async () => {
    const root = await submit({ template: template('stay') });
    const child = await submitBelow(root, { template: template('ok'), ttlSecondsAfterFinished: 0 });
    const grandchild = await submitBelow(child);
    await until(child, state('Succeeded'));
    await until(grandchild, (job) => job.status?.tasks?.running === 1);
    // To be deleted at once, were it not for what is below it.
    expect((await get(child)).status?.state).toBe('Succeeded');
    await kill(child);
    const last = await until(grandchild, state('Killed'));
    expect(last.status?.conditions?.find(({ type }) => type === 'Succeeded')?.message).toBe(
      `Its parent ${child} was ended.`,
    );
    expect((await part(grandchild)).spec).toMatchObject({ isClosed: true, signal: { name: 'KILL' } });
    await waitFor('the child is deleted', async () => (await client.of(gridJobs).find({ namespace, name: child })) === undefined, { limitMs: 20_000 }); // prettier-ignore
    await until(root, (job) => job.status?.tasks?.running === 1);
    await kill(root);
    await until(root, state('Killed'));
  });

  test('waits for other jobs, and gives up when they can not come so far any more', async () => {
    const first = await submit({ template: template('stay') });
    const after = await submit({ dependsOn: [{ job: first, when: 'Ended' }] });
    const hopeless = await submit({ dependsOn: [{ job: first, when: 'Succeeded' }] });
    await until(
      after,
      (job) => job.status?.conditions?.some(({ reason }) => reason === 'WaitingForDependencies') === true,
    );
    await client
      .of(gridJobs)
      .patch({ namespace, name: first }, merge({ spec: { signal: { name: 'TERM', sequence: 1 } } }));
    await until(after, state('Succeeded'));
    await until(hopeless, state('Failed'));
  });

  test('ends a job at its deadline, and deletes it after its time', async () => {
    const name = await submit({ template: template('stay'), deadlineSeconds: 1, ttlSecondsAfterFinished: 1 });
    await until(name, (job) => job.status?.conditions?.some(({ reason }) => reason === 'DeadlineExceeded') === true);
    await waitFor(
      'the job is deleted',
      async () => (await client.of(gridJobs).find({ namespace, name })) === undefined,
      { limitMs: 20_000 },
    );
  });
});

test('an operator that is killed again and again loses no task and runs none twice', async () => {
  const names = await Promise.all(
    Array.from({ length: 30 }, async (_, index) => submit({ tasks: { count: 1 + (index % 3) } })),
  );
  for (let round = 0; round < 6; round++) {
    await new Promise((resolve) => setTimeout(resolve, 150 + 120 * round));
    await world.restartOperator();
  }
  for (const name of names) await until(name, state('Succeeded'), 60_000);
  for (const [index, name] of names.entries()) {
    const runs = world.kubelet.ran.filter((pod) => pod.includes(`-${name}-`));
    expect([name, runs.length]).toEqual([name, 1 + (index % 3)]);
  }
}, 180_000);

test('200 jobs at once for few slots never get more than there is, and all finish', async () => {
  let peak = 0;
  const watch = setInterval(() => {
    for (const name of nodeNames) peak = Math.max(peak, 2_000 - (world.selection.ledgerOf(name).free().cpu ?? 0));
  }, 5);
  const names = await Promise.all(
    Array.from({ length: 200 }, async (_, index) =>
      submit(index % 20 === 0 ? { tasks: { count: 6, gangMinimum: 6 } } : {}),
    ),
  );
  for (const name of names) await until(name, state('Succeeded'), 120_000);
  clearInterval(watch);
  expect(peak).toBeLessThanOrEqual(2_000);
}, 240_000);

/** The controllers of jobs against a real API server; nodes are accounts in memory, and a stand-in for kubelets runs the pods. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { alone } from '#operator/sites/testing/alone.ts';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { createRegistry } from '#common/metrics.ts';
import { systemRandom } from '#common/random.ts';
import { type Execution, executions } from '#crds/execution.ts';
import { type GridJob, gridJobs } from '#crds/grid-job.ts';
import { keptLogsName, readKeptLogs } from '#crds/kept-logs.ts';
import { installCrds } from '#crds/testing/install.ts';
import { podLabels } from '#crds/execution.ts';
import { openSurroundings } from '#operator/testing/surroundings.ts';
import { owner } from '#operator/testing/jobs.ts';
import { TestKubelet } from '#operator/testing/kubelet.ts';
import { FakeTaskLogs } from '#operator/testing/task-logs.ts';
import { FakeResourceSelection } from '#proto/selector/testing/fake.ts';
import { configMaps, events as eventKind, namespaces, nodes, pods, serviceAccounts } from '#runtime/builtin.ts';
import { createClient } from '#runtime/client.ts';
import type { Client, Manager } from '#runtime/contracts.ts';
import { kubeConfigCredentials } from '#runtime/credentials.ts';
import { createManager } from '#runtime/manager.ts';
import { testParts } from '#runtime/testing/parts.ts';
import { HttpTransport } from '#runtime/transport.ts';
import type { Stored } from '#runtime/types.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { KubeClient, waitFor } from '#sites/kube-client.ts';
import { addJobControllers } from './setup.ts';

jest.setTimeout(60_000);
const namespace = 'vo-physics';
const nodeNames = ['n1', 'n2', 'n3'];
let plane: AloneControlPlane;
let transport: HttpTransport;
let client: Client;
let selection: FakeResourceSelection;
const taskLogs = new FakeTaskLogs();
let kubelet: TestKubelet;
let operator: RunningOperator;
let refusal: string | undefined;
let count = 0;

/** One operator process, as far as jobs are concerned. */
class RunningOperator {
  private readonly abort = new AbortController();
  private readonly transport: HttpTransport;
  private readonly manager: Manager;
  private readonly end: Promise<void>;

  constructor() {
    this.transport = aTransport();
    this.manager = createManager({ name: 'operator', transport: this.transport, graceMs: 2_000 });
    addJobControllers(this.manager, {
      transport: this.transport,
      peers: alone('home'),
      ...{ clock: systemClock, random: systemRandom(), log: silentLogger, registry: createRegistry(), selection },
      siteName: 'home',
      taskLogs,
      surroundings: openSurroundings('home', (name) => nodeNames.includes(name)),
      reservationAdmission: () => refusal,
      isInGroup: () => false,
      admission: () => (refusal === undefined ? undefined : { reason: 'MemberNotActive', message: refusal }),
    });
    this.end = this.manager.run(this.abort.signal);
  }

  /** Ends at once, in the middle of whatever it does. */
  async kill(): Promise<void> {
    await this.transport.close();
    this.abort.abort(new Error('killed'));
    await this.end.catch(() => undefined);
  }
}

function aTransport(): HttpTransport {
  const credentials = kubeConfigCredentials({ file: plane.kubeconfigPath });
  return new HttpTransport({ ...testParts(systemClock), credentials, throttle: { qps: Infinity } });
}

beforeAll(async () => {
  plane = await startControlPlane({
    dir: mkdtempSync(path.join(tmpdir(), 'xtreemos-jobs-')),
    name: 'jobs',
    withControllers: true,
  });
  const kube = new KubeClient(plane.credentials);
  await installCrds(kube);
  kube.close();
  transport = aTransport();
  client = createClient(transport, { fieldManager: 'test' });
  await client.of(namespaces).apply({ metadata: { name: namespace } });
  await client.of(serviceAccounts).apply({ metadata: { name: owner, namespace } });
  selection = new FakeResourceSelection(
    systemClock,
    nodeNames.map((name) => ({ name, attributes: { arch: 'amd64' }, allocatable: { cpu: 2_000, memory: 2 ** 33 } })),
  );
  for (const name of nodeNames) await client.of(nodes).apply({ metadata: { name } });
  kubelet = new TestKubelet(client, aTransport());
  const { informer } = kubelet;
  // What is bound to a node, whoever made it, is what its account counts.
  informer.onEvent(() => {
    for (const name of nodeNames) {
      const bound = informer
        .list()
        .filter(
          ({ spec, status }) => spec?.nodeName === name && status?.phase !== 'Succeeded' && status?.phase !== 'Failed',
        );
      selection.setPods(
        name,
        bound.map(({ metadata }) => {
          const claim = metadata.labels?.[podLabels.claim];
          return {
            uid: metadata.uid,
            demand: { cpu: 500, memory: 2 ** 27 },
            virtualOrganization: 'physics',
            ...(claim === undefined ? {} : { claim }),
          };
        }),
      );
    }
  });
  operator = new RunningOperator();
}, 300_000);

afterEach(() => {
  refusal = undefined;
});

afterAll(async () => {
  await operator.kill();
  await kubelet.stop();
  await transport.close();
  await plane.stop();
});

async function submit(spec: object, name = `job-${++count}`, where = namespace): Promise<string> {
  const template = { image: 'ok', resources: { cpu: '500m', memory: '128Mi' } };
  const job = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'GridJob', metadata: { name, namespace: where } };
  await client.of(gridJobs).create({ ...job, spec: { owner, template, ...spec } } as unknown as GridJob);
  return name;
}
const get = async (name: string, where = namespace): Promise<Stored<GridJob>> =>
  client.of(gridJobs).get({ namespace: where, name });
const part = async (name: string): Promise<Stored<Execution>> => client.of(executions).get({ namespace, name });

async function until(
  name: string,
  is: (job: Stored<GridJob>) => boolean,
  limitMs = 30_000,
  where = namespace,
): Promise<Stored<GridJob>> {
  let last: Stored<GridJob> | undefined;
  await waitFor(
    `${name} is as expected`,
    async () => {
      last = await get(name, where);
      return is(last);
    },
    { limitMs },
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${JSON.stringify(last?.status, undefined, 1)}`);
  });
  return last!;
}
const state =
  (wanted: string) =>
  (job: GridJob): boolean =>
    job.status?.state === wanted;
const template = (image: string): object => ({ image, resources: { cpu: '500m', memory: '128Mi' } });
const merge = (body: object) => ({ type: 'merge' as const, body });

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
    const runs = kubelet.ran.filter((pod) => pod.includes(`-${name}-`));
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

  test('of a member who may not run it does not start until they may', async () => {
    refusal = 'The member is suspended.';
    const name = await submit({});
    await until(name, (now) => now.status?.conditions?.some(({ reason }) => reason === 'MemberNotActive') === true);
    refusal = undefined;
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
    const name = `job-${++count}`;
    const data = { 'mine.txt': 'precious' };
    await client.of(configMaps).apply({ metadata: { namespace, name: keptLogsName(name) }, data });
    await until(await submit({}, name), state('Succeeded'));
    await waitFor('its log was read', async () =>
      Promise.resolve(taskLogs.read.some((pod) => pod.includes(`-${name}-`))),
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
  afterEach(async () => {
    for (const where of [namespace, 'vo-chemistry']) {
      const { items } = await client.of(gridJobs).list({ namespace: where });
      for (const { metadata } of items) await client.of(gridJobs).delete({ namespace: where, name: metadata.name }, { propagationPolicy: 'Background' }); // prettier-ignore
      const isGone = async (): Promise<boolean> =>
        (await client.of(pods).list({ namespace: where })).items.length === 0;
      await waitFor('nothing runs', isGone, { limitMs: 30_000 });
    }
  });
  const end = async (name: string): Promise<void> => {
    await client.of(gridJobs).patch({ namespace, name }, merge({ spec: { signal: { name: 'KILL', sequence: 1 } } }));
    await until(name, state('Killed'));
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
    await client.of(namespaces).apply({ metadata: { name: other } });
    await client.of(serviceAccounts).apply({ metadata: { name: owner, namespace: other } });
    await untouched(await fill({ preemptible: true }, other), await submit({ priority: 1_000 }), other);
  });
});

test('an operator that is killed again and again loses no task and runs none twice', async () => {
  const names = await Promise.all(
    Array.from({ length: 30 }, async (_, index) => submit({ tasks: { count: 1 + (index % 3) } })),
  );
  for (let round = 0; round < 6; round++) {
    await new Promise((resolve) => setTimeout(resolve, 150 + 120 * round));
    await operator.kill();
    operator = new RunningOperator();
  }
  for (const name of names) await until(name, state('Succeeded'), 60_000);
  for (const [index, name] of names.entries()) {
    const runs = kubelet.ran.filter((pod) => pod.includes(`-${name}-`));
    expect([name, runs.length]).toEqual([name, 1 + (index % 3)]);
  }
}, 180_000);

test('200 jobs at once for few slots never get more than there is, and all finish', async () => {
  let peak = 0;
  const watch = setInterval(() => {
    for (const name of nodeNames) peak = Math.max(peak, 2_000 - (selection.ledgerOf(name).free().cpu ?? 0));
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

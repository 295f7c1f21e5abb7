/** Reservations against a real API server: the selectors are real processes, and a stand-in for kubelets runs the pods. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { alone } from '#operator/sites/testing/alone.ts';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { createRegistry } from '#common/metrics.ts';
import { systemRandom } from '#common/random.ts';
import { type ClaimObject, claims } from '#crds/claim.ts';
import { type GridJob, gridJobs } from '#crds/grid-job.ts';
import { type Reservation, reservations } from '#crds/reservation.ts';
import { sites } from '#crds/site.ts';
import { installCrds } from '#crds/testing/install.ts';
import { openSurroundings } from '#operator/testing/surroundings.ts';
import { addJobControllers } from '#operator/controllers/gridjob/setup.ts';
import { owner } from '#operator/testing/jobs.ts';
import { FakeTaskLogs } from '#operator/testing/task-logs.ts';
import { TestKubelet } from '#operator/testing/kubelet.ts';
import { GrpcResourceSelection } from '#proto/selector/client.ts';
import { namespaces, nodes, serviceAccounts } from '#runtime/builtin.ts';
import { createClient } from '#runtime/client.ts';
import type { Client, Manager } from '#runtime/contracts.ts';
import { kubeConfigCredentials } from '#runtime/credentials.ts';
import { createManager } from '#runtime/manager.ts';
import { testParts } from '#runtime/testing/parts.ts';
import { HttpTransport } from '#runtime/transport.ts';
import type { Stored } from '#runtime/types.ts';
import { makeCredentials, type SiteFiles } from '#selector/testing/credentials.ts';
import { clientCredentials, HostedSelectors } from '#selector/testing/hosted.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { KubeClient, waitFor } from '#sites/kube-client.ts';

jest.setTimeout(120_000);
const namespace = 'vo-physics';
const bob = 'u-bob-2013300124';
const nodeNames = ['n1', 'n2', 'n3'];
const [second, cpuPerNode] = [1_000, 2];
let plane: AloneControlPlane;
let transport: HttpTransport;
let client: Client;
let files: SiteFiles;
let selectors: HostedSelectors;
let operator: RunningOperator;
let kubelet: TestKubelet;
let heart: NodeJS.Timeout;
let count = 0;

/** One operator process, as far as jobs and reservations are concerned. */
class RunningOperator {
  private readonly abort = new AbortController();
  private readonly transport: HttpTransport;
  private readonly selection: GrpcResourceSelection;
  private readonly end: Promise<void>;

  constructor(selector: string) {
    this.transport = aTransport();
    this.selection = new GrpcResourceSelection(selector, clientCredentials(files));
    const manager: Manager = createManager({ name: 'operator', transport: this.transport, graceMs: 2_000 });
    const nodeInformer = manager.informer(nodes);
    addJobControllers(manager, {
      transport: this.transport,
      peers: alone('home'),
      taskLogs: new FakeTaskLogs(),
      ...{ clock: systemClock, random: systemRandom(), log: silentLogger, registry: createRegistry() },
      ...{ siteName: 'home', selection: this.selection, admission: () => undefined },
      ...{
        reservationAdmission: () => undefined,
        isInGroup: (_, userName, groups) => userName === bob && groups.includes('analysis'),
      },
      surroundings: openSurroundings('home', (name) => nodeInformer.get({ name }) !== undefined),
    });
    this.end = manager.run(this.abort.signal);
  }

  /** Ends at once, in the middle of whatever it does. */
  async kill(): Promise<void> {
    await this.transport.close();
    this.abort.abort(new Error('killed'));
    await this.end.catch(() => undefined);
    this.selection.close();
  }
}

function aTransport(): HttpTransport {
  const credentials = kubeConfigCredentials({ file: plane.kubeconfigPath });
  return new HttpTransport({ ...testParts(systemClock), credentials, throttle: { qps: Infinity } });
}

async function startSelectors(): Promise<HostedSelectors> {
  const { kubeconfigPath: kubeconfig } = plane;
  return HostedSelectors.start({ kubeconfig, site: 'home', nodeLabels: 'hosted=yes', files, gossipPeriodMs: 200 });
}

async function addNode(name: string): Promise<void> {
  await client.of(nodes).apply({ metadata: { name, labels: { hosted: 'yes' } } });
  await beat(name);
}

/** As kubelets do, so that the node stays ready. */
async function beat(name: string): Promise<void> {
  const amounts = { cpu: String(cpuPerNode), memory: '8Gi', pods: '110' };
  const conditions = [{ type: 'Ready', status: 'True', lastHeartbeatTime: new Date().toISOString() }];
  const status = { allocatable: amounts, capacity: amounts, conditions };
  await client.of(nodes).status.patch({ name }, { type: 'merge', body: { status } });
}

beforeAll(async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'xtreemos-reservations-'));
  plane = await startControlPlane({ dir: path.join(folder, 'plane'), name: 'reservations', withControllers: true });
  const kube = new KubeClient(plane.credentials);
  await installCrds(kube);
  kube.close();
  transport = aTransport();
  client = createClient(transport, { fieldManager: 'test' });
  await client.of(namespaces).apply({ metadata: { name: namespace } });
  for (const name of [owner, bob]) await client.of(serviceAccounts).apply({ metadata: { name, namespace } });
  await client.of(sites).apply({
    metadata: { name: 'home' },
    spec: { type: 'Local', local: { acceptedVirtualOrganizations: [{ name: 'physics' }] } },
  });
  for (const name of nodeNames) await addNode(name);
  heart = setInterval(() => {
    for (const name of nodeNames) void beat(name).catch(() => undefined);
  }, 5 * second);
  files = (await makeCredentials(folder, ['home'])).get('home')!;
  selectors = await startSelectors();
  kubelet = new TestKubelet(client, aTransport());
  operator = new RunningOperator(selectors.address);
}, 300_000);

afterEach(async () => {
  for (const { metadata } of (await client.of(reservations).list({ namespace })).items)
    await client.of(reservations).delete({ namespace, name: metadata.name });
  for (const { metadata } of (await client.of(gridJobs).list({ namespace })).items)
    await client.of(gridJobs).delete({ namespace, name: metadata.name }, { propagationPolicy: 'Background' });
  await waitFor('claims are gone', async () => (await client.of(claims).list({ namespace })).items.length === 0);
});

afterAll(async () => {
  clearInterval(heart);
  await operator.kill();
  await selectors.kill();
  await kubelet.stop();
  await transport.close();
  await plane.stop();
});

const about = (kind: string, name: string): object => ({
  ...{ apiVersion: 'xtreemos.io/v1alpha1', kind, metadata: { name, namespace } },
});

async function reserve(spec: object, name = `window-${++count}`): Promise<string> {
  const full = { owner, slots: 4, resources: { cpu: 1, memory: '64Mi' }, ...spec };
  await client.of(reservations).create({ ...about('Reservation', name), spec: full } as unknown as Reservation);
  return name;
}

async function submit(spec: object, name = `job-${++count}`): Promise<string> {
  const template = { image: 'ok', resources: { cpu: 1, memory: '64Mi' }, terminationGraceSeconds: 1 };
  await client
    .of(gridJobs)
    .create({ ...about('GridJob', name), spec: { owner, template, ...spec } } as unknown as GridJob);
  return name;
}

const inSeconds = (seconds: number): string => new Date(Date.now() + seconds * second).toISOString();
const stay = { image: 'stay', resources: { cpu: 1, memory: '64Mi' }, terminationGraceSeconds: 1 };
const claimsOf = async (name: string): Promise<Stored<ClaimObject>[]> =>
  (await client.of(claims).list({ namespace })).items.filter(({ metadata }) =>
    metadata.ownerReferences?.some((reference) => reference.name === name),
  );
const slotsIn = (held: readonly ClaimObject[]): number =>
  held.reduce((sum, { spec }) => sum + Number(String(spec.resources.cpu).replace('m', '')) / 1000, 0);

async function until<T extends GridJob | Reservation>(
  kind: T extends GridJob ? typeof gridJobs : typeof reservations,
  name: string,
  is: (object: Stored<T>) => boolean,
  limitMs = 30_000,
): Promise<Stored<T>> {
  let last: Stored<T> | undefined;
  await waitFor(
    `${name} is as expected`,
    async () => {
      last = (await client.of(kind as typeof gridJobs).get({ namespace, name })) as unknown as Stored<T>;
      return is(last);
    },
    { limitMs, pauseMs: 50 },
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${JSON.stringify(last?.status, undefined, 1)}`);
  });
  return last!;
}
const reservationIs = async (name: string, state: string, limitMs?: number): Promise<Stored<Reservation>> =>
  until<Reservation>(reservations, name, ({ status }) => status?.state === state, limitMs);
const jobIs = async (name: string, is: (job: Stored<GridJob>) => boolean, limitMs?: number): Promise<Stored<GridJob>> =>
  until<GridJob>(gridJobs, name, is, limitMs);

describe('a reservation', () => {
  test('is held whole, and nodes promise its slots to nobody else', async () => {
    const [start, end] = [inSeconds(3_600), inSeconds(7_200)];
    const first = await reserve({ window: { start, end } });
    const held = await reservationIs(first, 'Held');
    expect(held.status?.slots?.reduce((sum, slot) => sum + slot.count, 0)).toBe(4);
    expect(slotsIn(await claimsOf(first))).toBe(4);
    const tooMuch = await reserve({ slots: 3, window: { start: inSeconds(7_000), durationSeconds: 3_600 } });
    const pending = await until<Reservation>(reservations, tooMuch, ({ status }) => (status?.waiting?.length ?? 0) > 0);
    expect(pending.status).toMatchObject({ state: 'Pending', slots: [] });
    expect(pending.status?.conditions?.find(({ type }) => type === 'Held')).toMatchObject({
      ...{ status: 'False', reason: 'TooFewSlots' },
    });
    expect(await claimsOf(tooMuch)).toEqual([]);
    const after = await reserve({ slots: 6, window: { start: end, durationSeconds: 3_600 } });
    await reservationIs(after, 'Held');
    // With the first one gone, its slots go to who waits for them.
    await client.of(reservations).delete({ namespace, name: first });
    await client.of(reservations).delete({ namespace, name: after });
    await reservationIs(tooMuch, 'Held', 40_000);
  });

  test('that recurs holds the next window and the one after', async () => {
    const start = inSeconds(3_600);
    const name = await reserve({
      window: { start, durationSeconds: 600, recurrence: { every: 'Day', until: inSeconds(864_000) } },
    });
    await until<Reservation>(
      reservations,
      name,
      ({ status }) => status?.windows?.every(({ held }) => held === 4) === true,
    );
    const starts = new Set((await claimsOf(name)).map(({ spec }) => Date.parse(spec.startTime)));
    expect([...starts].sort()).toEqual([Date.parse(start), Date.parse(start) + 86_400_000]);
  });

  test('looks for other nodes when one that had promised is gone', async () => {
    const name = await reserve({
      slots: 3,
      placement: { spread: 'Spread' },
      window: { start: inSeconds(3_600), durationSeconds: 600 },
    });
    await reservationIs(name, 'Held');
    await client.of(nodes).delete({ name: 'n1' });
    await until<Reservation>(
      reservations,
      name,
      ({ status }) => status?.state === 'Held' && status.slots?.every(({ node }) => node !== 'n1') === true,
    );
    expect(slotsIn(await claimsOf(name))).toBe(3);
    await addNode('n1');
  });
});

describe('a job in a reservation', () => {
  test('starts within a second of the window, in the place of work that gave way and starts again later', async () => {
    const guest = await submit({ preemptible: true, tasks: { count: 6 }, template: stay });
    await jobIs(guest, (job) => job.status?.tasks?.running === 6);
    const start = inSeconds(9);
    const name = await reserve({ window: { start, durationSeconds: 8 } });
    const job = await submit({ reservation: name, tasks: { count: 4 }, template: stay });
    const waiting = await jobIs(job, ({ status }) => status?.expectedStartTime !== undefined);
    expect(Date.parse(waiting.status!.expectedStartTime!)).toBe(Math.floor(Date.parse(start) / 1000) * 1000);
    expect(waiting.status?.conditions?.find(({ type }) => type === 'Matched')).toMatchObject({
      reason: 'WaitingForReservation',
    });
    await reservationIs(name, 'Active');
    expect(Math.abs(Date.now() - Date.parse(start))).toBeLessThan(second);
    await jobIs(job, ({ status }) => status?.tasks?.running === 4);
    expect(Date.now() - Date.parse(start)).toBeLessThan(2 * second);
    const meanwhile = await jobIs(guest, ({ status }) => status?.tasks?.running === 2);
    expect(meanwhile.status?.tasks).toMatchObject({ waiting: 4, failed: 0 });
    // When the window is over, what ran in it is ended, and those that gave way go on.
    await reservationIs(name, 'Expired', 20_000);
    await jobIs(job, ({ status }) => status?.state === 'Failed');
    await jobIs(guest, ({ status }) => status?.tasks?.running === 6);
    expect((await client.of(gridJobs).get({ namespace, name: job })).status?.conditions).toContainEqual(
      expect.objectContaining({ type: 'Succeeded', reason: 'ReservationOver' }),
    );
  });

  test('is refused until the reservation is shared with its member, directly or through a group', async () => {
    const name = await reserve({ window: { durationSeconds: 600 } });
    const job = await submit({ owner: bob, reservation: name });
    const refused = await jobIs(
      job,
      ({ status }) => status?.conditions?.some(({ reason }) => reason === 'ReservationNotShared') === true,
    );
    expect(refused.status?.conditions?.find(({ type }) => type === 'Accepted')?.message).toMatch(/spec\.sharedWith/);
    const share = { spec: { sharedWith: { groups: ['analysis'] } } };
    await client.of(reservations).patch({ namespace, name }, { type: 'merge', body: share });
    await jobIs(job, ({ status }) => status?.state === 'Succeeded');
  });

  test('gets no more than is reserved, whoever else is in it', async () => {
    const name = await reserve({ slots: 2, window: { durationSeconds: 600 } });
    const job = await submit({ reservation: name, tasks: { count: 3 }, template: stay });
    const partly = await jobIs(job, ({ status }) => status?.tasks?.running === 2 && (status.waiting?.length ?? 0) > 0);
    expect(partly.status?.tasks).toMatchObject({ running: 2, waiting: 1 });
  });
});

test('whatever is killed whenever, reservations are held whole and once, and jobs in them run once', async () => {
  const names: string[] = [];
  for (let index = 0; index < 6; index++) {
    const window =
      index % 2 === 0 ? { durationSeconds: 600 } : { start: inSeconds(3_600 + 60 * index), durationSeconds: 60 };
    names.push(await reserve({ slots: index % 2 === 0 ? 2 : 5, window }));
    await new Promise((resolve) => setTimeout(resolve, 60 * index));
    await operator.kill();
    if (index % 3 === 1) {
      await selectors.kill();
      selectors = await startSelectors();
    }
    operator = new RunningOperator(selectors.address);
  }
  const job = await submit({ reservation: names[0], tasks: { count: 10, parallelism: 2 } });
  for (let round = 0; round < 3; round++) {
    await new Promise((resolve) => setTimeout(resolve, 400));
    await operator.kill();
    operator = new RunningOperator(selectors.address);
  }
  for (const [index, name] of names.entries()) {
    await until<Reservation>(
      reservations,
      name,
      ({ status }) => status?.state === 'Held' || status?.state === 'Active',
      60_000,
    );
    await waitFor(`${name} is held once`, async () => slotsIn(await claimsOf(name)) === (index % 2 === 0 ? 2 : 5), {
      limitMs: 20_000,
    });
  }
  await jobIs(job, ({ status }) => status?.state === 'Succeeded', 60_000);
  const runs = kubelet.ran.filter((pod) => pod.includes(`-${job}-`));
  expect(new Set(runs).size).toBe(runs.length);
  expect(runs).toHaveLength(10);
}, 240_000);

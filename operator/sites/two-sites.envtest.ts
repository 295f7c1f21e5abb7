/**
 * Work of one site at another, on two real API servers with an operator, selectors and a stand-in for kubelets each: whatever is cut or
 * killed, a task never runs at both.
 */
import { mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { createRegistry } from '#common/metrics.ts';
import { systemRandom } from '#common/random.ts';
import { executions, podLabels } from '#crds/execution.ts';
import { type GridJob, gridJobs } from '#crds/grid-job.ts';
import { claims } from '#crds/claim.ts';
import { type Reservation, reservations } from '#crds/reservation.ts';
import { sites } from '#crds/site.ts';
import { installCrds } from '#crds/testing/install.ts';
import { addJobControllers } from '#operator/controllers/gridjob/setup.ts';
import { MemoryPeers } from '#operator/gateway/peers/testing/memory.ts';
import { owner } from '#operator/testing/jobs.ts';
import { TestKubelet } from '#operator/testing/kubelet.ts';
import { openSurroundings } from '#operator/testing/surroundings.ts';
import { FakeTaskLogs } from '#operator/testing/task-logs.ts';
import { GrpcResourceSelection } from '#proto/selector/client.ts';
import { leases, namespaces, nodes, type Pod, pods, serviceAccounts } from '#runtime/builtin.ts';
import { createClient } from '#runtime/client.ts';
import type { Client } from '#runtime/contracts.ts';
import { kubeConfigCredentials } from '#runtime/credentials.ts';
import { createManager } from '#runtime/manager.ts';
import { testParts } from '#runtime/testing/parts.ts';
import { HttpTransport } from '#runtime/transport.ts';
import type { Stored } from '#runtime/types.ts';
import { makeCredentials, type SiteFiles } from '#selector/testing/credentials.ts';
import { clientCredentials, HostedSelectors } from '#selector/testing/hosted.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { KubeClient, waitFor } from '#sites/kube-client.ts';
import { nobody } from './testing/access.ts';

jest.setTimeout(240_000);
const namespace = 'vo-physics';
const systemNamespace = 'xtreemos-system';
const second = 1_000;
const principal = { issuer: 'https://login.example.org', subject: 'alice' };
const peers = new MemoryPeers();
let home: Site;
let far: Site;

/** One site: what outlives its operator, and the operator. */
class Site {
  readonly name: string;
  readonly client: Client;
  readonly kubelet: TestKubelet;
  private readonly plane: AloneControlPlane;
  private readonly files: SiteFiles;
  private readonly selectors: HostedSelectors;
  private readonly transport: HttpTransport;
  private readonly heart: NodeJS.Timeout;
  private operator: { kill(): Promise<void> } | undefined;

  private constructor(
    name: string,
    parts: { plane: AloneControlPlane; files: SiteFiles; selectors: HostedSelectors; transport: HttpTransport },
  ) {
    this.name = name;
    ({ plane: this.plane, files: this.files, selectors: this.selectors, transport: this.transport } = parts);
    this.client = createClient(this.transport, { fieldManager: 'test' });
    this.kubelet = new TestKubelet(this.client, transportOf(this.plane));
    this.heart = setInterval(() => void beat(this.client, name).catch(() => undefined), 5 * second);
  }

  static async start(name: string, scratch: string, files: SiteFiles): Promise<Site> {
    const dir = path.join(scratch, name);
    mkdirSync(dir);
    const plane = await startControlPlane({ dir, name, withControllers: true });
    const kube = new KubeClient(plane.credentials);
    await installCrds(kube);
    kube.close();
    const transport = transportOf(plane);
    const client = createClient(transport, { fieldManager: 'test' });
    for (const each of [namespace, systemNamespace]) await client.of(namespaces).apply({ metadata: { name: each } });
    await client.of(serviceAccounts).apply({ metadata: { name: owner, namespace } });
    await client.of(sites).apply({
      metadata: { name },
      spec: { type: 'Local', local: { acceptedVirtualOrganizations: [{ name: 'physics' }] } },
    });
    await client.of(nodes).apply({ metadata: { name: `node-${name}`, labels: { hosted: 'yes' } } });
    await beat(client, name);
    const { kubeconfigPath: kubeconfig } = plane;
    const options = { kubeconfig, site: name, nodeLabels: 'hosted=yes', files, gossipPeriodMs: 200 };
    return new Site(name, { plane, files, selectors: await HostedSelectors.start(options), transport });
  }

  startOperator(isFirst: boolean): void {
    const transport = transportOf(this.plane);
    const selection = new GrpcResourceSelection(this.selectors.address, clientCredentials(this.files));
    const manager = createManager({ name: 'operator', transport, graceMs: 2_000 });
    const nodeInformer = manager.informer(nodes);
    const peer = peers.site(this.name);
    addJobControllers(manager, {
      transport,
      peers: {
        channels: peer,
        // What is served is served for ever here: only the home is killed, which serves nothing.
        services: isFirst ? peer : { add: () => undefined },
        namespace: systemNamespace,
        shared: { has: () => true },
        members: { principalOf: () => principal, userNameOf: () => owner },
        volumes: { identityOf: () => undefined, sitesWith: () => [this.name] },
        ...{ access: nobody, audit: { record: () => undefined } },
      },
      taskLogs: new FakeTaskLogs(),
      ...{ clock: systemClock, random: systemRandom(), log: silentLogger, registry: createRegistry() },
      ...{ siteName: this.name, selection, admission: () => undefined },
      ...{ reservationAdmission: () => undefined, isInGroup: () => false },
      surroundings: openSurroundings(this.name, (name) => nodeInformer.get({ name }) !== undefined),
    });
    const abort = new AbortController();
    const end = manager.run(abort.signal);
    this.operator = {
      kill: async () => {
        await transport.close();
        abort.abort(new Error('killed'));
        await end.catch(() => undefined);
        selection.close();
      },
    };
  }

  /** Ends it at once, in the middle of whatever it does. */
  async killOperator(): Promise<void> {
    await this.operator?.kill();
    this.operator = undefined;
  }

  /** Pods of a job that have not ended. */
  async podsOf(job: string): Promise<Stored<Pod>[]> {
    const labelSelector = `${podLabels.job}=${job}`;
    const { items } = await this.client.of(pods).list({ namespace, labelSelector });
    return items.filter(({ status }) => status?.phase !== 'Succeeded' && status?.phase !== 'Failed');
  }

  async stop(): Promise<void> {
    clearInterval(this.heart);
    await this.killOperator();
    await this.selectors.kill();
    await this.kubelet.stop();
    await this.transport.close();
    await this.plane.stop();
  }
}

function transportOf(plane: AloneControlPlane): HttpTransport {
  const credentials = kubeConfigCredentials({ file: plane.kubeconfigPath });
  return new HttpTransport({ ...testParts(systemClock), credentials, throttle: { qps: Infinity } });
}

/** As the kubelet of the only node does, so that it stays ready. */
async function beat(client: Client, site: string): Promise<void> {
  const amounts = { cpu: '4', memory: '8Gi', pods: '110' };
  const conditions = [{ type: 'Ready', status: 'True', lastHeartbeatTime: new Date().toISOString() }];
  const status = { allocatable: amounts, capacity: amounts, conditions };
  await client.of(nodes).status.patch({ name: `node-${site}` }, { type: 'merge', body: { status } });
}

beforeAll(async () => {
  const scratch = mkdtempSync(path.join(tmpdir(), 'xtreemos-two-sites-'));
  const files = await makeCredentials(scratch, ['home', 'far']);
  [home, far] = await Promise.all([
    Site.start('home', scratch, files.get('home')!),
    Site.start('far', scratch, files.get('far')!),
  ]);
  peers.join('home', 'far');
  home.startOperator(true);
  far.startOperator(true);
}, 300_000);

afterAll(async () => {
  await home.stop();
  await far.stop();
});

async function submit(name: string, inSites: readonly string[], tasks = 1): Promise<void> {
  const template = { image: 'stay', resources: { cpu: 1, memory: '64Mi' }, terminationGraceSeconds: 1 };
  await home.client.of(gridJobs).create({
    ...{ apiVersion: 'xtreemos.io/v1alpha1', kind: 'GridJob', metadata: { name, namespace } },
    spec: { owner, template, tasks: { count: tasks }, placement: { sites: { in: inSites } } },
  } as unknown as GridJob);
}

async function kill(job: string): Promise<void> {
  const body = { spec: { signal: { name: 'KILL', sequence: 1 } } };
  await home.client.of(gridJobs).patch({ namespace, name: job }, { type: 'merge', body });
  await jobIs(job, ({ status }) => status?.state === 'Killed');
}

async function jobIs(name: string, is: (job: Stored<GridJob>) => boolean, limitMs = 60_000): Promise<Stored<GridJob>> {
  let last: Stored<GridJob> | undefined;
  return waitFor(
    `${name} is as expected`,
    async () => {
      last = await home.client.of(gridJobs).get({ namespace, name });
      return is(last) ? last : undefined;
    },
    { limitMs, pauseMs: 100 },
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${JSON.stringify(last?.status, undefined, 1)}`);
  });
}

const isRunning = ({ status }: GridJob, tasks = 1): boolean => status?.tasks?.running === tasks;

/** How old the lease of the home is at the other site, by the word of the API server there. */
async function leaseAgeMs(): Promise<number> {
  const lease = await far.client.of(leases).get({ namespace: systemNamespace, name: 'xtreemos-home-home' });
  return Date.now() - Date.parse(lease.spec?.renewTime ?? '');
}

test('a job elsewhere never notices that the operator of its home was killed, and hears from the new one', async () => {
  await submit('unmoved', ['far']);
  await jobIs('unmoved', isRunning);
  const [before] = await far.podsOf('unmoved');
  for (let count = 0; count < 3; count++) {
    await home.killOperator();
    home.startOperator(false);
  }
  await jobIs('unmoved', isRunning);
  const age = await leaseAgeMs();
  await waitFor('the new operator renews the lease', async () => (await leaseAgeMs()) < age || undefined);
  expect((await far.podsOf('unmoved')).map(({ metadata }) => metadata.uid)).toEqual([before?.metadata.uid]);
  expect(await home.podsOf('unmoved')).toEqual([]);
  await kill('unmoved');
  await waitFor('nothing of it runs there', async () => (await far.podsOf('unmoved')).length === 0 || undefined);
});

test('a link that is away for a moment moves nothing', async () => {
  await submit('glitched', ['far']);
  await jobIs('glitched', isRunning);
  const [before] = await far.podsOf('glitched');
  peers.site('home').isSevered = true;
  await waitFor('the lease grows old', async () => (await leaseAgeMs()) > 12 * second || undefined);
  peers.site('home').isSevered = false;
  await waitFor('it is renewed', async () => (await leaseAgeMs()) < 12 * second || undefined);
  expect((await far.podsOf('glitched')).map(({ metadata }) => metadata.uid)).toEqual([before?.metadata.uid]);
  const { items } = await far.client.of(executions).list({ namespace });
  expect(items.filter(({ spec }) => spec.fencedTime !== undefined)).toEqual([]);
  expect((await jobIs('glitched', isRunning)).status?.tasks?.rows[0]).toMatchObject({ site: 'far' });
  await kill('glitched');
});

test('a site that is lost ends the task by itself before its home starts it again, and is clean when it is back', async () => {
  // Both nodes are full; then there is room at home.
  await submit('filler', ['home'], 4);
  await jobIs('filler', (job) => isRunning(job, 4));
  await submit('moved', ['home', 'far']);
  await jobIs('moved', isRunning);
  expect(await far.podsOf('moved')).toHaveLength(1);
  await kill('filler');
  peers.site('home').isSevered = true;
  const copies = async (): Promise<number> => {
    // In this order a move between the two looks is not taken for two copies.
    const here = await home.podsOf('moved');
    return here.length + (await far.podsOf('moved')).length;
  };
  const seen = new Set<number>();
  await waitFor(
    'it runs at home',
    async () => {
      seen.add(await copies());
      return (await home.podsOf('moved')).length === 1 || undefined;
    },
    { limitMs: 180_000, pauseMs: 100 },
  );
  expect([...seen].filter((count) => count > 1)).toEqual([]);
  // Its home had nothing to do with that it ended there.
  expect(seen.has(0)).toBe(true);
  expect(await far.podsOf('moved')).toEqual([]);
  peers.site('home').isSevered = false;
  await jobIs('moved', (job) => isRunning(job) && job.status?.tasks?.rows[0]?.site === 'home');
  await waitFor(
    'the part that was fenced is gone',
    async () => (await far.client.of(executions).list({ namespace })).items.length === 0 || undefined,
    { limitMs: 120_000 },
  );
  expect(far.kubelet.ran.filter((pod) => pod.includes('-moved-'))).toHaveLength(1);
  expect(home.kubelet.ran.filter((pod) => pod.includes('-moved-'))).toHaveLength(1);
  // And it is used again.
  await submit('again', ['far']);
  await jobIs('again', isRunning);
  for (const job of ['moved', 'again']) await kill(job);
});

/** Reserves slots of one CPU, of which each site has four. */
async function reserve(name: string, slots: number, startMs: number): Promise<void> {
  const window = { start: new Date(startMs).toISOString(), durationSeconds: 600 };
  await home.client.of(reservations).create({
    ...{ apiVersion: 'xtreemos.io/v1alpha1', kind: 'Reservation', metadata: { name, namespace } },
    spec: { owner, slots, resources: { cpu: 1, memory: '64Mi' }, window },
  } as unknown as Reservation);
}

async function reservationIs(
  name: string,
  is: (reservation: Stored<Reservation>) => boolean,
): Promise<Stored<Reservation>> {
  return waitFor(
    `reservation ${name} is as expected`,
    async () => {
      const found = await home.client.of(reservations).get({ namespace, name });
      return is(found) ? found : undefined;
    },
    { limitMs: 60_000 },
  );
}

test('a reservation over both sites holds as one or not at all, and its tasks start at both on time', async () => {
  const startMs = Math.ceil(Date.now() / second) * second + 25 * second;
  await reserve('wide', 6, startMs);
  const wide = await reservationIs('wide', ({ status }) => status?.state === 'Held');
  expect([...new Set(wide.status?.slots?.map(({ site }) => site))].sort()).toEqual(['far', 'home']);
  const promises = async (site: Site): Promise<{ owner: string; site: string | undefined }[]> => {
    const { items } = await site.client.of(claims).list({ namespace });
    return items.map(({ spec }) => ({ owner: spec.owner, site: spec.site }));
  };
  expect(await promises(far)).toEqual([{ owner: 'peer:home', site: undefined }]);
  // What is left at both sites together is too little: nothing is kept for it.
  await reserve('late', 3, startMs);
  const late = await reservationIs('late', ({ status }) => (status?.waiting?.length ?? 0) > 0);
  expect(late.status).toMatchObject({ state: 'Pending', slots: [] });
  expect(await promises(far)).toHaveLength(1);
  const template = { image: 'stay', resources: { cpu: 1, memory: '64Mi' }, terminationGraceSeconds: 1 };
  await home.client.of(gridJobs).create({
    ...{ apiVersion: 'xtreemos.io/v1alpha1', kind: 'GridJob', metadata: { name: 'in-wide', namespace } },
    spec: { owner, template, tasks: { count: 6 }, reservation: 'wide' },
  } as unknown as GridJob);
  await jobIs('in-wide', (job) => isRunning(job, 6));
  for (const site of [home, far]) {
    const begun = (await site.podsOf('in-wide')).map(
      ({ metadata }) => Date.parse(metadata.creationTimestamp) - startMs,
    );
    expect(begun.length).toBeGreaterThan(1);
    expect(Math.min(...begun)).toBeGreaterThanOrEqual(-second);
    expect(Math.max(...begun)).toBeLessThan(10 * second);
  }
  await kill('in-wide');
  for (const name of ['wide', 'late']) await home.client.of(reservations).delete({ namespace, name });
  await waitFor(
    'nothing is promised any more',
    async () => (await Promise.all([home, far].map(promises))).flat().length === 0 || undefined,
    { limitMs: 60_000 },
  );
});

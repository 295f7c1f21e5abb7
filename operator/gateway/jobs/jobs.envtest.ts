/** Tasks that submit jobs at the gateway: real tokens of a real API server, bound to pods as the operator makes them; no kubelet, no operator. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { type Finished, runXos } from '#cli/testing/processes.ts';
import { jobAnswer, jobsAnswer } from '#common/identity/gateway-api.ts';
import { type Execution, executionDefinition } from '#crds/execution.ts';
import { gatewayVariables, jobRoomPrefix, jobTreeBounds, jobTreeLabel, taskTokenAudience } from '#crds/grid-access.ts';
import type { GridJob } from '#crds/grid-job.ts';
import { taskPod } from '#operator/controllers/execution/pod.ts';
import { anExecution } from '#operator/testing/jobs.ts';
import type { GatewayAnswer, GatewayClient } from '#operator/testing/gateway-client.ts';
import { GatewaySite } from '#operator/testing/gateway-site.ts';
import type { Stored } from '#runtime/types.ts';
import { KubeClient, type KubeObject, waitFor } from '#sites/kube-client.ts';

jest.setTimeout(60_000);
const namespace = 'vo-physics';
const jobs = `/apis/xtreemos.io/v1alpha1/namespaces/${namespace}/gridjobs`;
const executions = `/apis/xtreemos.io/v1alpha1/namespaces/${namespace}/executions`;
const pods = `/api/v1/namespaces/${namespace}/pods`;
const accounts = `/api/v1/namespaces/${namespace}/serviceaccounts`;
const merge = 'application/merge-patch+json';
const template = { image: 'busybox:1' };

let site: GatewaySite;
let gateway: GatewayClient;
let other: GatewayClient;
let caBundle: string;
let alice: string;
let bob: string;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'xtreemos-task-'));
  site = await GatewaySite.start({ acceptedVirtualOrganizations: [{ name: 'physics' }] });
  const [first, second] = [site.replica(), site.replica()];
  caBundle = await site.caBundle();
  [gateway, other] = [await first.client(caBundle), await second.client(caBundle)];
  await site.form('physics', 1);
  const member = async (name: string, local: number): Promise<string> => {
    const principal = { issuer: 'https://login.example.org', subject: name };
    const userName = await site.join('physics', name, principal, 1, local);
    await site.client.json('POST', accounts, { body: { metadata: { name: userName } } });
    return userName;
  };
  [alice, bob] = [await member('alice', 2000), await member('bob', 2001)];
}, 240_000);

afterAll(async () => {
  await site.stop();
  rmSync(folder, { recursive: true });
});

/** A job whose only task runs: with its Execution and pod. */
interface RunningJob {
  readonly job: Stored<GridJob>;
  readonly pod: KubeObject;
}

async function makeJob(name: string, owner: string, spec: object = {}): Promise<Stored<GridJob>> {
  const body = {
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'GridJob',
    metadata: { name },
    spec: { owner, template, gridAccess: true, ...spec },
  };
  return (await site.client.json('POST', jobs, { body })) as unknown as Stored<GridJob>;
}

async function makePod(execution: Stored<Execution>): Promise<KubeObject> {
  const task = { run: 'r1abcd', index: 0, node: 'node-1', hold: undefined };
  const around = { site: 'rennes', uidMode: 'Global' as const, runtimeClassName: undefined, dedicatedTo: undefined };
  const gatewayThere = { address: 'xtreemos-gateway.xtreemos-system.svc:7443', authority: caBundle };
  const body = taskPod(execution, task, { ...around, gids: [], home: undefined, gateway: gatewayThere }, Date.now());
  const pod = await site.client.json('POST', pods, { body: body as unknown as KubeObject });
  await setPhase(pod.metadata?.name ?? '', 'Running');
  return pod;
}

async function run(name: string, owner = alice, spec: object = {}): Promise<RunningJob> {
  const job = await makeJob(name, owner, spec);
  return { job, pod: await makePod(await makeExecution(job)) };
}

async function makeExecution(job: Stored<GridJob>, spec: object = {}): Promise<Stored<Execution>> {
  const { name, uid } = job.metadata;
  const { owner, gridAccess } = job.spec;
  const full = anExecution(name, { owner, gridAccess, gridJob: { name, uid, site: 'rennes' }, template, ...spec }).spec;
  const body = { apiVersion: 'xtreemos.io/v1alpha1', kind: executionDefinition.kind, metadata: { name }, spec: full };
  return (await site.client.json('POST', executions, { body })) as unknown as Stored<Execution>;
}

async function setPhase(name: string, phase: string): Promise<void> {
  await site.client.json('PATCH', `${pods}/${name}/status`, { body: { status: { phase } }, contentType: merge });
}

/** A token as the kubelet gets it for a pod. */
async function tokenOf(
  { metadata, spec }: KubeObject,
  audience: string | undefined = taskTokenAudience,
): Promise<string> {
  const boundObjectRef = { apiVersion: 'v1', kind: 'Pod', name: metadata?.name, uid: metadata?.uid };
  const audiences = audience === '' ? {} : { audiences: [audience] };
  const body = { spec: { ...audiences, expirationSeconds: 600, boundObjectRef } };
  const made = await site.client.json('POST', `${accounts}/${String(spec?.serviceAccountName)}/token`, { body });
  return (made.status as { token: string }).token;
}

const errorOf = ({ body, status }: GatewayAnswer): [number, string] => [
  status,
  (body.error as { code: string; message: string } | undefined)?.code ?? '',
];
const list = async (bearer: string): Promise<string[]> =>
  jobsAnswer.parse((await gateway.call('GET', '/v1/jobs', { bearer })).body).jobs.map(({ metadata }) => metadata.name);
const submit = async (bearer: string, name: string, spec: object = {}): Promise<GatewayAnswer> =>
  gateway.call('POST', '/v1/jobs', { bearer, body: { name, spec: { template, ...spec } } });
const stored = async (name: string): Promise<Stored<GridJob>> =>
  (await site.client.json('GET', `${jobs}/${name}`)) as unknown as Stored<GridJob>;

describe('a task', () => {
  test('submits jobs below its own, as its member, and sees them at any replica at once', async () => {
    const { job, pod } = await run('root');
    const bearer = await tokenOf(pod);
    const made = await submit(bearer, 'child', { gridAccess: true });
    expect(made.status).toBe(201);
    expect(jobAnswer.parse(made.body).spec).toMatchObject({ owner: alice, parent: { job: 'root' } });
    const child = await stored('child');
    expect(child.spec).toMatchObject({ owner: alice, parent: { job: 'root', uid: job.metadata.uid } });
    expect(child.metadata.labels).toEqual({ [jobTreeLabel]: job.metadata.uid });
    const seen = await other.call('GET', '/v1/jobs', { bearer });
    expect(jobsAnswer.parse(seen.body).jobs.map(({ metadata }) => metadata.name)).toEqual(['root', 'child']);
    const grandchild = await tokenOf(await makePod(await makeExecution(child)));
    expect((await submit(grandchild, 'grandchild')).status).toBe(201);
    expect((await stored('grandchild')).metadata.labels).toEqual({ [jobTreeLabel]: job.metadata.uid });
    expect(await list(bearer)).toEqual(['root', 'child', 'grandchild']);
    // What is above and beside a job is none of its business.
    expect(await list(grandchild)).toEqual(['child', 'grandchild']);
    expect(errorOf(await gateway.call('GET', '/v1/jobs/root', { bearer: grandchild }))).toEqual([404, 'NotFound']);
  });

  test('ends, suspends and resumes what is below it, and nothing else', async () => {
    const { pod } = await run('controller');
    const bearer = await tokenOf(pod);
    await submit(bearer, 'controlled');
    await makeJob('own-but-elsewhere', alice);
    await makeJob('of-bob', bob);
    const control = async (name: string, body: object): Promise<GatewayAnswer> =>
      gateway.call('POST', `/v1/jobs/${name}/control`, { bearer, body });
    expect((await control('controlled', { suspend: true })).status).toBe(200);
    expect((await stored('controlled')).spec.suspend).toBe(true);
    expect((await control('controlled', { suspend: false })).status).toBe(200);
    const killed = await control('controlled', { signal: 'KILL' });
    expect(jobAnswer.parse(killed.body).spec).toMatchObject({ suspend: false, signal: { name: 'KILL', sequence: 1 } });
    for (const name of ['own-but-elsewhere', 'of-bob', 'no-such-job']) {
      expect([name, ...errorOf(await control(name, { signal: 'KILL' }))]).toEqual([name, 404, 'NotFound']);
      expect(errorOf(await gateway.call('GET', `/v1/jobs/${name}`, { bearer }))).toEqual([404, 'NotFound']);
    }
    expect(errorOf(await control('controller', { signal: 'KILL' }))).toEqual([403, 'Forbidden']);
    expect(errorOf(await control('controlled', { signal: 'HUP' }))).toEqual([400, 'InvalidRequest']);
    expect((await stored('of-bob')).spec.signal).toBeUndefined();
    expect(site.output.audit()).toContainEqual(
      expect.objectContaining({ what: 'jobs.control', why: 'SIGKILL', outcome: 'Allowed' }),
    );
  });

  test('is told what is wrong with what it submits', async () => {
    const { pod } = await run('clumsy');
    const bearer = await tokenOf(pod);
    const message = ({ status, body }: GatewayAnswer): string => `${status} ${JSON.stringify(body.error)}`;
    expect(message(await submit(bearer, 'x', { owner: bob }))).toMatch(/^400 .*leave owner and parent out/);
    expect(message(await submit(bearer, 'x', { parent: { job: 'of-bob', uid: 'x' } }))).toMatch(/^400 .*leave owner/);
    expect(message(await submit(bearer, 'x', { tasks: { count: 0 } }))).toMatch(/^400 .*spec\.tasks\.count/);
    expect(message(await submit(bearer, 'x', { hostNetwork: true }))).toMatch(/^400 .*unknown field.*hostNetwork/);
    expect(message(await submit(bearer, 'Not a name'))).toMatch(/^400 .*name/);
    expect(message(await submit(bearer, 'clumsy'))).toMatch(/^409 .*already exists.*choose another/);
    const patch = { body: { spec: { signal: { name: 'TERM', sequence: 1 } } }, contentType: merge };
    await site.client.json('PATCH', `${jobs}/clumsy`, patch);
    expect(message(await submit(bearer, 'late'))).toMatch(/^409 .*clumsy is being ended/);
  });

  test('has no say while its member may not act', async () => {
    const { pod } = await run('suspended', bob);
    const bearer = await tokenOf(pod);
    expect((await submit(bearer, 'before')).status).toBe(201);
    await site.patchMember('physics', 'bob', { state: 'Suspended' });
    await waitFor('it is refused', async () => errorOf(await submit(bearer, 'meanwhile'))[0] === 403);
    await site.patchMember('physics', 'bob', { state: 'Active' });
    await waitFor('it is allowed', async () => (await submit(bearer, 'after')).status === 201);
  });
});

describe('room in a tree', () => {
  const left = 4;
  let job: Stored<GridJob>;
  let bearer: string;
  const annotate = async (annotations: object): Promise<unknown> =>
    site.client.json('PATCH', `${jobs}/full`, { body: { metadata: { annotations } }, contentType: merge });

  beforeAll(async () => {
    const made = await run('full');
    ({ job } = made);
    bearer = await tokenOf(made.pod);
    const labels = { [jobTreeLabel]: job.metadata.uid };
    const parent = { job: 'full', uid: job.metadata.uid };
    const names = Array.from({ length: jobTreeBounds.jobsMax - left }, (_, index) => `part-${index}`);
    const make = async (): Promise<void> => {
      for (let name = names.shift(); name !== undefined; name = names.shift()) {
        const about = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'GridJob', metadata: { name, labels } };
        await site.client.json('POST', jobs, { body: { ...about, spec: { owner: alice, template, parent } } });
      }
    };
    await Promise.all(Array.from({ length: 8 }, make));
  }, 120_000);

  test('is what a replica left that ended in the middle, until its time is over', async () => {
    const room = (inMs: number): string => `${new Date(Date.now() + inMs).toISOString()} lost`;
    const keys = Array.from({ length: left }, (_, index) => `${jobRoomPrefix}${index}`);
    await annotate(Object.fromEntries(keys.map((key) => [key, room(60_000)])));
    expect(errorOf(await submit(bearer, 'no-room'))).toEqual([403, 'Forbidden']);
    await annotate(Object.fromEntries(keys.map((key) => [key, room(-1)])));
    expect((await submit(bearer, 'room-again')).status).toBe(201);
    const { annotations = {} } = (await stored('full')).metadata;
    expect(Object.keys(annotations).filter((key) => key.startsWith(jobRoomPrefix))).toEqual([]);
    await site.client.json('DELETE', `${jobs}/room-again`);
  });

  test('is never given to more than there is, whoever submits where at the same time', async () => {
    const replicas = [gateway, other];
    const answers = await Promise.all(
      Array.from({ length: 3 * left }, async (_, index) =>
        replicas[index % 2]!.call('POST', '/v1/jobs', { bearer, body: { name: `late-${index}`, spec: { template } } }),
      ),
    );
    const made = answers.filter(({ status }) => status === 201);
    expect(made).toHaveLength(left);
    const refused = answers.filter(({ status }) => status !== 201);
    for (const { status, body } of refused) {
      expect([status, JSON.stringify(body.error)]).toEqual([403, expect.stringMatching(/512 jobs in this tree/)]);
    }
    const labelSelector = encodeURIComponent(`${jobTreeLabel}=${job.metadata.uid}`);
    const { items } = (await site.client.json('GET', `${jobs}?labelSelector=${labelSelector}`)) as unknown as {
      items: unknown[];
    };
    expect(items).toHaveLength(jobTreeBounds.jobsMax);
  });
});

describe('threat 46: a token', () => {
  const refused = async (bearer: string): Promise<[number, string, unknown]> => {
    const answer = await submit(bearer, 'stolen');
    const record = site.output.audit().findLast(({ what }) => what === 'jobs.submit');
    return [...errorOf(answer), record?.why];
  };

  test('of a task is worth nothing at the API server, and logs nobody in', async () => {
    const { pod } = await run('worthless');
    const token = await tokenOf(pod);
    const client = new KubeClient({ ...site.plane.credentials, token });
    await expect(client.json('GET', pods)).rejects.toMatchObject({ code: 401 });
    client.close();
    const session = await gateway.call('POST', '/v1/sessions', { body: { method: 'kubernetes' }, bearer: token });
    expect([401, 403]).toContain(session.status);
    expect((await submit(token, 'but-here')).status).toBe(201);
  });

  test('that is for the API server, of no pod, of another pod, or made up is refused', async () => {
    const { pod } = await run('victim');
    expect(await refused(await tokenOf(pod, ''))).toEqual([401, 'Unauthenticated', 'TokenInvalid']);
    const body = { spec: { audiences: [taskTokenAudience] } };
    const made = await site.client.json('POST', `${accounts}/${alice}/token`, { body });
    expect(await refused((made.status as { token: string }).token)).toEqual([401, 'Unauthenticated', 'NotATask']);
    const containers = [{ name: 'main', image: 'busybox:1' }];
    const plain = { metadata: { name: `${alice}-shell` }, spec: { serviceAccountName: alice, containers } };
    const shell = await site.client.json('POST', pods, { body: plain });
    await setPhase(`${alice}-shell`, 'Running');
    expect(await refused(await tokenOf(shell))).toEqual([401, 'Unauthenticated', 'NotATask']);
    expect(await refused('a.b.c')).toEqual([401, 'Unauthenticated', 'TokenInvalid']);
    expect(errorOf(await gateway.call('POST', '/v1/jobs', { body: {} }))).toEqual([401, 'Unauthenticated']);
  });

  test('of a job without access to the grid is refused, whatever its pod bears', async () => {
    const job = await makeJob('plain', alice, { gridAccess: false });
    const pod = await makePod(await makeExecution(job, { gridAccess: true }));
    expect(await refused(await tokenOf(pod))).toEqual([403, 'Forbidden', 'NoGridAccess']);
  });

  test('of a pod that has ended, is being deleted, or was made again under its name is refused', async () => {
    const { pod } = await run('mortal');
    const token = await tokenOf(pod);
    const name = pod.metadata?.name ?? '';
    expect((await submit(token, 'alive')).status).toBe(201);
    await setPhase(name, 'Succeeded');
    expect(await refused(token)).toEqual([401, 'Unauthenticated', 'PodGone']);
    // The kubelet tells that it runs a moment after the task has begun.
    await setPhase(name, 'Pending');
    expect((await submit(token, 'alive-again')).status).toBe(201);
    await setPhase(name, 'Failed');
    expect(await refused(token)).toEqual([401, 'Unauthenticated', 'PodGone']);
    await setPhase(name, 'Running');
    // Bound to a node, it stays until a kubelet lets it go, and there is none.
    await site.client.json('DELETE', `${pods}/${name}`);
    expect(await refused(token)).toEqual([401, 'Unauthenticated', 'PodGone']);
    await site.client.json('DELETE', `${pods}/${name}?gracePeriodSeconds=0`);
    const execution = (await site.client.json('GET', `${executions}/mortal`)) as unknown as Stored<Execution>;
    const successor = await makePod(execution);
    expect(successor.metadata?.name).toBe(name);
    const [status, code] = await refused(token);
    expect([status, code]).toEqual([401, 'Unauthenticated']);
    expect((await submit(await tokenOf(successor), 'of-the-successor')).status).toBe(201);
  });

  test('of a task whose job was made again under its name is refused', async () => {
    const { pod } = await run('reborn');
    const token = await tokenOf(pod);
    await site.client.json('DELETE', `${jobs}/reborn`);
    await makeJob('reborn', alice);
    expect(await refused(token)).toEqual([401, 'Unauthenticated', 'PodGone']);
  });
});

describe('xos within a task', () => {
  let xos: (words: readonly string[]) => Promise<Finished>;
  beforeAll(async () => {
    const { pod } = await run('shell');
    const [tokenFile, caFile] = ['token', 'ca.crt'].map((name) => path.join(folder, name));
    writeFileSync(tokenFile!, await tokenOf(pod));
    writeFileSync(caFile!, caBundle);
    const env = {
      ...{ [gatewayVariables.address]: `127.0.0.1:${gateway.port}`, [gatewayVariables.virtualOrganization]: 'physics' },
      ...{ [gatewayVariables.tokenFile]: tokenFile!, [gatewayVariables.caFile]: caFile!, USER: alice },
    };
    xos = async (words) => runXos(words, env);
  });

  test('submits, lists, ends and waits by the token that it finds', async () => {
    expect(await xos(['sub', '--name', 'by-xos', 'busybox:1', '--', 'true'])).toMatchObject({
      ...{ code: 0, stdout: 'by-xos\n' },
    });
    expect((await stored('by-xos')).spec).toMatchObject({ owner: alice, parent: { job: 'shell' } });
    expect((await xos(['ps'])).stdout).toMatch(/^shell +u-m2000-\S+ .*\n└ by-xos +u-m2000-/m);
    expect((await xos(['kill', '-9', 'by-xos'])).stdout).toBe('by-xos: SIGKILL sent\n');
    const reason = { type: 'Succeeded', status: 'False', reason: 'Killed', message: 'The job was sent SIGKILL.' };
    const conditions = [{ ...reason, lastTransitionTime: '2026-01-01T00:00:00Z' }];
    const status = { state: 'Killed', conditions };
    await site.client.json('PATCH', `${jobs}/by-xos/status`, { body: { status }, contentType: merge });
    expect(await xos(['wait', 'by-xos'])).toMatchObject({ code: 137, stdout: 'by-xos Killed\n' });
  });

  test('says what a task can not do', async () => {
    expect(await xos(['logs', 'by-xos'])).toMatchObject({ code: 4, stderr: expect.stringMatching(/no logs/) });
    expect(await xos(['run', 'busybox:1', '--', 'true'])).toMatchObject({ code: 4 });
    const elsewhere = await xos(['ps', '--vo', 'chemistry']);
    expect(elsewhere.stderr).toMatch(/this task is of physics/);
  });
});

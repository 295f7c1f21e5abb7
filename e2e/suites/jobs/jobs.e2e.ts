/** Jobs of a member on a real site: nodes are found by the selectors, pods run as the member, also while the operator is killed. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import type { GridJob } from '#crds/grid-job.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import { podLabels } from '#operator/controllers/execution/pod.ts';
import { requestAccount } from '#operator/identity/accounts.ts';
import type { Pod } from '#runtime/builtin.ts';
import { createClient, HttpTransport, kubeConfigCredentials, type Stored } from '#runtime/index.ts';
import { openSites, type TestSite, waitFor } from '#sites/harness.ts';
import YAML from 'yaml';
import { productRecipe } from '../../../hack/images/recipes.ts';

jest.setTimeout(180_000);

const root = path.resolve(import.meta.dirname, '../../..');
const system = 'suite-jobs';
const organization = 'suite-jobs';
const namespace = `vo-${organization}`;
const image = 'xtreemos.io/busybox:1';
const scratch = mkdtempSync(path.join(tmpdir(), 'xtreemos-jobs-'));
let site: TestSite;
let transport: HttpTransport;
let alice: { readonly userName: string; readonly uid: number; readonly login: readonly string[] };

beforeAll(async () => {
  site = (await openSites()).sites[0]!;
  transport = new HttpTransport({ credentials: kubeConfigCredentials({ file: site.kubeconfig }) });
  await promisify(execFile)(process.execPath, [path.join(root, 'hack/bundle.ts')], { cwd: root });
  await site.loadRecipes([productRecipe()]);
  await site.helm([
    ...['install', 'xtreemos', path.join(root, 'charts/xtreemos'), '--namespace', system, '--create-namespace'],
    ...['--wait', '--timeout=180s', '--set', 'site.name=home', '--set', 'operator.leaseDurationSeconds=6'],
    ...['--set', 'crds.keep=false'],
  ]);
  const accepted = JSON.stringify({ spec: { local: { acceptedVirtualOrganizations: [{ name: organization }] } } });
  await site.kubectl(['wait', '--for=create', 'site/home', '--timeout=60s']);
  await site.kubectl(['patch', 'site', 'home', '--type=merge', '-p', accepted]);
  const administrators = [{ issuer: 'kubernetes:home', subject: 'root' }];
  const about = { apiVersion: 'xtreemos.io/v1alpha1' };
  const vo = { ...about, kind: 'VirtualOrganization', metadata: { name: organization } };
  await site.apply([{ ...vo, spec: { state: 'Operational', administrators } }]);
  await waitFor('the namespace is there', async () => (await site.tryKubectl(['get', 'ns', namespace])).status === 0);
  const principal = { issuer: 'https://login.example.org', subject: 'alice' };
  const membership = { ...about, kind: 'VOMembership', metadata: { name: 'alice', namespace } };
  await site.apply([{ ...membership, spec: { principal, state: 'Active' } }]);
  alice = await logIn('alice');
}, 480_000);

afterAll(async () => {
  await site.tryKubectl(['delete', 'gridjobs', '--all', '-n', namespace, '--timeout=60s'], { timeoutMs: 70_000 });
  await site.tryKubectl(['patch', 'vo', organization, '--type=merge', '-p', '{"spec":{"state":"Dissolved"}}']);
  await site.tryKubectl(['wait', 'ns', namespace, '--for=delete', '--timeout=90s'], { timeoutMs: 100_000 });
  await site.tryKubectl(['delete', 'vo', organization, '--timeout=60s'], { timeoutMs: 70_000 });
  await site.tryKubectl(['delete', 'islice', '--all']);
  await site.helm(['uninstall', 'xtreemos', '--namespace', system, '--wait']);
  await site.tryKubectl(['delete', 'namespace', system, '--wait=false']);
  await transport.close();
  rmSync(scratch, { recursive: true, force: true });
});

/** A member who may act: flags with which kubectl is them, and nobody else. */
async function logIn(name: string): Promise<typeof alice> {
  const member = await waitFor(
    `${name} has an id`,
    async () => {
      const found = await site.get<Stored<VOMembership>>('vom', name, '-n', namespace);
      return found.status?.userName === undefined ? undefined : found;
    },
    { limitMs: 60_000 },
  );
  const client = createClient(transport, { fieldManager: 'suite' });
  await requestAccount(client, systemClock, member, Date.now() + 3_600_000);
  const { userName = '', uid = 0 } = member.status ?? {};
  const token = (await site.kubectl(['create', 'token', userName, '-n', namespace])).trim();
  const config = YAML.parse(readFileSync(site.kubeconfig, 'utf8')) as { users: { name: string; user: object }[] };
  const users = config.users.map((each) => ({ ...each, user: { token } }));
  const file = path.join(scratch, `${name}.kubeconfig`);
  writeFileSync(file, YAML.stringify({ ...config, users }), { mode: 0o600 });
  const login = ['--kubeconfig', file, '-n', namespace];
  return { userName, uid, login };
}

const task = (script: string, cpu = '100m'): object => ({
  ...{ image, command: ['sh', '-c', script], resources: { cpu, memory: '32Mi' }, terminationGraceSeconds: 2 },
});

/** Submits as the member, from a manifest. */
async function submit(name: string, spec: object): Promise<{ status: number; stdout: string; stderr: string }> {
  const job = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'GridJob', metadata: { name }, spec };
  return site.tryKubectl([...alice.login, 'create', '-f', '-'], { input: JSON.stringify(job) });
}

async function until(name: string, is: (job: Stored<GridJob>) => boolean, limitMs = 90_000): Promise<Stored<GridJob>> {
  let last: Stored<GridJob> | undefined;
  const reached = await waitFor(
    `${name} is as expected`,
    async () => {
      last = await site.get<Stored<GridJob>>('gridjob', name, '-n', namespace);
      return is(last) ? last : undefined;
    },
    { limitMs },
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${JSON.stringify(last?.status)}`);
  });
  return reached;
}
const state =
  (wanted: string) =>
  (job: GridJob): boolean =>
    job.status?.state === wanted;
const podsOf = async (name: string): Promise<Pod[]> =>
  (await site.get<{ items: Pod[] }>('pods', '-n', namespace, '-l', `${podLabels.job}=${name}`)).items;

describe('a job of a member', () => {
  test('runs as them, on a node that promised the room', async () => {
    expect(await submit('hello', { template: task('id; echo on $XTREEMOS_NODE') })).toMatchObject({ status: 0 });
    const job = await until('hello', state('Succeeded'));
    const [row] = job.status?.tasks?.rows ?? [];
    expect(job.spec.owner).toBe(alice.userName);
    const [pod] = await podsOf('hello');
    const log = await site.kubectl(['logs', '-n', namespace, pod!.metadata.name]);
    expect(log).toContain(`uid=${alice.uid}(${alice.userName})`);
    expect(site.nodes).toContain(pod!.spec?.nodeName);
    expect(log).toContain(`on ${pod!.spec?.nodeName ?? ''}`);
    expect(row).toBeUndefined();
  });

  test('of many tasks spreads over the nodes, and a gang starts whole', async () => {
    await submit('array', { tasks: { count: 20 }, placement: { spread: 'Spread' }, template: task('sleep 1') });
    await submit('gang', { tasks: { count: 6, gangMinimum: 6 }, template: task('sleep 2', '200m') });
    const job = await until('array', state('Succeeded'));
    expect(job.status?.tasks).toMatchObject({ succeeded: 20, succeededIndexes: '0-19' });
    expect(new Set((await podsOf('array')).map(({ spec }) => spec?.nodeName)).size).toBe(site.nodes.length);
    await until('gang', state('Succeeded'));
    const starts = (await podsOf('gang')).map(({ metadata }) => Date.parse(metadata.creationTimestamp ?? ''));
    expect(Math.max(...starts) - Math.min(...starts)).toBeLessThanOrEqual(5_000);
  });

  test('tells its exit status, waits for others, and says why it has no node', async () => {
    await submit('fails', { template: task('echo no luck >&2; exit 3') });
    await submit('after', { dependsOn: [{ job: 'fails', when: 'Failed' }], template: task('true') });
    await submit('huge', { template: task('true', '64') });
    const failed = await until('fails', state('Failed'));
    expect(failed.status?.exitCode).toBe(3);
    expect(failed.status?.tasks?.rows[0]?.message).toMatch(/exit status 3.*no luck/s);
    await until('after', state('Succeeded'));
    const huge = await until('huge', (job) => (job.status?.waiting?.length ?? 0) > 0);
    expect(huge.status?.waiting?.[0]).toMatchObject({
      ...{
        site: 'home',
        nodes: site.nodes.length,
        reason: expect.stringMatching(/^Not enough free cpu: 64000 wanted/),
      },
    });
  });

  test('is suspended, goes on, and is killed', async () => {
    await submit('long', { template: task('sleep 600') });
    await until('long', (job) => job.status?.tasks?.running === 1);
    const patch = async (spec: object): Promise<unknown> =>
      site.kubectl([...alice.login, 'patch', 'gridjob', 'long', '--type=merge', '-p', JSON.stringify({ spec })]);
    await patch({ suspend: true });
    await until('long', (job) => state('Suspended')(job) && job.status?.tasks?.running === 0);
    await patch({ suspend: false });
    await until('long', (job) => job.status?.tasks?.running === 1);
    await patch({ signal: { name: 'KILL', sequence: 1 } });
    await until('long', state('Killed'));
  });

  test('can not be submitted as somebody else, nor by somebody who is no member', async () => {
    const forged = await submit('forged', { owner: 'u-bob-2013300124', template: task('true') });
    expect(forged.stderr).toMatch(/spec\.owner: u-bob-2013300124 is not who asks/);
    const job = { apiVersion: 'xtreemos.io/v1alpha1', kind: 'GridJob', metadata: { name: 'stray', namespace } };
    const input = JSON.stringify({ ...job, spec: { template: task('true') } });
    const stray = await site.tryKubectl(['create', '-f', '-'], { input });
    expect(stray.stderr).toMatch(/spec\.owner: is not set: submit as a member/);
  });
});

test('the operator is killed while jobs run: none is lost, and no task runs twice', async () => {
  const names = Array.from({ length: 6 }, (_, index) => `killed-${index}`);
  for (const name of names) await submit(name, { tasks: { count: 3 }, template: task('sleep 3') });
  for (let round = 0; round < 3; round++) {
    const selector = 'app.kubernetes.io/component=operator';
    await site.kubectl(['delete', 'pods', '-n', system, '-l', selector, '--force', '--grace-period=0']);
    await new Promise((resolve) => setTimeout(resolve, 2_500));
  }
  for (const name of names) await until(name, state('Succeeded'), 150_000);
  for (const name of names) expect([name, (await podsOf(name)).length]).toEqual([name, 3]);
}, 400_000);

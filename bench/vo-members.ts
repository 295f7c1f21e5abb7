/**
 * What members cost the operator: the product's own bundle, with the rights that the chart gives it, against a real API server without nodes.
 * Members are approved to 100, 1,000 and so on; at each step changes of single members are made one after the other, and requests and CPU of
 * the operator are counted for them.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { sites } from '#crds/site.ts';
import { virtualOrganizations } from '#crds/virtual-organization.ts';
import { type VOMembership, voMemberships } from '#crds/vo-membership.ts';
import {
  type Client,
  createClient,
  findCondition,
  HttpTransport,
  kubeConfigCredentials,
  namespaces,
} from '#runtime/index.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { ensureTools } from '#sites/tools.ts';
import YAML from 'yaml';

const root = path.resolve(import.meta.dirname, '..');
const system = 'xtreemos-system';
const organization = 'bench';
const namespace = `vo-${organization}`;
const metricsPort = 18_080;
/** Changes that are made at each size. */
const changes = 50;
const limitMs = 900_000;

/** What the operator spent so far. */
interface Spent {
  readonly cpuMs: number;
  readonly requests: number;
}

/** @param total - members in the end, at least 100. */
export async function measureMembers(total: number): Promise<Record<string, unknown>> {
  const dir = mkdtempSync(path.join(tmpdir(), 'xtreemos-bench-vo-'));
  const plane = await startControlPlane({ dir: path.join(dir, 'plane'), name: 'bench-vo' });
  const transport = new HttpTransport({
    credentials: kubeConfigCredentials({ file: plane.kubeconfigPath }),
    throttle: { qps: Infinity, inFlightMax: 32 },
  });
  const client = createClient(transport, { fieldManager: 'bench' });
  let operator: ChildProcess | undefined;
  try {
    const kubeconfig = await install(plane, dir);
    operator = startOperator(kubeconfig, dir);
    await form(client);
    return await measure(client, operator, total);
  } finally {
    operator?.kill('SIGKILL');
    await transport.close();
    await plane.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

async function measure(client: Client, operator: ChildProcess, total: number): Promise<Record<string, unknown>> {
  const sizes = [100, 1000, 10_000].filter((size) => size < total).concat(total);
  const perChange: Record<string, unknown> = {};
  const enforcedMs: number[] = [];
  let approvedPerS = 0;
  let count = 0;
  for (const size of sizes) {
    const startedAt = performance.now();
    const added = size - count;
    await approve(client, count, size);
    approvedPerS = Math.round((added * 1000) / (performance.now() - startedAt));
    count = size;
    console.log(
      `members: ${size}, the last ${added} approved at ${approvedPerS}/s, operator ${memoryMb(operator).rss} MB`,
    );
    // Counts of the virtual organization and events follow for a moment.
    await sleep(5000);
    const before = await spentBy(operator);
    for (let n = 0; n < changes; n++) enforcedMs.push(await change(client, n, n % 2 === 0 ? 'Suspended' : 'Active'));
    await sleep(2000);
    const after = await spentBy(operator);
    perChange[String(size)] = {
      requests: round((after.requests - before.requests) / changes),
      cpu_ms: round((after.cpuMs - before.cpuMs) / changes),
    };
    console.log(`members: at ${size} a change costs ${JSON.stringify(perChange[String(size)])}`);
  }
  const { rss, peak } = memoryMb(operator);
  enforcedMs.sort((a, b) => a - b);
  return {
    members: total,
    approved_per_s: approvedPerS,
    operator_mb: rss,
    operator_peak_mb: peak,
    requests_per_change: perChange,
    enforce_p50_s: round((enforcedMs[Math.floor(enforcedMs.length / 2)] ?? NaN) / 1000),
    enforce_p99_s: round((enforcedMs[Math.floor(enforcedMs.length * 0.99)] ?? NaN) / 1000),
  };
}

/** Helm installs the chart, whose pods never run here: its kinds and rights are what counts. @returns the operator's kubeconfig. */
async function install(plane: AloneControlPlane, dir: string): Promise<string> {
  const helm = (await ensureTools(['helm'])).path('helm');
  const home = path.join(dir, 'helm');
  mkdirSync(home);
  const env = { ...process.env, KUBECONFIG: plane.kubeconfigPath, HOME: home, XDG_CACHE_HOME: home };
  const chart = path.join(root, 'charts/xtreemos');
  execFileSync(helm, ['install', 'xtreemos', chart, '--namespace', system, '--create-namespace'], { env });
  const transport = new HttpTransport({ credentials: kubeConfigCredentials({ file: plane.kubeconfigPath }) });
  const at = `/api/v1/namespaces/${system}/serviceaccounts/xtreemos/token`;
  const request = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { expirationSeconds: 7200 } };
  const answer = (await createClient(transport, { fieldManager: 'bench' }).raw('POST', at, request)) as {
    status: { token: string };
  };
  await transport.close();
  const config = YAML.parse(readFileSync(plane.kubeconfigPath, 'utf8')) as { users: { user: unknown }[] };
  for (const user of config.users) user.user = { token: answer.status.token };
  const file = path.join(dir, 'kubeconfig');
  writeFileSync(file, YAML.stringify(config), { mode: 0o600 });
  return file;
}

/** As in the image and with the settings of the chart. */
function startOperator(kubeconfig: string, dir: string): ChildProcess {
  execFileSync(process.execPath, [path.join(root, 'hack/bundle.ts'), '--out', dir], { cwd: root });
  const flags = ['--kubeconfig', kubeconfig, '--site-name', 'home', '--lease-name', 'xtreemos'];
  const ports = ['--metrics-port', String(metricsPort), '--health-port', String(metricsPort + 1), '--no-metrics-auth'];
  const log = openSync(path.join(dir, 'operator.log'), 'w');
  return spawn(process.execPath, [path.join(dir, 'operator.mjs'), ...flags, ...ports, '--namespace', system], {
    env: { ...process.env, NODE_OPTIONS: '--max-semi-space-size=1', MALLOC_ARENA_MAX: '1' },
    // The native packages, which the bundle leaves outside, are found from here.
    cwd: root,
    stdio: ['ignore', log, log],
  });
}

async function form(client: Client): Promise<void> {
  await until('the Site of the operator', async () => (await client.of(sites).find({ name: 'home' })) !== undefined);
  const acceptedVirtualOrganizations = [{ name: organization }];
  const accept = { spec: { local: { acceptedVirtualOrganizations } } };
  await client.of(sites).patch({ name: 'home' }, { type: 'merge', body: accept });
  await client.of(virtualOrganizations).apply({
    metadata: { name: organization },
    spec: { state: 'Operational', administrators: [{ issuer: 'kubernetes:home', subject: 'root' }] },
  });
  await until('the namespace', async () => {
    await client.of(namespaces).apply({ metadata: { name: namespace } });
    return true;
  });
}

/** Members are made approved, as an import makes them; done when each one's status says so. */
async function approve(client: Client, from: number, to: number): Promise<void> {
  const memberships = client.of(voMemberships);
  let next = from;
  const work = async (): Promise<void> => {
    for (let n = next++; n < to; n = next++) {
      const principal = { issuer: 'https://login.example.org', subject: `user-${n}` };
      await memberships.apply({ metadata: { name: `m-${n}`, namespace }, spec: { principal, state: 'Active' } });
    }
  };
  await Promise.all(Array.from({ length: 16 }, work));
  const counted = async (): Promise<number> =>
    (await client.of(virtualOrganizations).get({ name: organization })).status?.members?.active ?? 0;
  await until(
    `${to} members are Active`,
    async () => (await counted()) >= Math.max(to - changes, from + 1) && (await areActive(client, to)),
  );
}

async function areActive(client: Client, count: number): Promise<boolean> {
  const { items } = await client.of(voMemberships).list({ namespace });
  return items.filter((each) => reasonOf(each) === 'Active').length >= count;
}

/** @returns milliseconds from the write to the status in force. */
async function change(client: Client, n: number, state: 'Suspended' | 'Active'): Promise<number> {
  const key = { namespace, name: `m-${Math.floor(n / 2)}` };
  const startedAt = performance.now();
  await client.of(voMemberships).patch(key, { type: 'merge', body: { spec: { state } } });
  await until(`${key.name} is ${state}`, async () => reasonOf(await client.of(voMemberships).get(key)) === state, 5);
  return performance.now() - startedAt;
}

function reasonOf({ status }: VOMembership): string | undefined {
  return findCondition(status?.conditions, 'Ready')?.reason;
}

/** CPU from /proc (ticks of 10 ms), requests from its own metrics: all but those of the lease. */
async function spentBy(operator: ChildProcess): Promise<Spent> {
  const stat = readFileSync(`/proc/${operator.pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  const metrics = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
  const lines = metrics
    .split('\n')
    .filter((line) => line.startsWith('xtreemos_runtime_request_duration_seconds_count'));
  const requests = lines
    .filter((line) => !/resource="(leases|sites)/.test(line))
    .map((line) => Number(line.split(' ')[1]));
  return { cpuMs: (Number(stat[11]) + Number(stat[12])) * 10, requests: requests.reduce((sum, each) => sum + each, 0) };
}

function memoryMb(operator: ChildProcess): { readonly rss: number; readonly peak: number } {
  const status = readFileSync(`/proc/${operator.pid}/status`, 'utf8');
  const mb = (name: string): number => Math.round(Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1]) / 1000);
  return { rss: mb('VmRSS'), peak: mb('VmHWM') };
}

async function until(what: string, isSo: () => Promise<boolean>, pauseMs = 500): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`${what}: not in ${limitMs / 1000} s`);
    await sleep(pauseMs);
  }
}

async function sleep(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

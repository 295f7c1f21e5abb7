/**
 * `make bench-runtime`: the same trivial controller with Go's controller-runtime and with ours, side by side on one API
 * server and the same objects, in turns. Each run: all objects are there before the controller starts (throughput), then
 * more come at a steady rate (latency). Both have a service account's token, no client-side limit, the same concurrency, a cache of
 * one namespace without managed fields, and write `status` once by a merge patch,
 * each run its own key of it.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import {
  type Client,
  createClient,
  customResourceDefinitions,
  defineKind,
  HttpTransport,
  kubeConfigCredentials,
  type KubeObject,
  namespaces,
  type ObjectClient,
} from '#runtime/index.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';

interface Widget extends KubeObject {
  spec: { stampUs: number; payload: string };
  status?: { observed?: Record<string, number> };
}

interface Report {
  readonly reconciles: number;
  readonly firstMs: number;
  readonly lastMs: number;
  readonly latenciesMs: readonly number[];
}

interface Usage {
  readonly cpuSeconds: number;
  readonly rssMb: number;
  readonly peakMb: number;
}

interface Run {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly drainCpuSeconds: number;
  readonly rssMb: number;
  readonly peakMb: number;
  readonly missed: number;
}

const { values } = parseArgs({
  options: {
    objects: { type: 'string', default: '10000' },
    events: { type: 'string', default: '1000' },
    rate: { type: 'string', default: '100' },
    concurrency: { type: 'string', default: '16' },
    order: { type: 'string', default: 'ours,go,go,ours' },
    baseline: { type: 'string' },
    profile: { type: 'string' },
  },
});
const objects = Number(values.objects);
const events = Number(values.events);
const rate = Number(values.rate);
const limitMs = 180_000;
/** What docs/runtime.md recommends for controllers: V8's young generation small, the old one and glibc's arenas kept tight. */
const nodeFlags = ['--max-semi-space-size=1', '--optimize-for-size'];
const childEnv = { ...process.env, MALLOC_ARENA_MAX: '1' };
const root = path.resolve(import.meta.dirname, '..');
const group = 'bench.xtreemos.io';
const namespace = 'bench';
const widgets = defineKind<Widget>({ group, version: 'v1', kind: 'Widget', plural: 'widgets', namespaced: true });
type Side = 'ours' | 'go';

const dir = mkdtempSync(path.join(tmpdir(), 'xtreemos-bench-runtime-'));

/** One file, as in an image; type stripping at run time would cost memory that no image pays. */
async function buildOurs(): Promise<string[]> {
  const outfile = path.join(dir, 'ours.mjs');
  await build({
    entryPoints: [path.join(root, 'bench/runtime-controller.ts')],
    outfile,
    bundle: true,
    platform: 'node',
    target: 'node24',
    format: 'esm',
    external: ['@kubernetes/client-node'],
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
    logLevel: 'warning',
  });
  const profile = values.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${values.profile}`];
  return [process.execPath, ...nodeFlags, ...profile, outfile];
}

function buildGo(): string {
  if (values.baseline !== undefined) return values.baseline;
  const binary = path.join(dir, 'baseline');
  console.log('Building the Go baseline (about 2 minutes when nothing is cached)');
  const args = ['build', '-trimpath', '-o', binary, '.'];
  const env = { ...process.env, CGO_ENABLED: '0' };
  const { status, error } = spawnSync(process.env.GO ?? 'go', args, {
    cwd: path.join(root, 'bench/go/runtime'),
    stdio: 'inherit',
    env,
  });
  if (status !== 0) throw new Error(`go build failed (${error?.message ?? `status ${status}`}): Go 1.26 is needed`);
  return binary;
}

/** The kind, and an account that may do everything; the one file of each that both sides read. */
async function prepare(client: Client, plane: AloneControlPlane): Promise<string> {
  await client.of(customResourceDefinitions).apply({
    metadata: { name: `widgets.${group}` },
    spec: {
      group,
      scope: 'Namespaced',
      names: { plural: 'widgets', singular: 'widget', kind: 'Widget', listKind: 'WidgetList' },
      versions: [
        {
          name: 'v1',
          served: true,
          storage: true,
          subresources: { status: {} },
          schema: {
            openAPIV3Schema: {
              type: 'object',
              properties: {
                spec: { type: 'object', properties: { stampUs: { type: 'integer' }, payload: { type: 'string' } } },
                status: {
                  type: 'object',
                  properties: { observed: { type: 'object', additionalProperties: { type: 'integer' } } },
                },
              },
            },
          },
        },
      ],
    },
  });
  await client.raw('POST', '/api/v1/namespaces/default/serviceaccounts', { metadata: { name: 'bench' } });
  await client.raw('POST', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
    metadata: { name: 'bench' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
    subjects: [{ kind: 'ServiceAccount', name: 'bench', namespace: 'default' }],
  });
  const request = await client.raw('POST', '/api/v1/namespaces/default/serviceaccounts/bench/token', {
    spec: { expirationSeconds: 7200 },
  });
  const account = path.join(dir, 'account');
  mkdirSync(account);
  writeFileSync(path.join(account, 'token'), (request as { status: { token: string } }).status.token);
  writeFileSync(path.join(account, 'ca.crt'), plane.credentials.authority);
  for (let tries = 0; ; tries++) {
    try {
      await client.of(widgets).listPage({ limit: 1 });
      return account;
    } catch (error) {
      if (tries > 50) throw error;
      await sleep(200);
    }
  }
}

async function measure(
  [command = '', ...args]: readonly string[],
  run: string,
  there: number,
  client: Client,
  { server }: AloneControlPlane,
  account: string,
): Promise<Run> {
  const kind = client.of(widgets);
  const child = spawn(
    command,
    [
      ...args,
      `--host=${server}`,
      `--token-file=${path.join(account, 'token')}`,
      `--ca-file=${path.join(account, 'ca.crt')}`,
      `--namespace=${namespace}`,
      `--concurrency=${values.concurrency}`,
      `--expect=${there},${there + events}`,
      `--run=${run}`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'], env: childEnv },
  );
  const onStop = (): void => {
    child.kill('SIGKILL');
    process.exit(1);
  };
  for (const name of ['SIGTERM', 'SIGINT']) process.once(name, onStop);
  try {
    const output = new Output(child);
    const drainedMs = Number(await output.after(`reached ${there} `));
    const drained = usageOf(child);
    await sleep(2_000);
    await atRate(events, rate, async (i) => create(kind, there + i));
    await output.after(`reached ${there + events} `);
    // Memory is what a controller holds when it has nothing to do, which is most of its life; the peak is told beside it.
    await sleep(10_000);
    const final = usageOf(child);
    child.kill('SIGTERM');
    const report = JSON.parse(`{${await output.after('{')}`) as Report;
    const missed = (await kind.list({ namespace })).items.filter((widget) => isMissed(widget, run)).length;
    return summarize(report, there, drainedMs, drained, final, missed);
  } finally {
    for (const name of ['SIGTERM', 'SIGINT']) process.off(name, onStop);
    child.kill('SIGKILL');
  }
}

function summarize(
  report: Report,
  there: number,
  drainedMs: number,
  drained: Usage,
  final: Usage,
  missed: number,
): Run {
  // The backlog was made before the controller ran: only what came later tells how long a change takes.
  const latencies = report.latenciesMs.slice(there).toSorted((a, b) => a - b);
  const at = (share: number): number => latencies[Math.floor((latencies.length - 1) * share)] ?? NaN;
  return {
    perSecond: Math.round(there / ((drainedMs - report.firstMs) / 1000)),
    p50Ms: round(at(0.5)),
    p99Ms: round(at(0.99)),
    drainCpuSeconds: round(drained.cpuSeconds),
    rssMb: round(final.rssMb),
    peakMb: round(final.peakMb),
    missed,
  };
}

/** Means of the runs of each side, and ours over Go's. */
function compare(runs: Record<Side, Run[]>): Record<string, unknown> {
  const mean = (side: Side, key: keyof Run): number =>
    round(runs[side].reduce((sum, run) => sum + run[key], 0) / runs[side].length);
  const ratio = (key: keyof Run): number => round(mean('ours', key) / mean('go', key));
  const both = (key: keyof Run): Record<Side, number> => ({ ours: mean('ours', key), go: mean('go', key) });
  return {
    throughput_ratio: ratio('perSecond'),
    p99_ratio: ratio('p99Ms'),
    memory_ratio: ratio('rssMb'),
    cpu_ratio: ratio('drainCpuSeconds'),
    missed: runs.ours.reduce((sum, run) => sum + run.missed, 0),
    reconciles_per_s: both('perSecond'),
    p50_ms: both('p50Ms'),
    p99_ms: both('p99Ms'),
    rss_mb: both('rssMb'),
    peak_mb: both('peakMb'),
    drain_cpu_s: both('drainCpuSeconds'),
    objects,
    events,
    rate_per_s: rate,
    concurrency: Number(values.concurrency),
    cores: cpus().length,
  };
}

/** Lines of a child's output, each waited for by how it starts. */
class Output {
  private readonly lines: string[] = [];
  private wake: () => void = () => undefined;
  private ended = false;

  constructor(child: ChildProcess) {
    if (child.stdout === null) throw new Error('The controller has no output to read');
    createInterface({ input: child.stdout }).on('line', (line) => {
      this.lines.push(line);
      this.wake();
    });
    child.on('exit', () => {
      this.ended = true;
      setTimeout(() => this.wake(), 100);
    });
  }

  /** What follows `start` on the first line that begins so. */
  async after(start: string): Promise<string> {
    const deadline = Date.now() + limitMs;
    for (;;) {
      const line = this.lines.find((one) => one.startsWith(start));
      if (line !== undefined) return line.slice(start.length);
      if (this.ended) throw new Error(`The controller ended before it said "${start}"`);
      if (Date.now() > deadline) throw new Error(`The controller did not say "${start}" within ${limitMs / 1000} s`);
      await new Promise<void>((resolve) => {
        this.wake = resolve;
        setTimeout(resolve, 1_000).unref();
      });
    }
  }
}

/** CPU and memory of a process, from /proc (clock ticks are 10 ms on Linux). */
function usageOf(child: ChildProcess): Usage {
  const proc = (file: string): string => readFileSync(`/proc/${child.pid}/${file}`, 'utf8');
  const fields = proc('stat')
    .replace(/^.*\) /s, '')
    .split(' ');
  const status = proc('status');
  const mb = (name: string): number => Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1]) / 1000;
  return { cpuSeconds: (Number(fields[11]) + Number(fields[12])) / 100, rssMb: mb('VmRSS'), peakMb: mb('VmHWM') };
}

async function create(kind: ObjectClient<Widget>, i: number): Promise<void> {
  const stampUs = Math.round((performance.timeOrigin + performance.now()) * 1000);
  await kind.create({ metadata: { name: `widget-${i}`, namespace }, spec: { stampUs, payload: 'x'.repeat(200) } });
}

function isMissed(widget: Widget, run: string): boolean {
  return widget.status?.observed?.[run] !== widget.metadata.generation;
}

async function inParallel(count: number, width: number, work: (i: number) => Promise<void>): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (let i = next++; i < count; i = next++) await work(i);
    }),
  );
}

async function atRate(count: number, perSecond: number, work: (i: number) => Promise<void>): Promise<void> {
  const startedMs = performance.now();
  const all: Promise<void>[] = [];
  for (let i = 0; i < count; i++) {
    const dueMs = startedMs + (i / perSecond) * 1000;
    if (dueMs > performance.now()) await sleep(dueMs - performance.now());
    all.push(work(i));
  }
  await Promise.all(all);
}

async function sleep(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

const commands: Readonly<Record<Side, readonly string[]>> = { ours: await buildOurs(), go: [buildGo()] };
const plane = await startControlPlane({ dir: path.join(dir, 'plane'), name: 'bench' });
const transport = new HttpTransport({
  credentials: kubeConfigCredentials({ file: plane.kubeconfigPath }),
  throttle: { qps: Infinity, inFlightMax: 32 },
});
try {
  const client = createClient(transport, { fieldManager: 'bench' });
  const account = await prepare(client, plane);
  await client.of(namespaces).apply({ metadata: { name: namespace } });
  await inParallel(objects, 32, async (i) => create(client.of(widgets), i));
  const runs: Record<Side, Run[]> = { ours: [], go: [] };
  for (const [index, side] of (values.order.split(',') as Side[]).entries()) {
    const run = await measure(commands[side], `run-${index}`, objects + index * events, client, plane, account);
    console.log(`${side.padEnd(4)} ${JSON.stringify(run)}`);
    runs[side].push(run);
  }
  console.log(`figure: ${JSON.stringify(compare(runs))}`);
} finally {
  await transport.close();
  await plane.stop();
  rmSync(dir, { recursive: true, force: true });
}

/**
 * How long `xos` takes from its start to its end, beside kubectl doing the same at the same API server, in turns.
 *
 * usage: node bench/xos-start.ts   (SAMPLES=30)
 *
 * - `help`: `xos --help` and `kubectl --help`: what loading costs.
 * - `list`: `xos ps --everyone` and `kubectl get gridjobs` of a namespace with 20 jobs.
 */
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { gridJobs } from '#crds/grid-job.ts';
import { installCrds } from '#crds/testing/install.ts';
import { namespaces } from '#runtime/builtin.ts';
import { createClient, HttpTransport, kubeConfigCredentials } from '#runtime/index.ts';
import { startControlPlane } from '#sites/control-plane.ts';
import { KubeClient } from '#sites/kube-client.ts';
import { ensureTools } from '#sites/tools.ts';

const samples = Number(process.env.SAMPLES ?? 30);
const jobs = 20;
const root = path.resolve(import.meta.dirname, '..');
const namespace = 'vo-bench';
const run = promisify(execFile);

execFileSync(process.execPath, ['hack/bundle.ts'], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
const xos = [process.execPath, path.join(root, 'dist/xos.mjs')];
const kubectl = [(await ensureTools(['kubectl'])).path('kubectl')];
const scratch = mkdtempSync(path.join(tmpdir(), 'bench-xos-'));
const plane = await startControlPlane({ dir: scratch, name: 'bench-xos' });
const admin = new KubeClient(plane.credentials);
try {
  await installCrds(admin);
  await makeJobs();
  const at = ['--kubeconfig', plane.kubeconfigPath, '-n', namespace];
  const help = await inTurns([...xos, '--help'], [...kubectl, '--help']);
  const list = await inTurns([...xos, 'ps', '--everyone', ...at], [...kubectl, 'get', 'gridjobs', ...at]);
  const figure = {
    bench: 'xos-start',
    ...{ help_ms: help.ours, kubectl_help_ms: help.theirs, list_ms: list.ours, kubectl_list_ms: list.theirs },
    ...{ list_p99_ms: list.oursWorst, samples, jobs, load: Number(loadavg()[0]?.toFixed(1)) },
  };
  console.log(`figure: ${JSON.stringify(figure)}`);
} finally {
  admin.close();
  await plane.stop();
  rmSync(scratch, { recursive: true, force: true });
}

async function makeJobs(): Promise<void> {
  const transport = new HttpTransport({ credentials: kubeConfigCredentials({ file: plane.kubeconfigPath }) });
  try {
    const client = createClient(transport, { fieldManager: 'bench' });
    await client.of(namespaces).apply({ metadata: { name: namespace } });
    for (let index = 0; index < jobs; index++) {
      const job = { metadata: { name: `job-${index}`, namespace }, spec: { template: { image: 'busybox:1' } } };
      await client.of(gridJobs).apply(job);
    }
  } finally {
    await transport.close();
  }
}

/** Medians, and our slowest but one in a hundred, in milliseconds. */
async function inTurns(ours: readonly string[], theirs: readonly string[]) {
  const [first, second]: [number[], number[]] = [[], []];
  for (let sample = 0; sample < samples; sample++) {
    first.push(await timed(ours));
    second.push(await timed(theirs));
  }
  return { ours: quantile(first, 0.5), theirs: quantile(second, 0.5), oursWorst: quantile(first, 0.99) };
}

async function timed([program = '', ...words]: readonly string[]): Promise<number> {
  const started = performance.now();
  await run(program, words);
  return performance.now() - started;
}

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0);
}

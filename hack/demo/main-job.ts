/**
 * The main job: real data on a volume, an array job that places itself, a dependent job that draws a chart of what was
 * found. Its manifests are those of crds/samples/main-job.
 */
import { spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { build } from 'esbuild';
import type { TestSite } from '#sites/harness.ts';
import type { MemberShell } from './member.ts';

const root = path.resolve(import.meta.dirname, '../..');
const samples = path.join(root, 'crds/samples/main-job');
const output = path.join(root, 'dist/demo');
const bundle = path.join(output, 'flights.mjs');
const fileSystem = 'main';
const volumes = ['flights', 'results'];
const jobs = { array: 'delays', merge: 'chart', carrier: 'carrier' };
/** As the manifest says: an array, and one that merges. */
export const mainJobTasks = 9;
const carrierImage = 'xtreemos.io/busybox:1';

/** What the main job is shown on. */
export interface MainJobDemo {
  readonly site: TestSite;
  /** Name of its Site object; volumes are kept there. */
  readonly siteName: string;
  /** Namespace of the operator. */
  readonly systemNamespace: string;
  readonly report: (line: string) => void;
}

/** Starts the file system; it is waited for later. */
export async function startFileSystem({ site }: Pick<MainJobDemo, 'site'>): Promise<void> {
  await site.kubectl(['apply', '-f', path.join(samples, 'filesystem.yaml')]);
}

/** Makes volumes, brings the data to them, runs both jobs and fetches the chart. @returns what to show. */
export async function runMainJob(demo: MainJobDemo, member: MemberShell): Promise<string> {
  const { site, siteName, systemNamespace, report } = demo;
  report('Waiting for the file system: directory, catalogue and two object stores');
  const inSystem = ['-n', systemNamespace, '--timeout=150s'];
  await site.kubectl(['wait', '--for=condition=Ready', `xfs/${fileSystem}`, ...inSystem], { timeoutMs: 160_000 });
  member.kubectl('apply', '-f', path.join(samples, 'volumes.yaml'));
  member.kubectl('wait', '--for=condition=Ready', ...volumes.map((name) => `gvol/${name}`), '--timeout=90s');
  member.kubectl('delete', 'gridjob', ...Object.values(jobs), '--ignore-not-found');
  report('Bringing 200,000 flights to a volume');
  await bringData(member, siteName);
  report(
    'Submitting an array of 8 tasks that places itself at all sites, and a job that waits for it and draws a chart',
  );
  const manifest = path.join(samples, 'jobs.yaml');
  member.xos('sub', '--file', manifest);
  const said = member.xos('wait', jobs.merge);
  const table = member.xos('logs', jobs.merge);
  const files = fetchCharts(member);
  member.xos('kill', jobs.carrier);
  const listed = member.xos('ps', '--all');
  return [
    `$ xos sub --file ${path.relative(root, manifest)}; xos wait ${jobs.merge}\n${said}`,
    `$ xos ps --all\n${listed}\n$ xos logs ${jobs.merge}\n${table}`,
    `The chart: ${files.join(', ')}`,
  ].join('\n');
}

/** A job that does nothing but have the volumes mounted, where they are kept: what is sent to it lands there, as the member's. */
async function bringData(member: MemberShell, siteName: string): Promise<void> {
  await build({
    entryPoints: [path.join(import.meta.dirname, 'flights.ts')],
    outfile: bundle,
    ...{ bundle: true, platform: 'node', target: 'node24', format: 'esm', logLevel: 'warning' },
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  });
  const mounts = volumes.flatMap((name) => ['--volume', `${name}:/${name}`]);
  member.xos(
    'sub',
    '--name',
    jobs.carrier,
    '--site',
    siteName,
    ...mounts,
    '--grace',
    '1s',
    carrierImage,
    '--',
    'sleep',
    '3600',
  );
  member.xos('wait', '--for', 'Started', jobs.carrier);
  const archive = spawn('tar', ['-C', stage(), '-c', '.'], { stdio: ['ignore', 'pipe', 'inherit'] });
  await member.feed(jobs.carrier, ['tar', '-x', '-o', '-f', '-', '-C', '/flights'], archive.stdout);
}

/** Lays the data set, the program and what it draws with out in a folder. @returns the folder. */
function stage(): string {
  const folder = path.join(output, 'flights');
  const { resolve } = createRequire(import.meta.url);
  const files = {
    'flights-200k.json': path.join(path.dirname(resolve('vega-datasets')), '../data/flights-200k.json'),
    'program/flights.mjs': bundle,
    'program/resvg.wasm': resolve('@resvg/resvg-wasm/index_bg.wasm'),
    'program/DejaVuSans.ttf': resolve('dejavu-fonts-ttf/ttf/DejaVuSans.ttf'),
  };
  mkdirSync(path.join(folder, 'program'), { recursive: true });
  for (const [name, source] of Object.entries(files)) copyFileSync(source, path.join(folder, name));
  return folder;
}

function fetchCharts(member: MemberShell): string[] {
  mkdirSync(output, { recursive: true });
  return ['delays.svg', 'delays.png'].map((name) => {
    const file = path.join(output, name);
    writeFileSync(file, member.fetch(jobs.carrier, ['sh', '-c', `cat "$HOME/${name}"`]));
    return path.relative(process.cwd(), file);
  });
}

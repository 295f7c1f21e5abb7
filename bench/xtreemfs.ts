/**
 * What a mount of XtreemFS does, beside a local directory on the same disk in the same run (`make bench-xtreemfs`).
 * Starts an installation of its own (DIR, MRC, two OSDs, one mount) in a scratch folder, as root with /dev/fuse.
 * Figures count in a quiet machine only. Page caches are dropped before rows that say `cold`.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  rmSync,
} from 'node:fs';
import { writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import type { Share } from './xtreemfs-worker.ts';

const run = promisify(execFile);
const mib = 1 << 20;

const { values: options } = parseArgs({
  options: {
    mib: { type: 'string', default: '1024' },
    files: { type: 'string', default: '5000' },
    ops: { type: 'string', default: '4000' },
    width: { type: 'string', default: '1' },
    stripe: { type: 'string', default: '128' },
    consistency: { type: 'string', default: 'close-to-open' },
  },
});
const fileBytes = Number(options.mib) * mib;
const fileCount = Number(options.files);
const randomCount = Number(options.ops);

interface Row {
  readonly row: string;
  readonly unit: string;
  readonly ours: number;
  readonly upstream: null;
  readonly local: number;
}

/** Runs a piece of work and gives its rate. */
async function rate(amount: number, work: () => void | Promise<void>): Promise<number> {
  const start = performance.now();
  await work();
  return amount / ((performance.now() - start) / 1000);
}

async function threads(count: number, make: (index: number) => Share): Promise<void> {
  const workers = Array.from(
    { length: count },
    (_unused, index) => new Worker(new URL('./xtreemfs-worker.ts', import.meta.url), { workerData: make(index) }),
  );
  await Promise.all(workers.map(async (worker) => await new Promise((resolve) => worker.once('online', resolve))));
  const ends = workers.map(async (worker) => {
    await new Promise<void>((resolve, reject) => {
      worker.once('message', () => resolve());
      worker.once('error', reject);
      worker.postMessage('go');
    });
    await worker.terminate();
  });
  await Promise.all(ends);
}

const dropCaches = (): void => writeFileSync('/proc/sys/vm/drop_caches', '3');

function writeBig(folder: string): void {
  const block = Buffer.alloc(mib, 5);
  const file = openSync(`${folder}/big`, 'w');
  for (let at = 0; at < fileBytes; at += mib) writeSync(file, block);
  fsyncSync(file);
  closeSync(file);
}

function readBig(folder: string): void {
  const block = Buffer.alloc(mib);
  const file = openSync(`${folder}/big`, 'r');
  while (readSync(file, block) > 0);
  closeSync(file);
}

/** Each measure: name, unit, and what gives its figure in a folder. */
function measures(): { row: string; unit: string; measure: (folder: string) => Promise<number> }[] {
  const many = (kind: Share['kind'], threadCount: number, prefix: string) => async (folder: string) => {
    const into = `${folder}/${prefix}`;
    mkdirSync(into, { recursive: true });
    const each = Math.floor(fileCount / threadCount);
    return await rate(each * threadCount, async () => {
      await threads(threadCount, (index) => ({ kind, folder: into, first: index * each, count: each, fileBytes }));
    });
  };
  const cold = (measure: (folder: string) => Promise<number>) => async (folder: string) => {
    dropCaches();
    return await measure(folder);
  };
  const random = (kind: 'randomRead' | 'randomWrite', depth: number) => async (folder: string) => {
    const each = Math.floor(randomCount / depth);
    return await rate(each * depth, async () => {
      await threads(depth, (index) => ({ kind, folder, first: index * 7919, count: each, fileBytes }));
    });
  };
  return [
    {
      row: 'sequential write, fsync',
      unit: 'MiB/s',
      measure: async (f) => await rate(fileBytes / mib, () => writeBig(f)),
    },
    {
      row: 'sequential read, cold',
      unit: 'MiB/s',
      measure: cold(async (f) => await rate(fileBytes / mib, () => readBig(f))),
    },
    { row: 'random read 4 KiB, depth 1, cold', unit: 'IOPS', measure: cold(random('randomRead', 1)) },
    { row: 'random read 4 KiB, depth 16, cold', unit: 'IOPS', measure: cold(random('randomRead', 16)) },
    { row: 'random write 4 KiB, depth 1, fsync at end', unit: 'IOPS', measure: random('randomWrite', 1) },
    { row: 'random write 4 KiB, depth 16, fsync at end', unit: 'IOPS', measure: random('randomWrite', 16) },
    { row: 'create, 1 thread', unit: 'files/s', measure: many('create', 1, 'empty1') },
    { row: 'create, 8 threads', unit: 'files/s', measure: many('create', 8, 'empty8') },
    { row: 'create with 4 KiB, 1 thread', unit: 'files/s', measure: many('create4k', 1, 'small1') },
    { row: 'create with 4 KiB, 8 threads', unit: 'files/s', measure: many('create4k', 8, 'small8') },
    { row: 'stat, cold, 1 thread', unit: 'files/s', measure: cold(many('stat', 1, 'small1')) },
    { row: 'stat, again, 1 thread', unit: 'files/s', measure: many('stat', 1, 'small1') },
    { row: 'open and read 4 KiB, cold, 1 thread', unit: 'files/s', measure: cold(many('read4k', 1, 'small1')) },
    { row: 'open and read 4 KiB, cold, 8 threads', unit: 'files/s', measure: cold(many('read4k', 8, 'small8')) },
    {
      row: 'readdir, cold',
      unit: 'names/s',
      measure: cold(async (f) => await rate(fileCount, () => void readdirSync(`${f}/small1`))),
    },
    { row: 'unlink 4 KiB, 1 thread', unit: 'files/s', measure: many('unlink', 1, 'small1') },
    { row: 'unlink 4 KiB, 8 threads', unit: 'files/s', measure: many('unlink', 8, 'small8') },
    ...treeMeasures(),
  ];
}

/** A tree of this project's own dependencies stands for a source tree. */
function treeMeasures(): ReturnType<typeof measures> {
  const seconds = async (work: () => Promise<unknown>): Promise<number> => {
    const start = performance.now();
    await work();
    return (performance.now() - start) / 1000;
  };
  const shell = async (command: string): Promise<unknown> => await run('sh', ['-c', command], { maxBuffer: 64 * mib });
  const tar = join(scratch, 'tree.tar');
  return [
    {
      row: 'untar a source tree',
      unit: 's',
      measure: async (f) => await seconds(async () => await shell(`tar -xf ${tar} -C ${f}`)),
    },
    {
      row: 'grep it, cold',
      unit: 's',
      measure: async (f) => {
        dropCaches();
        return await seconds(
          async () => await shell(`grep -r no-such-word ${f}/typescript-eslint ${f}/@typescript-eslint || true`),
        );
      },
    },
    {
      row: 'grep it, again',
      unit: 's',
      measure: async (f) =>
        await seconds(
          async () => await shell(`grep -r no-such-word ${f}/typescript-eslint ${f}/@typescript-eslint || true`),
        ),
    },
    {
      row: 'remove it',
      unit: 's',
      measure: async (f) =>
        await seconds(async () => await shell(`rm -rf ${f}/typescript-eslint ${f}/@typescript-eslint`)),
    },
  ];
}

function residentMb(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024);
}

async function startInstallation(folder: string, mountPoint: string): Promise<ChildProcess> {
  const main = new URL('../xtreemfs/main.ts', import.meta.url).pathname;
  const args = ['up', '--dir', folder, '--mount', mountPoint, '-w', options.width, '-s', options.stripe];
  const child = spawn(process.execPath, [main, ...args, `--mount-option=--consistency=${options.consistency}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (chunk: Buffer) => {
      if (chunk.toString().includes('Ready')) resolve();
    });
    child.once('exit', (code) => reject(new Error(`xtreemfs up ended with ${code}`)));
  });
  return child;
}

function processes(folder: string): Record<string, number> {
  const pids = JSON.parse(readFileSync(join(folder, 'processes.json'), 'utf8')) as Record<string, number>;
  const keeper = pids.mount ?? 0;
  const worker = readdirSync('/proc').find((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      return readFileSync(`/proc/${name}/stat`, 'utf8').split(') ')[1]?.split(' ')[1] === String(keeper);
    } catch {
      return false;
    }
  });
  return { dir: pids.dir ?? 0, mrc: pids.mrc ?? 0, osd: pids.osd0 ?? 0, mount: Number(worker ?? keeper) };
}

const scratch = mkdtempSync(join(process.env.BENCH_FOLDER ?? tmpdir(), 'xtreemfs-bench-'));
const mountPoint = join(scratch, 'mount');
const local = join(scratch, 'local');
for (const folder of [mountPoint, local]) mkdirSync(folder);
const modules = new URL('../node_modules', import.meta.url).pathname;
await run('tar', ['-cf', join(scratch, 'tree.tar'), '-C', modules, 'typescript-eslint', '@typescript-eslint']);
const installation = await startInstallation(join(scratch, 'data'), mountPoint);
const rows: Row[] = [];
const memory: Record<string, number> = {};
try {
  const round = (value: number): number => Number(value.toPrecision(4));
  for (const { row, unit, measure } of measures()) {
    const ours = round(await measure(mountPoint));
    const here = round(await measure(local));
    rows.push({ row, unit, ours, upstream: null, local: here });
    console.log(`${row.padEnd(44)} ${String(ours).padStart(10)} ${unit.padEnd(8)} local ${here}`);
  }
  const pids = processes(join(scratch, 'data'));
  for (const [name, pid] of Object.entries(pids)) memory[name] = residentMb(pid);
} finally {
  installation.kill('SIGTERM');
  await new Promise((resolve) => installation.once('exit', resolve));
  rmSync(scratch, { recursive: true, force: true });
}
const figureOf = (row: string): number | null => rows.find((one) => one.row === row)?.ours ?? null;
console.log(
  `figure: ${JSON.stringify({
    rows,
    creates_per_s_many: figureOf('create, 8 threads'),
    creates_per_s_one: figureOf('create, 1 thread'),
    failover_planned_s: null,
    failover_crash_s: null,
    rss_mb: memory,
    conditions: {
      width: Number(options.width),
      stripe_kib: Number(options.stripe),
      consistency: options.consistency,
      file_mib: Number(options.mib),
      files: fileCount,
    },
  })}`,
);

/** What bench/xtreemfs.ts measures in a folder: of a mount, or a local one. */
import { execFile } from 'node:child_process';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readSync,
  readdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import type { Share } from './xtreemfs-worker.ts';

const run = promisify(execFile);
const mib = 1 << 20;

/** How much is done. */
export interface Sizes {
  readonly fileMib: number;
  readonly files: number;
  readonly randomOps: number;
  /** A tar file of a source tree, and the names at its top. */
  readonly tree: { readonly tar: string; readonly names: readonly string[] };
}

/** One row of the bench. */
export interface Measure {
  readonly row: string;
  readonly unit: string;
  /** How many OSDs the volume's files lie on. */
  readonly width: 1 | 2;
  /** Does the work in `folder` and gives the figure. Rows come in order: later ones use what earlier ones made. */
  measure(folder: string): Promise<number>;
}

const secondsOf = async (work: () => unknown): Promise<number> => {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
};

const dropCaches = (): void => writeFileSync('/proc/sys/vm/drop_caches', '3');

const cold =
  (measure: (folder: string) => Promise<number>) =>
  async (folder: string): Promise<number> => {
    dropCaches();
    return await measure(folder);
  };

/** Starts threads, lets all of them begin at once, and waits for their ends. @returns seconds from begin to end. */
async function threads(shares: readonly Share[]): Promise<number> {
  const workers = shares.map(
    (share) => new Worker(new URL('./xtreemfs-worker.ts', import.meta.url), { workerData: share }),
  );
  const next = async (worker: Worker): Promise<void> =>
    await new Promise<void>((resolve, reject) => {
      worker.once('message', () => resolve());
      worker.once('error', reject);
    });
  await Promise.all(workers.map(next));
  try {
    return await secondsOf(async () => {
      const ends = workers.map(next);
      for (const worker of workers) worker.postMessage('go');
      const failed = (await Promise.allSettled(ends)).find((end) => end.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
    });
  } finally {
    await Promise.all(workers.map(async (worker) => await worker.terminate()));
  }
}

function writeBig(folder: string, fileMib: number): void {
  const block = Buffer.alloc(mib, 5);
  const file = openSync(`${folder}/big`, 'w');
  for (let written = 0; written < fileMib; written++) writeSync(file, block);
  fsyncSync(file);
  closeSync(file);
}

function readBig(folder: string): void {
  const block = Buffer.alloc(mib);
  const file = openSync(`${folder}/big`, 'r');
  while (readSync(file, block) > 0);
  closeSync(file);
}

/** Every row, in order. */
export function measuresOf(sizes: Sizes): Measure[] {
  return [...sequential(sizes, 1), ...random(sizes), ...files(sizes), ...tree(sizes), ...sequential(sizes, 2)];
}

function sequential({ fileMib }: Sizes, width: 1 | 2): Measure[] {
  const name = `sequential ${fileMib} MiB`;
  const unit = 'MiB/s';
  return [
    {
      row: `${name} write and fsync, width ${width}`,
      unit,
      width,
      measure: async (folder) => fileMib / (await secondsOf(() => writeBig(folder, fileMib))),
    },
    {
      row: `${name} read, cold, width ${width}`,
      unit,
      width,
      measure: cold(async (folder) => fileMib / (await secondsOf(() => readBig(folder)))),
    },
  ];
}

function random({ randomOps, fileMib }: Sizes): Measure[] {
  const measure = (kind: 'randomRead' | 'randomWrite', depth: number) => async (folder: string) => {
    const each = Math.floor(randomOps / depth);
    const shares = Array.from({ length: depth }, (_unused, index) => ({
      kind,
      folder,
      first: index * 7919,
      count: each,
      fileBytes: fileMib * mib,
    }));
    return (each * depth) / (await threads(shares));
  };
  return ([1, 16] as const).flatMap((depth) => [
    {
      row: `random 4 KiB read, cold, depth ${depth}`,
      unit: 'IOPS',
      width: 1,
      measure: cold(measure('randomRead', depth)),
    },
    {
      row: `random 4 KiB write, fsync at end, depth ${depth}`,
      unit: 'IOPS',
      width: 1,
      measure: measure('randomWrite', depth),
    },
  ]);
}

function files({ files: count }: Sizes): Measure[] {
  const many = (kind: Share['kind'], threadCount: number) => async (folder: string) => {
    const into = `${folder}/${kind.startsWith('create') && kind !== 'create4k' ? 'empty' : 'small'}${threadCount}`;
    mkdirSync(into, { recursive: true });
    const each = Math.floor(count / threadCount);
    const shares = Array.from({ length: threadCount }, (_unused, index) => ({
      kind,
      folder: into,
      first: index * each,
      count: each,
      fileBytes: 0,
    }));
    return (each * threadCount) / (await threads(shares));
  };
  const rows = (name: string, kind: Share['kind'], isCold = false): Measure[] =>
    ([1, 8] as const).map((threadCount) => ({
      row: `${name}, ${threadCount} thread${threadCount === 1 ? '' : 's'}`,
      unit: 'files/s',
      width: 1,
      measure: isCold ? cold(many(kind, threadCount)) : many(kind, threadCount),
    }));
  return [
    ...rows('create', 'create'),
    ...rows('create with 4 KiB', 'create4k'),
    ...rows('stat, cold', 'stat', true),
    ...rows('stat, again', 'stat'),
    ...rows('open and read 4 KiB, cold', 'read4k', true),
    {
      row: 'readdir, cold',
      unit: 'names/s',
      width: 1,
      measure: cold(async (folder) => count / (await secondsOf(() => readdirSync(`${folder}/small1`)))),
    },
    ...rows('unlink 4 KiB', 'unlink'),
  ];
}

function tree({ tree: { tar, names } }: Sizes): Measure[] {
  const shell = async (command: string): Promise<number> =>
    await secondsOf(async () => await run('sh', ['-c', command], { maxBuffer: 64 * mib }));
  const inFolder = (folder: string): string => names.map((name) => `'${folder}/${name}'`).join(' ');
  const grep = async (folder: string): Promise<number> =>
    await shell(`grep -r no-such-word ${inFolder(folder)} || true`);
  return [
    {
      row: 'untar a source tree',
      unit: 's',
      width: 1,
      measure: async (f) => await shell(`tar -xf '${tar}' -C '${f}'`),
    },
    {
      row: 'tar it, cold',
      unit: 's',
      width: 1,
      measure: cold(async (f) => await shell(`tar -cf - -C '${f}' ${names.join(' ')} | cat > /dev/null`)),
    },
    { row: 'grep it, cold', unit: 's', width: 1, measure: cold(grep) },
    { row: 'grep it, again', unit: 's', width: 1, measure: grep },
    {
      row: 'remove it',
      unit: 's',
      width: 1,
      measure: async (f) => await secondsOf(() => names.forEach((name) => rmSync(`${f}/${name}`, { recursive: true }))),
    },
  ];
}

/**
 * The MRC alone, over RPC on the loopback interface: the server is a process of its own with its data on the disk under the
 * temporary folder, clients are connections of this process. Every create and unlink is acknowledged only when durable.
 * Options: `--files N` (entries of the large directory, default 1,000,000), `--volume-files N` (further files, 10,000 in a
 * directory; default none, 10,000,000 take about 20 minutes), `--dir FOLDER`, `--quick`.
 */
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import type { Procedure } from '#proto/wire.ts';
import { RpcClient } from '#xtreemfs/rpc/client.ts';
import { createDialer } from '#xtreemfs/rpc/transport.ts';

const { values } = parseArgs({
  options: {
    files: { type: 'string', default: '1000000' },
    'volume-files': { type: 'string', default: '0' },
    dir: { type: 'string', default: tmpdir() },
    quick: { type: 'boolean', default: false },
  },
});
const filesMax = values.quick ? 20_000 : Number(values.files);
const volumeFiles = Number(values['volume-files']);
const filesPerDirectory = 10_000;
const folder = mkdtempSync(join(values.dir, 'xtreemfs-mrc-bench-'));
const server = fork(new URL('../xtreemfs/mrc/testing/standalone-main.ts', import.meta.url), [join(folder, 'mrc')]);
const userCreds = { username: 'root', groups: ['root'] };
const createFlags = 0x100 | 0x2;

interface ServerFacts {
  readonly port: number;
  readonly rssMb: number;
  readonly store: unknown;
}

async function ask(child: ChildProcess, message?: string): Promise<ServerFacts> {
  const answer = new Promise<ServerFacts>((resolve) => child.once('message', (told) => resolve(told as ServerFacts)));
  if (message !== undefined) child.send(message);
  return answer;
}

const address = { host: '127.0.0.1', port: (await ask(server)).port };
const clients = Array.from(
  { length: 4 },
  () => new RpcClient({ clock: systemClock, logger: silentLogger, dialer: createDialer('pbrpc') }),
);

async function call<Request, Response>(
  client: RpcClient | undefined,
  procedure: Procedure<Request, Response>,
  request: Request,
): Promise<Response> {
  if (client === undefined) throw new Error('no client');
  return (await client.call(address, procedure, request, { userCreds, timeoutMs: 60_000 })).response;
}

/** Runs `count` operations with `depth` outstanding on each of `connections` connections; operations per second. */
async function rate(
  options: { count: number; connections: number; depth: number },
  operation: (client: RpcClient | undefined, index: number) => Promise<unknown>,
): Promise<number> {
  let next = 0;
  const started = performance.now();
  const worker = async (client: RpcClient | undefined): Promise<void> => {
    while (next < options.count) await operation(client, next++);
  };
  const workers = clients
    .slice(0, options.connections)
    .flatMap((client) => Array.from({ length: options.depth }, () => worker(client)));
  await Promise.all(workers);
  return Math.round((options.count / (performance.now() - started)) * 1000);
}

const open = (client: RpcClient | undefined, path: string): Promise<unknown> =>
  call(client, mrcProcedures.open, { volumeName: 'bench', path, flags: createFlags, mode: 0o644, attributes: 0 });
const getattr = (client: RpcClient | undefined, path: string): Promise<unknown> =>
  call(client, mrcProcedures.getattr, { volumeName: 'bench', path, knownEtag: 0 });
const mkdir = (path: string): Promise<unknown> =>
  call(clients[0], mrcProcedures.mkdir, { volumeName: 'bench', path, mode: 0o755 });
const nameOf = (index: number): string => `file-${((index * 2_654_435_761) % 4_294_967_296).toString(36)}-${index}`;

async function listAll(path: string, namesOnly: boolean): Promise<number> {
  let seen = 0;
  const started = performance.now();
  for (;;) {
    const { entries } = await call(clients[0], mrcProcedures.readdir, {
      volumeName: 'bench',
      path,
      knownEtag: 0,
      limitDirectoryEntriesCount: 1024,
      namesOnly,
      seenDirectoryEntriesCount: seen,
    });
    seen += entries.length;
    if (entries.length < 1024) break;
  }
  return Math.round((seen / (performance.now() - started)) * 1000);
}

/** 4 KiB appends with fdatasync, one after the other: what the disk gives a program that does nothing else. */
function diskSyncsPerS(): number {
  const fd = openSync(join(folder, 'sync'), 'w');
  const block = Buffer.alloc(4096, 1);
  const started = performance.now();
  for (let i = 0; i < 1000; i++) {
    writeSync(fd, block);
    fdatasyncSync(fd);
  }
  const perS = Math.round((1000 / (performance.now() - started)) * 1000);
  closeSync(fd);
  return perS;
}

const percentile = (sorted: readonly number[], part: number): number =>
  Math.round((sorted[Math.floor(sorted.length * part)] ?? 0) * 1000) / 1000;

async function lookupLatency(pathOf: (index: number) => string): Promise<{ p50Ms: number; p99Ms: number }> {
  const times: number[] = [];
  for (let i = 0; i < 3000; i++) {
    const started = performance.now();
    await getattr(clients[0], pathOf(i * 7919));
    times.push(performance.now() - started);
  }
  times.sort((a, b) => a - b);
  return { p50Ms: percentile(times, 0.5), p99Ms: percentile(times, 0.99) };
}

async function smallFigures(): Promise<Record<string, number>> {
  const count = values.quick ? 2_000 : 20_000;
  await mkdir('small');
  await mkdir('warm');
  await rate({ count: 4_000, connections: 4, depth: 4 }, (client, i) => open(client, `warm/${i}`));
  await rate({ count: 4_000, connections: 1, depth: 1 }, (client, i) => getattr(client, `warm/${i}`));
  const one = await rate({ count: count / 4, connections: 1, depth: 1 }, (client, i) => open(client, `small/one-${i}`));
  const many = await rate({ count, connections: 4, depth: 8 }, (client, i) => open(client, `small/many-${i}`));
  const getattrOne = await rate({ count, connections: 1, depth: 1 }, (client, i) => getattr(client, `small/many-${i}`));
  const getattrMany = await rate({ count: count * 2, connections: 4, depth: 8 }, (client, i) =>
    getattr(client, `small/many-${i % count}`),
  );
  const unlink = (client: RpcClient | undefined, path: string): Promise<unknown> =>
    call(client, mrcProcedures.unlink, { volumeName: 'bench', path });
  const unlinkOne = await rate({ count: count / 4, connections: 1, depth: 1 }, (client, i) =>
    unlink(client, `small/one-${i}`),
  );
  const unlinkMany = await rate({ count, connections: 4, depth: 8 }, (client, i) => unlink(client, `small/many-${i}`));
  return {
    creates_per_s_one: one,
    creates_per_s_many: many,
    getattr_per_s_one: getattrOne,
    getattr_per_s_many: getattrMany,
    unlink_per_s_one: unlinkOne,
    unlink_per_s_many: unlinkMany,
  };
}

async function largeFigures(): Promise<Record<string, unknown>> {
  await mkdir('large');
  const step = Math.floor(filesMax / 10);
  const rates: number[] = [];
  for (let base = 0; base < filesMax; base += step) {
    rates.push(
      await rate({ count: step, connections: 4, depth: 16 }, (client, i) => open(client, `large/${nameOf(base + i)}`)),
    );
  }
  const latency = await lookupLatency((index) => `large/${nameOf(index % filesMax)}`);
  return {
    large_files: filesMax,
    large_creates_per_s_first_tenth: rates[0],
    large_creates_per_s_last_tenth: rates.at(-1),
    large_lookup_p50_ms: latency.p50Ms,
    large_lookup_p99_ms: latency.p99Ms,
    large_readdir_names_per_s: await listAll('large', true),
    large_readdir_plus_per_s: await listAll('large', false),
  };
}

/** A volume with many files in directories of 10,000. */
async function volumeFigures(): Promise<Record<string, unknown>> {
  if (volumeFiles === 0) return {};
  const pathOf = (index: number): string => `volume/${Math.floor(index / filesPerDirectory)}/${index}`;
  await mkdir('volume');
  const step = Math.floor(volumeFiles / 10);
  const rates: number[] = [];
  for (let base = 0; base < volumeFiles; base += step) {
    const last = Math.min(volumeFiles, base + step);
    for (let at = Math.ceil(base / filesPerDirectory); at * filesPerDirectory < last; at++) await mkdir(`volume/${at}`);
    rates.push(
      await rate({ count: last - base, connections: 4, depth: 16 }, (client, i) => open(client, pathOf(base + i))),
    );
    console.log(`${last} files in the volume, ${rates.at(-1)} creates/s`);
  }
  const latency = await lookupLatency((index) => pathOf((index * 3571) % volumeFiles));
  return {
    volume_files: volumeFiles,
    volume_creates_per_s_first_tenth: rates[0],
    volume_creates_per_s_last_tenth: rates.at(-1),
    volume_lookup_p50_ms: latency.p50Ms,
    volume_lookup_p99_ms: latency.p99Ms,
    volume_readdir_names_per_s: await listAll('volume/0', true),
    volume_mrc_rss_mb: (await ask(server, 'memory')).rssMb,
  };
}

try {
  await call(clients[0], mrcProcedures.mkvol, {
    accessControlPolicy: 2,
    defaultStripingPolicy: { type: 0, stripeSize: 128, width: 1 },
    id: '',
    mode: 0o777,
    name: 'bench',
    ownerGroupId: '',
    ownerUserId: '',
    attrs: [],
  });
  const syncs = diskSyncsPerS();
  const small = await smallFigures();
  const idle = await ask(server, 'memory');
  const large = await largeFigures();
  const full = await ask(server, 'memory');
  console.log('store after the large directory:', full.store);
  const rss = { mrc_rss_mb_small: idle.rssMb, mrc_rss_mb_large: full.rssMb };
  console.log(JSON.stringify({ fdatasync_per_s: syncs, ...small, ...large, ...rss }));
  const volume = await volumeFigures();
  console.log(`figure: ${JSON.stringify({ fdatasync_per_s: syncs, ...small, ...large, ...rss, ...volume })}`);
} finally {
  for (const client of clients) client.close();
  server.send('stop');
  await new Promise((resolve) => server.once('exit', resolve));
  rmSync(folder, { recursive: true, force: true });
}

/**
 * Throughput of an OSD: sequential writes and reads by object size, random 4 KiB writes and reads by depth, over RPC to
 * an OSD in another process, on the object store in this process, and on a plain file in the same folder.
 * Usage: node bench/xtreemfs-osd.ts [FOLDER] (default: a new one in the system's folder for temporary files).
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { SeededRandom } from '#common/random.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { RpcClient } from '#xtreemfs/rpc/client.ts';
import { createDialer } from '#xtreemfs/rpc/transport.ts';
import { osdSyncProcedure } from '#xtreemfs/osd/extensions.ts';
import { NodeDisk } from '#xtreemfs/osd/store/node-disk.ts';
import { ObjectStore } from '#xtreemfs/osd/store/object-store.ts';
import { recordType } from '#xtreemfs/osd/store/record.ts';
import { aReplica, OsdCluster, openMode, xlocsOf } from '#xtreemfs/osd/testing/osd-cluster.ts';

/** What is measured: a file of objects that can be written and read in parts. */
interface Target {
  write(object: number, offset: number, data: Buffer): Promise<void>;
  read(object: number, offset: number, length: number): Promise<number>;
  sync(): Promise<void>;
}

interface Row {
  readonly row: string;
  readonly unit: 'MiB/s' | 'IOPS';
  rpc: number;
  direct: number;
  local: number;
}

const fileBytes = 512 * 1024 * 1024;
const randomBytes = 256 * 1024 * 1024;
const randomCalls = 20_000;
const mib = 1024 * 1024;

async function atDepth(depth: number, calls: number, call: (i: number) => Promise<void>): Promise<number> {
  let next = 0;
  const started = performance.now();
  const worker = async (): Promise<void> => {
    while (next < calls) await call(next++);
  };
  await Promise.all(Array.from({ length: depth }, worker));
  return (performance.now() - started) / 1000;
}

async function sequential(
  target: Target,
  objectBytes: number,
  depth: number,
): Promise<{ write: number; synced: number; read: number }> {
  const data = Buffer.alloc(objectBytes, 0x5a);
  const count = fileBytes / objectBytes;
  const writeS = await atDepth(depth, count, (i) => target.write(i, 0, data));
  const started = performance.now();
  await target.sync();
  const syncS = (performance.now() - started) / 1000;
  const readS = await atDepth(depth, count, async (i) => {
    if ((await target.read(i, 0, objectBytes)) !== objectBytes) throw new Error(`Object ${i} came back short`);
  });
  const size = fileBytes / mib;
  return { write: size / writeS, synced: size / (writeS + syncS), read: size / readS };
}

async function random(target: Target, objectBytes: number, depth: number): Promise<{ write: number; read: number }> {
  const chance = new SeededRandom(depth);
  const data = Buffer.alloc(4096, 0xa5);
  const place = (): [number, number] => [chance.int(randomBytes / objectBytes), 4096 * chance.int(objectBytes / 4096)];
  const writeS = await atDepth(depth, randomCalls, () => target.write(...place(), data));
  const readS = await atDepth(depth, randomCalls, async () => {
    if ((await target.read(...place(), 4096)) !== 4096) throw new Error('A read came back short');
  });
  return { write: randomCalls / writeS, read: randomCalls / readS };
}

function storeTarget(store: ObjectStore, fileId: string): Target {
  return {
    write: (object, offset, data) =>
      store.use(fileId, async (log) => {
        const body = { type: recordType.write, flags: 0, object, version: 1, offset, objectLength: 0 };
        await log.append(body, data);
        store.tidyObject(fileId, object);
      }),
    read: (object, offset, length) =>
      store.use(fileId, async (log) => (await log.read(object, offset, length))?.data.length ?? 0),
    sync: () => store.use(fileId, (log) => log.sync()),
  };
}

function rpcTarget(client: RpcClient, port: number, fileId: string, objectBytes: number): Target {
  const address = { host: '127.0.0.1', port };
  const keys = new OsdCluster();
  const xlocs = xlocsOf([aReplica(['osd'], objectBytes / 1024)]);
  const fileCredentials = { xcap: keys.cap({ fileId, accessMode: openMode.readWrite }), xlocs };
  const objectData = { checksum: 0, invalidChecksumOnOsd: false, zeroPadding: 0 };
  const shared = { fileCredentials, fileId, objectVersion: 0 };
  return {
    write: async (objectNumber, offset, data) => {
      const request = { ...shared, objectNumber, offset, leaseTimeout: 0, objectData };
      await client.call(address, osdProcedures.write, request, { data });
    },
    read: async (objectNumber, offset, length) => {
      const { data } = await client.call(address, osdProcedures.read, { ...shared, objectNumber, offset, length });
      return data.length;
    },
    sync: async () => {
      await client.call(address, osdSyncProcedure, { fileCredentials, fileId }, { timeoutMs: 60_000 });
    },
  };
}

async function localTarget(path: string, objectBytes: number): Promise<Target & { close(): Promise<void> }> {
  const file = await open(path, 'w+');
  return {
    write: async (object, offset, data) => {
      await file.write(data, 0, data.length, object * objectBytes + offset);
    },
    read: async (object, offset, length) => {
      const { bytesRead } = await file.read(Buffer.allocUnsafe(length), 0, length, object * objectBytes + offset);
      return bytesRead;
    },
    sync: () => file.datasync(),
    close: () => file.close(),
  };
}

async function startOsd(folder: string): Promise<{ port: number; stop(): Promise<void>; rssMb(): Promise<number> }> {
  const program = new URL('../xtreemfs/osd/testing/bare-osd.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, [program, folder, 'osd'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  return {
    port: Number(line.toString()),
    stop: async () => {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
    rssMb: async () => {
      const status = await open(`/proc/${child.pid ?? 0}/status`);
      const text = await status.readFile('utf8');
      await status.close();
      return Math.round(Number(/VmHWM:\s+(\d+)/.exec(text)?.[1] ?? 0) / 1024);
    },
  };
}

async function measure(
  kind: 'rpc' | 'direct' | 'local',
  rows: Map<string, Row>,
  target: Target,
  objectBytes: number,
): Promise<void> {
  const put = (row: string, unit: Row['unit'], value: number): void => {
    const entry = rows.get(row) ?? { row, unit, rpc: 0, direct: 0, local: 0 };
    entry[kind] = Math.round(value);
    rows.set(row, entry);
  };
  const name = `${objectBytes / 1024} KiB objects`;
  for (const depth of [1, 4]) {
    const { write, synced, read } = await sequential(target, objectBytes, depth);
    put(`sequential write, ${name}, depth ${depth}`, 'MiB/s', write);
    put(`sequential write and sync, ${name}, depth ${depth}`, 'MiB/s', synced);
    put(`sequential read, ${name}, depth ${depth}`, 'MiB/s', read);
  }
  if (objectBytes !== 128 * 1024) return;
  for (const depth of [1, 16]) {
    const { write, read } = await random(target, objectBytes, depth);
    put(`random 4 KiB write, depth ${depth}`, 'IOPS', write);
    put(`random 4 KiB read, depth ${depth}`, 'IOPS', read);
  }
}

async function main(): Promise<void> {
  const folder = process.argv[2] ?? (await mkdtemp(join(tmpdir(), 'xtreemfs-osd-bench-')));
  const rows = new Map<string, Row>();
  let rssMb = 0;
  for (const objectBytes of [128 * 1024, mib]) {
    const local = await localTarget(join(folder, 'plain'), objectBytes);
    await measure('local', rows, local, objectBytes);
    await local.close();
    await rm(join(folder, 'plain'));
    const store = await ObjectStore.open(new NodeDisk(join(folder)));
    await measure('direct', rows, storeTarget(store, 'bench:1'), objectBytes);
    await store.remove('bench:1');
    await store.close();
    const osd = await startOsd(folder);
    const client = new RpcClient({ clock: systemClock, logger: silentLogger, dialer: createDialer('pbrpc') });
    await measure('rpc', rows, rpcTarget(client, osd.port, 'bench:2', objectBytes), objectBytes);
    rssMb = Math.max(rssMb, await osd.rssMb());
    client.close();
    await osd.stop();
    await rm(folder, { recursive: true, force: true });
    if (objectBytes < mib) await mkdir(folder);
  }
  console.log(
    `${'row'.padEnd(52)} ${'unit'.padEnd(6)} ${'rpc'.padStart(8)} ${'direct'.padStart(8)} ${'local'.padStart(8)}`,
  );
  for (const { row, unit, rpc, direct, local } of rows.values()) {
    const cells = [rpc, direct, local].map((value) => String(value).padStart(8)).join(' ');
    console.log(`${row.padEnd(52)} ${unit.padEnd(6)} ${cells}`);
  }
  console.log(`figure: ${JSON.stringify({ rows: [...rows.values()], osd_peak_rss_mb: rssMb })}`);
}

await main();

/**
 * How long a read/write replicated file (three replicas, WqRq) can't be written when its primary stops in order, and
 * when it dies; and how fast it is written. Three OSDs in this process, through real RPC, on real folders, with our own
 * lease times. Usage: node bench/xtreemfs-osd-failover.ts
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '#common/clock.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { ErrorType } from '#proto/generated/xtreemfs/rpc.ts';
import { RpcError } from '#xtreemfs/rpc/errors.ts';
import { NodeDisk } from '#xtreemfs/osd/store/node-disk.ts';
import { aReplica, OsdCluster, openMode, TestFile, xlocsOf } from '#xtreemfs/osd/testing/osd-cluster.ts';

const uuids = ['a', 'b', 'c'];
const objectBytes = 128 * 1024;
const mib = 1024 * 1024;
const data = Buffer.alloc(objectBytes, 7);

const folder = await mkdtemp(join(tmpdir(), 'xtreemfs-failover-'));
const cluster = new OsdCluster();
const replicas = uuids.map((uuid) => aReplica([uuid], objectBytes / 1024));
const file = new TestFile(cluster, 'bench:1', xlocsOf(replicas, { replicaUpdatePolicy: 'WqRq' }));
let primary = 'a';

async function start(uuid: string): Promise<void> {
  await mkdir(join(folder, uuid), { recursive: true });
  await cluster.start(uuid, new NodeDisk(join(folder, uuid)));
}

/** Writes one object, asking replica after replica until one takes it. */
async function write(objectNumber: number): Promise<void> {
  const request = {
    fileCredentials: file.credentials(openMode.readWrite),
    fileId: file.fileId,
    objectNumber,
    objectVersion: 0,
    offset: 0,
    leaseTimeout: 0,
    objectData: { checksum: 0, invalidChecksumOnOsd: false, zeroPadding: 0 },
  };
  for (;;) {
    try {
      await cluster.call(primary, osdProcedures.write, request, { data, timeoutMs: 2_000 });
      return;
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      if (error.errorType === ErrorType.REDIRECT && error.redirectTo !== undefined) primary = error.redirectTo;
      else {
        primary = uuids[(uuids.indexOf(primary) + 1) % uuids.length] ?? 'a';
        await systemClock.sleep(20);
      }
    }
  }
}

async function secondsOf(task: () => Promise<void>): Promise<number> {
  const started = performance.now();
  await task();
  return (performance.now() - started) / 1000;
}

async function throughput(depth: number): Promise<number> {
  let next = 0;
  const count = (64 * mib) / objectBytes;
  const worker = async (): Promise<void> => {
    while (next < count) await write(next++);
  };
  return (
    64 /
    (await secondsOf(async () => {
      await Promise.all(Array.from({ length: depth }, worker));
    }))
  );
}

async function failover(isPlanned: boolean): Promise<number> {
  await write(0);
  const victim = primary;
  const core = cluster.core(victim);
  const seconds = await secondsOf(async () => {
    if (isPlanned) await core.handOver();
    await cluster.cutOff(victim);
    core.flease.stop();
    await write(0);
  });
  await core.stop();
  await start(victim);
  await systemClock.sleep(500);
  return seconds;
}

for (const uuid of uuids) await start(uuid);
const writeAlone = await throughput(1);
const writeMany = await throughput(8);
const planned: number[] = [];
const crashed: number[] = [];
for (let i = 0; i < 5; i++) planned.push(await failover(true));
for (let i = 0; i < 5; i++) crashed.push(await failover(false));
await cluster.stop();
await rm(folder, { recursive: true, force: true });
const worst = (values: number[]): number => Number(Math.max(...values).toFixed(2));
const figure = {
  replicated_write_mib_s: { depth1: Math.round(writeAlone), depth8: Math.round(writeMany) },
  failover_planned_s: worst(planned),
  failover_crash_s: worst(crashed),
};
console.log(
  `Planned: ${planned.map((s) => s.toFixed(2)).join(' ')} s; after a crash: ${crashed.map((s) => s.toFixed(2)).join(' ')} s`,
);
console.log(`figure: ${JSON.stringify(figure)}`);

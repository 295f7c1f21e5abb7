/**
 * RPC round trips per second between two processes over loopback: DIR global time (no payload), and OSD reads and writes
 * of 4 KiB and 128 KiB, at depths of 1, 16 and 64 calls outstanding on one connection. Nothing is stored: the figures
 * are those of framing, codecs and sockets alone.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { cpus } from 'node:os';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { dirProcedures } from '#proto/generated/xtreemfs/dir.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { RpcClient } from '#xtreemfs/rpc/client.ts';
import { RpcServer } from '#xtreemfs/rpc/server.ts';
import { createDialer, listen } from '#xtreemfs/rpc/transport.ts';

const seconds = Number(process.env.XTREEMOS_BENCH_SECONDS ?? 2);
const deps = { clock: systemClock, logger: silentLogger };
const depths = [1, 16, 64];
const sizes = [4 * 1024, 128 * 1024];

async function serve(): Promise<void> {
  const server = new RpcServer(deps);
  const block = Buffer.alloc(Math.max(...sizes), 7);
  const objectData = { checksum: 0, invalidChecksumOnOsd: false, zeroPadding: 0 };
  server.handle(dirProcedures.globalTimeSGet, () => ({ response: { timeInSeconds: Date.now() } }));
  server.handle(osdProcedures.read, (_, { length }) => ({ response: objectData, data: block.subarray(0, length) }));
  server.handle(osdProcedures.write, (_, __, data) => ({ response: { sizeInBytes: data.length, truncateEpoch: 0 } }));
  const { port } = await listen(server, { scheme: 'pbrpc', port: 0, host: '127.0.0.1', logger: silentLogger });
  process.send?.(port);
}

async function rate(depth: number, call: () => Promise<unknown>): Promise<number> {
  let calls = 0;
  let end = Infinity;
  const worker = async (): Promise<void> => {
    while (performance.now() < end) {
      await call();
      calls++;
    }
  };
  const run = async (durationMs: number): Promise<number> => {
    const began = performance.now();
    calls = 0;
    end = began + durationMs;
    await Promise.all(Array.from({ length: depth }, worker));
    return calls / ((performance.now() - began) / 1000);
  };
  await run(300);
  return Math.round(await run(seconds * 1000));
}

async function measure(): Promise<void> {
  const child = fork(import.meta.filename, ['serve'], { stdio: 'inherit' });
  const [port] = (await once(child, 'message')) as [number];
  const address = { host: '127.0.0.1', port };
  const client = new RpcClient({ ...deps, dialer: createDialer('pbrpc') });
  const read = {
    ...osdProcedures.read.request.decode(Buffer.alloc(0)),
    fileId: '6a6c3e8e-1c0b-4f3a-9d55-0a1b2c3d4e5f:42',
  };
  const write = { ...osdProcedures.write.request.decode(Buffer.alloc(0)), fileId: read.fileId };
  const rows: { call: string; payloadBytes: number; depth: number; perSecond: number; mibPerSecond: number }[] = [];
  const add = async (call: string, payloadBytes: number, depth: number, fn: () => Promise<unknown>): Promise<void> => {
    const perSecond = await rate(depth, fn);
    const mibPerSecond = Math.round((perSecond * payloadBytes) / 1_048_576);
    rows.push({ call, payloadBytes, depth, perSecond, mibPerSecond });
    console.log(
      `${call.padEnd(6)} ${String(payloadBytes).padStart(7)} B  depth ${String(depth).padStart(2)}  ${perSecond}/s  ${mibPerSecond} MiB/s`,
    );
  };
  for (const depth of depths)
    await add('time', 0, depth, async () => client.call(address, dirProcedures.globalTimeSGet, {}));
  for (const length of sizes) {
    const data = Buffer.alloc(length, 3);
    for (const depth of depths) {
      await add('read', length, depth, async () => client.call(address, osdProcedures.read, { ...read, length }));
      await add('write', length, depth, async () => client.call(address, osdProcedures.write, write, { data }));
    }
  }
  client.close();
  child.kill();
  console.log(`figure: ${JSON.stringify({ name: 'xtreemfs-rpc', cpus: cpus().length, node: process.version, rows })}`);
}

if (process.argv[2] === 'serve') await serve();
else await measure();

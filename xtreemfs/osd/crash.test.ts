import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { SeededRandom } from '#common/random.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { RpcClient } from '#xtreemfs/rpc/client.ts';
import { createDialer } from '#xtreemfs/rpc/transport.ts';
import { aReplica, OsdCluster, openMode, xlocsOf } from './testing/osd-cluster.ts';

const objectBytes = 64 * 1024;
const objects = 12;
const fileId = 'volume:1';
const xlocs = xlocsOf([aReplica(['osd'], objectBytes / 1024)]);

let folder: string;
let client: RpcClient;
let child: ChildProcess | undefined;
const capabilities = new OsdCluster();

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'xtreemfs-osd-'));
  client = new RpcClient({ clock: systemClock, logger: silentLogger, dialer: createDialer('pbrpc') });
});

afterEach(async () => {
  client.close();
  await kill();
  await rm(folder, { recursive: true, force: true });
});

async function startOsd(): Promise<number> {
  const program = join(process.cwd(), 'xtreemfs/osd/testing/bare-osd.ts');
  child = spawn(process.execPath, [program, folder, 'osd'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = (await once(child.stdout!, 'data')) as [Buffer];
  return Number(line.toString());
}

async function kill(): Promise<void> {
  if (child?.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

async function write(port: number, object: number, offset: number, data: Buffer): Promise<void> {
  const request = {
    fileCredentials: { xcap: capabilities.cap({ fileId, accessMode: openMode.readWrite }), xlocs },
    fileId,
    objectNumber: object,
    objectVersion: 0,
    offset,
    leaseTimeout: 0,
    objectData: { checksum: 0, invalidChecksumOnOsd: false, zeroPadding: 0 },
  };
  await client.call({ host: '127.0.0.1', port }, osdProcedures.write, request, { data });
}

async function read(port: number, object: number): Promise<Buffer> {
  const request = {
    fileCredentials: { xcap: capabilities.cap({ fileId, accessMode: openMode.read }), xlocs },
    fileId,
    objectNumber: object,
    objectVersion: 0,
    offset: 0,
    length: objectBytes,
  };
  const { response, data } = await client.call({ host: '127.0.0.1', port }, osdProcedures.read, request);
  return Buffer.concat([data, Buffer.alloc(response.zeroPadding)]);
}

/** Objects that are not the file's last come padded with zeros. */
function isSame(found: Buffer, state: Buffer): boolean {
  if (found.length < state.length) return false;
  return found.equals(Buffer.concat([state, Buffer.alloc(found.length - state.length)]));
}

interface Cell {
  acknowledged: Buffer;
  /** Sent, not answered when the OSD was killed: either state is right for it. */
  pending: Buffer | undefined;
}

test('has every acknowledged write after kill -9 in the middle of many, again and again', async () => {
  const random = new SeededRandom(2026);
  const cells: Cell[] = Array.from({ length: objects }, () => ({ acknowledged: Buffer.alloc(0), pending: undefined }));
  let acknowledgedWrites = 0;
  for (let round = 0; round < 5; round++) {
    const port = await startOsd();
    for (const [object, cell] of cells.entries()) {
      const found = await read(port, object);
      const wanted = [cell.acknowledged, cell.pending].filter((state) => state !== undefined);
      const isRight = wanted.some((state) => isSame(found, state));
      expect({ round, object, isRight }).toEqual({ round, object, isRight: true });
      cell.acknowledged = found;
      cell.pending = undefined;
    }
    // One writer an object, so that each has at most one write whose fate is open.
    const writers = cells.map(async (cell, object) => {
      for (;;) {
        const offset = random.int(objectBytes - 1);
        const data = Buffer.alloc(1 + random.int(Math.min(objectBytes - offset, 20_000)), 1 + random.int(255));
        const next = Buffer.alloc(Math.max(cell.acknowledged.length, offset + data.length));
        cell.acknowledged.copy(next);
        data.copy(next, offset);
        cell.pending = next;
        await write(port, object, offset, data);
        cell.acknowledged = next;
        cell.pending = undefined;
        acknowledgedWrites++;
      }
    });
    const ended = Promise.allSettled(writers);
    await systemClock.sleep(150 + random.int(150));
    await kill();
    await ended;
  }
  expect(acknowledgedWrites).toBeGreaterThan(100);
}, 60_000);

/**
 * Random and damaged frames at a real server: it never crashes, never grows, answers or closes, and still serves others
 * afterwards. XTREEMOS_FUZZ_FRAMES sets how many (default 100,000); the seed is printed on failure.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { SeededRandom, type Random } from '#common/random.ts';
import { dirProcedures } from '#proto/generated/xtreemfs/dir.ts';
import { mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { AuthType } from '#proto/generated/xtreemfs/rpc.ts';
import type { Procedure } from '#proto/wire.ts';
import { RpcClient } from './client.ts';
import { encodeCredentials, FrameWriter } from './frame.ts';
import { RpcServer } from './server.ts';
import { createDialer, listen } from './transport.ts';

const frames = Number(process.env.XTREEMOS_FUZZ_FRAMES ?? 100_000);
const seed = Number(process.env.XTREEMOS_FUZZ_SEED ?? 20_061_101);
const procedures: Procedure<unknown, unknown>[] = [dirProcedures, mrcProcedures, osdProcedures].flatMap(
  (service) => Object.values(service) as Procedure<unknown, unknown>[],
);
const credentials = encodeCredentials({ username: 'user', groups: ['a', 'b'] }, { authType: AuthType.NONE });

/** A well-formed frame of any procedure, then damaged in one of several ways. */
function damagedFrame(random: Random, callId: number): Buffer {
  if (random.int(10) === 0) return randomBytes(random, 1 + random.int(200));
  const procedure = procedures[random.int(procedures.length)]!;
  const writer = new FrameWriter();
  const data = random.int(3) === 0 ? randomBytes(random, random.int(3_000)) : undefined;
  writer.request(callId, procedure, credentials, procedure.request, procedure.request.decode(Buffer.alloc(0)), data);
  const frame = Buffer.concat(writer.take());
  switch (random.int(6)) {
    case 0:
      return frame;
    case 1: // Damages the marker.
      frame[random.int(12)] = random.int(256);
      return frame;
    case 2: // Damages anything.
      for (let count = 1 + random.int(8); count > 0; count--) frame[random.int(frame.length)] = random.int(256);
      return frame;
    case 3: // Replaces the message by noise of the same length.
      return withMessage(frame, (length) => randomBytes(random, length));
    case 4: // Puts noise behind the message.
      return withMessage(frame, (length, message) =>
        Buffer.concat([message.subarray(0, length), randomBytes(random, 40)]),
      );
    default: // Cuts the frame off.
      return frame.subarray(0, random.int(frame.length));
  }
}

function withMessage(frame: Buffer, change: (length: number, message: Buffer) => Buffer): Buffer {
  const start = 12 + frame.readUInt32BE(0);
  const length = frame.readUInt32BE(4);
  const message = change(length, frame.subarray(start, start + length));
  const head = Buffer.from(frame.subarray(0, start));
  head.writeUInt32BE(message.length, 4);
  return Buffer.concat([head, message, frame.subarray(start + length)]);
}

const noise = Buffer.alloc(1 << 20);
const noiseSource = new SeededRandom(seed);
for (let at = 0; at < noise.length; at += 4) noise.writeUInt32LE(noiseSource.int(0x1_0000_0000), at);

function randomBytes(random: Random, length: number): Buffer {
  const from = random.int(noise.length - length);
  return Buffer.from(noise.subarray(from, from + length));
}

async function open(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.resume();
  return socket;
}

test(`threat 25: a server stands ${frames} random and damaged frames`, async () => {
  const server = new RpcServer({ clock: systemClock, logger: silentLogger });
  for (const procedure of procedures) {
    server.handle(procedure, () => ({ response: procedure.response.decode(Buffer.alloc(0)) }));
  }
  const listening = await listen(server, { scheme: 'pbrpc', port: 0, host: '127.0.0.1', logger: silentLogger });
  const random = new SeededRandom(seed);
  const memory: number[] = [];
  for (let sent = 0; sent < frames;) {
    const socket = await open(listening.port);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    const burst: Buffer[] = [];
    for (let count = 1 + random.int(200); count > 0 && sent < frames; count--, sent++)
      burst.push(damagedFrame(random, sent));
    socket.end(Buffer.concat(burst));
    await closed;
    if (sent % Math.ceil(frames / 10) < 200) memory.push(process.memoryUsage().rss);
  }
  const client = new RpcClient({ clock: systemClock, logger: silentLogger, dialer: createDialer('pbrpc') });
  const address = { host: '127.0.0.1', port: listening.port };
  await expect(client.call(address, dirProcedures.globalTimeSGet, {})).resolves.toBeDefined();
  client.close();
  listening.close();
  await server.stop(1_000);
  expect(server.connectionCount).toBe(0);
  // Memory of the second half does not exceed that of the first by more than what a collection leaves undone.
  const half = Math.floor(memory.length / 2);
  const growth = Math.max(...memory.slice(half)) - Math.max(...memory.slice(0, half));
  expect({ seed, isBounded: growth < 100 * 1024 * 1024 }).toEqual({ seed, isBounded: true });
}, 600_000);

import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { systemClock, VirtualClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { dirProcedures } from '#proto/generated/xtreemfs/dir.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { AuthType, ErrorType, PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import type { Writer } from '#proto/wire.ts';
import { RpcClient } from './client.ts';
import type { RpcError } from './errors.ts';
import { errnoError, insufficientVoucherError, invalidViewError, redirectError } from './errors.ts';
import { encodeCredentials, FrameWriter } from './frame.ts';
import { RpcServer, type RequestContext, type RpcServerOptions } from './server.ts';
import { createDialer, listen, type Listening } from './transport.ts';

const clock = systemClock;
const logger = silentLogger;
const anyone = encodeCredentials({ username: 'u', groups: [] }, { authType: AuthType.NONE });
const time = dirProcedures.globalTimeSGet;
const aRead = osdProcedures.read.request.decode(Buffer.alloc(0));
const objectData = { checksum: 0, invalidChecksumOnOsd: false, zeroPadding: 0 };

let server: RpcServer;
let listening: Listening;
let client: RpcClient;
let address: { host: string; port: number };
const sockets: Socket[] = [];

async function start(options: Partial<RpcServerOptions> = {}): Promise<void> {
  server = new RpcServer({ clock, logger, unknownProcedureErrno: PosixErrno.EINVAL, ...options });
  server.handle(time, () => ({ response: { timeInSeconds: 42 } }));
  listening = await listen(server, { scheme: 'pbrpc', port: 0, host: '127.0.0.1', logger });
  address = { host: '127.0.0.1', port: listening.port };
  client = new RpcClient({ clock, logger, dialer: createDialer('pbrpc') });
}

async function stop(): Promise<void> {
  client.close();
  for (const socket of sockets.splice(0)) socket.destroy();
  listening.close();
  await server.stop(50);
}

async function rawConnection(): Promise<Socket> {
  const socket = connect(address.port, address.host);
  sockets.push(socket);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

/** Waits until `condition` holds; fails after 5 s. */
async function until(condition: () => boolean): Promise<void> {
  const end = clock.monotonic() + 5_000;
  while (!condition()) {
    if (clock.monotonic() > end) throw new Error(`Not within 5 s: ${String(condition)}`);
    await clock.sleep(5);
  }
}

beforeEach(async () => start());
afterEach(stop);

describe('a call', () => {
  test('carries message, credentials and data both ways', async () => {
    let seen: RequestContext | undefined;
    server.handle(osdProcedures.write, (context, request, data) => {
      seen = context;
      return { response: { sizeInBytes: data.length, truncateEpoch: request.offset } };
    });
    const request = { ...osdProcedures.write.request.decode(Buffer.alloc(0)), offset: 7 };
    const data = [Buffer.alloc(100_000, 1), Buffer.alloc(31_072, 2)];
    const userCreds = { username: 'anna', groups: ['staff', 'grid'] };
    const { response } = await client.call(address, osdProcedures.write, request, { data, userCreds });
    expect(response).toEqual({ sizeInBytes: 131_072, truncateEpoch: 7 });
    expect(seen?.userCreds).toEqual(userCreds);
    expect(seen?.peer).toMatchObject({ address: '127.0.0.1', certificate: undefined });
  });

  test('gets exactly the bytes that the handler gave', async () => {
    const content = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index & 0xff));
    server.handle(osdProcedures.read, () => ({ response: objectData, data: content }));
    const { data } = await client.call(address, osdProcedures.read, aRead);
    expect(data.equals(content)).toBe(true);
  });

  test('of different users on one connection are told apart', async () => {
    server.handle(dirProcedures.configurationGet, ({ userCreds }) => ({
      response: { uuid: userCreds.username, parameter: [], version: 0 },
    }));
    const ask = async (username: string, group: string): Promise<string> => {
      const options = { userCreds: { username, groups: [group] } };
      const { response } = await client.call(address, dirProcedures.configurationGet, { uuid: 'x' }, options);
      return response.uuid;
    };
    const names = ['anna', 'bert', 'anna', 'carl', 'carl', 'anna'];
    expect(await Promise.all(names.map(async (name) => ask(name, 'grpA')))).toEqual(names);
  });

  test('answers may come in another order than the calls', async () => {
    const gates = new Map<number, () => void>();
    server.handle(osdProcedures.read, async (_, { objectNumber }) => {
      await new Promise<void>((resolve) => gates.set(objectNumber, resolve));
      return { response: { ...objectData, zeroPadding: objectNumber } };
    });
    const calls = [0, 1, 2].map((objectNumber) => client.call(address, osdProcedures.read, { ...aRead, objectNumber }));
    await until(() => gates.size === 3);
    gates.get(2)!();
    expect((await calls[2]!).response.zeroPadding).toBe(2);
    gates.get(0)!();
    expect((await calls[0]!).response.zeroPadding).toBe(0);
    gates.get(1)!();
    expect((await calls[1]!).response.zeroPadding).toBe(1);
  });
});

describe('a failure reaches the caller as', () => {
  test.each<[string, Error, Partial<RpcError>]>([
    [
      'its errno',
      errnoError(PosixErrno.ENOENT, 'no such file'),
      { errorType: ErrorType.ERRNO, posixErrno: PosixErrno.ENOENT, message: 'no such file' },
    ],
    [
      'a redirect',
      redirectError('osd-2'),
      { errorType: ErrorType.REDIRECT, redirectTo: 'osd-2', posixErrno: PosixErrno.NONE },
    ],
    ['an invalid view', invalidViewError('view 3'), { errorType: ErrorType.INVALID_VIEW }],
    ['an insufficient voucher', insufficientVoucherError('full'), { errorType: ErrorType.INSUFFICIENT_VOUCHER }],
    [
      'an internal error without its text',
      new Error('secret path'),
      {
        errorType: ErrorType.INTERNAL_SERVER_ERROR,
        posixErrno: PosixErrno.EIO,
        message: 'read failed within the server; its log says why',
      },
    ],
  ])('%s, thrown at once or later', async (_, error, expected) => {
    server.handle(osdProcedures.read, () => {
      throw error;
    });
    await expect(client.call(address, osdProcedures.read, aRead)).rejects.toMatchObject(expected);
    server.handle(osdProcedures.read, async () => Promise.reject(error));
    await expect(client.call(address, osdProcedures.read, aRead)).rejects.toMatchObject(expected);
  });

  test('INVALID_PROC_ID for a procedure that is not served', async () => {
    const expected = { errorType: ErrorType.INVALID_PROC_ID, posixErrno: PosixErrno.EINVAL };
    await expect(client.call(address, dirProcedures.shutdown, {})).rejects.toMatchObject(expected);
  });

  test('INVALID_INTERFACE_ID for an interface that is not served', async () => {
    const expected = { errorType: ErrorType.INVALID_INTERFACE_ID, posixErrno: PosixErrno.EIO };
    await expect(client.call(address, osdProcedures.read, aRead)).rejects.toMatchObject(expected);
  });

  test('GARBAGE_ARGS when the message cannot be read, and the connection goes on', async () => {
    server.handle(dirProcedures.serviceGetByName, () => ({ response: { services: [] } }));
    // A string field of 9 bytes whose last 4 are missing.
    const write = (writer: Writer): void => {
      writer.bytes(10, Buffer.alloc(9));
      writer.position -= 4;
    };
    const cut = { ...dirProcedures.serviceGetByName, request: { ...time.request, write } };
    const expected = { errorType: ErrorType.GARBAGE_ARGS, posixErrno: PosixErrno.EINVAL };
    await expect(client.call(address, cut, {})).rejects.toMatchObject(expected);
    expect((await client.call(address, time, {})).response.timeInSeconds).toBe(42);
    expect(server.connectionCount).toBe(1);
  });

  test('IO_ERROR when the server goes away', async () => {
    server.handle(osdProcedures.read, async () => new Promise(() => undefined));
    const call = client.call(address, osdProcedures.read, aRead);
    await until(() => server.statistics.get('read')!.running === 1);
    const failed = expect(call).rejects.toMatchObject({ errorType: ErrorType.IO_ERROR, posixErrno: PosixErrno.EIO });
    await server.stop(10);
    await failed;
  });

  test('IO_ERROR, and on a new connection after 5 s of silence, when the server is gone without a word', async () => {
    const accepted: Socket[] = [];
    const mute = createServer((socket) => accepted.push(socket)).listen(0, '127.0.0.1');
    await once(mute, 'listening');
    const { port } = mute.address() as AddressInfo;
    const virtual = new VirtualClock();
    const caller = new RpcClient({ clock: virtual, logger, dialer: createDialer('pbrpc') });
    for (let spentMs = 0; spentMs <= 6_000; spentMs += 1_000) {
      const answer = caller.call({ host: '127.0.0.1', port }, time, {}, { timeoutMs: 200 });
      const failure = expect(answer).rejects.toThrow('no answer in time');
      await until(() => accepted.length === (spentMs <= 5_000 ? 1 : 2));
      await virtual.advanceAsync(1_000);
      await failure;
    }
    caller.close();
    for (const socket of accepted) socket.destroy();
    mute.close();
  });

  test('IO_ERROR when there is no answer in time', async () => {
    server.handle(osdProcedures.read, async () => new Promise(() => undefined));
    await expect(client.call(address, osdProcedures.read, aRead, { timeoutMs: 50 })).rejects.toThrow(
      'no answer in time',
    );
  });

  test('IO_ERROR when nobody listens, and again at once while the address rests', async () => {
    const nowhere = { host: '127.0.0.1', port: 1 };
    await expect(client.call(nowhere, time, {})).rejects.toThrow('Cannot connect to 127.0.0.1:1');
    await expect(client.call(nowhere, time, {})).rejects.toThrow('not reachable a moment ago');
  });

  test("the signal's reason when the caller gives up", async () => {
    server.handle(osdProcedures.read, async () => new Promise(() => undefined));
    const abort = new AbortController();
    const call = client.call(address, osdProcedures.read, aRead, { signal: abort.signal });
    await until(() => server.statistics.get('read')!.running === 1);
    abort.abort(new Error('interrupted'));
    await expect(call).rejects.toThrow('interrupted');
  });
});

test('a client connects again after the server was restarted', async () => {
  await client.call(address, time, {});
  const { port } = address;
  listening.close();
  await server.stop(10);
  server = new RpcServer({ clock, logger });
  server.handle(time, () => ({ response: { timeInSeconds: 43 } }));
  listening = await listen(server, { scheme: 'pbrpc', port, host: '127.0.0.1', logger });
  await clock.sleep(60);
  expect((await client.call(address, time, {})).response.timeInSeconds).toBe(43);
});

test("the handler's signal aborts when the caller's connection is lost", async () => {
  let signal: AbortSignal | undefined;
  server.handle(osdProcedures.read, async (context) => {
    signal = context.signal;
    return new Promise(() => undefined);
  });
  client.call(address, osdProcedures.read, aRead).catch(() => undefined);
  await until(() => signal !== undefined);
  client.close();
  await until(() => signal!.aborted);
});

test('stopping lets running calls end first', async () => {
  let release: (() => void) | undefined;
  server.handle(osdProcedures.read, async () => {
    await new Promise<void>((resolve) => (release = resolve));
    return { response: { ...objectData, zeroPadding: 9 } };
  });
  const call = client.call(address, osdProcedures.read, aRead);
  await until(() => release !== undefined);
  const stopped = server.stop(5_000);
  release!();
  expect((await call).response.zeroPadding).toBe(9);
  await stopped;
});

describe('bounds', () => {
  test('threat 25: reading stops at 100 unanswered requests and goes on below 50', async () => {
    const gates: (() => void)[] = [];
    server.handle(osdProcedures.write, async () => {
      await new Promise<void>((resolve) => gates.push(resolve));
      return { response: { sizeInBytes: undefined, truncateEpoch: undefined } };
    });
    const request = osdProcedures.write.request.decode(Buffer.alloc(0));
    const data = Buffer.alloc(65_536);
    const calls = Array.from({ length: 400 }, () => client.call(address, osdProcedures.write, request, { data }));
    await until(() => gates.length >= 100);
    await clock.sleep(100);
    // What one chunk of the socket held may come on top.
    expect(gates.length).toBeLessThanOrEqual(102);
    let answered = 0;
    while (answered < 400) {
      await until(() => gates.length > 0);
      for (const gate of gates.splice(0)) {
        gate();
        answered++;
      }
    }
    await Promise.all(calls);
  });

  test('threat 25: a reader that does not read its answers stops being served, and memory stays bounded', async () => {
    const answer = Buffer.alloc(1024 * 1024);
    let served = 0;
    server.handle(osdProcedures.read, () => {
      served++;
      return { response: objectData, data: answer };
    });
    const socket = await rawConnection();
    socket.pause();
    const writer = new FrameWriter();
    for (let callId = 1; callId <= 20_000; callId++)
      writer.request(callId, osdProcedures.read, anyone, osdProcedures.read.request, aRead);
    for (const part of writer.take()) socket.write(part);
    await until(() => served > 16);
    await clock.sleep(200);
    const before = served;
    await clock.sleep(200);
    expect(served).toBe(before);
    expect(served).toBeLessThan(2_000);
  });

  test('threat 25: more connections than allowed from one peer are refused', async () => {
    await stop();
    await start({ connectionsPerPeerMax: 3 });
    await Promise.all([1, 2, 3, 4, 5].map(rawConnection));
    await until(() => server.connectionCount === 3);
    await clock.sleep(50);
    expect(server.connectionCount).toBe(3);
  });

  test('threat 25: requests that cannot be served close the connection of a peer that does not read the answers', async () => {
    await stop();
    await start({ unsentBytesMax: 64 * 1024 });
    const socket = await rawConnection();
    socket.pause();
    const closed = new Promise((resolve) => socket.once('close', resolve));
    const writer = new FrameWriter();
    const { request } = dirProcedures.shutdown;
    for (let round = 0; round < 300 && !socket.destroyed; round++) {
      for (let callId = 1; callId <= 1_000; callId++)
        writer.request(callId, dirProcedures.shutdown, anyone, request, {});
      for (const part of writer.take()) socket.write(part);
      await clock.sleep(0);
    }
    await until(() => server.connectionCount === 0);
    socket.resume();
    await closed;
  });
});

describe('a connection is closed when', () => {
  test.each([
    ['the marker breaks a limit', 'ffffffff0000000000000000'],
    ['the header cannot be read', '000000040000000000000000ffffffff'],
  ])('%s', async (_, hex) => {
    const socket = await rawConnection();
    socket.resume();
    const closed = once(socket, 'close');
    socket.write(Buffer.from(hex, 'hex'));
    await closed;
    await until(() => server.connectionCount === 0);
  });

  test('a header that carries no request is answered with GARBAGE_ARGS', async () => {
    const socket = await rawConnection();
    socket.write(Buffer.from('000000070000000000000000' + '0d010000001001', 'hex'));
    const [answer] = (await once(socket, 'data')) as [Buffer];
    expect(answer.subarray(12, 19).toString('hex')).toBe('0d010000001002');
    expect(answer.toString('latin1')).toContain('The header carries no request');
  });
});

import { expect, test } from '@jest/globals';
import { SeededRandom } from '#common/random.ts';
import { mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { emptyResponseCodec, PosixErrno, rpcHeaderCodec } from '#proto/generated/xtreemfs/rpc.ts';
import { defaultFrameLimits, encodeCredentials, FrameError, FrameParser, FrameWriter } from '#xtreemfs/rpc/frame.ts';
import { noAuth } from '#xtreemfs/rpc/client.ts';
import { FrameCheck } from './frame-check.ts';

const credentials = encodeCredentials({ username: 'alice', groups: ['vo-physics'] }, noAuth);
const joined = (writer: FrameWriter): Buffer => Buffer.concat(writer.take());

/** A request with data, as a client writes it. */
function request(callId: number, data: Buffer): Buffer {
  const writer = new FrameWriter();
  const message = { volumeName: callId % 3 === 0 ? 'other' : 'mine', path: 'x'.repeat(callId % 200) };
  writer.request(callId, osdProcedures.write, credentials, mrcProcedures.readlink.request, message, data);
  return joined(writer);
}

function answer(callId: number, data: Buffer): Buffer {
  const writer = new FrameWriter();
  writer.response(callId, emptyResponseCodec, {}, data);
  return joined(writer);
}

/** Refuses what is not of the volume `mine`. */
function check(refused: string[] = []): FrameCheck {
  return new FrameCheck(
    (_, message) => (mrcProcedures.readlink.request.decode(message).volumeName === 'mine' ? undefined : 'not yours'),
    (problem) => refused.push(problem),
  );
}

/** Frames of a stream: call, errno of an error, data. */
function framesOf(bytes: Buffer): { call: number; errno: number | undefined; data: string }[] {
  const frames: { call: number; errno: number | undefined; data: string }[] = [];
  const parser = new FrameParser(defaultFrameLimits, (header, _, data) => {
    const { callId, errorResponse } = rpcHeaderCodec.decode(header);
    frames.push({ call: callId, errno: errorResponse?.posixErrno, data: data.toString('latin1') });
  });
  parser.push(bytes);
  expect(parser.isWithinFrame).toBe(false);
  return frames;
}

function* pieces(bytes: Buffer, random: SeededRandom): Generator<Buffer> {
  for (let at = 0; at < bytes.length;) {
    const count = Math.min(bytes.length - at, 1 + random.int(random.int(2) === 0 ? 20 : 5_000));
    yield bytes.subarray(at, at + count);
    at += count;
  }
}

test.each([1, 2, 3, 4, 5, 6, 7, 8])(
  'passes whole requests, drops whole ones, answers these between answers (seed %p)',
  (seed) => {
    const random = new SeededRandom(seed);
    const refused: string[] = [];
    const frames = check(refused);
    const dataOf = (call: number): Buffer => Buffer.alloc((call * 977) % 9_000, 97 + (call % 20));
    const calls = Array.from({ length: 60 }, (_, index) => index + 1);
    const passing = calls.filter((call) => call % 3 !== 0);
    const client = pieces(Buffer.concat(calls.map((call) => request(call, dataOf(call)))), random);
    const server = pieces(Buffer.concat(passing.map((call) => answer(call, dataOf(call)))), random);
    const [toServer, toClient]: [Buffer[], Buffer[]] = [[], []];
    const open = new Set([client, server]);
    while (open.size > 0) {
      const side = [...open][random.int(open.size)] ?? client;
      const next = side.next();
      if (next.done === true) open.delete(side);
      else if (side === client) toServer.push(...frames.request(next.value));
      else toClient.push(...frames.answer(next.value));
      toClient.push(...frames.due());
    }
    expect(framesOf(Buffer.concat(toServer)).map(({ call, data }) => [call, data])).toEqual(
      passing.map((call) => [call, dataOf(call).toString('latin1')]),
    );
    const got = framesOf(Buffer.concat(toClient));
    expect(got.filter(({ errno }) => errno === undefined).map(({ call, data }) => [call, data.length])).toEqual(
      passing.map((call) => [call, dataOf(call).length]),
    );
    const refusals = got.filter(({ errno }) => errno !== undefined);
    expect(refusals.map(({ call }) => call)).toEqual(calls.filter((call) => call % 3 === 0));
    expect(new Set(refusals.map(({ errno }) => errno))).toEqual(new Set([PosixErrno.EPERM]));
    expect(refused).toHaveLength(20);
  },
);

test.each<[string, Buffer]>([
  ['a frame without a header', Buffer.alloc(12)],
  ['a message of a gigabyte', Buffer.from('000000104000000000000000', 'hex')],
  ['data beyond every limit', Buffer.from('0000001000000000ffffffff', 'hex')],
  [
    'a header that can not be read',
    Buffer.concat([Buffer.from('000000040000000000000000', 'hex'), Buffer.alloc(4, 0xff)]),
  ],
  ['an answer as a request', answer(1, Buffer.alloc(0))],
])('threat 25: ends a connection that sends %s', (_, bytes) => {
  expect(() => check().request(bytes)).toThrow(FrameError);
});

test('threat 25: keeps nothing of data, however much a request has', () => {
  const frames = check();
  const big = request(1, Buffer.alloc(8_000_000));
  let passed = 0;
  for (let at = 0; at < big.length; at += 65_536) {
    const out = frames.request(big.subarray(at, at + 65_536));
    passed += out.reduce((sum, { length }) => sum + length, 0);
    // All but the part of a head goes on at once.
    expect(Math.min(big.length, at + 65_536) - passed).toBeLessThan(512);
  }
  expect(passed).toBe(big.length);
});

import { describe, expect, test } from '@jest/globals';
import { dirProcedures, globalTimeSGetResponseCodec } from '#proto/generated/xtreemfs/dir.ts';
import { AuthType, ErrorType, PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { CodecError } from '#proto/wire.ts';
import { defaultFrameLimits, encodeCredentials, FrameParser, FrameWriter, noData } from './frame.ts';

interface Parts {
  readonly header: string;
  readonly message: string;
  readonly data: string;
}

function parse(chunks: readonly Buffer[]): Parts[] {
  const frames: Parts[] = [];
  const parser = new FrameParser(defaultFrameLimits, (header, message, data) =>
    frames.push({ header: header.toString('hex'), message: message.toString('hex'), data: data.toString('hex') }),
  );
  for (const chunk of chunks) parser.push(chunk);
  expect(parser.isWithinFrame).toBe(false);
  return frames;
}

const root = encodeCredentials({ username: 'root', groups: ['root'] }, { authType: AuthType.NONE });
const timeCall = dirProcedures.globalTimeSGet;

describe('writing the golden frames of the protocol reference', () => {
  test('a request for the time of the DIR', () => {
    const writer = new FrameWriter();
    writer.request(1, timeCall, root, timeCall.request, {});
    expect(Buffer.concat(writer.take()).toString('hex')).toBe(
      '000000250000000000000000' + '0d0100000010001a1c0d1127000015050000001a0c0a04726f6f741204726f6f7422020800',
    );
  });

  test('its answer', () => {
    const writer = new FrameWriter();
    writer.response(1, globalTimeSGetResponseCodec, { timeInSeconds: 1_700_000_000_000 });
    expect(Buffer.concat(writer.take()).toString('hex')).toBe(
      '000000070000000900000000' + '0d010000001001' + '090068e5cf8b010000',
    );
  });

  test('an error', () => {
    const writer = new FrameWriter();
    writer.error(7, { errorType: ErrorType.ERRNO, posixErrno: PosixErrno.ENOENT, errorMessage: 'not found' });
    expect(Buffer.concat(writer.take()).toString('hex')).toBe(
      '000000180000000000000000' + '0d070000001002220f080610021a096e6f7420666f756e64',
    );
  });
});

describe('a stream', () => {
  const writer = new FrameWriter();
  writer.request(1, timeCall, root, timeCall.request, {});
  writer.request(2, timeCall, root, timeCall.request, {}, Buffer.alloc(5, 1));
  writer.request(3, timeCall, root, timeCall.request, {}, [Buffer.alloc(70_000, 2), noData, Buffer.alloc(2_000, 3)]);
  writer.request(4, timeCall, root, timeCall.request, {});
  const stream = Buffer.concat(writer.take());
  const whole = parse([stream]);

  test('is cut into its frames', () => {
    expect(whole.map((frame) => frame.data.length / 2)).toEqual([0, 5, 72_000, 0]);
    expect(whole[2]!.data).toBe('02'.repeat(70_000) + '03'.repeat(2_000));
  });

  test.each([1, 3, 7, 12, 13, 49, 1_000, 65_536])('gives the same frames in chunks of %i bytes', (size) => {
    const chunks: Buffer[] = [];
    for (let at = 0; at < stream.length; at += size) chunks.push(stream.subarray(at, at + size));
    expect(parse(chunks)).toEqual(whole);
  });
});

test('large messages follow small ones and the other way round without mixing', () => {
  const writer = new FrameWriter();
  const { request, procId, interfaceId } = dirProcedures.serviceRegister;
  const sizes = [10, 100_000, 5, 300_000, 60_000, 1];
  sizes.forEach((size, callId) => {
    const service = {
      type: 2,
      uuid: 'u',
      version: 0,
      name: 'x'.repeat(size),
      lastUpdatedS: 0,
      data: { data: [] },
    } as const;
    writer.request(callId, { procId, interfaceId }, root, request, { service: { ...service, data: { data: [] } } });
  });
  const frames = parse([Buffer.concat(writer.take())]);
  expect(frames.map(({ message }) => request.decode(Buffer.from(message, 'hex')).service.name.length)).toEqual(sizes);
});

test('a message that does not fit its fields leaves nothing behind', () => {
  const writer = new FrameWriter();
  writer.response(1, globalTimeSGetResponseCodec, { timeInSeconds: 1 });
  expect(() => writer.response(2, globalTimeSGetResponseCodec, { timeInSeconds: Number.NaN })).toThrow(CodecError);
  writer.response(3, globalTimeSGetResponseCodec, { timeInSeconds: 3 });
  expect(parse(writer.take())).toMatchObject([{ header: '0d010000001001' }, { header: '0d030000001001' }]);
});

describe('a parser refuses', () => {
  test.each([
    ['a frame without a header', '00000000 00000001 00000000', 'has no header'],
    ['a header of more than 64 KiB', '00010001 00000000 00000000', 'header of 65537 bytes is longer than 65536'],
    ['a message of 32 MiB', '00000001 02000000 00000000', 'message of 33554432 bytes'],
    ['data of 32 MiB', '00000001 00000000 02000000', 'data of 33554432 bytes'],
    ['lengths that would be negative', 'ffffffff ffffffff ffffffff', 'header of 4294967295 bytes'],
  ])('%s', (_, marker, message) => {
    const parser = new FrameParser(defaultFrameLimits, () => undefined);
    expect(() => parser.push(Buffer.from(marker.replaceAll(' ', ''), 'hex'))).toThrow(message);
  });
});

test('announcing much and sending little holds little memory', () => {
  const parser = new FrameParser(defaultFrameLimits, () => undefined);
  parser.push(Buffer.from('00000010' + '01ffffff' + '01ffffff' + '00', 'hex'));
  expect(parser.heldBytes).toBeLessThanOrEqual(256 * 1024);
});

/** Golden bytes (protocol reference, section 20; proto/testdata) and the rules of reading that peers depend on. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { dirProcedures, globalTimeSGetResponseCodec } from '#proto/generated/xtreemfs/dir.ts';
import {
  fileCredentialsCodec,
  osdWriteResponseCodec,
  SnapConfig,
  xCapCodec,
} from '#proto/generated/xtreemfs/global-types.ts';
import {
  checkFileExistsResponseCodec,
  FileState,
  getxattrResponseCodec,
  mrcProcedures,
  statCodec,
} from '#proto/generated/xtreemfs/mrc.ts';
import { lockCodec, objectDataCodec, osdProcedures, readRequestCodec } from '#proto/generated/xtreemfs/osd.ts';
import {
  AuthType,
  ErrorType,
  errorResponseCodec,
  MessageType,
  PosixErrno,
  rpcHeaderCodec,
} from '#proto/generated/xtreemfs/rpc.ts';
import { bytesToText, CodecError, textToBytes } from '#proto/wire.ts';

const golden = JSON.parse(readFileSync(new URL('../testdata/xtreemfs.json', import.meta.url), 'utf8')) as Record<
  string,
  string
>;
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const bytes = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

describe('golden bytes', () => {
  test('a request header of the DIR global time call', () => {
    const header = {
      callId: 1,
      messageType: MessageType.REQUEST,
      requestHeader: {
        interfaceId: 10001,
        procId: 5,
        userCreds: { username: 'root', groups: ['root'] },
        authData: { authType: AuthType.NONE },
      },
    };
    expect(hex(rpcHeaderCodec.encode(header))).toBe(golden.requestHeader);
    expect(rpcHeaderCodec.decode(bytes(golden.requestHeader!))).toMatchObject(header);
  });

  test('a success header and the time in its message', () => {
    expect(hex(rpcHeaderCodec.encode({ callId: 1, messageType: MessageType.RESPONSE_SUCCESS }))).toBe(
      golden.successHeader,
    );
    expect(hex(globalTimeSGetResponseCodec.encode({ timeInSeconds: 1_700_000_000_000 }))).toBe(golden.timeMessage);
    expect(globalTimeSGetResponseCodec.decode(bytes(golden.timeMessage!))).toEqual({
      timeInSeconds: 1_700_000_000_000,
    });
  });

  test('an error header with its errno and text', () => {
    const errorResponse = {
      errorType: ErrorType.ERRNO,
      posixErrno: PosixErrno.ENOENT,
      errorMessage: 'not found',
    };
    const header = { callId: 7, messageType: MessageType.RESPONSE_ERROR, errorResponse };
    expect(hex(rpcHeaderCodec.encode(header))).toBe(golden.errorHeader);
    expect(rpcHeaderCodec.decode(bytes(golden.errorHeader!))).toMatchObject(header);
  });
});

describe('reading', () => {
  test('no bytes give every field its default, also where the protocol requires fields', () => {
    expect(fileCredentialsCodec.decode(Buffer.alloc(0))).toMatchObject({
      xcap: { accessMode: 0, fileId: '', snapConfig: SnapConfig.SNAPS_DISABLED, voucherSize: 0, expireTimeMs: 0 },
      xlocs: { replicas: [], version: 0 },
    });
    expect(osdWriteResponseCodec.decode(Buffer.alloc(0))).toEqual({ sizeInBytes: undefined, truncateEpoch: undefined });
    expect(errorResponseCodec.decode(Buffer.alloc(0)).posixErrno).toBe(PosixErrno.NONE);
  });

  test('required fields are written also at their default', () => {
    expect(hex(objectDataCodec.encode({ checksum: 0, invalidChecksumOnOsd: false, zeroPadding: 0 }))).toBe(
      '0d0000000010001d00000000',
    );
  });

  test('unknown fields of every wire type are skipped', () => {
    const known = globalTimeSGetResponseCodec.encode({ timeInSeconds: 5 });
    const unknown = bytes('7801 7900000000000000ff 7a03010203 7d01020304 7b 0801 7c');
    expect(globalTimeSGetResponseCodec.decode(Buffer.concat([unknown, known, unknown]))).toEqual({ timeInSeconds: 5 });
  });

  test('an enum value that is not known leaves the default', () => {
    expect(errorResponseCodec.decode(bytes('0806 10e707'))).toMatchObject({
      errorType: ErrorType.ERRNO,
      posixErrno: PosixErrno.NONE,
    });
  });

  test('repeated enums are read packed and unpacked, and written packed', () => {
    const states = [FileState.REGISTERED, FileState.ABANDONED];
    expect(checkFileExistsResponseCodec.decode(bytes('0801 12020102')).fileStates).toEqual(states);
    expect(checkFileExistsResponseCodec.decode(bytes('0801 1001 1002')).fileStates).toEqual(states);
    expect(hex(checkFileExistsResponseCodec.encode({ volumeExists: true, fileStates: states }))).toBe('080112020102');
  });

  test.each([
    ['a field that ends early', '09000000'],
    ['a length beyond the end', '0affffffff0f'],
    ['a number that never ends', '08ffffffffffffffffffffff01'],
    ['field number 0', '0001'],
    ['a wire type that does not exist', '0f'],
    ['a group without an end', '7b0801'],
    ['a group that ends with another number', '7b84'],
    ['groups nested 40 deep', '7b'.repeat(40)],
    ['a 64-bit value beyond 2^53', '09ffffffffffffff7f'],
  ])('refuses %s', (_, text) => {
    expect(() => globalTimeSGetResponseCodec.decode(bytes(text))).toThrow(CodecError);
  });

  test('a nested message cannot read beyond its own end', () => {
    // xcap of 3 bytes whose first field wants 4.
    expect(() => fileCredentialsCodec.decode(bytes('0a03 0d0100 0000 1200'))).toThrow(
      'the message ends within a field',
    );
  });

  test('more than a million repeated elements are refused', () => {
    const many = Buffer.alloc(2 * 1_048_577, bytes('1001'));
    expect(() => checkFileExistsResponseCodec.decode(many)).toThrow('repeated elements');
  });

  test('negative numbers keep their sign in 32 and 64 bits', () => {
    const stat = { ...statCodec.decode(Buffer.alloc(0)), dev: -1_070_394_582, mode: 0o100644, truncateEpoch: -1 };
    expect(statCodec.decode(statCodec.encode(stat))).toEqual(stat);
  });

  test('values of extended attributes are bytes', () => {
    const value = Buffer.of(0, 0xff, 0x80);
    expect(getxattrResponseCodec.decode(getxattrResponseCodec.encode({ value })).value).toEqual(value);
  });

  test('lock ranges keep all 64 bits', () => {
    const lock = { clientPid: 1, clientUuid: 'u', length: 0n, offset: 0x7fff_ffff_ffff_fffen, exclusive: true };
    expect(lockCodec.decode(lockCodec.encode(lock))).toEqual(lock);
  });
});

describe('writing', () => {
  test.each([
    ['NaN', Number.NaN],
    ['2^53', 2 ** 53],
    ['a fraction', 0.5],
  ])('refuses %s in a 64-bit field and names message and field', (_, timeInSeconds) => {
    expect(() => globalTimeSGetResponseCodec.encode({ timeInSeconds })).toThrow(
      /^globalTimeSGetResponse: field number 1: /,
    );
  });

  test('a nested message longer than 127 bytes is moved to make room for its length', () => {
    const message = readRequestCodec.decode(Buffer.alloc(0));
    message.fileCredentials.xcap.clientIdentity = 'x'.repeat(40_000);
    expect(readRequestCodec.decode(readRequestCodec.encode(message))).toEqual(message);
  });

  test('a capability passes through unchanged', () => {
    const cap = {
      ...xCapCodec.decode(Buffer.alloc(0)),
      fileId: 'v:1',
      expireTimeMs: 1_700_000_600_000,
      snapConfig: SnapConfig.ACCESS_SNAP,
    };
    expect(xCapCodec.decode(xCapCodec.encode(cap))).toEqual(cap);
  });
});

describe('text', () => {
  test.each([
    ['ASCII', '61'],
    ['four-byte characters', 'f09f9880'],
    ['a replacement character that was really there', 'efbfbd'],
    ['Latin-1', '66fc72'],
    ['a cut sequence', '61e282'],
    ['an encoded surrogate', 'eda080'],
    ['valid and invalid mixed', 'c3a9ff41f09f9880fe'],
  ])('keeps the bytes of %s', (_, text) => {
    expect(hex(textToBytes(bytesToText(bytes(text))))).toBe(text);
  });
});

test.each([
  ['DIR', dirProcedures, 16],
  ['MRC', mrcProcedures, 47],
  ['OSD', osdProcedures, 38],
])('each procedure of the %s has a number of its own', (_, procedures, count) => {
  const numbers = Object.values<{ readonly procId: number }>(procedures).map((procedure) => procedure.procId);
  expect(new Set(numbers).size).toBe(count);
  expect(numbers).toHaveLength(count);
});

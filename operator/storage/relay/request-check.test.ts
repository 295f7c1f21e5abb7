import { describe, expect, test } from '@jest/globals';
import { dirProcedures } from '#proto/generated/xtreemfs/dir.ts';
import { SystemVFcntl, type XCap } from '#proto/generated/xtreemfs/global-types.ts';
import { mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { AuthType, type Auth } from '#proto/generated/xtreemfs/rpc.ts';
import type { Procedure } from '#proto/wire.ts';
import { problemOf, type RequestTerms } from './request-check.ts';

const volumeName = 'vol-1';
const volumeId = '0a1b';
const alice = { username: 'u-alice-2013300123', groups: ['vo-physics'] };
const bob = { username: 'u-bob-2013300124', groups: ['vo-physics'] };

function terms(more: Partial<RequestTerms> = {}): RequestTerms {
  const permits = ({ username }: { username: string }): boolean => username === alice.username;
  return { server: 'mrc', volumeName, volumeId, isReadOnly: false, permits, ...more };
}

function asked<Q, A>(
  { interfaceId, procId, request }: Procedure<Q, A>,
  message: Q,
  more: Partial<RequestTerms> = {},
  user = alice,
  auth: Auth = { authType: AuthType.NONE },
): string | undefined {
  const header = { interfaceId, procId, userCreds: user, authData: auth };
  return problemOf(header, request.encode(message), terms(more));
}

const path = { volumeName, path: 'a/b' };
const cap = (fileId: string): XCap => ({
  ...{ accessMode: 1, clientIdentity: '', expireTimeS: 1, expireTimeoutS: 1, fileId, replicateOnClose: false },
  ...{ serverSignature: 'x', truncateEpoch: 0, snapConfig: 0, snapTimestamp: 0, voucherSize: 0, expireTimeMs: 0 },
});
const xlocs = { readOnlyFileSize: 0, replicas: [], replicaUpdatePolicy: '', version: 0 };
const held = (fileId: string): { xcap: XCap; xlocs: typeof xlocs } => ({ xcap: cap(fileId), xlocs });
const reading = (fileId: string, of = fileId) => ({
  ...{ fileCredentials: held(of), fileId, objectNumber: 0, objectVersion: 0, offset: 0, length: 1 },
});
const opening = (flags: number) => ({ ...path, flags, mode: 0, attributes: 0 });
const osd = { server: 'osd' } as const;

describe('threat 16: through a relay a mount of one volume', () => {
  test('asks for files of it, as users that it may speak for', () => {
    expect(asked(mrcProcedures.getattr, { ...path, knownEtag: 0 })).toBeUndefined();
    expect(asked(mrcProcedures.open, opening(SystemVFcntl.O_RDWR | SystemVFcntl.O_CREAT))).toBeUndefined();
    expect(
      asked(mrcProcedures.renewCapabilityAndVoucher, { xcap: cap('0a1b:7'), increaseVoucher: false }, {}, bob),
    ).toBeUndefined();
    expect(asked(mrcProcedures.ftruncate, cap('0a1b:7'))).toBeUndefined();
    expect(asked(mrcProcedures.getXlocset, { xcap: cap('0a1b:7') })).toBeUndefined();
    expect(asked(osdProcedures.read, reading('0a1b:7'), osd, bob)).toBeUndefined();
    expect(asked(dirProcedures.serviceGetByName, { name: volumeName }, { server: 'dir' })).toBeUndefined();
    expect(asked(dirProcedures.addressMappingsGet, { uuid: 'main-osd-0' }, { server: 'dir' })).toBeUndefined();
  });

  test.each<[string, string | undefined, RegExp]>([
    [
      'another volume by its name',
      asked(mrcProcedures.getattr, { ...path, volumeName: 'vol-2', knownEtag: 0 }),
      /not of this/,
    ],
    [
      'a snapshot as a volume',
      asked(mrcProcedures.getattr, { ...path, volumeName: 'vol-1@old', knownEtag: 0 }),
      /not of this/,
    ],
    ['a volume whose id begins with this one', asked(osdProcedures.read, reading('0a1bc:7'), osd), /not of this/],
    ['a file of another volume', asked(osdProcedures.read, reading('ffff:7'), osd), /not of this/],
    [
      'another file under a capability of this volume',
      asked(osdProcedures.read, reading('ffff:7', '0a1b:7'), osd),
      /not of this/,
    ],
    [
      'this file under a capability of another volume',
      asked(osdProcedures.read, reading('0a1b:7', 'ffff:7'), osd),
      /not of this/,
    ],
    [
      'a capability of another volume anew',
      asked(mrcProcedures.renewCapabilityAndVoucher, { xcap: cap('ffff:7'), increaseVoucher: false }),
      /not of this/,
    ],
    ['the size of a file of another volume', asked(mrcProcedures.ftruncate, cap('ffff:7')), /not of this/],
    ['locations by a path', asked(mrcProcedures.getXlocset, { volumeName, path: 'a' }), /not of this/],
    [
      'locations of this volume with a file of another',
      asked(mrcProcedures.getXlocset, { xcap: cap('0a1b:7'), fileId: 'ffff:7' }),
      /not of this/,
    ],
    [
      'other volumes in the directory',
      asked(dirProcedures.serviceGetByName, { name: 'vol-2' }, { server: 'dir' }),
      /not of this/,
    ],
    [
      'every service in the directory',
      asked(dirProcedures.serviceGetByType, { type: 0 }, { server: 'dir' }),
      /not for mounts/,
    ],
    [
      'to be an OSD',
      asked(dirProcedures.addressMappingsRemove, { uuid: 'main-osd-0' }, { server: 'dir' }),
      /not for mounts/,
    ],
    ['to erase a volume', asked(mrcProcedures.rmvol, { volumeName }), /not for mounts/],
    ['to empty an OSD', asked(mrcProcedures.drainOsd, { osdUuid: 'main-osd-0', wish: 'Start' }), /not for mounts/],
    ['every file of an OSD', asked(osdProcedures.internalGetFileidList, {}, osd), /not for mounts/],
    ['an MRC for what OSDs do', asked(osdProcedures.read, reading('0a1b:7')), /not for mounts/],
    [
      'as somebody else',
      asked(mrcProcedures.getattr, { ...path, knownEtag: 0 }, {}, bob),
      /u-bob-2013300124 can not be spoken for/,
    ],
    [
      'as a server',
      asked(osdProcedures.read, reading('0a1b:7'), osd, alice, {
        authType: AuthType.PASSWORD,
        authPasswd: { password: 'x' },
      }),
      /not for mounts/,
    ],
  ])('does not ask for %s', (_, problem, why) => {
    expect(problem).toMatch(why);
  });

  test('changes nothing where it may only read', () => {
    const isReadOnly = { isReadOnly: true };
    expect(asked(mrcProcedures.open, opening(SystemVFcntl.O_RDONLY), isReadOnly)).toBeUndefined();
    for (const flag of ['O_WRONLY', 'O_RDWR', 'O_CREAT', 'O_TRUNC'] as const)
      expect(asked(mrcProcedures.open, opening(SystemVFcntl[flag]), isReadOnly)).toMatch(/only be read/);
    expect(asked(mrcProcedures.unlink, path, isReadOnly)).toMatch(/only be read/);
    expect(asked(mrcProcedures.mkdir, { ...path, mode: 0o700 }, isReadOnly)).toMatch(/only be read/);
  });

  test('gets no further with a message that is none', () => {
    const { interfaceId, procId } = mrcProcedures.getattr;
    const header = { interfaceId, procId, userCreds: alice, authData: { authType: AuthType.NONE } };
    expect(() => problemOf(header, Buffer.from([0xff, 0xff]), terms())).toThrow();
  });
});

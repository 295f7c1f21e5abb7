import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import { AuthType } from '#proto/generated/xtreemfs/rpc.ts';
import type { Auth, UserCredentials } from '#proto/generated/xtreemfs/rpc.ts';
import type { Procedure } from '#proto/wire.ts';
import { RpcClient } from '../../rpc/client.ts';
import { RpcError } from '../../rpc/errors.ts';
import { createDialer } from '../../rpc/transport.ts';
import { startStandalone } from '../testing/standalone.ts';
import type { Standalone } from '../testing/standalone.ts';

let folder: string;
let mrc: Standalone;
let client: RpcClient;
const ann: UserCredentials = { username: 'ann', groups: ['staff'] };
const password: Auth = { authType: AuthType.PASSWORD, authPasswd: { password: 'open sesame' } };

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'xtreemfs-mrc-server-'));
  mrc = await startStandalone(folder);
  client = new RpcClient({ clock: systemClock, logger: silentLogger, dialer: createDialer('pbrpc') });
});
afterEach(async () => {
  client.close();
  await mrc.stop();
  await rm(folder, { recursive: true, force: true });
});

async function call<Request, Response>(
  procedure: Procedure<Request, Response>,
  request: Request,
  options: { userCreds?: UserCredentials; auth?: Auth } = {},
): Promise<Response> {
  const address = { host: '127.0.0.1', port: mrc.port };
  return (await client.call(address, procedure, request, { userCreds: ann, ...options })).response;
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'done';
  } catch (error) {
    if (error instanceof RpcError) return error.code;
    throw error;
  }
}

const aVolume = (name: string): Parameters<typeof mrcProcedures.mkvol.request.encode>[0] => ({
  accessControlPolicy: 2,
  defaultStripingPolicy: { type: 0, stripeSize: 128, width: 1 },
  id: 'ignored',
  mode: 0o777,
  name,
  ownerGroupId: '',
  ownerUserId: '',
  attrs: [{ key: 'chown_non_root', value: 'true' }],
  quota: 0,
});

const openRequest = (path: string): Parameters<typeof mrcProcedures.open.request.encode>[0] => ({
  volumeName: 'vol',
  path,
  flags: 0x102,
  mode: 0o644,
  attributes: 0,
  clientUuid: 'mount',
});

describe('an MRC over the wire', () => {
  test('makes, lists and removes volumes', async () => {
    await call(mrcProcedures.mkvol, aVolume('vol'));
    expect(await codeOf(call(mrcProcedures.mkvol, aVolume('vol')))).toBe('EEXIST');
    expect(await codeOf(call(mrcProcedures.mkvol, aVolume('a@b')))).toBe('EINVAL');
    const { volumes } = await call(mrcProcedures.lsvol, {});
    expect(volumes).toMatchObject([
      { name: 'vol', ownerUserId: 'ann', mode: 0o777, attrs: [{ key: 'chown_non_root' }] },
    ]);
    expect(volumes[0]?.id).not.toBe('ignored');
    const bob = { username: 'bob', groups: ['guests'] };
    expect(await codeOf(call(mrcProcedures.rmvol, { volumeName: 'vol' }, { userCreds: bob }))).toBe('EPERM');
    await call(mrcProcedures.rmvol, { volumeName: 'vol' });
    expect((await call(mrcProcedures.lsvol, {})).volumes).toEqual([]);
  });

  test('serves what a mount and a file need, from the first call to the last', async () => {
    await call(mrcProcedures.mkvol, aVolume('vol'));
    const root = { volumeName: 'vol', path: '/' };
    const listing = {
      ...root,
      knownEtag: 0,
      limitDirectoryEntriesCount: 1024,
      namesOnly: false,
      seenDirectoryEntriesCount: 0,
    };
    expect((await call(mrcProcedures.readdir, listing)).entries.map((entry) => entry.name)).toEqual(['..', '.']);
    const { xattrs } = await call(mrcProcedures.listxattr, { ...root, namesOnly: false });
    const policy = xattrs.find((attribute) => attribute.name === 'xtreemfs.ac_policy_id');
    expect(Buffer.from(policy?.valueBytesString ?? '').toString()).toBe('2');
    const { creds } = await call(mrcProcedures.open, openRequest('file'));
    const capOnly = { userCreds: { username: 'xtreemfs', groups: [] } };
    const sized = { xcap: creds.xcap, osdWriteResponse: { sizeInBytes: 11, truncateEpoch: 0 }, closeFile: false };
    await call(mrcProcedures.updateFileSize, sized, capOnly);
    expect((await call(mrcProcedures.getattr, { volumeName: 'vol', path: 'file', knownEtag: 0 })).stbuf).toMatchObject({
      size: 11,
      nlink: 1,
      userId: 'ann',
    });
    expect((await call(mrcProcedures.renewCapability, creds.xcap, capOnly)).expireTimeMs).toBe(0);
    const renewed = await call(
      mrcProcedures.renewCapabilityAndVoucher,
      { xcap: creds.xcap, increaseVoucher: false },
      capOnly,
    );
    expect((await call(mrcProcedures.ftruncate, renewed, capOnly)).truncateEpoch).toBe(1);
    expect((await call(mrcProcedures.getXlocset, { xcap: creds.xcap }, capOnly)).replicas).toHaveLength(1);
    expect((await call(mrcProcedures.replicaList, { volumeName: 'vol', path: 'file' })).replicas).toHaveLength(1);
    expect(
      (await call(mrcProcedures.getSuitableOsds, { volumeName: 'vol', path: 'file', numOsds: 5 })).osdUuids,
    ).toHaveLength(2);
    expect(await call(mrcProcedures.statvfs, { volumeName: 'vol', knownEtag: 0 })).toMatchObject({
      namemax: 255,
      bsize: 131_072,
      name: 'vol',
    });
    const states = await call(mrcProcedures.checkFileExists, {
      volumeId: creds.xcap.fileId.split(':')[0] ?? '',
      fileIds: ['2', '99'],
      osdUuid: creds.xlocs.replicas[0]?.osdUuids[0] ?? '',
    });
    expect(states).toEqual({ volumeExists: true, fileStates: [1, 0] });
    const removed = await call(mrcProcedures.unlink, { volumeName: 'vol', path: 'file', clientUuid: 'mount' });
    expect(removed.creds?.xlocs.replicas).toHaveLength(1);
    expect(await codeOf(call(mrcProcedures.getattr, { volumeName: 'vol', path: 'file', knownEtag: 0 }))).toBe('ENOENT');
  });

  test('sends error numbers that upstream has no name for as they are', async () => {
    await call(mrcProcedures.mkvol, aVolume('vol'));
    expect(await codeOf(call(mrcProcedures.open, openRequest('x'.repeat(256))))).toBe('ENAMETOOLONG');
  });

  test('wants a user and a group for paths', async () => {
    await call(mrcProcedures.mkvol, aVolume('vol'));
    expect(
      await codeOf(call(mrcProcedures.open, openRequest('f'), { userCreds: { username: 'ann', groups: [] } })),
    ).toBe('EACCES');
  });

  test('keeps everything over a restart', async () => {
    await call(mrcProcedures.mkvol, aVolume('vol'));
    await call(mrcProcedures.open, openRequest('kept'));
    await mrc.stop();
    client.close();
    mrc = await startStandalone(folder);
    client = new RpcClient({ clock: systemClock, logger: silentLogger, dialer: createDialer('pbrpc') });
    expect((await call(mrcProcedures.getattr, { volumeName: 'vol', path: 'kept', knownEtag: 0 })).stbuf).toMatchObject({
      ino: 2,
    });
    expect(mrc.mrc.status().volumes).toMatchObject([{ name: 'vol', files: 1, directories: 1 }]);
  });

  test('snapshots and dumps while it works', async () => {
    await call(mrcProcedures.mkvol, aVolume('vol'));
    await call(mrcProcedures.open, openRequest('file'));
    const value = Buffer.from('cr now');
    await call(mrcProcedures.setxattr, { volumeName: 'vol', path: '', name: 'xtreemfs.snapshots', value, flags: 0 });
    expect(
      (await call(mrcProcedures.getattr, { volumeName: 'vol@now', path: 'file', knownEtag: 0 })).stbuf,
    ).toMatchObject({ ino: 2 });
    await call(mrcProcedures.checkpoint, {});
    await call(mrcProcedures.dumpDatabase, { dumpFile: 'dump.xml' });
    expect(await readdir(join(folder, 'dumps'))).toEqual(['dump.xml']);
    expect(await codeOf(call(mrcProcedures.dumpDatabase, { dumpFile: '/tmp/dump.xml' }))).toBe('EACCES');
    expect(await codeOf(call(mrcProcedures.restoreDatabase, { dumpFile: 'dump.xml' }))).toBe('EEXIST');
  });

  test('an unknown debug text is answered, not failed', async () => {
    expect(await call(mrcProcedures.internalDebug, { aString: 'what' })).toEqual({ aString: 'unknown command' });
  });
});

test('with an admin password configured, administrative calls want it', async () => {
  await mrc.stop();
  mrc = await startStandalone(folder, { adminPassword: 'open sesame' });
  const wrong: Auth = { authType: AuthType.PASSWORD, authPasswd: { password: 'sesame' } };
  expect(await codeOf(call(mrcProcedures.mkvol, aVolume('vol')))).toBe('EPERM');
  expect(await codeOf(call(mrcProcedures.mkvol, aVolume('vol'), { auth: wrong }))).toBe('EPERM');
  await call(mrcProcedures.mkvol, aVolume('vol'), { auth: password });
  for (const auth of [undefined, wrong]) {
    const options = auth === undefined ? {} : { auth };
    expect(await codeOf(call(mrcProcedures.lsvol, {}, options))).toBe('EPERM');
    expect(await codeOf(call(mrcProcedures.dumpDatabase, { dumpFile: 'x.xml' }, options))).toBe('EPERM');
    expect(await codeOf(call(mrcProcedures.shutdown, {}, options))).toBe('EPERM');
    expect(await codeOf(call(mrcProcedures.rmvol, { volumeName: 'vol' }, options))).toBe('EPERM');
  }
  expect((await call(mrcProcedures.lsvol, {}, { auth: password })).volumes).toHaveLength(1);
});

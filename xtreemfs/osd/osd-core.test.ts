import { posix } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { SeededRandom } from '#common/random.ts';
import { SnapConfig } from '#proto/generated/xtreemfs/global-types.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { AuthType, ErrorType, PosixErrno, type Auth } from '#proto/generated/xtreemfs/rpc.ts';
import { RpcError } from '#xtreemfs/rpc/errors.ts';
import { osdSyncProcedure } from './extensions.ts';
import { decodeObjectList } from './object-list.ts';
import { pathsOf } from './store/object-store.ts';
import { FaultDisk } from './store/testing/fault-disk.ts';
import { aReplica, OsdCluster, openMode, TestFile, xlocsOf } from './testing/osd-cluster.ts';

let clock: VirtualClock;
let disk: FaultDisk;
let otherDisk: FaultDisk;
let cluster: OsdCluster;
let file: TestFile;
let striped: TestFile;

beforeEach(async () => {
  clock = new VirtualClock(Date.UTC(2026, 10, 20));
  disk = new FaultDisk(new SeededRandom(1));
  otherDisk = new FaultDisk(new SeededRandom(2));
  cluster = new OsdCluster({ clock });
  await cluster.start('a', disk.mount());
  await cluster.start('b', otherDisk.mount());
  file = new TestFile(cluster, 'volume:1', xlocsOf([aReplica(['a'], 4)]));
  striped = new TestFile(cluster, 'volume:2', xlocsOf([aReplica(['a', 'b'], 1)]));
});

afterEach(async () => cluster.stop());

async function failureOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    if (error instanceof RpcError) return error.code;
    throw error;
  }
  return 'none';
}

function readRequest(changes: Partial<Parameters<typeof osdProcedures.read.request.encode>[0]> = {}) {
  const fileCredentials = file.credentials(openMode.read);
  return { fileCredentials, fileId: file.fileId, objectNumber: 0, objectVersion: 0, offset: 0, length: 10, ...changes };
}

test('tells the new size and epoch when a write makes the file longer, and nothing otherwise', async () => {
  expect(await file.write(0, Buffer.from('hello'))).toBe(5);
  expect(await file.write(1, Buffer.from('a'))).toBeUndefined();
  expect((await file.read(0, 100)).toString()).toBe('hallo');
});

test('pads holes with zeros and ends reads at the end of the file', async () => {
  await striped.write(5000, Buffer.from('end'));
  const bytes = await striped.read(0, 10_000);
  expect(bytes.length).toBe(5003);
  expect(bytes.subarray(0, 5000).every((byte) => byte === 0)).toBe(true);
  expect(await striped.read(6000, 10)).toHaveLength(0);
});

describeRefusals();

function describeRefusals(): void {
  const refusals: Record<string, () => Promise<unknown>> = {
    'a forged capability': () => {
      const { xcap, xlocs } = file.credentials(openMode.read);
      const forged = { ...xcap, accessMode: openMode.readWrite };
      return cluster.call('a', osdProcedures.read, readRequest({ fileCredentials: { xcap: forged, xlocs } }));
    },
    'an expired capability': () => {
      const request = readRequest();
      clock.advance(601_000);
      return cluster.call('a', osdProcedures.read, request);
    },
    'a capability of another file': () => cluster.call('a', osdProcedures.read, readRequest({ fileId: 'volume:9' })),
    'a read under a write-only capability': () => file.read(0, 10, 0, openMode.write),
    'a write under a read-only capability': () => file.write(0, Buffer.from('x'), openMode.read),
    'a truncate without the truncate bit': () =>
      cluster.call('a', osdProcedures.truncate, {
        fileCredentials: file.credentials(openMode.readWrite),
        fileId: file.fileId,
        newFileSize: 0,
      }),
    'an unlink without a delete capability': () =>
      cluster.call('a', osdProcedures.unlink, { fileCredentials: file.credentials(), fileId: file.fileId }),
  };
  test.each(Object.keys(refusals))('threats 22 and 23: refuses %s with EACCES', async (name) => {
    await file.write(0, Buffer.from('data'));
    expect(await failureOf(refusals[name]!())).toBe('EACCES');
  });
}

test.each([
  ['an OSD that is not in the locations', () => cluster.call('b', osdProcedures.read, readRequest())],
  [
    'a range beyond the object',
    () => cluster.call('a', osdProcedures.read, readRequest({ offset: 4000, length: 200 })),
  ],
  ['a negative object number', () => cluster.call('a', osdProcedures.read, readRequest({ objectNumber: -1 }))],
  [
    'a truncate at an OSD that is not the head',
    async () => {
      const credentials = striped.credentials(openMode.truncate | openMode.readWrite);
      return cluster.call('b', osdProcedures.truncate, {
        fileCredentials: credentials,
        fileId: striped.fileId,
        newFileSize: 1,
      });
    },
  ],
  [
    'an object of another OSD of the stripe',
    async () =>
      cluster.call(
        'b',
        osdProcedures.read,
        readRequest({
          fileCredentials: striped.credentials(openMode.read),
          fileId: striped.fileId,
        }),
      ),
  ],
])('refuses %s with EINVAL', async (_name, call) => {
  expect(await failureOf(call())).toBe('EINVAL');
});

test.each(['../../etc:1', 'volume:../../1', 'volume:1/..', '/etc:1', '..', 'volume/./..'])(
  'threat 18: keeps a file called %j in its own folder',
  async (fileId) => {
    const strange = new TestFile(cluster, fileId, file.xlocs);
    await strange.write(0, Buffer.from('x'));
    expect((await strange.read(0, 1)).toString()).toBe('x');
    const { directory, base } = pathsOf(fileId);
    expect(posix.normalize(base)).toBe(base);
    expect(posix.dirname(base)).toBe(directory);
  },
);

test.each(['../x y', 'volume:1\0', ''])('threat 18: refuses %j as the id of a file with EINVAL', async (fileId) => {
  expect(await failureOf(new TestFile(cluster, fileId, file.xlocs).write(0, Buffer.from('x')))).toBe('EINVAL');
});

test('threat 23: refuses an older view than it has seen, also after a restart', async () => {
  await file.write(0, Buffer.from('v0'));
  file.xlocs = { ...file.xlocs, version: 2 };
  await file.read(0, 2);
  await cluster.cutOff('a');
  disk.restart('nothing');
  await cluster.start('a', disk.mount());
  file.xlocs = { ...file.xlocs, version: 1 };
  const error: unknown = await file.read(0, 2).catch((thrown: unknown) => thrown);
  expect((error as RpcError).errorType).toBe(ErrorType.INVALID_VIEW);
});

test('refuses an invalidated view until a newer one comes', async () => {
  await file.write(0, Buffer.from('data'));
  await cluster.call('a', osdProcedures.xlocSetInvalidate, {
    fileCredentials: file.credentials(),
    fileId: file.fileId,
  });
  expect(await failureOf(file.read(0, 4))).toBe('INVALID_VIEW');
  file.xlocs = { ...file.xlocs, version: 1 };
  expect((await file.read(0, 4)).toString()).toBe('data');
});

test('tells the size again when a write is repeated: the answer to the first one may have been lost', async () => {
  expect(await file.write(0, Buffer.from('hello'))).toBe(5);
  expect(await file.write(0, Buffer.from('hello'))).toBe(5);
  expect(await file.write(0, Buffer.from('he'))).toBeUndefined();
  await striped.write(0, Buffer.alloc(2500, 1));
  expect(await striped.write(2000, Buffer.alloc(500, 1))).toBe(2500);
});

test('does a truncate once per epoch and keeps the epoch through a power loss', async () => {
  await striped.write(0, Buffer.alloc(5000, 1));
  await striped.truncate(3000);
  await striped.write(3000, Buffer.alloc(100, 2));
  striped.epoch = 0;
  expect(await striped.truncate(10)).toEqual({ sizeInBytes: 3100, truncateEpoch: 1 });
  for (const [uuid, lost] of [
    ['a', disk],
    ['b', otherDisk],
  ] as const) {
    await cluster.cutOff(uuid);
    lost.restart('nothing');
    await cluster.start(uuid, lost.mount());
  }
  expect(await striped.size()).toBe(3000);
  striped.epoch = 0;
  expect(await striped.truncate(10)).toEqual({ sizeInBytes: 3000, truncateEpoch: 1 });
});

test('finishes a truncate on the second try when part of the stripe was away on the first', async () => {
  await striped.write(0, Buffer.alloc(5000, 1));
  await cluster.cutOff('b');
  expect(await failureOf(striped.truncate(100))).toBe('EIO');
  otherDisk.restart('everything');
  await cluster.start('b', otherDisk.mount());
  striped.epoch = 0;
  await striped.truncate(100);
  expect(await striped.size()).toBe(100);
  await striped.write(1500, Buffer.from('z'));
  expect((await striped.read(1024, 400)).every((byte) => byte === 0)).toBe(true);
});

test('takes the epoch of a truncated new file from the capability when power was lost before anything was written', async () => {
  await file.truncate(0);
  await cluster.cutOff('a');
  disk.restart('nothing');
  await cluster.start('a', disk.mount());
  await file.write(0, Buffer.from('x'));
  expect(await file.truncate(0)).toEqual({ sizeInBytes: 0, truncateEpoch: 2 });
  file.epoch = 0;
  expect(await file.truncate(5)).toEqual({ sizeInBytes: 0, truncateEpoch: 2 });
});

test('keeps an O_SYNC write and a synced file through a power loss', async () => {
  await file.write(0, Buffer.from('synced'), openMode.readWrite | openMode.sync);
  await striped.write(0, Buffer.from('by fsync'));
  await cluster.call('a', osdSyncProcedure, { fileCredentials: striped.credentials(), fileId: striped.fileId });
  await cluster.cutOff('a');
  disk.restart('nothing');
  await cluster.start('a', disk.mount());
  expect((await file.read(0, 10)).toString()).toBe('synced');
  expect((await striped.read(0, 10)).toString()).toBe('by fsync');
});

test('deletes a striped file on every OSD', async () => {
  await striped.write(0, Buffer.alloc(4000, 1));
  await striped.unlink();
  await striped.unlink();
  for (const uuid of ['a', 'b']) {
    const { response } = await cluster.call(uuid, osdProcedures.internalGetFileidList, {});
    expect(response.fileIds).toEqual([]);
  }
});

test('lists files and the objects it holds of one', async () => {
  await striped.write(0, Buffer.alloc(5000, 1));
  const request = { fileCredentials: striped.credentials(), fileId: striped.fileId };
  const { response } = await cluster.call('b', osdProcedures.internalGetObjectSet, request);
  expect([...decodeObjectList(response)]).toEqual([1, 3]);
  const list = await cluster.call('b', osdProcedures.internalGetFileidList, {});
  expect(list.response.fileIds).toEqual(['volume:2']);
});

test('answers a full disk with ENOSPC and goes on when there is room again', async () => {
  await file.write(0, Buffer.from('before'));
  disk.freeBytes = 100;
  expect(await failureOf(file.write(0, Buffer.alloc(4096, 1)))).toBe('ENOSPC');
  disk.freeBytes = 1_000_000;
  expect((await file.read(0, 6)).toString()).toBe('before');
  await file.write(0, Buffer.from('after!'));
  expect((await file.read(0, 6)).toString()).toBe('after!');
});

test('answers damage with EIO and reports it to the scrub tool', async () => {
  await file.write(0, Buffer.alloc(4096, 7), openMode.readWrite | openMode.sync);
  for (let i = 0; i < 3; i++) disk.flipBit(/volume:1\.s1$/);
  const request = { fileCredentials: file.credentials(), fileId: file.fileId, objectNumber: 0, objectVersion: 0 };
  expect(await failureOf(file.read(0, 4096))).toBe('EIO');
  const { response } = await cluster.call('a', osdProcedures.checkObject, request);
  expect(response.invalidChecksumOnOsd).toBe(true);
  const found = await cluster.core('a').scrubber.pass();
  expect([...found.damaged]).toEqual([['volume:1', [0]]]);
});

test('tells the scrub tool the length of a whole object', async () => {
  await file.write(0, Buffer.alloc(100, 7));
  const request = { fileCredentials: file.credentials(), fileId: file.fileId, objectNumber: 0, objectVersion: 0 };
  const { response, data } = await cluster.call('a', osdProcedures.checkObject, request);
  expect(response).toEqual({ checksum: 0, invalidChecksumOnOsd: false, zeroPadding: 100 });
  expect(data).toHaveLength(0);
});

test('lets nobody grow a file beyond the newest voucher, nor write with one that was given back', async () => {
  file.terms = { voucherSize: 1000, expireTimeMs: clock.now() + 1000 };
  await file.write(0, Buffer.alloc(1000));
  expect(await failureOf(file.write(1000, Buffer.alloc(1)))).toBe('INSUFFICIENT_VOUCHER');
  const first = file.credentials();
  file.terms = { voucherSize: 2000, expireTimeMs: clock.now() + 2000 };
  await file.write(1000, Buffer.alloc(500));
  const { response } = await cluster.call('a', osdProcedures.finalizeVouchers, {
    fileCredentials: file.credentials(),
    expireTimeMs: [first.xcap.expireTimeMs],
  });
  expect(response).toMatchObject({ osdUuid: 'a', sizeInBytes: 1500, truncateEpoch: 0 });
  const statement = {
    osdUuid: 'a',
    sizeInBytes: 1500,
    truncateEpoch: 0,
    expireTimesMs: [first.xcap.expireTimeMs],
    capExpireTimeMs: clock.now() + 2000,
  };
  expect(cluster.keys.checkVouchers(statement, response.serverSignature)).toBe(true);
  expect(await failureOf(file.write(0, Buffer.alloc(1)))).toBe('EACCES');
});

test('shows a snapshot what the file was at its time', async () => {
  file.terms = { snapConfig: SnapConfig.ACCESS_CURRENT };
  await file.write(0, Buffer.from('first'));
  clock.advance(5000);
  const snapshotAt = clock.now();
  clock.advance(5000);
  await file.write(0, Buffer.from('other'));
  await file.truncate(2);
  const readAt = async (snapTimestamp: number): Promise<string> => {
    file.terms = { snapConfig: SnapConfig.ACCESS_SNAP, snapTimestamp };
    return (await file.read(0, 100)).toString();
  };
  expect(await readAt(snapshotAt)).toBe('first');
  expect(await readAt(clock.now())).toBe('ot');
  expect(await readAt(snapshotAt - 60_000)).toBe('');
});

test('drops the versions of a file that no snapshot shows', async () => {
  file.terms = { snapConfig: SnapConfig.ACCESS_CURRENT };
  for (const text of ['one', 'two', 'six']) {
    await file.write(0, Buffer.from(text));
    clock.advance(5000);
  }
  cluster.volumes.snapshots = [clock.now() - 7000];
  await cluster.call('a', osdProcedures.cleanupVersionsStart, {}, { auth: password('admin') });
  const versions = async (): Promise<number> =>
    cluster.core('a').store.use(file.fileId, async (log) => log.state.versions.length);
  while ((await versions()) > 1) await new Promise((resolve) => setImmediate(resolve));
  file.terms = { snapConfig: SnapConfig.ACCESS_SNAP, snapTimestamp: clock.now() - 7000 };
  expect((await file.read(0, 3)).toString()).toBe('two');
});

describe('an OSD that was told of a snapshot', () => {
  const look = async (): Promise<unknown> => cluster.call('a', osdProcedures.lookAtSnapshots, { volumeId: 'volume' });
  const readAt = async (snapTimestamp: number): Promise<string> => {
    const { terms } = file;
    file.terms = { snapConfig: SnapConfig.ACCESS_SNAP, snapTimestamp };
    const bytes = await file.read(0, 100);
    file.terms = terms;
    return bytes.toString();
  };
  const versions = async (): Promise<number> =>
    cluster.core('a').store.use(file.fileId, async (log) => log.state.versions.length);
  /** The clock of the MRC is behind. */
  const taken = async (): Promise<number> => {
    const timeMs = clock.now() - 700;
    cluster.volumes.snapshots = [...cluster.volumes.snapshots, timeMs];
    await look();
    clock.advance(1);
    return timeMs;
  };

  test('keeps what a file holds, however short before and after it changes, and nothing between two snapshots', async () => {
    await file.write(0, Buffer.from('first'));
    clock.advance(1);
    const first = await taken();
    await Promise.all([file.write(0, Buffer.from('second')), file.write(6, Buffer.from('!'))]);
    await file.write(0, Buffer.from('SECOND'));
    clock.advance(10_000);
    await file.write(0, Buffer.from('Second'));
    expect(await versions()).toBe(1);
    clock.advance(1);
    const second = await taken();
    await file.truncate(2);
    expect([await readAt(first), await readAt(second), (await file.read(0, 100)).toString()]).toEqual([
      'first',
      'Second!',
      'Se',
    ]);
    expect(await versions()).toBe(2);
  });

  test('still knows after it was killed', async () => {
    await file.write(0, Buffer.from('before'));
    clock.advance(1);
    const at = await taken();
    await cluster.cutOff('a');
    disk.restart('everything');
    await cluster.start('a', disk.mount());
    await file.write(0, Buffer.from('AFTER!'));
    expect([await readAt(at), (await file.read(0, 10)).toString()]).toEqual(['before', 'AFTER!']);
  });

  test('shows nothing of files that came later', async () => {
    const at = await taken();
    await file.write(0, Buffer.from('later'));
    expect(await readAt(at)).toBe('');
  });

  test('gives the space back when the snapshot is gone', async () => {
    const large = Buffer.alloc(4096, 1);
    const usage = async (): Promise<number> =>
      cluster.core('a').store.use(file.fileId, async (log) => log.usage().total);
    for (let round = 0; round < 40; round++) {
      for (let object = 0; object < 4; object++) await file.write(4096 * object, large);
      await taken();
    }
    const full = await usage();
    cluster.volumes.snapshots = [];
    await look();
    const isTidy = async (): Promise<boolean> => (await versions()) === 0 && (await usage()) < full / 10;
    while (!(await isTidy())) await new Promise((resolve) => setImmediate(resolve));
    expect((await file.read(0, 5 * 4096)).length).toBe(4 * 4096);
    await file.write(0, large);
    await file.write(0, large);
    expect(await versions()).toBe(0);
  });

  test('finds out by itself what it missed', async () => {
    await file.write(0, Buffer.from('x'));
    await taken();
    await file.write(0, Buffer.from('y'));
    cluster.volumes.snapshots = [];
    cluster.core('a').start();
    while ((await versions()) > 0) await new Promise((resolve) => setImmediate(resolve));
    expect(cluster.core('a').snapshots.volumeIds).toEqual([]);
  });
});

test('deletes what no MRC knows, leaves the rest and what is fresh, and asks for the password', async () => {
  const files = [1, 2, 3].map((number) => new TestFile(cluster, `volume:${number}`, file.xlocs));
  for (const each of files) await each.write(0, Buffer.from('x'));
  cluster.volumes.files.set('volume:1', 'deleted').set('volume:3', 'abandoned');
  const request = {
    removeZombies: true,
    removeUnavailVolume: false,
    lostAndFound: false,
    deleteMetadata: false,
    metadataTimeout: 600,
  };
  expect(await failureOf(cluster.call('a', osdProcedures.cleanupStart, request))).toBe('EACCES');
  expect(await failureOf(cluster.call('a', osdProcedures.cleanupStart, request, { auth: password('no') }))).toBe(
    'EACCES',
  );
  const run = async (): Promise<string[]> => {
    await cluster.call('a', osdProcedures.cleanupStart, request, { auth: password('admin') });
    while (cluster.core('a').cleanup.isRunning) await new Promise((resolve) => setImmediate(resolve));
    return (await cluster.call('a', osdProcedures.internalGetFileidList, {})).response.fileIds.sort();
  };
  expect(await run()).toEqual(['volume:1', 'volume:2', 'volume:3']);
  clock.advance(601_000);
  expect(await run()).toEqual(['volume:2']);
});

test('answers an unknown procedure with EINVAL', async () => {
  const unknown = { ...osdSyncProcedure, procId: 999 };
  const error: unknown = await cluster
    .call('a', unknown, { fileCredentials: file.credentials(), fileId: file.fileId })
    .catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ errorType: ErrorType.INVALID_PROC_ID, posixErrno: PosixErrno.EINVAL });
});

function password(text: string): Auth {
  return { authType: AuthType.PASSWORD, authPasswd: { password: text } };
}

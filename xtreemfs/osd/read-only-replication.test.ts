import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { SeededRandom } from '#common/random.ts';
import { ReplFlag } from '#proto/generated/xtreemfs/global-types.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import type { RpcError } from '#xtreemfs/rpc/errors.ts';
import { FaultDisk } from './store/testing/fault-disk.ts';
import { aReplica, OsdCluster, openMode, TestFile, xlocsOf } from './testing/osd-cluster.ts';

const complete = ReplFlag.FULL_REPLICA | ReplFlag.IS_COMPLETE;
const content = Buffer.concat([Buffer.alloc(3000, 1), Buffer.alloc(2048), Buffer.alloc(1500, 3)]);
const disks = new Map<string, FaultDisk>();
let cluster: OsdCluster;

/** A file over a and b that was closed, and a second replica over c and d. */
async function aReplicatedFile(flags: number): Promise<TestFile> {
  const first = aReplica(['a', 'b'], 1);
  const file = new TestFile(cluster, 'volume:5', xlocsOf([first]));
  await file.write(0, content.subarray(0, 3000));
  await file.write(5048, content.subarray(5048));
  const replicas = [aReplica(['a', 'b'], 1, complete), aReplica(['c', 'd'], 1, flags)];
  file.xlocs = xlocsOf(replicas, { replicaUpdatePolicy: 'ronly', version: 1, readOnlyFileSize: content.length });
  return file;
}

function objectsAt(uuid: string): Promise<number[]> {
  return cluster.core(uuid).store.use('volume:5', async (log) => [...log.state.objects.keys()].sort((a, b) => a - b));
}

beforeEach(async () => {
  cluster = new OsdCluster();
  for (const uuid of ['a', 'b', 'c', 'd']) {
    const disk = new FaultDisk(new SeededRandom(3));
    disks.set(uuid, disk);
    await cluster.start(uuid, disk.mount());
  }
});

afterEach(async () => cluster.stop());

test('fills a partial replica with what is read and no more', async () => {
  const file = await aReplicatedFile(ReplFlag.STRATEGY_SEQUENTIAL);
  expect((await file.read(1100, 900, 1)).equals(content.subarray(1100, 2000))).toBe(true);
  expect(await objectsAt('c')).toEqual([]);
  expect(await objectsAt('d')).toEqual([1]);
  expect(cluster.volumes.complete).toEqual([]);
});

test('reads holes as zeros and ends at the size that the MRC told', async () => {
  const file = await aReplicatedFile(ReplFlag.STRATEGY_RANDOM);
  expect((await file.read(0, 100_000, 1)).equals(content)).toBe(true);
});

test.each([
  ['random', ReplFlag.STRATEGY_RANDOM],
  ['rarest first', ReplFlag.STRATEGY_RAREST_FIRST],
  ['sequential', ReplFlag.STRATEGY_SEQUENTIAL],
])('fills a full replica in the background (%s) and reports each OSD as complete, once', async (_name, strategy) => {
  const file = await aReplicatedFile(ReplFlag.FULL_REPLICA | strategy);
  await file.read(0, 2048, 1);
  for (const uuid of ['c', 'd']) await cluster.core(uuid).readOnlyFiles.settle();
  expect(await objectsAt('c')).toEqual([0, 2, 4, 6]);
  expect(await objectsAt('d')).toEqual([1, 3, 5]);
  await file.read(0, 2048, 1);
  for (const uuid of ['c', 'd']) await cluster.core(uuid).readOnlyFiles.settle();
  expect(cluster.volumes.complete).toEqual(['volume:5', 'volume:5']);
  await cluster.cutOff('a');
  await cluster.cutOff('b');
  expect((await file.read(0, 100_000, 1)).equals(content)).toBe(true);
});

test('reads a little ahead with the prefetching strategy', async () => {
  const file = await aReplicatedFile(ReplFlag.STRATEGY_SEQUENTIAL_PREFETCHING);
  await file.read(0, 100, 1);
  await cluster.core('c').readOnlyFiles.settle();
  expect(await objectsAt('c')).toEqual([0, 2, 4, 6]);
});

test('fails with EIO when no replica can give an object, and works again when one can', async () => {
  const file = await aReplicatedFile(ReplFlag.STRATEGY_RANDOM);
  await cluster.cutOff('a');
  const error: unknown = await file.read(0, 10, 1).catch((thrown: unknown) => thrown);
  expect((error as RpcError).code).toBe('EIO');
  disks.get('a')!.restart('everything');
  await cluster.start('a', disks.get('a')!.mount());
  expect((await file.read(0, 10, 1)).equals(content.subarray(0, 10))).toBe(true);
});

test('repairs a damaged object from another replica when it is read', async () => {
  const file = await aReplicatedFile(ReplFlag.STRATEGY_RANDOM);
  await file.read(0, 1024, 1);
  for (let i = 0; i < 4; i++) disks.get('c')!.flipBit(/\.s1$/);
  expect((await file.read(0, 1024, 1)).equals(content.subarray(0, 1024))).toBe(true);
});

test('refuses changes with EPERM', async () => {
  const file = await aReplicatedFile(ReplFlag.STRATEGY_RANDOM);
  for (const change of [file.write(0, Buffer.from('x')), file.truncate(0)]) {
    const error: unknown = await change.catch((thrown: unknown) => thrown);
    expect((error as RpcError).code).toBe('EPERM');
  }
});

test('repairs one object on request', async () => {
  const file = await aReplicatedFile(ReplFlag.STRATEGY_RANDOM);
  const request = { fileCredentials: file.credentials(openMode.read), fileId: file.fileId };
  await cluster.call('c', osdProcedures.repairObject, { ...request, objectNumber: 2, objectVersion: 0 });
  expect(await objectsAt('c')).toEqual([2]);
});

import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { SeededRandom } from '#common/random.ts';
import { osdProcedures, type AuthoritativeReplicaState, type ReplicaStatus } from '#proto/generated/xtreemfs/osd.ts';
import { FaultDisk } from '../store/testing/fault-disk.ts';
import { aReplica, OsdCluster, openMode, TestFile, xlocsOf } from '../testing/osd-cluster.ts';
import { versionsPerEpoch } from './read-write-replication.ts';
import { isMatching, planReset } from './replica-state.ts';

const uuids = ['a', 'b', 'c'];
let cluster: OsdCluster;
let file: TestFile;

beforeEach(async () => {
  cluster = new OsdCluster();
  for (const [seed, uuid] of uuids.entries()) {
    await cluster.start(uuid, new FaultDisk(new SeededRandom(seed)).mount());
  }
  const replicas = uuids.map((uuid) => aReplica([uuid], 4));
  file = new TestFile(cluster, 'volume:1', xlocsOf(replicas, { replicaUpdatePolicy: 'WqRq' }));
});

afterEach(async () => cluster.stop());

/** The number of the `counter`th version of a primary. */
function version(masterEpoch: number, counter: number): number {
  return masterEpoch * versionsPerEpoch + counter;
}

async function update(uuid: string, object: number, objectVersion: number, text: string): Promise<void> {
  const { fileId } = file;
  const request = { fileCredentials: file.credentials(), fileId, newFileSize: 0, offset: 0, objectNumber: object };
  const obj = { checksum: 0, invalidChecksumOnOsd: false, zeroPadding: 0 };
  const data = Buffer.from(text);
  await cluster.call(uuid, osdProcedures.rwrUpdate, { ...request, objectVersion, obj }, { data });
}

async function truncate(uuid: string, newFileSize: number, objectVersion: number): Promise<void> {
  file.epoch++;
  const fileCredentials = file.credentials(openMode.readWrite | openMode.truncate);
  const request = { fileCredentials, fileId: file.fileId, newFileSize, objectVersion };
  await cluster.call(uuid, osdProcedures.rwrTruncate, request);
}

async function status(uuid: string, masterEpoch?: number): Promise<ReplicaStatus> {
  const request = { fileCredentials: file.credentials(), fileId: file.fileId, maxLocalObjVersion: 0, masterEpoch };
  return (await cluster.call(uuid, osdProcedures.rwrStatus, request)).response;
}

async function takeOver(uuid: string, state: AuthoritativeReplicaState, masterEpoch?: number): Promise<void> {
  const request = { fileCredentials: file.credentials(), fileId: file.fileId, state, masterEpoch };
  await cluster.call(uuid, osdProcedures.rwrAuthState, request);
}

function aState(
  objects: readonly [object: number, version: number, uuid: string][],
  truncates: readonly [version: number, lastObject: number][] = [],
): AuthoritativeReplicaState {
  const objectVersions = objects.map(([objectNumber, objectVersion, uuid]) => ({
    objectNumber,
    objectVersion,
    osdUuids: [uuid],
  }));
  const records = truncates.map(([at, lastObjectNumber]) => ({ version: at, lastObjectNumber }));
  const maxObjVersion = Math.max(0, ...objects.map(([, at]) => at));
  return { truncateEpoch: 0, objectVersions, truncateLog: { records }, maxObjVersion };
}

test('fetches what it lacks, and is then at the state', async () => {
  await update('a', 0, version(1, 1), 'one');
  await update('a', 1, version(1, 2), 'two');
  const state = aState([
    [0, version(1, 1), 'a'],
    [1, version(1, 2), 'a'],
  ]);
  await Promise.all([takeOver('b', state, 1), takeOver('b', state, 1)]);
  expect(isMatching(planReset(await status('b'), state))).toBe(true);
});

test('takes nothing of an earlier primary once a later one has asked what it holds', async () => {
  await update('a', 0, version(4, 1), 'old');
  expect((await status('a', 5)).objectVersions).toEqual([{ objectNumber: 0, objectVersion: version(4, 1) }]);
  await expect(takeOver('a', aState([[9, version(4, 2), 'b']]), 4)).rejects.toThrow('outdated');
  await expect(update('a', 0, version(4, 3), 'late')).rejects.toThrow('outdated');
  await expect(status('a', 4)).rejects.toThrow('outdated');
  expect((await status('a', 5)).objectVersions).toEqual([{ objectNumber: 0, objectVersion: version(4, 1) }]);
});

test('keeps a truncate that is newer than the state it is given', async () => {
  await update('a', 0, version(1, 1), 'one');
  await update('b', 0, version(1, 1), 'one');
  await truncate('a', 0, version(1, 3));
  const state = aState([[0, version(1, 1), 'b']], [[version(1, 2), 7]]);
  await takeOver('a', state, 1);
  const { truncateLog } = await status('a');
  expect(truncateLog.records.map((record) => record.version)).toEqual([version(1, 2), version(1, 3)]);
});

test('gets an object back that a truncate had cut off of which no quorum knows', async () => {
  await update('a', 2, version(1, 1), 'kept');
  await update('b', 2, version(1, 1), 'kept');
  await truncate('a', 0, version(1, 2));
  const state = aState([
    [2, version(1, 1), 'b'],
    [3, version(1, 5), 'b'],
  ]);
  await update('b', 3, version(1, 5), 'more');
  await takeOver('a', state, 1);
  const found = await status('a');
  expect(found.truncateLog.records).toEqual([]);
  expect(found.objectVersions).toContainEqual({ objectNumber: 2, objectVersion: version(1, 1) });
});

import { expect, test } from '@jest/globals';
import { readParameters, readSnapshotParameters } from './parameters.ts';

const claim = { 'csi.storage.k8s.io/pvc/namespace': 'vo-physics', 'csi.storage.k8s.io/pvc/name': 'data' };

test('takes striping and replication from a StorageClass, with the counts that they need', () => {
  expect(
    readParameters({ ...claim, fileSystem: 'xtreemos/main', stripeWidth: '4', replicationPolicy: 'Quorum' }),
  ).toEqual({
    namespace: 'vo-physics',
    claimName: 'data',
    spec: {
      fileSystem: { namespace: 'xtreemos', name: 'main' },
      striping: { width: 4, stripeSizeKiB: 128 },
      replication: { policy: 'Quorum', replicas: 3 },
    },
  });
});

test.each([
  [{ ...claim, user: 'root' }, /parameter user/],
  [{ ...claim, stripeWidth: 'wide' }, /parameter stripeWidth/],
  [{ ...claim, mode: '0999' }, /parameter mode.*octal/],
  [{}, /extra-create-metadata/],
])('refuses %p', (given, message) => {
  expect(() => readParameters(given)).toThrow(message);
});

test('takes from a VolumeSnapshotClass what external-snapshotter adds, and nothing else', () => {
  const prefix = 'csi.storage.k8s.io/volumesnapshot';
  const given = { [`${prefix}/name`]: 'monday', [`${prefix}/namespace`]: 'vo-physics', [`${prefix}content/name`]: 'c' };
  expect(readSnapshotParameters(given)).toEqual({ namespace: 'vo-physics', name: 'monday' });
  expect(() => readSnapshotParameters({ ...given, user: 'root' })).toThrow(/parameter user of the VolumeSnapshotClass/);
  expect(() => readSnapshotParameters({})).toThrow(/extra-create-metadata/);
});

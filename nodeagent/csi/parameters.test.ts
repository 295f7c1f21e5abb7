import { expect, test } from '@jest/globals';
import { readParameters } from './parameters.ts';

const claim = { 'csi.storage.k8s.io/pvc/namespace': 'vo-physics', 'csi.storage.k8s.io/pvc/name': 'data' };

test('takes striping and replication from a StorageClass, with the counts that they need', () => {
  expect(
    readParameters({ ...claim, fileSystem: 'xtreemos/main', stripeWidth: '4', replicationPolicy: 'Quorum' }),
  ).toEqual({
    namespace: 'vo-physics',
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

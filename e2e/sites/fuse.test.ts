import { expect, test } from '@jest/globals';
import { foreignFuseMounts } from './fuse.ts';

const root = '28 1 254:0 / / rw,relatime - ext4 /dev/vda rw';
const ours = '90 28 0:61 / /mnt/home rw,nosuid,nodev shared:4 - fuse.xtreemfs xtreemfs@localhost/home rw,user_id=0';
const theirs = '91 77 0:62 / /var/lib/kubelet/volume rw,nosuid,nodev - fuse.xtreemfs xtreemfs@mrc/data rw,user_id=0';
const plain = '92 77 0:63 / /data rw - fuse image rw';
const control = '93 77 0:64 / /sys/fs/fuse/connections rw - fusectl none rw';

test('finds the FUSE mounts of another mount namespace', () => {
  expect(foreignFuseMounts([root, theirs, plain, control].join('\n'), root)).toEqual(['62', '63']);
});

test('leaves alone what is mounted in the own namespace too, also when a process shares that namespace', () => {
  const host = [root, ours].join('\n');
  expect(foreignFuseMounts(host, host)).toEqual([]);
  expect(foreignFuseMounts([root, ours, theirs].join('\n'), host)).toEqual(['62']);
});

/** Serves a memory file system at the mount point that is named; ends when it is unmounted. */
import { openSync } from 'node:fs';
import { createLogger } from '#common/logger.ts';
import { DescriptorDevice } from '#xtreemfs/fuse/device.ts';
import { mountDescriptor } from '#xtreemfs/fuse/mount.ts';
import { FuseSession } from '#xtreemfs/fuse/session.ts';
import { MemoryFileSystem } from '#xtreemfs/testing/memory-file-system.ts';

const mountPoint = process.argv[2] ?? '';
const descriptor = openSync('/dev/fuse', 'r+');
await mountDescriptor(descriptor, {
  mountPoint,
  source: 'memory',
  subtype: 'memory',
  allowOther: true,
  defaultPermissions: true,
  readOnly: false,
  maxReadBytes: 1 << 20,
  extra: [],
});
const session = new FuseSession({
  device: new DescriptorDevice(descriptor),
  fileSystem: new MemoryFileSystem(),
  logger: createLogger({ level: 'warn' }),
  onAgreement: () => console.log('Ready'),
});
await session.run();
process.exit(0);

/**
 * Serves a file system in memory: `memory-mount MOUNTPOINT`, or `memory-mount MOUNTPOINT SEED IMAGE` for one that
 * forgets what was not synced. That one starts from the image, if there is one; on a line on its standard input power
 * fails: it writes what is on disk to the image, says `Cut`, and fails everything from then on.
 */
import { existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { deserialize, serialize } from 'node:v8';
import { createLogger } from '#common/logger.ts';
import { SeededRandom } from '#common/random.ts';
import { DescriptorDevice } from '#xtreemfs/fuse/device.ts';
import type { FuseFileSystem } from '#xtreemfs/fuse/file-system.ts';
import { mountDescriptor } from '#xtreemfs/fuse/mount.ts';
import { FuseSession } from '#xtreemfs/fuse/session.ts';
import { type DiskImage, ForgetfulFileSystem } from '#xtreemfs/testing/forgetful-file-system.ts';
import { MemoryFileSystem } from '#xtreemfs/testing/memory-file-system.ts';

const [mountPoint = '', seed, image = ''] = process.argv.slice(2);
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
  fileSystem: seed === undefined ? new MemoryFileSystem() : forgetful(Number(seed)),
  logger: createLogger({ level: 'warn' }),
  onAgreement: () => console.log('Ready'),
});
await session.run();
process.exit(0);

function forgetful(number: number): FuseFileSystem {
  const found = existsSync(image) ? (deserialize(readFileSync(image)) as DiskImage) : undefined;
  const fileSystem = new ForgetfulFileSystem(new SeededRandom(number), found);
  process.stdin.once('data', () => {
    writeFileSync(image, serialize(fileSystem.cut()));
    console.log('Cut');
  });
  return fileSystem;
}

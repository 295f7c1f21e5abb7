/**
 * Serves a file system in memory: `memory-mount MOUNTPOINT`, or `memory-mount MOUNTPOINT SEED IMAGE` for one that
 * forgets what was not synced. That one starts from the image, if there is one, and takes commands, one a line, on its
 * standard input. On `cut` power fails: it writes what is on disk to the image, says `Cut`, and fails everything from then
 * on. `rot TEXT` changes a bit wherever the text stands; the rest are those of `DiskFaults`. It says `Done` and a number.
 */
import { createInterface } from 'node:readline';
import { existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { deserialize, serialize } from 'node:v8';
import { createLogger } from '#common/logger.ts';
import { SeededRandom } from '#common/random.ts';
import { DescriptorDevice } from '#xtreemfs/fuse/device.ts';
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
const disk = seed === undefined ? undefined : forgetful(Number(seed));
const session = new FuseSession({
  device: new DescriptorDevice(descriptor),
  fileSystem: disk ?? new MemoryFileSystem(),
  logger: createLogger({ level: 'warn' }),
  onAgreement: () => console.log('Ready'),
});
if (disk !== undefined) {
  // Not before the write is answered: the kernel holds its pages until then.
  disk.onTorn = (ino) => void setTimeout(() => session.invalidateInode(ino), 50);
  createInterface(process.stdin).on('line', (line) => {
    if (line === 'cut') {
      writeFileSync(image, serialize(disk.cut()));
      console.log('Cut');
      return;
    }
    const rotten = line.startsWith('rot ') ? disk.rot(Buffer.from(line.slice(4))) : undefined;
    if (rotten === undefined) disk.faults.command(line);
    // What the kernel has read before would hide what the disk does now. It waits for pages that are being read: so this is
    // for disks that nobody uses at the moment.
    for (const ino of line === 'fail read' ? disk.numbers : (rotten ?? [])) session.invalidateInode(ino);
    console.log(`Done ${rotten?.length ?? 0}`);
  });
}
await session.run();
process.exit(0);

function forgetful(number: number): ForgetfulFileSystem {
  const found = existsSync(image) ? (deserialize(readFileSync(image)) as DiskImage) : undefined;
  return new ForgetfulFileSystem(new SeededRandom(number), found);
}

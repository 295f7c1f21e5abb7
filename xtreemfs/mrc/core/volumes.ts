import type { StatVfs } from '#proto/generated/xtreemfs/mrc.ts';
import type { Caller } from './access.ts';
import { refuse } from './errno.ts';
import { nameBytesMax, quotaPrefix } from './keys.ts';
import type { Operation } from './operation.ts';
import { volumeNamed } from './operation.ts';
import type { Striping } from './records.ts';
import { fileType, freshInode } from './records.ts';
import type { Tx } from './tx.ts';
import { freeQuotaBytes } from './usage.ts';
import type { Volume } from './volume.ts';
import { rootIno, stripeBytes, volumeSchema } from './volume.ts';

/** What mkvol is told. */
export interface NewVolume {
  readonly id: string;
  readonly name: string;
  readonly number: number;
  readonly accessPolicy: number;
  readonly striping: Striping;
  readonly mode: number;
  readonly ownerUser: string;
  readonly ownerGroup: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly quotaBytes: number;
}

/**
 * Checks a volume's name.
 * @throws {PosixError} EINVAL when it is empty, too long or has one of `@ / \` or NUL.
 */
export function checkVolumeName(name: string): void {
  if (name === '' || Buffer.byteLength(name) > nameBytesMax || /[@/\\\0]/.test(name)) {
    refuse('EINVAL', `${JSON.stringify(name)} is not a volume name: 1 to ${nameBytesMax} bytes without @ / \\`);
  }
}

/** Makes a volume with its root directory (procedure 47, after the checks that need the DIR). */
export function makeVolume(tx: Tx, caller: Caller, wanted: NewVolume): Volume {
  checkVolumeName(wanted.name);
  const parsed = volumeSchema.safeParse({
    number: wanted.number,
    id: wanted.id,
    name: wanted.name,
    createdMs: tx.nowMs,
    accessPolicy: wanted.accessPolicy,
    striping: wanted.striping,
    attributes: wanted.attributes,
    quotaBytes: wanted.quotaBytes,
  });
  if (!parsed.success)
    refuse('EINVAL', `The volume is not valid: ${parsed.error.issues.map((i) => i.message).join('; ')}`);
  const volume = parsed.data;
  tx.putVolume(volume);
  tx.counters(volume.number).directories = 1;
  tx.touch(
    freshInode(tx, {
      volume: volume.number,
      ino: rootIno,
      mode: fileType.directory | (wanted.mode & 0o7777),
      user: wanted.ownerUser === '' ? caller.user : wanted.ownerUser,
      group: wanted.ownerGroup === '' ? (caller.groups[0] ?? '') : wanted.ownerGroup,
      parent: 0,
    }),
  );
  return volume;
}

/** Tables whose keys begin with a volume number. */
const volumeTables = ['D', 'I', 'A', 'X', 'L', 'K', 'Q', 'C'] as const;

/** Prefixes of every record of a volume, for removal, snapshots and dumps. */
export function volumePrefixes(volume: number): string[] {
  return volumeTables.map((table) => table + quotaPrefix(volume).slice(1));
}

/** Space of a volume, bytes: the sum over usable OSDs, cut by the volume's quota. */
export function spaceOf(op: Operation, volume: Volume): { total: number; free: number; available: number } {
  const usable = op.env.placement.usable(volume);
  const sum = usable.reduce(
    (space, osd) => ({
      total: space.total + osd.totalBytes,
      free: space.free + osd.freeBytes,
      available: space.available + osd.usableBytes,
    }),
    { total: 0, free: 0, available: 0 },
  );
  if (volume.quotaBytes === 0) return sum;
  const root = op.tx.inode(volume.number, rootIno);
  const left = freeQuotaBytes(
    op.tx,
    { ...volume, defaultUserQuotaBytes: 0, defaultGroupQuotaBytes: 0 },
    { ...root, user: '', group: '' },
  );
  const free = Math.min(sum.free, left ?? sum.free);
  return { total: Math.min(sum.total, volume.quotaBytes), free, available: Math.min(sum.available, free) };
}

/** Procedure 17. @returns undefined when the caller's copy is still right. */
export function statvfs(op: Operation, volumeName: string): StatVfs {
  const volume = volumeNamed(op, volumeName);
  const root = op.tx.inode(volume.number, rootIno);
  const bsize = stripeBytes(volume.striping);
  const space = spaceOf(op, volume);
  const [blocks, bfree, bavail] = [space.total, space.free, space.available].map((n) => Math.floor(n / bsize));
  return {
    bsize,
    bavail: bavail ?? 0,
    blocks: blocks ?? 0,
    bfree: bfree ?? 0,
    fsid: volume.id,
    namemax: nameBytesMax,
    accessControlPolicy: volume.accessPolicy,
    defaultStripingPolicy: { type: 0, stripeSize: volume.striping.stripeSizeKb, width: volume.striping.width },
    etag: bsize + (bavail ?? 0) + (blocks ?? 0),
    mode: root.mode,
    name: volume.name,
    ownerGroupId: root.group,
    ownerUserId: root.user,
  };
}

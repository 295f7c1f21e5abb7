import type { XCap } from '#proto/generated/xtreemfs/global-types.ts';
import type { ChangedDirectory, Stat } from '#proto/generated/xtreemfs/mrc.ts';
import type { Caller } from './access.ts';
import { demand, demandWritable, demandWritableBy, isInGroup, isOwner, modeBits, rights, rightsOf } from './access.ts';
import { fileOfCapability } from './capabilities.ts';
import { refuse } from './errno.ts';
import { fileBytesMax, takeSize } from './files.ts';
import type { Operation } from './operation.ts';
import { resolve, resolveExisting } from './operation.ts';
import type { Inode } from './records.ts';
import { etagOf, fileType, inodeFlags, isDirectory, isRegular } from './records.ts';
import { changeOwner } from './usage.ts';
import type { Volume } from './volume.ts';
import { javaHashCode, stripeBytes } from './volume.ts';

/** Bits of `to_set` (Setattrs of the wire). */
export const setattrs = { mode: 1, uid: 2, gid: 4, size: 8, atime: 16, mtime: 32, ctime: 64, attributes: 128 } as const;
const times = setattrs.atime | setattrs.mtime | setattrs.ctime;

/** Attributes as the wire has them (section 8.1); a directory's real link count has a field of its own, times have real fractions. */
export function statOf(volume: Volume, inode: Inode): Stat {
  const striping = inode.xlocs?.replicas[0]?.striping ?? volume.striping;
  return {
    dev: javaHashCode(volume.id),
    ino: inode.ino,
    mode: inode.mode,
    // Upstream's client aborts on a cached directory whose link count is not 1; ours reads the other field.
    nlink: isDirectory(inode) ? 1 : inode.nlink,
    ...(isDirectory(inode) ? { directoryLinks: inode.nlink } : {}),
    userId: inode.user,
    groupId: inode.group,
    size: inode.size,
    atimeNs: inode.atimeNs,
    mtimeNs: inode.mtimeNs,
    ctimeNs: inode.ctimeNs,
    blksize: isRegular(inode) ? stripeBytes(striping) : 0,
    etag: etagOf(inode),
    truncateEpoch: inode.epoch,
    attributes: inode.attributes,
    acls: ((inode.flags & inodeFlags.hasAcl) === 0 ? 0 : 1) | ((inode.flags & inodeFlags.hasDefaultAcl) === 0 ? 0 : 2),
  };
}

/** What a change left behind, for clients that asked for it (`wants_stats`). */
export interface ChangedStats {
  stbuf?: Stat;
  directories: ChangedDirectory[];
}

/** @param inode - the object that was made or changed; undefined when nothing is left of it. */
export function changedStats(op: Operation, isWanted: boolean | undefined, inode: Inode | undefined): ChangedStats {
  if (isWanted !== true) return { directories: [] };
  const { tx } = op;
  const stat = (of: Inode): Stat => statOf(volumeByNumber(op, of.volume), of);
  const directories = [...tx.changedDirectories].map(([directory, etagBefore]) => ({
    stbuf: stat(directory),
    etagBefore,
  }));
  return { ...(inode === undefined ? {} : { stbuf: stat(inode) }), directories };
}

function volumeByNumber(op: Operation, number: number): Volume {
  return op.tx.volume(number) ?? refuse('ENOENT', 'The volume was removed');
}

/** Procedure 4. @returns undefined when the caller's copy (`knownEtag`) is still right. */
export function getattr(op: Operation, volumeName: string, path: string, knownEtag: number): Stat | undefined {
  const { volume, inode } = resolveExisting(op, volumeName, path);
  return knownEtag !== 0 && knownEtag === etagOf(inode) ? undefined : statOf(volume, inode);
}

/** Procedure 20. A missing file is EACCES, as upstream has it. */
export function access(op: Operation, volumeName: string, path: string, wanted: number): void {
  const { volume, inode } = resolve(op, volumeName, path);
  if (inode === undefined) refuse('EACCES', `${path} does not exist in ${volumeName}`);
  if (wanted === 0) return;
  demand(op.tx, volume, inode, op.caller, wanted & 7);
}

/** New attributes; only those named by `toSet` count. */
export interface NewAttributes {
  readonly mode: number;
  readonly userId: string;
  readonly groupId: string;
  readonly size: number;
  readonly truncateEpoch: number;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly attributes?: number | undefined;
}

/** Procedure 15 (section 8.5), with the checks of Linux where upstream has none (times). */
export function setattr(op: Operation, volumeName: string, path: string, stat: NewAttributes, toSet: number): Inode {
  const { volume, inode } = resolveExisting(op, volumeName, path);
  const { tx, caller } = op;
  demandWritable(volume);
  if (toSet !== 0) demandWritableBy(inode, (toSet & ~times) === 0 && areTimesNow(tx.nowNs, stat, toSet));
  if ((toSet & (setattrs.uid | setattrs.gid)) !== 0) chown(op, volume, inode, stat, toSet);
  if ((toSet & setattrs.mode) !== 0) chmod(inode, caller, stat.mode);
  if ((toSet & setattrs.attributes) !== 0) {
    demand(tx, volume, inode, caller, rights.write);
    if (isRegular(inode)) inode.attributes = (stat.attributes ?? 0) >>> 0;
  }
  if ((toSet & setattrs.size) !== 0) setSize(op, volume, inode, stat);
  if (toSet !== 0) inode.ctimeNs = tx.nowNs;
  if ((toSet & times) !== 0) {
    if (isOwner(inode, caller)) setTimes(inode, stat, toSet);
    else touchTimes(op, volume, inode, toSet);
  }
  if (toSet !== 0) tx.touch(inode);
  return inode;
}

/** The wire has no word for «now», which is all that may be set for what is append-only: clients send their own time. */
function areTimesNow(nowNs: bigint, stat: NewAttributes, toSet: number): boolean {
  const isNear = (bit: number, timeNs: bigint): boolean =>
    (toSet & bit) === 0 || (timeNs > nowNs - nearNowNs && timeNs < nowNs + nearNowNs);
  return isNear(setattrs.atime, stat.atimeNs) && isNear(setattrs.mtime, stat.mtimeNs);
}

/** How far clocks of clients may be off, or calls be late. */
const nearNowNs = 60_000_000_000n;

function setSize(op: Operation, volume: Volume, inode: Inode, stat: NewAttributes): void {
  if (isDirectory(inode)) refuse('EISDIR', 'A directory has no size to set');
  if (!isRegular(inode)) refuse('EINVAL', 'Only a regular file has a size to set');
  if (stat.size < 0 || stat.size > fileBytesMax) refuse('EINVAL', `A file has no size of ${stat.size} bytes`);
  demand(op.tx, volume, inode, op.caller, rights.write);
  takeSize(op, inode, stat.size, stat.truncateEpoch);
}

/** Changes owner and group, and ends set-user-id and set-group-id of what isn't a directory, as Linux does for everyone. */
function chown(op: Operation, volume: Volume, inode: Inode, stat: NewAttributes, toSet: number): void {
  const { caller } = op;
  const user = (toSet & setattrs.uid) !== 0 ? stat.userId : inode.user;
  const group = (toSet & setattrs.gid) !== 0 ? stat.groupId : inode.group;
  const givesAway = volume.attributes.chown_non_root === 'true' && inode.user === caller.user;
  if (user !== inode.user && !caller.isSuper && !givesAway) {
    refuse('EPERM', `${caller.user} may not give the file to ${user}`);
  }
  if (!isOwner(inode, caller)) refuse('EPERM', `${caller.user} does not own the file`);
  if (group !== inode.group && !caller.isSuper && !isInGroup(caller, group)) {
    refuse('EPERM', `${caller.user} is not in the group ${group}`);
  }
  if (user === '' || group === '') refuse('EINVAL', 'user_id, group_id: an owner needs a name');
  if (user !== inode.user || group !== inode.group) changeOwner(op.tx, inode, user, group);
  if (isDirectory(inode)) return;
  inode.mode &= ~modeBits.setuid;
  if ((inode.mode & 0o010) !== 0) inode.mode &= ~modeBits.setgid;
}

function chmod(inode: Inode, caller: Caller, mode: number): void {
  if (!isOwner(inode, caller)) refuse('EPERM', `${caller.user} does not own the file`);
  if ((inode.mode & fileType.mask) === fileType.symlink)
    refuse('EOPNOTSUPP', 'A symlink has no permissions of its own');
  let bits = mode & modeBits.all;
  if (!caller.isSuper && !isInGroup(caller, inode.group)) bits &= ~modeBits.setgid;
  inode.mode = (inode.mode & fileType.mask) | bits;
}

function setTimes(inode: Inode, stat: NewAttributes, toSet: number): void {
  if ((toSet & setattrs.atime) !== 0) inode.atimeNs = stat.atimeNs;
  if ((toSet & setattrs.mtime) !== 0) inode.mtimeNs = stat.mtimeNs;
  if ((toSet & setattrs.ctime) !== 0 && (toSet & ~setattrs.ctime) === 0) inode.ctimeNs = stat.ctimeNs;
}

/** Who may write a file may set its times to now, and nothing else (utimes(2)): the request's own times don't count. */
function touchTimes(op: Operation, volume: Volume, inode: Inode, toSet: number): void {
  if ((rightsOf(op.tx, volume, inode, op.caller) & rights.write) === 0) {
    refuse('EPERM', `${op.caller.user} neither owns the file nor may write it`);
  }
  const now = op.tx.nowNs;
  setTimes(inode, { ...emptyTimes, atimeNs: now, mtimeNs: now, ctimeNs: now }, toSet);
}

const emptyTimes = { mode: 0, userId: '', groupId: '', size: 0, truncateEpoch: 0, attributes: undefined };

/** Procedure 2: sets times of an open file. @throws {PosixError} EINVAL for anything but times. */
export function fsetattr(op: Operation, cap: XCap, stat: NewAttributes, toSet: number): Inode {
  if ((toSet & ~times) !== 0) refuse('EINVAL', 'to_set: a capability sets times only');
  const { volume, inode } = fileOfCapability(op, cap);
  demandWritable(volume);
  if (toSet !== 0) {
    inode.ctimeNs = op.tx.nowNs;
    setTimes(inode, stat, toSet);
    op.tx.touch(inode);
  }
  return inode;
}

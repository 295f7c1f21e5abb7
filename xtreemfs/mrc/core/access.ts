import { refuse } from './errno.ts';
import type { Inode } from './records.ts';
import { inodeFlags, isDirectory } from './records.ts';
import type { Tx } from './tx.ts';
import type { Volume } from './volume.ts';
import { accessPolicies, rootIno } from './volume.ts';

/** Who asks, as the authentication provider established it. `groups[0]` is the primary group. */
export interface Caller {
  readonly user: string;
  readonly groups: readonly string[];
  /** May do everything. Never follows from a name: see `identity.ts`. */
  readonly isSuper: boolean;
  /** Address of the client, goes into capabilities as client_identity. */
  readonly client: string;
  /** Holder of the certificate that the client showed, to whom capabilities are bound. */
  readonly holder?: string | undefined;
  /** User and groups are those of the certificate, also in calls that a capability authorises. */
  readonly isProven?: boolean;
}

/** Rights in octal order (ACCESS_FLAGS of the wire). */
export const rights = { read: 4, write: 2, execute: 1 } as const;

/** Permission bits with a meaning of their own. */
export const modeBits = { setuid: 0o4000, setgid: 0o2000, sticky: 0o1000, all: 0o7777 } as const;

export function isInGroup(caller: Caller, group: string): boolean {
  return caller.groups.includes(group);
}

/** Rights that the caller has on the object by the volume's policy (protocol reference, section 9.4). */
export function rightsOf(tx: Tx, volume: Volume, inode: Inode, caller: Caller): number {
  if (volume.accessPolicy === accessPolicies.null) return 7;
  if (caller.isSuper) {
    // As in Linux: all, except executing a file that nobody may execute.
    return isDirectory(inode) || (inode.mode & 0o111) !== 0 ? 7 : 6;
  }
  const judged = volume.accessPolicy === accessPolicies.volume ? tx.inode(volume.number, rootIno) : inode;
  return (judged.flags & inodeFlags.hasAcl) === 0 ? rightsByMode(judged, caller) : rightsByAcl(tx, judged, caller);
}

function rightsByMode(inode: Inode, caller: Caller): number {
  if (inode.user === caller.user) return (inode.mode >> 6) & 7;
  if (isInGroup(caller, inode.group)) return (inode.mode >> 3) & 7;
  return inode.mode & 7;
}

/**
 * POSIX.1e evaluation: owner; named user under the mask; the owning and named groups under the mask (all that match, together);
 * others. The mode's group bits are the mask while there is a list. Matching groups are joined, as upstream does and unlike
 * Linux, which wants one entry to grant everything: only a caller in several listed groups sees a difference.
 */
function rightsByAcl(tx: Tx, inode: Inode, caller: Caller): number {
  if (inode.user === caller.user) return (inode.mode >> 6) & 7;
  const list = tx.acl(inode)?.access ?? [];
  const mask = (inode.mode >> 3) & 7;
  const named = list.find((entry) => entry.kind === 'u' && entry.name === caller.user);
  if (named !== undefined) return named.rights & mask;
  const groups = list.filter((entry) =>
    entry.kind === 'group' ? isInGroup(caller, inode.group) : entry.kind === 'g' && isInGroup(caller, entry.name),
  );
  if (groups.length > 0) return groups.reduce((sum, entry) => sum | entry.rights, 0) & mask;
  return inode.mode & 7;
}

/** @throws {PosixError} EACCES when a wanted right is missing. */
export function demand(tx: Tx, volume: Volume, inode: Inode, caller: Caller, wanted: number): void {
  if (wanted === 0) return;
  if ((rightsOf(tx, volume, inode, caller) & wanted) !== wanted) {
    refuse('EACCES', `${caller.user} lacks the right to this ${isDirectory(inode) ? 'directory' : 'file'}`);
  }
}

const fixedFlags = inodeFlags.immutable | inodeFlags.appendOnly;

function isFixed(inode: Inode, flags = fixedFlags): boolean {
  return (inode.flags & flags) !== 0;
}

function refuseFixed(): never {
  refuse('EPERM', 'The object, or its directory, is immutable or append-only (chattr -i, chattr -a)');
}

/** @throws {PosixError} EPERM for an object that is immutable, or of which everything but its end stays as it is. */
export function demandChangeable(inode: Inode): void {
  if (isFixed(inode)) refuseFixed();
}

/** @throws {PosixError} EPERM unless the object's flags let it be written so. */
export function demandWritableBy(inode: Inode, appends: boolean): void {
  if (isFixed(inode, appends ? inodeFlags.immutable : fixedFlags)) refuseFixed();
}

/** Whether the caller owns the object or may act as if. */
export function isOwner(inode: Inode, caller: Caller): boolean {
  return caller.isSuper || inode.user === caller.user;
}

/**
 * Write and search right on a directory, and its sticky bit when an entry is taken out of it.
 * @param victim - the object whose entry goes away; undefined when one is added.
 * @throws {PosixError} EACCES without the right; EPERM by the sticky bit, or by flags such as immutable.
 */
export function demandChange(tx: Tx, volume: Volume, parent: Inode, caller: Caller, victim?: Inode): void {
  demand(tx, volume, parent, caller, rights.write | rights.execute);
  if (isFixed(parent, victim === undefined ? inodeFlags.immutable : fixedFlags)) refuseFixed();
  if (victim !== undefined && isFixed(victim)) refuseFixed();
  if (victim === undefined || volume.accessPolicy !== accessPolicies.posix) return;
  const isSticky = (parent.mode & modeBits.sticky) !== 0;
  if (isSticky && !isOwner(victim, caller) && !isOwner(parent, caller)) {
    refuse('EPERM', `The directory is sticky and ${caller.user} owns neither it nor the entry`);
  }
}

/** @throws {PosixError} EPERM (as upstream, whose error list has no EROFS) when the volume is a snapshot. */
export function demandWritable(volume: Volume): void {
  if (volume.snapshotOf !== undefined) refuse('EPERM', `${volume.name} is a snapshot and can't be changed`);
}

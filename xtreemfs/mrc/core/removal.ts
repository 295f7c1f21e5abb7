import type { FileCredentials } from '#proto/generated/xtreemfs/global-types.ts';
import type { Key } from '../store/kv.ts';
import { deleteCredentials } from './capabilities.ts';
import { aclKey, attributesPrefix, changeKey, orphanKey, readU32, readU48, vouchersPrefix } from './keys.ts';
import type { Operation } from './operation.ts';
import { fileIdOf, parseFileId } from './operation.ts';
import type { Inode } from './records.ts';
import { inodeFlags, isDirectory, isRegular } from './records.ts';
import { releaseFile } from './usage.ts';
import type { Tx } from './tx.ts';
import type { Snapshot, Volume } from './volume.ts';

/** Who takes a file's last name away. */
export interface Remover {
  /** UUID of the client, when it is ours: it spares what it has open itself. */
  readonly client?: string | undefined;
  /** The objects go also from under those who have the file open. */
  readonly erases?: boolean | undefined;
}

/** Value of an orphan's record when the MRC deletes its objects, since other clients may have it open. */
const objectsLeft = Uint8Array.of(1);
/** An orphan whose OSDs don't answer is tried again after this. */
const retryMs = 600_000;
/** Whether a snapshot that is being made shows an orphan is looked at again after this. */
const snapshotMs = 5_000;
/** After this an orphan is given up; what OSDs still have is found by xtfs_cleanup. */
const eraseWithinNs = 86_400_000_000_000n;

/** A file that lost its last name: its objects are to be deleted by the client (credentials in the response). */
export interface Removed {
  readonly file?: { readonly volume: Volume; readonly inode: Inode };
  /** The object, when it has other names. */
  readonly left?: Inode;
}

/**
 * Takes one name away from an object whose entry is already gone. The last one ends it: a file that may be open stays as an
 * orphan with no links until its capabilities end, everything else goes at once. What others may have open keeps its objects as
 * long, and the client gets no credentials to delete them: see `purgeOrphans`.
 */
export function dropLink(op: Operation, volume: Volume, inode: Inode, by: Remover = {}): Removed {
  const { tx } = op;
  const counters = tx.counters(volume.number);
  if (isDirectory(inode)) {
    counters.directories--;
    purgeInode(tx, inode);
    return {};
  }
  inode.nlink--;
  inode.ctimeNs = tx.nowNs;
  if (inode.nlink > 0) {
    tx.touch(inode);
    return { left: inode };
  }
  counters.files--;
  releaseFile(tx, inode);
  const { openFiles } = op.env;
  const fileId = fileIdOf(volume, inode);
  const openUntilMs = isRegular(inode) ? openFiles.openUntilMs(fileId) : undefined;
  const isOpenElsewhere =
    openUntilMs !== undefined && by.erases !== true && openFiles.isOpenElsewhere(fileId, by.client);
  const shown = showing(op, volume, inode);
  // Whether a snapshot that is being made will show it is known later.
  const isKept = isOpenElsewhere || shown === 'maybe';
  if (openUntilMs === undefined && shown !== 'maybe') {
    purgeInode(tx, inode);
  } else {
    tx.touch(inode);
    const dueMs = openUntilMs ?? tx.nowMs;
    tx.put(orphanKey(dueMs, volume.number, inode.ino), isKept || shown !== 'no' ? objectsLeft : new Uint8Array());
  }
  const hasObjects = isRegular(inode) && inode.xlocs !== undefined && inode.xlocs.replicas.length > 0;
  return hasObjects && !isKept && shown === 'no' ? { file: { volume, inode: { ...inode } } } : {};
}

/** Whether a snapshot shows a file: then its objects stay, and go with the last snapshot. */
function showing({ tx, env }: Operation, volume: Volume, { ino }: Inode): 'yes' | 'maybe' | 'no' {
  const snapshots = env.snapshotsOf(volume);
  if (snapshots.some((each) => each.snapshotOf.isComplete && tx.findInode(each.number, ino) !== undefined))
    return 'yes';
  return snapshots.some(({ snapshotOf }) => !snapshotOf.isComplete) ? 'maybe' : 'no';
}

/** The objects of an orphan lie elsewhere than who deleted it knew: the MRC deletes them when nobody can have it open. */
export function eraseLater(op: Operation, inode: Inode): void {
  op.tx.put(orphanKey(op.tx.nowMs, inode.volume, inode.ino), objectsLeft);
}

/** Removes an inode and all that hangs on it. */
export function purgeInode(tx: Tx, inode: Inode): void {
  const { volume, ino, flags } = inode;
  const prefixes: Key[] = [];
  if ((flags & (inodeFlags.hasAttributes | inodeFlags.hasPolicies)) !== 0) prefixes.push(attributesPrefix(volume, ino));
  if ((flags & inodeFlags.hasVouchers) !== 0) prefixes.push(vouchersPrefix(volume, ino));
  for (const prefix of prefixes) {
    for (const { key } of tx.scan({ prefix, limit: Number.MAX_SAFE_INTEGER })) tx.remove(key);
  }
  if ((flags & (inodeFlags.hasAcl | inodeFlags.hasDefaultAcl)) !== 0) tx.remove(aclKey(volume, ino));
  if ((inode.xlocs?.replicas.length ?? 0) > 0) {
    const change = changeKey(volume, ino);
    if (tx.get(change) !== undefined) tx.remove(change);
  }
  tx.removeInode(inode);
}

/** Orphans that were due. */
export interface Purged {
  /** Files whose objects nobody has deleted yet: then `purgeErased`. They come again if that doesn't happen. */
  readonly toErase: readonly FileCredentials[];
  /** Whether there may be more. */
  readonly isMore: boolean;
}

/**
 * Purges orphans whose capabilities ended; those renewed since stay longer.
 * @param limit - at most so many in one transaction.
 */
export function purgeOrphans(op: Operation, limit: number): Purged {
  const { tx } = op;
  const toErase: FileCredentials[] = [];
  const page = tx.scan({ prefix: 'O', limit });
  for (const { key, value } of page) {
    const orphan = parseOrphanKey(key);
    if (orphan.expiryMs > tx.nowMs) return { toErase, isMore: false };
    tx.remove(key);
    const inode = tx.findInode(orphan.volume, orphan.ino);
    const volume = tx.volume(orphan.volume);
    if (inode === undefined || volume === undefined || inode.nlink > 0) continue;
    const again = (atMs: number): void => tx.put(orphanKey(atMs, orphan.volume, orphan.ino), value);
    const openUntilMs = op.env.openFiles.openUntilMs(fileIdOf(volume, inode));
    const shown = showing(op, volume, inode);
    const isErasing = value.length > 0 && (inode.xlocs?.replicas.length ?? 0) > 0 && shown !== 'yes';
    if (openUntilMs !== undefined) {
      again(openUntilMs);
    } else if (isErasing && shown === 'maybe') {
      again(tx.nowMs + snapshotMs);
    } else if (isErasing && tx.nowNs - inode.ctimeNs < eraseWithinNs) {
      again(tx.nowMs + retryMs);
      toErase.push(deleteCredentials(op, volume, inode));
    } else {
      purgeInode(tx, inode);
    }
  }
  return { toErase, isMore: page.length === limit };
}

/** The objects of an orphan are gone: its inode may go, too. */
export function purgeErased(op: Operation, fileId: string): void {
  const { volume, ino } = parseFileId(op, fileId);
  const inode = op.tx.findInode(volume.number, ino);
  if (inode?.nlink === 0) purgeInode(op.tx, inode);
}

function parseOrphanKey(key: Key): { expiryMs: number; volume: number; ino: number } {
  return { expiryMs: readU48(key, 1), volume: readU32(key, 7), ino: readU48(key, 11) };
}

/**
 * The files of a snapshot that is gone which nothing shows any more: their objects may go.
 * @param gone - the record of the snapshot as it was.
 */
export function unshownFiles(op: Operation, gone: Snapshot, inodes: readonly Inode[]): FileCredentials[] {
  const { tx, env } = op;
  const others = [
    gone.snapshotOf.volume,
    ...env.snapshotsOf({ ...gone, number: gone.snapshotOf.volume }).map(({ number }) => number),
  ];
  return inodes
    .filter((inode) => isRegular(inode) && (inode.xlocs?.replicas.length ?? 0) > 0)
    .filter(({ ino }) => !others.some((number) => tx.findInode(number, ino) !== undefined))
    .map((inode) => deleteCredentials(op, gone, inode));
}

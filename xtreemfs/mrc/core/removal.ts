import type { Key } from '../store/kv.ts';
import { aclKey, attributesPrefix, changeKey, orphanKey, readU32, readU48, vouchersPrefix } from './keys.ts';
import type { Operation } from './operation.ts';
import { fileIdOf } from './operation.ts';
import type { Inode } from './records.ts';
import { inodeFlags, isDirectory, isRegular } from './records.ts';
import { releaseFile } from './usage.ts';
import type { Tx } from './tx.ts';
import type { Volume } from './volume.ts';

/** A file that lost its last name: its objects are to be deleted by the client (credentials in the response). */
export interface Removed {
  readonly file?: { readonly volume: Volume; readonly inode: Inode };
  /** The object, when it has other names. */
  readonly left?: Inode;
}

/**
 * Takes one name away from an object whose entry is already gone. The last one ends it: a file that may be open stays as an
 * orphan with no links until its capabilities end, everything else goes at once.
 */
export function dropLink(op: Operation, volume: Volume, inode: Inode): Removed {
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
  const openUntilMs = isRegular(inode) ? op.env.openFiles.openUntilMs(fileIdOf(volume, inode)) : undefined;
  if (openUntilMs === undefined) {
    purgeInode(tx, inode);
  } else {
    tx.touch(inode);
    tx.put(orphanKey(openUntilMs, volume.number, inode.ino), new Uint8Array());
  }
  const hasObjects = isRegular(inode) && inode.xlocs !== undefined && inode.xlocs.replicas.length > 0;
  return hasObjects ? { file: { volume, inode: { ...inode } } } : {};
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
  if ((flags & inodeFlags.hasAcl) !== 0) tx.remove(aclKey(volume, ino));
  if ((inode.xlocs?.replicas.length ?? 0) > 0) {
    const change = changeKey(volume, ino);
    if (tx.get(change) !== undefined) tx.remove(change);
  }
  tx.removeInode(inode);
}

/**
 * Purges orphans whose capabilities ended; those renewed since stay longer.
 * @param limit - at most so many in one transaction.
 * @returns whether there may be more.
 */
export function purgeOrphans(op: Operation, limit: number): boolean {
  const { tx } = op;
  const page = tx.scan({ prefix: 'O', limit });
  for (const { key } of page) {
    const orphan = parseOrphanKey(key);
    if (orphan.expiryMs > tx.nowMs) return false;
    tx.remove(key);
    const inode = tx.findInode(orphan.volume, orphan.ino);
    const volume = tx.volume(orphan.volume);
    if (inode === undefined || volume === undefined || inode.nlink > 0) continue;
    const openUntilMs = op.env.openFiles.openUntilMs(fileIdOf(volume, inode));
    if (openUntilMs === undefined) purgeInode(tx, inode);
    else tx.put(orphanKey(openUntilMs, orphan.volume, orphan.ino), new Uint8Array());
  }
  return page.length === limit;
}

function parseOrphanKey(key: Key): { expiryMs: number; volume: number; ino: number } {
  return { expiryMs: readU48(key, 1), volume: readU32(key, 7), ino: readU48(key, 11) };
}

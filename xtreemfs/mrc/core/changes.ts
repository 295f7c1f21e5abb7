import { changeKey } from './keys.ts';
import type { Operation } from './operation.ts';
import type { Inode } from './records.ts';

/**
 * The lock on a file whose replica set is being changed (upstream: system attribute `xtreemfs.xlocsetchange`). It
 * holds the run id of the MRC: a lock that an earlier run left behind is broken when the file is next opened, which
 * raises the view number so that nothing of the half-done change is believed.
 */
export function lockForChange(op: Operation, inode: Inode): void {
  op.tx.put(changeKey(inode.volume, inode.ino), Buffer.from(op.env.runId));
}

export function unlockAfterChange(op: Operation, inode: Inode): void {
  op.tx.remove(changeKey(inode.volume, inode.ino));
}

/** Whether a change of this run is under way; a lock of an earlier run is broken on the spot. */
export function isChangeHeld(op: Operation, inode: Inode): boolean {
  const xlocs = inode.xlocs;
  if (xlocs === undefined || xlocs.replicas.length === 0) return false;
  const holder = op.tx.get(changeKey(inode.volume, inode.ino));
  if (holder === undefined) return false;
  if (Buffer.from(holder).toString() === op.env.runId) return true;
  inode.xlocs = { ...xlocs, version: xlocs.version + 1 };
  op.tx.touch(inode);
  unlockAfterChange(op, inode);
  return false;
}

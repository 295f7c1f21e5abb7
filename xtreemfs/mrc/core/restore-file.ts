import { refuse } from './errno.ts';
import { checkName } from './keys.ts';
import { makeInode } from './names.ts';
import type { Operation } from './operation.ts';
import { parseFileId } from './operation.ts';
import type { Inode } from './records.ts';
import { fileType, isDirectory } from './records.ts';
import { resize } from './usage.ts';
import { rootIno } from './volume.ts';

/** An orphan that an OSD found (procedure 43). */
export interface Orphan {
  /** Where to enter it, inside the volume; folders are made. */
  readonly path: string;
  readonly fileId: string;
  readonly sizeBytes: number;
  readonly osd: string;
  readonly stripeSizeKb: number;
}

/**
 * Enters a file whose objects an OSD holds but that no directory names, under its own number, so that the objects belong to it
 * again.
 * @throws {PosixError} EEXIST when the number or the name is taken.
 */
export function restoreFile(op: Operation, orphan: Orphan): Inode {
  const { volume, ino } = parseFileId(op, orphan.fileId);
  if (op.tx.findInode(volume.number, ino) !== undefined) refuse('EEXIST', `File ${orphan.fileId} is not lost`);
  if (orphan.stripeSizeKb < 1 || orphan.sizeBytes < 0) refuse('EINVAL', 'file_size and stripe_size must be positive');
  const names = orphan.path.split('/').filter((name) => name !== '');
  const name = checkName(names.pop() ?? refuse('EINVAL', 'file_path: a name is needed'));
  let parent = op.tx.inode(volume.number, rootIno);
  for (const folder of names) parent = enter(op, parent, checkName(folder), volume);
  if (op.tx.findEntry(volume.number, parent.ino, name) !== undefined) refuse('EEXIST', `${orphan.path} exists already`);
  const counters = op.tx.counters(volume.number);
  const made = makeInode(op.tx, op.caller, { volume, parent, name }, fileType.regular | 0o600);
  op.tx.removeInode(made);
  counters.nextIno = Math.max(made.ino, ino + 1);
  const inode: Inode = {
    ...made,
    ino,
    user: parent.user,
    group: parent.group,
    xlocs: {
      version: 0,
      policy: '',
      replicas: [{ osds: [orphan.osd], flags: 0, striping: { stripeSizeKb: orphan.stripeSizeKb, width: 1 } }],
    },
  };
  op.tx.putEntry(parent, name, { ino, type: fileType.regular });
  resize(op.tx, inode, orphan.sizeBytes);
  return inode;
}

function enter(op: Operation, parent: Inode, name: string, volume: Parameters<typeof makeInode>[2]['volume']): Inode {
  const entry = op.tx.findEntry(volume.number, parent.ino, name);
  if (entry === undefined) {
    const made = makeInode(op.tx, op.caller, { volume, parent, name }, fileType.directory | 0o700);
    made.user = parent.user;
    made.group = parent.group;
    return made;
  }
  const inode = op.tx.inode(volume.number, entry.ino);
  return isDirectory(inode) ? inode : refuse('ENOTDIR', `${name} is not a directory`);
}

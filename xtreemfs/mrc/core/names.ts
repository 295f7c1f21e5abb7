import type { Caller } from './access.ts';
import { demand, demandChange, demandChangeable, isInGroup, modeBits, rights } from './access.ts';
import { inheritAcl } from './acls.ts';
import { refuse } from './errno.ts';
import { checkName, entriesPrefix } from './keys.ts';
import type { Operation, Resolved } from './operation.ts';
import { entriesChanged, resolveExisting, resolveToChange } from './operation.ts';
import type { Inode } from './records.ts';
import { fileType, freshInode, inodeFlags, isDirectory, isRegular, isSymlink } from './records.ts';
import { dropLink, type Remover } from './removal.ts';
import type { Removed } from './removal.ts';
import type { Tx } from './tx.ts';
import type { Volume } from './volume.ts';

/** Most hard links of one file (as ext4 has it). */
const linksMax = 65_000;
/** Longest target of a symlink, bytes. */
const targetBytesMax = 4095;

/**
 * Makes an inode in `parent` and enters it. Owner and primary group are the caller's; a setgid directory passes its
 * group on, and to directories the bit too.
 * @param unmaskedMode - `mode` before the caller's umask, which does not count below a default access control list.
 */
export function makeInode(
  tx: Tx,
  caller: Caller,
  where: { volume: Volume; parent: Inode; name: string },
  mode: number,
  unmaskedMode = mode,
): Inode {
  const { volume, parent, name } = where;
  const counters = tx.counters(volume.number);
  const isDir = (mode & fileType.mask) === fileType.directory;
  const inherits = (parent.mode & modeBits.setgid) !== 0;
  const group = inherits ? parent.group : (caller.groups[0] ?? '');
  let bits = mode & modeBits.all;
  if (isDir && inherits) bits |= modeBits.setgid;
  else if (!isDir && !caller.isSuper && (bits & 0o2010) === 0o2010 && !isInGroup(caller, group))
    bits &= ~modeBits.setgid;
  const inode = freshInode(tx, {
    volume: volume.number,
    ino: counters.nextIno++,
    mode: (mode & fileType.mask) | bits,
    user: caller.user,
    group,
    parent: parent.ino,
  });
  inheritAcl(tx, parent, inode, unmaskedMode);
  if (isDir) {
    counters.directories++;
    parent.nlink++;
  } else {
    counters.files++;
  }
  tx.touch(inode);
  tx.putEntry(parent, name, { ino: inode.ino, type: mode & fileType.mask });
  entriesChanged(tx, parent);
  return inode;
}

/** @throws {PosixError} EEXIST when the name is taken. */
function demandFree(found: Resolved): void {
  if (found.inode !== undefined) refuse('EEXIST', `${found.name === '' ? 'The root' : found.name} exists already`);
}

/** Procedure 8. */
export function mkdir(op: Operation, volumeName: string, path: string, mode: number, unmaskedMode = mode): Inode {
  const found = resolveToChange(op, volumeName, path);
  demandFree(found);
  demandChange(op.tx, found.volume, found.parent, op.caller);
  if (found.parent.nlink >= linksMax * 1000) refuse('EMLINK', 'The directory has too many subdirectories');
  return makeInode(op.tx, op.caller, found, fileType.directory | (mode & modeBits.all), unmaskedMode);
}

/** Procedure 18: `linkPath` becomes a symlink to `target`, which is any text. */
export function symlink(op: Operation, volumeName: string, target: string, linkPath: string): Inode {
  if (target === '') refuse('ENOENT', 'A symlink needs a target');
  if (Buffer.byteLength(target) > targetBytesMax)
    refuse('ENAMETOOLONG', `A target has at most ${targetBytesMax} bytes`);
  const found = resolveToChange(op, volumeName, linkPath);
  demandFree(found);
  demandChange(op.tx, found.volume, found.parent, op.caller);
  const inode = makeInode(op.tx, op.caller, found, fileType.symlink | 0o777);
  inode.target = target;
  inode.size = Buffer.byteLength(target);
  return inode;
}

/** Procedure 11. @throws {PosixError} EINVAL when the object is no symlink. */
export function readlink(op: Operation, volumeName: string, path: string): string {
  const { inode } = resolveExisting(op, volumeName, path);
  return isSymlink(inode) ? inode.target : refuse('EINVAL', `${path} is not a symlink`);
}

/**
 * Procedure 6. Upstream wants write permission on the target file; Linux (fs.protected_hardlinks off) and POSIX don't, and the suites
 * check that they don't: ours asks only for what POSIX asks.
 */
export function link(op: Operation, volumeName: string, targetPath: string, linkPath: string): Inode {
  const { inode } = resolveExisting(op, volumeName, targetPath);
  const found = resolveToChange(op, volumeName, linkPath);
  demandFree(found);
  if (isDirectory(inode)) refuse('EPERM', `${targetPath} is a directory: it can't have a second name`);
  demandChangeable(inode);
  if (inode.nlink >= linksMax) refuse('EMLINK', `${targetPath} has ${linksMax} names already`);
  demandChange(op.tx, found.volume, found.parent, op.caller);
  inode.nlink++;
  inode.ctimeNs = op.tx.nowNs;
  op.tx.touch(inode);
  op.tx.putEntry(found.parent, found.name, { ino: inode.ino, type: inode.mode & fileType.mask });
  entriesChanged(op.tx, found.parent);
  return inode;
}

export function isEmptyDirectory(tx: Tx, inode: Inode): boolean {
  return tx.scan({ prefix: entriesPrefix(inode.volume, inode.ino), limit: 1 }).length === 0;
}

/** Procedure 14. */
export function rmdir(op: Operation, volumeName: string, path: string): Inode {
  const found = resolveToChange(op, volumeName, path);
  const { inode, parent, volume } = found;
  if (inode === undefined) refuse('ENOENT', `${path} does not exist`);
  if (found.name === '') refuse('EBUSY', 'The root of a volume goes with the volume (rmfs.xtreemfs)');
  demandChange(op.tx, volume, parent, op.caller, inode);
  if (!isDirectory(inode)) refuse('ENOTDIR', `${path} is not a directory`);
  if (!isEmptyDirectory(op.tx, inode)) refuse('ENOTEMPTY', `${path} is not empty`);
  op.tx.removeEntry(parent, found.name);
  parent.nlink--;
  entriesChanged(op.tx, parent);
  dropLink(op, volume, inode);
  return parent;
}

/** Procedure 19. @returns what the client has to delete at the OSDs, when this was the last name of a file with replicas. */
export function unlink(op: Operation, volumeName: string, path: string, by: Remover = {}): Removed {
  const found = resolveToChange(op, volumeName, path);
  const { inode, parent, volume } = found;
  if (inode === undefined) refuse('ENOENT', `${path} does not exist`);
  if (found.name === '') refuse('EISDIR', 'The root of a volume is a directory');
  demandChange(op.tx, volume, parent, op.caller, inode);
  if (isDirectory(inode)) refuse('EISDIR', `${path} is a directory`);
  op.tx.removeEntry(parent, found.name);
  entriesChanged(op.tx, parent);
  return dropLink(op, volume, inode, by);
}

/**
 * Procedure 13, in all cases of rename(2): two names of one file are left alone; a target is replaced in the same
 * transaction; a directory never moves into itself.
 * @returns what is left of the target, and the object that moved.
 */
export function rename(
  op: Operation,
  volumeName: string,
  sourcePath: string,
  targetPath: string,
  by: Remover = {},
): Removed & { readonly moved: Inode } {
  const { tx, caller } = op;
  const source = resolveToChange(op, volumeName, sourcePath);
  const target = resolveToChange(op, volumeName, targetPath);
  const { volume } = source;
  const moved = source.inode ?? refuse('ENOENT', `${sourcePath} does not exist`);
  if (source.name === '' || target.name === '') refuse('EBUSY', 'The root of a volume has no name to change');
  if (isDirectory(moved) && isInside(tx, target.parent, moved))
    refuse('EINVAL', `${targetPath} lies inside ${sourcePath}`);
  if (target.inode !== undefined && isInside(tx, source.parent, target.inode))
    refuse('ENOTEMPTY', `${targetPath} is not empty`);
  if (target.inode?.ino === moved.ino) return { moved };
  demandChange(tx, volume, source.parent, caller, moved);
  demandChange(tx, volume, target.parent, caller, target.inode);
  const isOtherParent = source.parent.ino !== target.parent.ino;
  // `..` of a directory that moves is rewritten: Linux wants the right to write it.
  if (isDirectory(moved) && isOtherParent) demand(tx, volume, moved, caller, rights.write);
  if (target.inode !== undefined) demandReplaceable(tx, moved, target.inode, targetPath);
  tx.removeEntry(source.parent, source.name);
  tx.putEntry(target.parent, checkName(target.name), { ino: moved.ino, type: moved.mode & fileType.mask });
  if (isDirectory(moved)) {
    source.parent.nlink--;
    target.parent.nlink++;
  }
  if (isOtherParent) moved.parent = target.parent.ino;
  let removed: Removed = {};
  if (target.inode !== undefined) {
    if (isDirectory(target.inode)) target.parent.nlink--;
    removed = dropLink(op, volume, target.inode, by);
  }
  moved.ctimeNs = tx.nowNs;
  tx.touch(moved);
  entriesChanged(tx, source.parent);
  entriesChanged(tx, target.parent);
  return { ...removed, moved };
}

/** Flags of renameat2(2). */
export const renameFlags = { noReplace: 1, exchange: 2 } as const;

/**
 * Ours (procedure 1001): a rename that replaces nothing, or lets two names change places.
 * @param sourceIno - what the caller means by the source; a repeated request finds it at the target, and is done.
 */
export function renameFlagged(
  op: Operation,
  volumeName: string,
  paths: { readonly source: string; readonly target: string },
  flags: number,
  sourceIno: number,
): Inode {
  if (flags !== renameFlags.noReplace && flags !== renameFlags.exchange) {
    refuse('EINVAL', `flags: ${flags} is neither ${renameFlags.noReplace} nor ${renameFlags.exchange}`);
  }
  const source = resolveToChange(op, volumeName, paths.source);
  const target = resolveToChange(op, volumeName, paths.target);
  if (source.inode?.ino !== sourceIno && target.inode?.ino === sourceIno) return target.inode;
  if (source.inode?.ino !== sourceIno) refuse('ENOENT', `${paths.source} is not what it was`);
  if (flags === renameFlags.exchange) return exchange(op, source, target, source.inode);
  if (target.inode !== undefined) refuse('EEXIST', `${paths.target} exists`);
  return rename(op, volumeName, paths.source, paths.target).moved;
}

function exchange(op: Operation, source: Resolved, target: Resolved, moved: Inode): Inode {
  const { tx, caller } = op;
  const { volume } = source;
  const other = target.inode ?? refuse('ENOENT', `${target.name} does not exist`);
  if (source.name === '' || target.name === '') refuse('EBUSY', 'The root of a volume has no name to change');
  if (isInside(tx, target.parent, moved) || isInside(tx, source.parent, other)) {
    refuse('EINVAL', 'One of the names lies inside the other');
  }
  if (other.ino === moved.ino) return moved;
  demandChange(tx, volume, source.parent, caller, moved);
  demandChange(tx, volume, target.parent, caller, other);
  const goes = [
    { inode: moved, from: source.parent, to: target.parent, name: target.name },
    { inode: other, from: target.parent, to: source.parent, name: source.name },
  ];
  for (const { inode, from, to, name } of goes) {
    if (isDirectory(inode) && from.ino !== to.ino) {
      demand(tx, volume, inode, caller, rights.write);
      from.nlink--;
      to.nlink++;
    }
    inode.parent = to.ino;
    inode.ctimeNs = tx.nowNs;
    tx.touch(inode);
    tx.putEntry(to, name, { ino: inode.ino, type: inode.mode & fileType.mask });
  }
  entriesChanged(tx, source.parent);
  entriesChanged(tx, target.parent);
  return moved;
}

function demandReplaceable(tx: Tx, moved: Inode, target: Inode, path: string): void {
  if (isDirectory(moved) && !isDirectory(target)) refuse('ENOTDIR', `${path} is not a directory`);
  if (!isDirectory(moved) && isDirectory(target)) refuse('EISDIR', `${path} is a directory`);
  if (isDirectory(target) && !isEmptyDirectory(tx, target)) refuse('ENOTEMPTY', `${path} is not empty`);
}

/** Whether `directory` is `ancestor` or lies somewhere below it. */
function isInside(tx: Tx, directory: Inode, ancestor: Inode): boolean {
  if (!isDirectory(ancestor)) return false;
  let at = directory;
  while (at.ino !== ancestor.ino) {
    if (at.parent === 0) return false;
    at = tx.inode(at.volume, at.parent);
  }
  return true;
}

/** Whether writes to the file are refused for everyone (xattr `xtreemfs.read_only`). */
export function isReadOnly(inode: Inode): boolean {
  return isRegular(inode) && (inode.flags & inodeFlags.readOnly) !== 0;
}

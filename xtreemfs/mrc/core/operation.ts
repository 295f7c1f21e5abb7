import type { Random } from '#common/random.ts';
import type { Caller } from './access.ts';
import { demand, demandWritable, rights } from './access.ts';
import { refuse } from './errno.ts';
import { checkName } from './keys.ts';
import type { Placement } from '../placement/placement.ts';
import type { CapabilitySigner } from './capabilities.ts';
import type { OpenFiles } from './open-files.ts';
import type { Inode } from './records.ts';
import { etagOf, isDirectory } from './records.ts';
import type { Tx } from './tx.ts';
import type { Snapshot, Volume } from './volume.ts';
import { accessPolicies, rootIno } from './volume.ts';

/** What operations need beside the store: given once, when the MRC starts. */
export interface CoreEnv {
  readonly random: Random;
  readonly placement: Placement;
  readonly signer: CapabilitySigner;
  readonly openFiles: OpenFiles;
  /** Validity of a capability, seconds (`capability_timeout`). */
  readonly capabilityTimeoutS: number;
  /** Whether an expired capability may be renewed (`renew_to_caps`). */
  readonly renewsExpired: boolean;
  /** Whether reads leave access times alone (`no_atime`). */
  readonly noAtime: boolean;
  /** Names the run of this MRC that holds change locks: a lock of another run is broken. */
  readonly runId: string;
  /** `pbrpc://host:port` of this MRC. */
  readonly url: string;
  /** A volume's snapshots, oldest first, also those that are being made. */
  snapshotsOf(volume: Volume): readonly Snapshot[];
  /** Volumes by name or `name@snapshot`. */
  findVolume(name: string): Volume | undefined;
  findVolumeById(id: string): Volume | undefined;
}

/** One request being carried out. */
export interface Operation {
  readonly tx: Tx;
  readonly caller: Caller;
  readonly env: CoreEnv;
}

/** A path's parent directory and last name, and the object if it exists. The root has itself as parent and name ''. */
export interface Resolved {
  readonly volume: Volume;
  readonly parent: Inode;
  readonly name: string;
  readonly inode: Inode | undefined;
}

/** A resolved path whose object exists. */
export interface Found extends Resolved {
  readonly inode: Inode;
}

/** Longest path accepted, characters. More than PATH_MAX: programs reach deeper directories by relative paths. */
const pathBytesMax = 65_536;

/** @throws {PosixError} ENOENT for an unknown volume. */
export function volumeNamed(op: Operation, name: string): Volume {
  const volume = op.env.findVolume(name) ?? refuse('ENOENT', `Volume ${name} does not exist at this MRC`);
  return op.tx.volume(volume.number) ?? refuse('ENOENT', `Volume ${name} was removed`);
}

/**
 * Walks a path inside a volume, with search permission on every directory of it (POSIX policy). Symlinks are not
 * followed: the client's kernel does that.
 * @throws {PosixError} ENOENT, ENOTDIR, EACCES, ENAMETOOLONG, EINVAL.
 */
export function resolve(op: Operation, volumeName: string, path: string): Resolved {
  const volume = volumeNamed(op, volumeName);
  if (path.length > pathBytesMax) refuse('ENAMETOOLONG', `A path has at most ${pathBytesMax} bytes`);
  const names = path.split('/').filter((name) => name !== '');
  const { tx } = op;
  let parent = tx.inode(volume.number, rootIno);
  const last = names.pop();
  if (last === undefined) return { volume, parent, name: '', inode: parent };
  for (const name of names) {
    demandSearch(op, volume, parent);
    const entry = tx.findEntry(volume.number, parent.ino, checkName(name));
    if (entry === undefined) refuse('ENOENT', `${path}: ${name} does not exist`);
    parent = tx.inode(volume.number, entry.ino);
    if (!isDirectory(parent)) refuse('ENOTDIR', `${path}: ${name} is not a directory`);
  }
  demandSearch(op, volume, parent);
  const entry = tx.findEntry(volume.number, parent.ino, checkName(last));
  const inode = entry === undefined ? undefined : tx.inode(volume.number, entry.ino);
  return { volume, parent, name: last, inode };
}

function demandSearch(op: Operation, volume: Volume, directory: Inode): void {
  // Under the VOLUME policy the root's rights stand for every object: checked where the object itself is.
  if (volume.accessPolicy === accessPolicies.posix) demand(op.tx, volume, directory, op.caller, rights.execute);
}

/** As `resolve`, for an object that must exist. */
export function resolveExisting(op: Operation, volumeName: string, path: string): Found {
  const found = resolve(op, volumeName, path);
  if (found.inode === undefined) refuse('ENOENT', `${path} does not exist in ${volumeName}`);
  return { ...found, inode: found.inode };
}

/** As `resolve`, for an entry that is to be made or taken away. @throws {PosixError} EPERM on a snapshot. */
export function resolveToChange(op: Operation, volumeName: string, path: string): Resolved {
  const found = resolve(op, volumeName, path);
  demandWritable(found.volume);
  return found;
}

/**
 * A file by its id string `<volume id>:<number>`.
 * @throws {PosixError} EINVAL for a malformed id, ENOENT for an unknown volume or file.
 */
export function fileById(op: Operation, fileId: string): { volume: Volume; inode: Inode } {
  const { volume, ino } = parseFileId(op, fileId);
  return { volume, inode: op.tx.inode(volume.number, ino) };
}

/** Splits a file id. @throws {PosixError} EINVAL when malformed, ENOENT when the volume isn't here. */
export function parseFileId(op: Operation, fileId: string): { volume: Volume; ino: number } {
  const match = /^([^:]+):([1-9][0-9]{0,14})$/.exec(fileId);
  const [, id, number] = match ?? refuse('EINVAL', `${JSON.stringify(fileId)} is not a file id (volume:number)`);
  const volume = op.env.findVolumeById(id ?? '') ?? refuse('ENOENT', `Volume ${id ?? ''} is not at this MRC`);
  return { volume, ino: Number(number) };
}

/** The id string of a file. A snapshot's files keep the ids of the volume: their objects are the same. */
export function fileIdOf(volume: Volume, inode: Inode): string {
  return `${volume.id}:${inode.ino}`;
}

/** Sets the modification and change time of a directory whose entries changed. */
export function entriesChanged(tx: Tx, directory: Inode): void {
  if (!tx.changedDirectories.has(directory)) tx.changedDirectories.set(directory, etagOf(directory));
  directory.mtimeNs = tx.nowNs;
  directory.ctimeNs = tx.nowNs;
  tx.touch(directory);
}

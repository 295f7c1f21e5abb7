import { SnapConfig } from '#proto/generated/xtreemfs/global-types.ts';
import type { VivaldiCoordinates, XCap, XLocSet } from '#proto/generated/xtreemfs/global-types.ts';
import { demand, demandChange, demandChangeable, demandWritable, demandWritableBy, isOwner, rights } from './access.ts';
import {
  fileOfCapability,
  issueCapability,
  openFlags,
  sortedXlocs,
  verifyCapability,
  wantsWrite,
} from './capabilities.ts';
import { refuse } from './errno.ts';
import { isChangeHeld } from './changes.ts';
import { isReadOnly, makeInode } from './names.ts';
import type { Operation } from './operation.ts';
import { fileById, parseFileId, resolve } from './operation.ts';
import { replicationOf, stripingOf } from './policies.ts';
import type { Inode, ReplicaRecord } from './records.ts';
import { fileType, isDirectory, isRegular, isSymlink } from './records.ts';
import { grantVoucher, keepVoucher, resize, clearVouchers } from './usage.ts';
import type { Volume } from './volume.ts';

/** Highest truncate epoch: the field has 32 bits and Java peers read it signed. */
const epochMax = 0x7fff_fffe;
/** Largest file, bytes: what a number carries without loss on the wire. */
export const fileBytesMax = Number.MAX_SAFE_INTEGER;

/** What a client asks when it opens a file (procedure 9). */
export interface OpenArguments {
  readonly volumeName: string;
  readonly path: string;
  /** `openFlags`. */
  readonly flags: number;
  /** Permission bits of a file that is made; type bits make a special file (our extension, docs/xtreemfs-mrc.md). */
  readonly mode: number;
  /** Windows attributes of a regular file that is made; device number of a device. */
  readonly attributes: number;
  readonly coordinates: VivaldiCoordinates | undefined;
  /** UUID of the client, when it is ours. */
  readonly client?: string | undefined;
  /** Permission bits before the caller's umask, from clients that are ours. */
  readonly unmaskedMode?: number | undefined;
}

/** A client's name is kept for each file that it has open. */
const clientLengthMax = 36;

/** What an open file is used with. */
export interface Opened {
  readonly cap: XCap;
  readonly xlocs: XLocSet;
  readonly inode: Inode;
  readonly volume: Volume;
  /** Whether anything was written: then the answer carries a time stamp. */
  readonly changed: boolean;
}

/** Opens, and with CREAT makes, a file (protocol reference, section 8.3). */
export function open(op: Operation, args: OpenArguments): Opened {
  const { tx } = op;
  const clientLength = args.client?.length ?? 0;
  if (clientLength > clientLengthMax) {
    refuse('EINVAL', `client_uuid: has ${clientLength} characters; a UUID has at most ${clientLengthMax}`);
  }
  const found = resolve(op, args.volumeName, args.path);
  const { volume } = found;
  const writes = wantsWrite(args.flags);
  const creates = (args.flags & openFlags.create) !== 0;
  if (found.inode === undefined) {
    if (!creates) refuse('ENOENT', `${args.path} does not exist in ${args.volumeName}`);
    demandWritable(volume);
    demandChange(tx, volume, found.parent, op.caller);
    const inode = create(op, found, args);
    return finishOpen(op, { volume, parent: found.parent, inode, args, isNew: true });
  }
  const { inode } = found;
  if (creates && (args.flags & openFlags.exclusive) !== 0) refuse('EEXIST', `${args.path} exists already`);
  if (isDirectory(inode) || isSymlink(inode)) refuse('EISDIR', `${args.path} is a directory or symlink`);
  if (!isRegular(inode)) refuse('ENXIO', `${args.path} is a special file: its host opens it, not the file system`);
  demand(tx, volume, inode, op.caller, wantedRights(args.flags));
  if (writes) demandWritable(volume);
  if (writes) demandWritableBy(inode, (args.flags & (openFlags.append | openFlags.truncate)) === openFlags.append);
  if (writes && isReadOnly(inode)) refuse('EPERM', `${args.path} is marked read-only`);
  return finishOpen(op, { volume, parent: found.parent, inode, args, isNew: false });
}

function wantedRights(flags: number): number {
  if ((flags & openFlags.readWrite) !== 0) return rights.read | rights.write;
  if ((flags & openFlags.writeOnly) !== 0) return rights.write;
  return rights.read | ((flags & openFlags.truncate) !== 0 ? rights.write : 0);
}

function create(op: Operation, where: { volume: Volume; parent: Inode; name: string }, args: OpenArguments): Inode {
  const requested = args.mode & fileType.mask;
  const type = requested === 0 ? fileType.regular : requested;
  const isDevice = type === fileType.block || type === fileType.character;
  const isSpecial = isDevice || type === fileType.fifo || type === fileType.socket;
  if (type !== fileType.regular && !isSpecial) refuse('EINVAL', `open makes no object of type ${type.toString(16)}`);
  if (isDevice && !op.caller.isSuper) refuse('EPERM', 'Only a superuser makes device files');
  const inode = makeInode(op.tx, op.caller, where, type | (args.mode & 0o7777), args.unmaskedMode ?? args.mode);
  inode.attributes = args.attributes >>> 0;
  return inode;
}

function finishOpen(
  op: Operation,
  file: { volume: Volume; parent: Inode; inode: Inode; args: OpenArguments; isNew: boolean },
): Opened {
  const { tx, env } = op;
  const { volume, parent, inode, args } = file;
  const writes = wantsWrite(args.flags);
  let changed = file.isNew;
  if (isRegular(inode) && isChangeHeld(op, inode)) refuse('EAGAIN', `The replicas of ${args.path} are being changed`);
  const replication = replicationOf(tx, volume, parent);
  if (isRegular(inode) && (file.isNew || writes) && volume.snapshotOf === undefined) {
    if ((inode.xlocs?.replicas.length ?? 0) === 0) {
      assignReplicas(op, { volume, parent, inode, path: args.path, coordinates: args.coordinates });
      changed = true;
    }
  }
  let truncateEpoch = inode.epoch;
  if ((args.flags & openFlags.truncate) !== 0 && isRegular(inode)) {
    truncateEpoch = nextEpoch(inode);
    tx.touch(inode);
    changed = true;
  }
  if (!env.noAtime && !file.isNew && !writes && volume.snapshotOf === undefined) {
    inode.atimeNs = tx.nowNs;
    tx.touch(inode);
    changed = true;
  }
  const expireMs = tx.nowMs + env.capabilityTimeoutS * 1000;
  const voucherBytes = isRegular(inode) && (writes || file.isNew) ? grantVoucher(tx, volume, inode, expireMs) : 0;
  const replicateOnClose = writes && replication.policy === 'ronly' && replication.factor > 1 && inode.size === 0;
  const cap = issueCapability(op, volume, inode, {
    accessMode: args.flags,
    truncateEpoch,
    voucherBytes,
    replicateOnClose,
    expireMs,
    opener: { client: args.client, isNew: file.isNew },
  });
  return { cap, xlocs: sortedXlocs(op, volume, inode, args.coordinates), inode, volume, changed };
}

/** The epoch of the next truncation of the file; recorded as issued. */
function nextEpoch(inode: Inode): number {
  if (inode.issuedEpoch >= epochMax) refuse('EFBIG', 'The file was truncated too often; copy it');
  inode.issuedEpoch = Math.max(inode.issuedEpoch, inode.epoch) + 1;
  return inode.issuedEpoch;
}

/**
 * Chooses the OSDs of a file that has none. Fewer OSDs than the stripe is wide make the stripe narrower.
 * @throws {PosixError} ENOSPC when OSDs are full that would be usable otherwise, EIO when there are too few.
 */
function assignReplicas(
  op: Operation,
  file: {
    volume: Volume;
    parent: Inode;
    inode: Inode;
    path: string;
    coordinates: VivaldiCoordinates | undefined;
  },
): void {
  const { volume, parent, inode, path } = file;
  const striping = stripingOf(op.tx, volume, parent);
  const replication = replicationOf(op.tx, volume, parent);
  const isRw = replication.policy === 'WqRq' || replication.policy === 'WaR1';
  const count = isRw ? replication.factor : 1;
  const request = {
    count: count * striping.width,
    client: op.caller.client,
    coordinates: file.coordinates,
    path,
    without: [],
  };
  const chosen = op.env.placement.choose(volume, request);
  if (chosen.length < count && op.env.placement.lacksSpace(volume, { ...request, count })) {
    refuse('ENOSPC', `The OSDs have no room for ${path}: see the status page of the MRC`);
  }
  if (chosen.length === 0) refuse('EIO', `No OSD is usable for ${path}: see the status page of the MRC`);
  const width = Math.min(striping.width, chosen.length);
  const replicas: ReplicaRecord[] = [];
  for (let at = 0; at + width <= chosen.length && replicas.length < count; at += width) {
    replicas.push({ osds: chosen.slice(at, at + width), flags: 0, striping: { ...striping, width } });
  }
  if (replicas.length < count) {
    refuse('EIO', `${path} wants ${count} replicas of width ${width}, but only ${chosen.length} OSDs are usable`);
  }
  inode.xlocs = { version: 0, policy: isRw ? replication.policy : '', replicas };
  op.tx.touch(inode);
}

/** Procedure 3: a capability with which the file may be truncated at its OSDs. */
export function ftruncate(op: Operation, cap: XCap): XCap {
  const { volume, inode } = fileOfCapability(op, cap);
  demandWritable(volume);
  if (isReadOnly(inode)) refuse('EPERM', 'The file is marked read-only');
  demandChangeable(inode);
  if (!wantsWrite(cap.accessMode)) refuse('EPERM', 'The file is not open for writing');
  const truncateEpoch = nextEpoch(inode);
  op.tx.touch(inode);
  return issueCapability(op, volume, inode, {
    accessMode: cap.accessMode | openFlags.truncate,
    truncateEpoch,
    voucherBytes: cap.voucherSize,
    replicateOnClose: cap.replicateOnClose,
    expireMs: cap.expireTimeMs,
  });
}

/**
 * Takes over a size that an OSD reported, if it is newer: a later epoch, or the same one and larger (section 8.4).
 * @returns whether it was.
 */
export function takeSize(op: Operation, inode: Inode, sizeBytes: number, epoch: number): boolean {
  if (sizeBytes < 0 || epoch < 0) refuse('EINVAL', `A size of ${sizeBytes} bytes in epoch ${epoch} is not possible`);
  if (epoch < inode.epoch || (epoch === inode.epoch && sizeBytes <= inode.size)) return false;
  resize(op.tx, inode, sizeBytes);
  inode.epoch = epoch;
  inode.issuedEpoch = Math.max(inode.issuedEpoch, epoch);
  inode.mtimeNs = op.tx.nowNs;
  inode.ctimeNs = op.tx.nowNs;
  return true;
}

/** A file's new size as an OSD reported it (procedure 46). */
export interface SizeUpdate {
  readonly cap: XCap;
  readonly sizeBytes: number | undefined;
  readonly epoch: number | undefined;
  readonly closes: boolean;
}

/**
 * Procedure 46.
 * @returns the file, and whether it must now be replicated (closed for the first time under a `ronly` policy).
 */
export function updateFileSize(
  op: Operation,
  update: SizeUpdate,
): { volume: Volume; inode: Inode; replicate: boolean } {
  const { volume, inode } = fileOfCapability(op, update.cap);
  demandWritable(volume);
  if (isReadOnly(inode)) refuse('EPERM', 'The file is marked read-only');
  if (update.sizeBytes !== undefined) {
    if (update.epoch === undefined)
      refuse('EINVAL', 'osd_write_response: truncate_epoch is missing beside size_in_bytes');
    takeSize(op, inode, update.sizeBytes, update.epoch);
  }
  return { volume, inode, replicate: update.closes && update.cap.replicateOnClose };
}

/**
 * Procedures 37 and 53: a fresh capability for an open file.
 * @param more - whether the holder needs more room than its voucher gives.
 * @throws {PosixError} EPERM for a capability that is not good; EACCES when a caller whose name is proven lost the right.
 */
export function renewCapability(op: Operation, cap: XCap, more: boolean): XCap {
  verifyCapability(op, cap, { mayBeExpired: op.env.renewsExpired });
  const expireMs = op.tx.nowMs + op.env.capabilityTimeoutS * 1000;
  if (cap.snapConfig === SnapConfig.ACCESS_SNAP) {
    // The file may be gone from the volume itself; nothing of it can change here.
    return op.env.signer.sign({ ...cap, expireTimeS: Math.floor(expireMs / 1000), expireTimeMs: expireMs });
  }
  const { volume, inode } = fileById(op, cap.fileId);
  // A right that was taken away ends with the capability. An owner could give it back to themselves at any time.
  if (op.caller.isProven === true && !isOwner(inode, op.caller)) {
    demand(op.tx, volume, inode, op.caller, wantedRights(cap.accessMode));
  }
  let voucherBytes = cap.voucherSize;
  if (more) voucherBytes = grantVoucher(op.tx, volume, inode, expireMs);
  else keepVoucher(op.tx, inode, voucherBytes, expireMs);
  return issueCapability(op, volume, inode, {
    accessMode: cap.accessMode,
    truncateEpoch: cap.truncateEpoch,
    voucherBytes,
    replicateOnClose: cap.replicateOnClose,
    expireMs,
  });
}

/** Procedure 50: a capability to read a file, by its id; for administrators and services (checked by the caller). */
export function readCredentials(op: Operation, fileId: string): { cap: XCap; xlocs: XLocSet } {
  const { volume, inode } = fileById(op, fileId);
  const cap = issueCapability(op, volume, inode, {
    accessMode: 0,
    truncateEpoch: inode.epoch,
    opener: { client: undefined, isNew: false },
  });
  return { cap, xlocs: sortedXlocs(op, volume, inode, undefined) };
}

/** What an OSD says of the vouchers that it closed. `isGenuine`: its signature was checked. */
export interface ClosedVouchers {
  readonly sizeBytes: number;
  readonly epoch: number;
  readonly isGenuine: boolean;
}

/** Procedure 52: ends the vouchers of a closed file and takes over the largest newest size. A deleted file is fine. */
export function clearVouchersOf(
  op: Operation,
  cap: XCap,
  closed: readonly ClosedVouchers[],
  expireMs: readonly number[],
): void {
  verifyCapability(op, cap);
  const { volume, ino } = parseFileId(op, cap.fileId);
  const inode = op.tx.findInode(volume.number, ino);
  if (inode === undefined) return;
  const width = inode.xlocs?.replicas[0]?.osds.length ?? 0;
  if (closed.length !== width) {
    refuse('EINVAL', `osd_finalize_vouchers_response: ${closed.length} answers for a stripe of ${width} OSDs`);
  }
  if (closed.some((answer) => !answer.isGenuine)) {
    refuse('EINVAL', 'osd_finalize_vouchers_response: a signature is not that of an OSD of this installation');
  }
  const newest = closed.reduce((epoch, answer) => Math.max(epoch, answer.epoch), 0);
  const sizes = closed.filter((answer) => answer.epoch === newest).map((answer) => answer.sizeBytes);
  if (sizes.length > 0 && volume.snapshotOf === undefined) takeSize(op, inode, Math.max(...sizes), newest);
  clearVouchers(op.tx, inode, [...expireMs, cap.expireTimeMs]);
}

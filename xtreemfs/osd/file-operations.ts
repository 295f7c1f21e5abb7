import type { Clock } from '#common/clock.ts';
import { SystemVFcntl, type OsdWriteResponse } from '#proto/generated/xtreemfs/global-types.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { errnoError, insufficientVoucherError, invalidViewError } from '#xtreemfs/rpc/errors.ts';
import type { FileAccess } from './access.ts';
import { volumeOf } from './cluster.ts';
import {
  encodeChanges,
  finalizedVouchersOf,
  hasTruncateEpoch,
  setAttributes,
  truncateEpochOf,
  truncateLogOf,
  type TruncateEntry,
  viewOf,
} from './file-attributes.ts';
import { globalEnd, laterEnd, localEnd, type FileEnd } from './file-size.ts';
import { type ChangeTimes, freezeBeforeChange, readableObjects } from './file-versions.ts';
import type { OpenFile, OpenFiles } from './open-files.ts';
import { forAllOsds, type PeerOsds } from './peer-osds.ts';
import type { ReplicatedFiles } from './replicated-files.ts';
import type { SnapshotBook } from './snapshot-book.ts';
import { CorruptionError } from './store/disk.ts';
import type { FileLog } from './store/file-log.ts';
import type { FileVersion } from './store/file-state.ts';
import type { ObjectBytes } from './store/log-reader.ts';
import type { ObjectStore } from './store/object-store.ts';
import { flagOwned, recordType } from './store/record.ts';
import { isOwned, lastObjectOf, otherOsds } from './striping.ts';

/** What {@link FileOperations} needs. */
export interface FileOperationsOptions {
  readonly store: ObjectStore;
  readonly openFiles: OpenFiles;
  readonly peers: PeerOsds;
  readonly clock: Clock;
  readonly snapshots: Pick<SnapshotBook, 'newestMs' | 'seenMs'>;
  /** Syncs every write before it is answered, as if the file was opened with O_SYNC. */
  readonly syncWrites?: boolean;
}

const nothing: ObjectBytes = { data: Buffer.alloc(0), zeros: 0 };
const fileBytesMax = 2 ** 53 - 1;
/** Truncates remembered per file for replicas; the oldest go first. */
const truncateLogMax = 512;

/**
 * What an OSD does to one file: reads, writes, truncates, deletion and sizes over the stripe, with the rules of the
 * protocol reference, sections 13.3 to 13.6. Callers have passed {@link AccessControl}.
 */
export class FileOperations {
  private readonly options: FileOperationsOptions;

  constructor(options: FileOperationsOptions) {
    this.options = options;
  }

  /**
   * Reads from one object. Fewer bytes than asked for mean the end of the file, nothing else.
   * @throws {CorruptionError} when what is stored is damaged.
   */
  async read(access: FileAccess, object: number, offset: number, length: number): Promise<ObjectBytes> {
    const { fileId } = access;
    checkRange(access, object, offset, length);
    return this.options.store.use(fileId, async (log) => {
      const from = this.readable(log, access);
      if (from === undefined) return nothing;
      const bytes = (await log.read(object, offset, length, from.objects)) ?? nothing;
      const got = bytes.data.length + bytes.zeros;
      if (got === length) return bytes;
      const wanted = await this.bytesOfObject(access, log, from, object);
      const missing = Math.min(length, wanted - offset) - got;
      if (missing <= 0) return bytes;
      return { ...bytes, zeros: bytes.zeros + missing };
    });
  }

  /** Bytes that an object has once holes count: the whole object unless it is the file's last or behind it. */
  private async bytesOfObject(
    access: FileAccess,
    log: FileLog,
    from: Pick<FileVersion, 'objects'>,
    object: number,
  ): Promise<number> {
    const { objectBytes } = access.stripe;
    const local = localEnd(log, objectBytes, from);
    const known = this.knownEnd(access.fileId, local);
    if (object < known.lastObject) return objectBytes;
    const end = await globalEnd(access, known, this.options.openFiles, this.options.peers);
    if (object < end.lastObject) return objectBytes;
    return object === end.lastObject ? end.fileBytes - object * objectBytes : 0;
  }

  /**
   * Writes into one object. Once this resolves the bytes survive a kill of this process; with O_SYNC in the capability
   * also a power loss.
   * @param version - object version to give it; undefined for files without replicas.
   * @returns the size of the file when the write reaches its end, an empty response otherwise. A write that is repeated, since the answer to the one
   * that let the file grow was lost, tells it too: nobody else will.
   */
  async write(
    access: FileAccess,
    object: number,
    offset: number,
    data: Buffer,
    version?: number,
  ): Promise<OsdWriteResponse> {
    const { fileId, stripe, xcap } = access;
    checkRange(access, object, offset, data.length);
    if (data.length === 0) throw errnoError(PosixErrno.EINVAL, 'A write must carry data');
    const fileBytes = object * stripe.objectBytes + offset + data.length;
    if (fileBytes > fileBytesMax) throw errnoError(PosixErrno.EINVAL, `object_number ${object} is too large`);
    const open = this.options.openFiles.touch(fileId);
    return this.options.store.use(fileId, async (log) => {
      checkVoucher(open, log, access, fileBytes);
      await freezeBeforeChange(log, xcap, this.changeTimes(fileId));
      if (version === undefined) checkViewStillHolds(log, access);
      const before = this.knownEnd(fileId, localEnd(log, stripe.objectBytes));
      const waiting: Promise<void>[] = [];
      if (xcap.truncateEpoch > 0 && log.state.objects.size === 0 && !hasTruncateEpoch(log)) {
        // A truncate to nothing of a file that had nothing is not synced: its epoch comes back with the capability.
        waiting.push(setAttributes(log, { truncateEpoch: xcap.truncateEpoch }));
      }
      const objectVersion = version ?? Math.max(1, log.state.objects.get(object)?.version ?? 1);
      const body = { type: recordType.write, flags: 0, object, version: objectVersion, offset, objectLength: 0 };
      waiting.push(log.append(body, data));
      await Promise.all(waiting);
      this.options.store.tidyObject(fileId, object);
      if (this.options.syncWrites === true || (xcap.accessMode & SystemVFcntl.O_SYNC) !== 0) await log.sync();
      if (fileBytes < before.fileBytes) return {};
      return { sizeInBytes: fileBytes, truncateEpoch: truncateEpochOf(log) };
    });
  }

  /**
   * Sets the size of a file: at the head OSD, which passes it to the rest of the stripe first. Until all have done it
   * the head keeps the old epoch, so that a repeated call finishes what a failure cut short. (Upstream changes the head
   * first; a retry then finds the epoch stored and leaves the others as they were.)
   */
  async truncate(access: FileAccess, newFileBytes: number): Promise<OsdWriteResponse> {
    const { stripe, fileId, xcap, xlocs } = access;
    if (stripe.index !== 0) {
      throw errnoError(
        PosixErrno.EINVAL,
        `Only the head OSD ${stripe.osdUuids[0] ?? ''} takes a truncate of ${fileId}`,
      );
    }
    const isDone = await this.options.store.use(fileId, async (log) => truncateEpochOf(log) >= xcap.truncateEpoch);
    if (!isDone) {
      await forAllOsds(otherOsds(stripe), (uuid) =>
        this.options.peers.call(uuid, osdProcedures.internalTruncate, {
          fileCredentials: { xcap, xlocs },
          fileId,
          newFileSize: newFileBytes,
        }),
      );
    }
    return this.truncateLocally(access, newFileBytes);
  }

  /**
   * Sets the size on this OSD alone. Durable when it resolves, except where there was and is nothing.
   * @param version - object version of the truncate, for read/write replicated files.
   */
  async truncateLocally(access: FileAccess, newFileBytes: number, version?: number): Promise<OsdWriteResponse> {
    const { stripe, fileId, xcap } = access;
    if (!(newFileBytes >= 0 && newFileBytes <= fileBytesMax)) {
      throw errnoError(PosixErrno.EINVAL, `new_file_size must be 0 to 2^53 - 1, not ${newFileBytes}`);
    }
    const open = this.options.openFiles.touch(fileId);
    return this.options.store.use(fileId, async (log) => {
      if (version === undefined && truncateEpochOf(log) >= xcap.truncateEpoch) return this.currentSize(access, log);
      const local = this.knownEnd(fileId, localEnd(log, stripe.objectBytes));
      if (newFileBytes > local.fileBytes) checkVoucher(open, log, access, newFileBytes);
      await freezeBeforeChange(log, xcap, this.changeTimes(fileId));
      const last = lastObjectOf(newFileBytes, stripe.objectBytes);
      const wasNothing = log.state.isEmpty && newFileBytes === 0;
      await log.exclusive(async () => {
        if (version === undefined) checkViewStillHolds(log, access);
        if (version === undefined && truncateEpochOf(log) >= xcap.truncateEpoch) return;
        const flags = isOwned(stripe, last.object) ? flagOwned : 0;
        await log.appendNow(
          {
            type: recordType.truncate,
            flags,
            object: last.object,
            version: version ?? 0,
            offset: 0,
            objectLength: last.length,
          },
          encodeChanges({
            truncateEpoch: Math.max(truncateEpochOf(log), xcap.truncateEpoch),
            ...(version === undefined ? {} : { truncateLog: noteTruncate(log, { version, lastObject: last.object }) }),
          }),
        );
      });
      if (!wasNothing) await log.sync();
      const epoch = truncateEpochOf(log);
      if (epoch === xcap.truncateEpoch) open.reset({ epoch, lastObject: last.object, fileBytes: newFileBytes });
      return { sizeInBytes: newFileBytes, truncateEpoch: epoch };
    });
  }

  /** Deletes the file's objects; the head of a stripe passes it on. Doing it again is fine. */
  async unlink(access: FileAccess): Promise<void> {
    const { stripe, fileId, xcap, xlocs } = access;
    const others = stripe.index === 0 ? otherOsds(stripe) : [];
    const request = { fileCredentials: { xcap, xlocs }, fileId };
    const remote = forAllOsds(others, (uuid) => this.options.peers.call(uuid, osdProcedures.unlink, request));
    const outcome = await Promise.allSettled([this.remove(fileId), remote]);
    for (const part of outcome) if (part.status === 'rejected') throw part.reason as Error;
  }

  /** Deletes what this OSD holds of a file. */
  async remove(fileId: string): Promise<void> {
    this.options.openFiles.drop(fileId);
    await this.options.store.remove(fileId);
  }

  /** The end of the file as this OSD alone knows it. */
  localEnd(access: FileAccess): Promise<FileEnd> {
    return this.options.store.use(access.fileId, async (log) => localEnd(log, access.stripe.objectBytes));
  }

  /** The size of the file over all OSDs of the stripe. */
  async fileBytes(access: FileAccess): Promise<number> {
    return this.options.store.use(access.fileId, async (log) => {
      const from = this.readable(log, access);
      if (from === undefined) return 0;
      const local = localEnd(log, access.stripe.objectBytes, from);
      return (await globalEnd(access, local, this.options.openFiles, this.options.peers)).fileBytes;
    });
  }

  /**
   * Reads a whole object for the scrubber. Damage is reported, not thrown.
   * @returns bytes of the object with holes, and whether it is damaged.
   */
  async checkObject(
    access: FileAccess,
    object: number,
    reader: Pick<ReplicatedFiles, 'read'> = this,
  ): Promise<{ bytes: number; isDamaged: boolean }> {
    try {
      const { data, zeros } = await reader.read(access, object, 0, access.stripe.objectBytes);
      return { bytes: data.length + zeros, isDamaged: false };
    } catch (error) {
      if (error instanceof CorruptionError) return { bytes: access.stripe.objectBytes, isDamaged: true };
      throw error;
    }
  }

  /** Makes everything acknowledged for this file on this OSD durable. */
  async sync(access: FileAccess): Promise<void> {
    await this.options.store.use(access.fileId, (log) => log.sync());
  }

  private async currentSize(access: FileAccess, log: FileLog): Promise<OsdWriteResponse> {
    const local = localEnd(log, access.stripe.objectBytes);
    const isHead = access.stripe.index === 0;
    const end = isHead ? await globalEnd(access, local, this.options.openFiles, this.options.peers) : local;
    return { sizeInBytes: end.fileBytes, truncateEpoch: truncateEpochOf(log) };
  }

  private changeTimes(fileId: string): ChangeTimes {
    const { clock, snapshots } = this.options;
    return { nowMs: clock.now(), snapshotMs: snapshots.newestMs(volumeOf(fileId)) };
  }

  private readable(log: FileLog, { fileId, xcap }: FileAccess): ReturnType<typeof readableObjects> {
    return readableObjects(log, xcap, this.options.snapshots.seenMs(volumeOf(fileId), xcap.snapTimestamp));
  }

  private knownEnd(fileId: string, local: FileEnd): FileEnd {
    const known = this.options.openFiles.peek(fileId)?.knownSize(local.epoch);
    return known === undefined ? local : laterEnd(local, known);
  }
}

function noteTruncate(log: FileLog, entry: TruncateEntry): TruncateEntry[] {
  const entries = truncateLogOf(log).filter(({ version }) => version !== entry.version);
  return [...entries, entry].slice(-truncateLogMax);
}

/**
 * The last look before a change goes into the log: a view that ended since the request was admitted must not take it, for the file may have
 * been copied from here.
 * @throws {RpcError} INVALID_VIEW.
 */
function checkViewStillHolds(log: FileLog, { fileId, xlocs }: FileAccess): void {
  const { version, isInvalidated } = viewOf(log);
  if (version < xlocs.version || (version === xlocs.version && !isInvalidated)) return;
  throw invalidViewError(`View ${xlocs.version} of ${fileId} ended at view ${version}`);
}

/** @throws {RpcError} INSUFFICIENT_VOUCHER when a file may not grow so far, EACCES when the voucher was given back. */
export function checkVoucher(open: OpenFile, log: FileLog, access: FileAccess, fileBytes: number): void {
  const { xcap, fileId } = access;
  if (xcap.voucherSize === 0) return;
  if (finalizedVouchersOf(log).has(xcap.expireTimeMs)) {
    throw errnoError(PosixErrno.EACCES, `The voucher of ${fileId} was given back: open the file again`);
  }
  open.vouchers.register(xcap);
  const limit = open.vouchers.limit();
  if (limit !== undefined && fileBytes > limit) {
    throw insufficientVoucherError(`${fileId} may grow to ${limit} bytes, not to ${fileBytes}: increase the voucher`);
  }
}

/** @throws {RpcError} EINVAL unless the range lies in one object that this OSD owns. */
export function checkRange(access: FileAccess, object: number, offset: number, length: number): void {
  const { stripe } = access;
  if (!(object >= 0 && offset >= 0 && length >= 0 && offset + length <= stripe.objectBytes)) {
    const range = `object_number ${object}, offset ${offset}, length ${length}`;
    throw errnoError(PosixErrno.EINVAL, `${range} does not lie in an object of ${stripe.objectBytes} bytes`);
  }
  if (!isOwned(stripe, object)) {
    const owner = stripe.osdUuids[object % stripe.width] ?? '';
    throw errnoError(PosixErrno.EINVAL, `Object ${object} lies on OSD ${owner}`);
  }
}

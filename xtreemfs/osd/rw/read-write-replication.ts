import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import type { OsdWriteResponse } from '#proto/generated/xtreemfs/global-types.ts';
import { osdProcedures, type AuthoritativeReplicaState, type ReplicaStatus } from '#proto/generated/xtreemfs/osd.ts';
import { ErrorType } from '#proto/generated/xtreemfs/rpc.ts';
import { invalidViewError, redirectError, RpcError } from '#xtreemfs/rpc/errors.ts';
import { NoLeaseError, type Flease } from '#xtreemfs/replication/flease.ts';
import type { FileAccess } from '../access.ts';
import { truncateEpochOf } from '../file-attributes.ts';
import { checkRange, checkVoucher, type FileOperations } from '../file-operations.ts';
import { osdSyncLocalProcedure } from '../extensions.ts';
import type { OpenFiles } from '../open-files.ts';
import type { PeerOsds } from '../peer-osds.ts';
import type { ReplicatedFiles } from '../replicated-files.ts';
import { CorruptionError } from '../store/disk.ts';
import type { FileLog } from '../store/file-log.ts';
import type { ObjectBytes } from '../store/log-reader.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { quorum, remotesOf, requestOf, unavailable } from './quorum.ts';
import { authoritativeState, isMatching, planReset } from './replica-state.ts';
import { ReplicaSync } from './replica-sync.ts';
import { WriteOrder } from './write-order.ts';

/** What {@link ReadWriteReplication} needs. */
export interface ReadWriteReplicationOptions {
  readonly osdUuid: string;
  readonly store: ObjectStore;
  readonly files: FileOperations;
  readonly openFiles: OpenFiles;
  readonly peers: PeerOsds;
  readonly flease: Flease;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What the primary of a file remembers. */
interface PrimaryFile {
  readonly order: WriteOrder;
  /** Master epoch for which the authoritative state was collected; 0: it has to be. */
  resetEpoch: number;
  resetting: Promise<void> | undefined;
  /** Epoch and number of the last version given out. */
  versionEpoch: number;
  counter: number;
}

/** Versions of one primary's time count up from its master epoch times this. Source: protocol reference, 15.2. */
export const versionsPerEpoch = 2 ** 32;
/** Changes that may wait for one file. */
const pendingMax = 250;
/** Changes on their way to one backup. */
const outstandingMax = 512;
/** Files that are remembered at a time; idle ones without a lease go first. */
const primariesMax = 65_536;
/** How long a backup that answers may take to catch up with a new primary. */
const resetTimeoutMs = 120_000;
/** Questions in a row that a backup may leave without an answer. */
const unansweredMax = 3;
/** Between questions whether a backup has caught up; doubled each time. */
const askAgainMs = { first: 20, longest: 1_000 };
/** How long a disk may take to make a file durable. */
const syncTimeoutMs = 120_000;

/** Name of a file's Flease cell. Source: protocol reference, 15.2. */
export function cellOf(fileId: string): string {
  return `/file/${fileId}`;
}

/**
 * Files that are replicated and written in place (`WqRq`, `WaR1`), seen from the OSD that clients talk to. One replica is
 * the primary, by a lease; it alone serves clients, all others redirect to it (protocol reference, 15.2).
 *
 * Where this is stricter than upstream, so that no reader ever sees a value that later is gone: a write goes to the
 * backups first and is applied here only when enough of them have it; a new primary serves only after enough backups
 * have what it found; and under WaR1 reads, too, are served by the primary alone.
 */
export class ReadWriteReplication implements ReplicatedFiles {
  /** This OSD's own replicas. */
  readonly replicas: ReplicaSync;
  private readonly options: ReadWriteReplicationOptions;
  /**
   * How long another replica may leave a question without an answer. A lost one must not hold a file up for longer than
   * a lost primary does.
   */
  private readonly answerTimeoutMs: number;
  private readonly primaries = new Map<string, PrimaryFile>();
  /** Changes on their way, by backup. */
  private readonly outstanding = new Map<string, number>();

  constructor(options: ReadWriteReplicationOptions) {
    const { osdUuid, store, peers, flease } = options;
    this.options = options;
    this.answerTimeoutMs = flease.options.timers.leaseMs;
    this.replicas = new ReplicaSync({ osdUuid, store, peers, answerTimeoutMs: this.answerTimeoutMs });
  }

  async read(access: FileAccess, object: number, offset: number, length: number): Promise<ObjectBytes> {
    const epoch = await this.becomePrimary(access);
    const { files } = this.options;
    const bytes = await files.read(access, object, offset, length).catch(async (error: unknown) => {
      await this.primaryFile(access.fileId).order.onObject(object, () => this.repair(access, object, error));
      return files.read(access, object, offset, length);
    });
    this.checkPrimary(access, epoch);
    return bytes;
  }

  /** Gets a damaged object from another replica. @throws any other error, and damage that no replica can put right. */
  private async repair(access: FileAccess, object: number, error: unknown): Promise<void> {
    if (!(error instanceof CorruptionError)) throw error;
    const { logger } = this.options;
    const { fileId } = access;
    try {
      await this.replicas.repair(access, object);
    } catch (problem) {
      logger.error('No replica can repair a damaged object', { fileId, object, problem: describeError(problem) });
      throw error;
    }
    logger.warn('Repaired a damaged object', { fileId, object });
  }

  async write(access: FileAccess, object: number, offset: number, data: Buffer): Promise<OsdWriteResponse> {
    const { fileId, stripe } = access;
    checkRange(access, object, offset, data.length);
    const epoch = await this.becomePrimary(access);
    const file = this.primaryFile(fileId);
    return file.order.onObject(object, async () => {
      const fileBytes = object * stripe.objectBytes + offset + data.length;
      const makeWhole = (): Promise<Buffer> =>
        this.options.store.use(fileId, (log) => {
          checkVoucher(this.options.openFiles.touch(fileId), log, access, fileBytes);
          return wholeObject(log, object, offset, data, stripe.objectBytes);
        });
      const whole = await makeWhole().catch(async (error: unknown) => {
        await this.repair(access, object, error);
        return makeWhole();
      });
      this.checkPrimary(access, epoch);
      const objectVersion = nextVersion(file, epoch);
      const request = { ...requestOf(access), newFileSize: 0, objectVersion, offset: 0, objectNumber: object };
      const obj = { checksum: 0, invalidChecksumOnOsd: false, zeroPadding: 0 };
      await this.replicate(access, file, (uuid) =>
        this.options.peers.call(uuid, osdProcedures.rwrUpdate, { ...request, obj }, whole, this.answerTimeoutMs),
      );
      this.checkStillPrimary(access, epoch);
      return this.applyHere(file, () => this.options.files.write(access, object, offset, data, objectVersion));
    });
  }

  async truncate(access: FileAccess, newFileBytes: number): Promise<OsdWriteResponse> {
    const { fileId, xcap } = access;
    const epoch = await this.becomePrimary(access);
    const file = this.primaryFile(fileId);
    return file.order.onFile(async () => {
      const stored = await this.options.store.use(fileId, async (log) => truncateEpochOf(log));
      if (stored >= xcap.truncateEpoch) {
        return { sizeInBytes: await this.options.files.fileBytes(access), truncateEpoch: stored };
      }
      this.checkPrimary(access, epoch);
      const objectVersion = nextVersion(file, epoch);
      const request = { ...requestOf(access), newFileSize: newFileBytes, objectVersion };
      await this.replicate(access, file, (uuid) =>
        this.options.peers.call(uuid, osdProcedures.rwrTruncate, request, undefined, this.answerTimeoutMs),
      );
      this.checkStillPrimary(access, epoch);
      return this.applyHere(file, () => this.options.files.truncateLocally(access, newFileBytes, objectVersion));
    });
  }

  async fileBytes(access: FileAccess): Promise<number> {
    const epoch = await this.becomePrimary(access);
    const size = await this.options.files.fileBytes(access);
    this.checkPrimary(access, epoch);
    return size;
  }

  forget(fileId: string): void {
    this.primaries.delete(fileId);
    this.options.flease.close(cellOf(fileId));
  }

  /** The next request collects the state of all replicas anew. */
  forceReset(fileId: string): void {
    const file = this.primaries.get(fileId);
    if (file !== undefined) file.resetEpoch = 0;
  }

  /** Hands every lease of this OSD over, so that others take over at once. */
  async release(): Promise<void> {
    for (const fileId of [...this.primaries.keys()]) await this.options.flease.release(cellOf(fileId));
    this.primaries.clear();
  }

  /** Makes what was acknowledged durable, on as many replicas as a write needs. */
  async sync(access: FileAccess): Promise<void> {
    const { files, peers } = this.options;
    const epoch = await this.becomePrimary(access);
    const file = this.primaryFile(access.fileId);
    const backups = this.replicate(access, file, (uuid) =>
      peers.call(uuid, osdSyncLocalProcedure, requestOf(access), undefined, syncTimeoutMs),
    );
    await Promise.all([files.sync(access), backups]);
    this.checkPrimary(access, epoch);
  }

  /**
   * Waits until this OSD is the primary of a file and knows its state.
   * @returns the master epoch of its lease.
   * @throws {RpcError} REDIRECT to another primary, INVALID_VIEW, or INTERNAL_SERVER_ERROR when there is no lease to
   * get: the client then asks another replica.
   */
  private async becomePrimary(access: FileAccess): Promise<number> {
    const { flease, osdUuid } = this.options;
    const cell = cellOf(access.fileId);
    let lease = flease.lease(cell);
    if (lease.role === 'none') {
      const others = remotesOf(access, osdUuid);
      flease.open(cell, others, access.xlocs.version);
      try {
        lease = await flease.acquire(cell);
      } catch (error) {
        if (!(error instanceof NoLeaseError)) throw error;
        if (error.view !== undefined) throw invalidViewError(error.message);
        throw unavailable(error.message, error);
      }
    }
    if (lease.role === 'backup') throw redirectError(lease.holder);
    if (lease.role === 'none') throw unavailable(`No replica of ${access.fileId} holds a lease now`);
    const file = this.primaryFile(access.fileId);
    if (file.order.pending > pendingMax) throw unavailable(`Too many changes of ${access.fileId} are waiting`);
    const { masterEpoch } = lease;
    if (file.resetEpoch !== masterEpoch) {
      file.resetting ??= file.order
        .onFile(() => this.reset(access, file, masterEpoch))
        .finally(() => (file.resetting = undefined));
      await file.resetting;
      this.checkPrimary(access, masterEpoch);
    }
    return masterEpoch;
  }

  /** Collects what a quorum holds, takes it over, and waits until enough backups have it too. */
  private async reset(access: FileAccess, file: PrimaryFile, epoch: number): Promise<void> {
    const { osdUuid, logger } = this.options;
    const remotes = remotesOf(access, osdUuid);
    const statuses = new Map<string, ReplicaStatus>();
    await quorum(access, remotes, async (uuid) => statuses.set(uuid, await this.statusOf(uuid, access, epoch)));
    statuses.set(osdUuid, await this.replicas.status(access, epoch));
    const found = new Map(statuses);
    const state = authoritativeState(found);
    await this.replicas.applyState(access, state, epoch);
    const matching = new Set(
      [...found].flatMap(([uuid, status]) => (isMatching(planReset(status, state)) ? [uuid] : [])),
    );
    const over = new AbortController();
    try {
      await quorum(access, remotes, async (uuid) => {
        if (!matching.has(uuid)) await this.bringUp(uuid, access, state, epoch, over.signal);
      });
    } finally {
      over.abort();
    }
    this.checkPrimary(access, epoch);
    file.resetEpoch = epoch;
    const backupsBehind = remotes.filter((uuid) => !matching.has(uuid)).length;
    logger.info('Became primary', { fileId: access.fileId, masterEpoch: epoch, backupsBehind });
  }

  /**
   * Has a backup take a state over, and asks until it has. An answer to `rwr_auth_state` is not enough: it can get lost,
   * and upstream's OSDs give it when they begin.
   * @param signal - nobody waits for this backup any more.
   * @throws {RpcError} what the backup refuses with, or when it does not get there in time.
   */
  private async bringUp(
    uuid: string,
    access: FileAccess,
    state: AuthoritativeReplicaState,
    epoch: number,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, peers } = this.options;
    const end = clock.monotonic() + resetTimeoutMs;
    const request = { ...requestOf(access), state, masterEpoch: epoch };
    let unanswered = 0;
    for (let delayMs = askAgainMs.first; !signal.aborted; delayMs = Math.min(2 * delayMs, askAgainMs.longest)) {
      this.checkPrimary(access, epoch);
      try {
        await peers.call(uuid, osdProcedures.rwrAuthState, request, undefined, this.answerTimeoutMs);
      } catch (error) {
        // No answer may as well mean that it still fetches objects: its status tells.
        if (!isUnanswered(error)) throw error;
      }
      try {
        if (isMatching(planReset(await this.statusOf(uuid, access, epoch), state))) return;
        unanswered = 0;
      } catch (error) {
        if (!isUnanswered(error) || ++unanswered === unansweredMax) throw error;
      }
      if (clock.monotonic() > end) throw unavailable(`OSD ${uuid} does not catch up with ${access.fileId}`);
      await clock.sleep(delayMs);
    }
  }

  private async statusOf(uuid: string, access: FileAccess, masterEpoch: number): Promise<ReplicaStatus> {
    const request = { ...requestOf(access), maxLocalObjVersion: 0, masterEpoch };
    const { rwrStatus } = osdProcedures;
    const { response } = await this.options.peers.call(uuid, rwrStatus, request, undefined, this.answerTimeoutMs);
    return response;
  }

  /** Sends a change to all backups and waits for enough; when they don't come, this primary must find its state anew. */
  private async replicate(
    access: FileAccess,
    file: PrimaryFile,
    send: (uuid: string) => Promise<unknown>,
  ): Promise<void> {
    try {
      await quorum(access, remotesOf(access, this.options.osdUuid), (uuid) => this.sendTo(uuid, send));
    } catch (error) {
      file.resetEpoch = 0;
      throw error;
    }
  }

  /** A backup that lags behind gets no more than it can hold; it catches up at the next reset. */
  private async sendTo(uuid: string, send: (uuid: string) => Promise<unknown>): Promise<void> {
    const outstanding = this.outstanding.get(uuid) ?? 0;
    if (outstanding >= outstandingMax) throw unavailable(`OSD ${uuid} lags behind`);
    this.outstanding.set(uuid, outstanding + 1);
    try {
      await send(uuid);
    } finally {
      const left = (this.outstanding.get(uuid) ?? 1) - 1;
      if (left === 0) this.outstanding.delete(uuid);
      else this.outstanding.set(uuid, left);
    }
  }

  /** A change that others have must not fail here in silence: if it does, the state is found anew. */
  private async applyHere<T>(file: PrimaryFile, apply: () => Promise<T>): Promise<T> {
    try {
      return await apply();
    } catch (error) {
      file.resetEpoch = 0;
      throw error;
    }
  }

  /** As `checkPrimary` once backups have a change: a redirect would have the client do it a second time. */
  private checkStillPrimary(access: FileAccess, epoch: number): void {
    const { role, masterEpoch } = this.options.flease.lease(cellOf(access.fileId));
    if (role === 'primary' && masterEpoch === epoch) return;
    throw unavailable(`The lease of ${access.fileId} ended during a change: whether it was made is open`);
  }

  private checkPrimary(access: FileAccess, epoch: number): void {
    const lease = this.options.flease.lease(cellOf(access.fileId));
    if (lease.role === 'primary' && lease.masterEpoch === epoch) return;
    if (lease.role === 'backup') throw redirectError(lease.holder);
    throw unavailable(`This OSD is not the primary of ${access.fileId} any more`);
  }

  private sweep(): void {
    for (const [fileId, { order }] of this.primaries) {
      const isIdle = order.pending === 0 && this.options.flease.lease(cellOf(fileId)).role !== 'primary';
      if (isIdle) this.primaries.delete(fileId);
    }
  }

  private primaryFile(fileId: string): PrimaryFile {
    let file = this.primaries.get(fileId);
    if (file === undefined) {
      if (this.primaries.size >= primariesMax) this.sweep();
      file = { order: new WriteOrder(), resetEpoch: 0, resetting: undefined, versionEpoch: 0, counter: 0 };
      this.primaries.set(fileId, file);
    }
    return file;
  }
}

/** No answer came: the call may or may not have been carried out. */
function isUnanswered(error: unknown): boolean {
  return error instanceof RpcError && error.errorType === ErrorType.IO_ERROR;
}

async function wholeObject(
  log: FileLog,
  object: number,
  offset: number,
  data: Buffer,
  objectBytes: number,
): Promise<Buffer> {
  if (offset === 0 && data.length === objectBytes) return data;
  const before = await log.read(object, 0, objectBytes);
  const length = Math.max(offset + data.length, before === undefined ? 0 : before.data.length + before.zeros);
  const whole = Buffer.alloc(length);
  before?.data.copy(whole);
  data.copy(whole, offset);
  return whole;
}

function nextVersion(file: PrimaryFile, epoch: number): number {
  if (file.versionEpoch !== epoch) {
    file.versionEpoch = epoch;
    file.counter = 0;
  }
  return epoch * versionsPerEpoch + ++file.counter;
}

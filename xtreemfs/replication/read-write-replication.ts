import type { Clock, Timer } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { LeaseState, type OsdWriteResponse } from '#proto/generated/xtreemfs/global-types.ts';
import type {
  AuthoritativeReplicaState,
  ReplicaStatus,
  RwrFetchRequest,
  RwrTruncateRequest,
  RwrUpdateRequest,
} from '#proto/generated/xtreemfs/osd.ts';
import { ErrorType, PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { RpcError } from '../rpc/errors.ts';
import { fromAuthoritativeMessage, holdsState, isTruncated, toStatusMessage } from './authoritative-state.ts';
import type { CellStore } from './flease-acceptor.ts';
import type { Flease } from './flease.ts';
import { cellOf, ReplicaGroup, versionsPerEpoch } from './replica-group.ts';
import type { ReplicaPeers } from './replica-peers.ts';
import type { ReadBytes, ReplicatedFile, ReplicaStore, WholeObject } from './replica-store.ts';

/** What read/write replication on one OSD needs. */
export interface ReadWriteReplicationOptions<F extends ReplicatedFile> {
  readonly osdUuid: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly flease: Flease;
  readonly cells: CellStore;
  readonly store: ReplicaStore<F>;
  readonly peers: ReplicaPeers;
  /** Leases are handed over in order; leave it out when the group has upstream's OSDs. */
  readonly handsOver: boolean;
}

/** How far bringing a replica up to date has come. */
export interface RepairStatus {
  readonly isRunning: boolean;
  readonly isComplete: boolean;
}

const idleMs = 60_000;
const sweepMs = 30_000;

/**
 * Read/write replication (policies `WqRq` and `WaR1`) on one OSD: serves clients where it is primary, takes changes where
 * it is backup. Protocol reference, 15.2 to 15.4. Unlike upstream's, backups of `WaR1` files do not serve reads: two reads
 * at two backups could see a write and then not see it.
 */
export class ReadWriteReplication<F extends ReplicatedFile> {
  private readonly options: ReadWriteReplicationOptions<F>;
  private readonly groups = new Map<string, ReplicaGroup<F>>();
  private readonly repairs = new Map<string, Promise<void>>();
  private sweeper: Timer | undefined;

  constructor(options: ReadWriteReplicationOptions<F>) {
    this.options = options;
  }

  async read(file: F, object: number, offset: number, length: number): Promise<ReadBytes> {
    return this.group(file.fileId).read(file, object, offset, length);
  }

  async write(file: F, object: number, offset: number, data: Buffer): Promise<OsdWriteResponse> {
    return this.group(file.fileId).write(file, object, offset, data);
  }

  async truncate(file: F, newFileBytes: number): Promise<OsdWriteResponse> {
    return this.group(file.fileId).truncate(file, newFileBytes);
  }

  async fileBytes(file: F): Promise<number> {
    return this.group(file.fileId).fileBytes(file);
  }

  /** The file is being deleted. */
  forget(fileId: string): void {
    this.groups.delete(fileId);
    this.options.flease.close(cellOf(fileId));
  }

  /**
   * A backup takes a whole object (rwr_update).
   * @throws {RpcError} IO_ERROR when it comes from a primary that was replaced, or is older than what is here.
   */
  async takeUpdate(file: F, request: RwrUpdateRequest, data: Buffer): Promise<void> {
    const { store } = this.options;
    const { objectNumber: object, objectVersion: version, obj } = request;
    const group = this.member(file);
    await this.checkEpoch(file, version);
    const zeros = Buffer.alloc(obj.zeroPadding);
    const whole: WholeObject = { version, data: zeros.length === 0 ? data : Buffer.concat([data, zeros]) };
    await group.lock.object(object, async () => {
      if (isTruncated(object, version, await store.truncates(file))) return;
      const own = await store.version(file, object);
      if (own !== undefined && own > version) throw outdated(`Object ${object} of ${file.fileId} is newer here`);
      if (own !== version) await store.replace(file, object, whole);
    });
  }

  /** A backup takes a truncate (rwr_truncate). @throws {RpcError} as `takeUpdate`. */
  async takeTruncate(file: F, request: RwrTruncateRequest): Promise<void> {
    const { store } = this.options;
    const { objectVersion: version, newFileSize } = request;
    const group = this.member(file);
    await this.checkEpoch(file, version);
    await group.lock.all(async () => {
      const { truncates, objects } = await store.state(file);
      if (truncates.some((record) => record.version === version)) return;
      for (const own of objects.values()) {
        if (own > version) throw outdated(`${file.fileId} has changes that are newer than this truncate`);
      }
      await store.truncate(file, newFileSize, version);
    });
  }

  /** What this replica holds (rwr_status). */
  async status(file: F): Promise<ReplicaStatus> {
    const group = this.member(file);
    const state = await group.lock.all(() => this.options.store.state(file));
    return toStatusMessage(state, await this.options.cells.loadEpoch(cellOf(file.fileId)));
  }

  /** A whole object for another replica (rwr_fetch). @throws {RpcError} IO_ERROR when this version is not here. */
  async fetch(file: F, request: RwrFetchRequest): Promise<Buffer> {
    const { objectNumber, objectVersion } = request;
    const whole = await this.group(file.fileId).lock.object(objectNumber, () =>
      this.options.store.readWhole(file, objectNumber),
    );
    if (whole?.version !== objectVersion) {
      throw outdated(`Object ${objectNumber} of ${file.fileId} has version ${whole?.version ?? 'none'} here`);
    }
    return whole.data;
  }

  /**
   * Brings this replica to a state, in the background (rwr_auth_state and, while the view is invalidated,
   * rwr_auth_state_invalidated).
   * @throws {RpcError} IO_ERROR when it comes from a primary that was replaced.
   */
  async takeState(file: F, message: AuthoritativeReplicaState): Promise<RepairStatus> {
    const { cells, logger } = this.options;
    const epoch = await cells.loadEpoch(cellOf(file.fileId));
    if (message.primaryEpoch !== undefined && message.primaryEpoch < epoch) {
      throw outdated(`The state of ${file.fileId} comes from epoch ${message.primaryEpoch}, this OSD knows ${epoch}`);
    }
    const before = this.repairs.get(file.fileId) ?? Promise.resolve();
    const repair = before
      .then(() => this.group(file.fileId).repair(file, fromAuthoritativeMessage(message)))
      .catch((error: unknown) => {
        logger.warn('Bringing a replica up to date failed', { fileId: file.fileId, problem: describeError(error) });
      })
      .finally(() => {
        if (this.repairs.get(file.fileId) === repair) this.repairs.delete(file.fileId);
      });
    this.repairs.set(file.fileId, repair);
    return this.repairStatus(file, message);
  }

  /** How far `takeState` has come (rwr_reset_status). */
  async repairStatus(file: F, message: AuthoritativeReplicaState): Promise<RepairStatus> {
    const state = await this.options.store.state(file);
    return {
      isRunning: this.repairs.has(file.fileId),
      isComplete: holdsState(state, fromAuthoritativeMessage(message)),
    };
  }

  /**
   * The view was invalidated, durably, by the caller (xloc_set_invalidate): nobody is served until a newer view comes.
   * @returns what this OSD was, and what it holds.
   */
  async invalidate(file: F): Promise<{ leaseState: LeaseState; replicaStatus: ReplicaStatus }> {
    const { role } = this.options.flease.lease(cellOf(file.fileId));
    const group = this.group(file.fileId);
    group.invalidate();
    const states = { primary: LeaseState.PRIMARY, backup: LeaseState.BACKUP, none: LeaseState.IDLE };
    // Changes that are under way end first, so that what is reported is what stays.
    const state = await group.lock.all(() => this.options.store.state(file));
    const epoch = await this.options.cells.loadEpoch(cellOf(file.fileId));
    return { leaseState: states[role], replicaStatus: toStatusMessage(state, epoch) };
  }

  /** The replica set was changed (rwr_notify): the next request collects the state of all replicas. */
  notify(file: F): void {
    this.member(file).stepDown();
  }

  /** Begins to let go of files that nobody uses. */
  start(): void {
    this.sweeper = this.options.clock.after(
      sweepMs,
      () => {
        void this.letGo(this.options.clock.monotonic() - idleMs);
        this.options.flease.sweep();
        this.start();
      },
      { unref: true },
    );
  }

  /** Hands every lease over and stops. */
  async stop(): Promise<void> {
    this.sweeper?.cancel();
    await this.letGo(Infinity);
    await Promise.all(this.repairs.values());
    this.options.flease.stop();
  }

  private async letGo(usedBefore: number): Promise<void> {
    const { flease, handsOver } = this.options;
    const releases: Promise<void>[] = [];
    for (const [fileId, group] of this.groups) {
      if (group.lastUsed > usedBefore || (!group.isIdle && usedBefore !== Infinity)) continue;
      this.groups.delete(fileId);
      group.stepDown();
      if (handsOver) releases.push(flease.release(cellOf(fileId)));
      else flease.close(cellOf(fileId));
    }
    await Promise.all(releases);
  }

  /** The group of a file that this OSD is a member of by the request's replica set. */
  private member(file: F): ReplicaGroup<F> {
    const group = this.group(file.fileId);
    group.configure(file);
    return group;
  }

  private group(fileId: string): ReplicaGroup<F> {
    let group = this.groups.get(fileId);
    if (group === undefined) {
      group = new ReplicaGroup(fileId, this.options);
      this.groups.set(fileId, group);
    }
    return group;
  }

  /** Refuses changes of a primary that a majority, with this OSD in it, has replaced since. */
  private async checkEpoch(file: F, version: number): Promise<void> {
    const epoch = Math.floor(version / versionsPerEpoch);
    const known = await this.options.cells.loadEpoch(cellOf(file.fileId));
    if (epoch < known)
      throw outdated(`${file.fileId} has a primary of epoch ${known}, the change is of epoch ${epoch}`);
  }
}

function outdated(message: string): RpcError {
  return new RpcError(message, { errorType: ErrorType.IO_ERROR, posixErrno: PosixErrno.EIO });
}

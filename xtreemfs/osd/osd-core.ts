import type { Clock, Timer } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import type { Random } from '#common/random.ts';
import type { FleaseTimers } from '#xtreemfs/replication/flease-proposer.ts';
import type { Flease } from '#xtreemfs/replication/flease.ts';
import type { RpcServer } from '#xtreemfs/rpc/server.ts';
import type { CapabilityKeys } from '#xtreemfs/service/capability.ts';
import { AccessControl } from './access.ts';
import { registerAdminHandlers } from './admin-handlers.ts';
import { Cleanup } from './cleanup.ts';
import { volumeOf, type VolumeService } from './cluster.ts';
import { registerFileHandlers } from './file-handlers.ts';
import { FileOperations } from './file-operations.ts';
import { dropUnusedVersions } from './file-versions.ts';
import { registerLockHandlers } from './lock-handlers.ts';
import { OpenFiles } from './open-files.ts';
import type { PeerOsds } from './peer-osds.ts';
import { ReadOnlyReplication } from './read-only-replication.ts';
import { registerReplicaHandlers } from './replica-handlers.ts';
import { makeFlease, markRunning, registerFlease, unmarkRunning } from './rw/flease-link.ts';
import { ReadWriteReplication } from './rw/read-write-replication.ts';
import { registerRwHandlers } from './rw/rw-handlers.ts';
import { Scrubber } from './scrubber.ts';
import { SnapshotBook } from './snapshot-book.ts';
import type { Disk } from './store/disk.ts';
import { ObjectStore, type StoreOptions } from './store/object-store.ts';

/** Everything an OSD needs from outside; no ports, no DIR. */
export interface OsdCoreOptions {
  readonly osdUuid: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly random: Random;
  readonly disk: Disk;
  readonly keys: CapabilityKeys;
  /** Global time, milliseconds. */
  readonly globalTimeMs: () => number;
  readonly peers: PeerOsds;
  readonly volumes: VolumeService;
  readonly store?: StoreOptions;
  readonly adminPassword?: string;
  readonly ignoreCapabilities?: boolean;
  readonly syncWrites?: boolean;
  readonly syncOnClose?: boolean;
  /** How often acknowledged data is made durable without being asked; 0 leaves it to the kernel. */
  readonly flushIntervalMs?: number;
  readonly scrubBytesPerSecond?: number;
  readonly scrubIntervalMs?: number;
  /** Times of leases; they must be the same at all replicas of a file. */
  readonly leases?: FleaseTimers;
  /** Where other OSDs reach this one. */
  readonly self: () => { readonly host: string; readonly port: number };
  /** Ends the process, gracefully. */
  readonly shutdown: () => void;
}

/**
 * Times of leases among our own OSDs: another one takes over at most 4.3 s after a primary died. Upstream's are 14 s and
 * 1 s; groups with upstream's OSDs must use those.
 */
export const ownTimers: FleaseTimers = { leaseMs: 4_000, dMaxMs: 300, messageTimeoutMs: 250, retriesMax: 3 };

const sweepMs = 60_000;
/** How often snapshots are looked at without being told of: what the MRC said while this OSD was away was missed. */
const snapshotLookMs = 600_000;

/** An OSD without its network: the object store, the rules of the protocol, and what goes on in the background. */
export class OsdCore {
  readonly store: ObjectStore;
  readonly access: AccessControl;
  readonly files: FileOperations;
  readonly openFiles: OpenFiles;
  readonly readOnlyFiles: ReadOnlyReplication;
  readonly readWriteFiles: ReadWriteReplication;
  readonly flease: Flease;
  readonly cleanup: Cleanup;
  readonly scrubber: Scrubber;
  readonly snapshots: SnapshotBook;
  private readonly options: OsdCoreOptions;
  private readonly timers: Timer[] = [];
  private readonly background = new Set<Promise<void>>();
  private isStopping = false;
  private flushFailure: string | undefined;

  private constructor(options: OsdCoreOptions, store: ObjectStore, snapshots: SnapshotBook, mustWait: boolean) {
    const { osdUuid, clock, logger, random, keys, globalTimeMs, peers, volumes } = options;
    const { adminPassword, ignoreCapabilities = false, syncWrites = false } = options;
    this.options = options;
    this.store = store;
    this.snapshots = snapshots;
    this.openFiles = new OpenFiles(clock);
    this.access = new AccessControl({
      osdUuid,
      keys,
      globalTimeMs,
      store,
      ignoreCapabilities,
      ...(adminPassword === undefined ? {} : { adminPassword }),
    });
    this.files = new FileOperations({ store, openFiles: this.openFiles, peers, clock, snapshots, syncWrites });
    const markComplete = (fileId: string): Promise<void> => volumes.markComplete(fileId);
    this.readOnlyFiles = new ReadOnlyReplication({ osdUuid, store, peers, random, logger, markComplete });
    const { leases: timers = ownTimers, self } = options;
    this.flease = makeFlease({
      osdUuid,
      clock,
      globalTimeMs,
      random,
      logger,
      timers,
      store,
      peers,
      self,
      mustWait,
    });
    const { files, openFiles, flease } = this;
    this.readWriteFiles = new ReadWriteReplication({ osdUuid, store, files, openFiles, peers, flease, clock, logger });
    this.cleanup = new Cleanup({ store, volumes, clock, remove: (fileId) => this.files.remove(fileId) });
    this.scrubber = new Scrubber({
      store,
      clock,
      logger,
      bytesPerSecond: options.scrubBytesPerSecond ?? 10 * 1024 * 1024,
      intervalMs: options.scrubIntervalMs ?? 7 * 24 * 3_600_000,
    });
    store.onBackgroundFailure = (fileId, error) => {
      logger.warn('Tidying a file failed', { fileId, problem: describeError(error) });
    };
  }

  /** Opens the store. @throws {DiskFailure} when the disk can't be used. */
  static async open(options: OsdCoreOptions): Promise<OsdCore> {
    const store = await ObjectStore.open(options.disk, { clock: options.clock, ...options.store });
    const snapshots = await SnapshotBook.open(options);
    return new OsdCore(options, store, snapshots, await markRunning(options.disk));
  }

  /** Registers all procedures. */
  register(server: RpcServer): void {
    const { osdUuid, keys, globalTimeMs, syncOnClose = false } = this.options;
    const { access, files, store, openFiles, readOnlyFiles, readWriteFiles } = this;
    const shared = { osdUuid, access, files, store, openFiles, keys, globalTimeMs, readOnlyFiles };
    registerFileHandlers(server, { ...shared, readWriteFiles, syncOnClose });
    registerLockHandlers(server, shared);
    registerReplicaHandlers(server, shared);
    registerFlease(server, this.flease);
    registerRwHandlers(server, { ...shared, flease: this.flease, replication: readWriteFiles });
    registerAdminHandlers(server, {
      access,
      cleanup: this.cleanup,
      startVersionCleanup: () => this.keep(this.cleanVersions()),
      lookAtSnapshots: async (volumeId) => {
        if (await this.snapshots.look(volumeId)) this.keep(this.dropVersions(new Set([volumeId])));
      },
      shutdown: this.options.shutdown,
    });
  }

  /** Begins what goes on in the background. */
  start(): void {
    const { flushIntervalMs = 5_000 } = this.options;
    this.repeat(sweepMs, async () => {
      this.openFiles.sweep();
      this.flease.sweep();
    });
    if (flushIntervalMs > 0) this.repeat(flushIntervalMs, () => this.flush());
    if (this.options.scrubIntervalMs !== 0) this.scrubber.start();
    this.keep(this.lookAtSnapshots());
    this.repeat(snapshotLookMs, () => this.lookAtSnapshots());
  }

  /** Why the OSD can't be relied on; undefined when it can. */
  get problem(): string | undefined {
    return this.flushFailure;
  }

  /** Hands the leases of this OSD over, while it still answers others. */
  async handOver(): Promise<void> {
    await this.readWriteFiles.release();
  }

  /** Ends the background work and makes everything durable. Requests must have ended. */
  async stop(): Promise<void> {
    this.isStopping = true;
    for (const timer of this.timers) timer.cancel();
    this.flease.stop();
    await this.cleanup.stop();
    await this.scrubber.stop();
    await this.readOnlyFiles.settle();
    for (const task of [...this.background]) await task;
    await this.store.close();
    await unmarkRunning(this.options.disk);
  }

  private async flush(): Promise<void> {
    try {
      await this.store.syncAll();
      this.flushFailure = undefined;
    } catch (error) {
      this.flushFailure = describeError(error);
      this.options.logger.error('Making data durable failed', { problem: this.flushFailure });
    }
  }

  /** Drops versions of files in volumes without snapshots now; the MRC knows the times of those that have some. */
  private async cleanVersions(): Promise<void> {
    for await (const fileId of this.store.fileIds()) {
      if (this.isStopping) return;
      try {
        const volumeId = volumeOf(fileId);
        const times = await this.options.volumes.snapshotTimes(volumeId);
        if (times === undefined) continue;
        await this.dropVersionsOf(fileId, times);
      } catch (error) {
        this.options.logger.warn('Cleaning file versions failed', { fileId, problem: describeError(error) });
      }
    }
  }

  private async lookAtSnapshots(): Promise<void> {
    await this.dropVersions(new Set(await this.snapshots.lookAtAll()));
  }

  /** Drops the versions of files in volumes that have fewer snapshots than before: their space is free again. */
  private async dropVersions(volumeIds: ReadonlySet<string>): Promise<void> {
    if (volumeIds.size === 0) return;
    for await (const fileId of this.store.fileIds()) {
      if (this.isStopping) return;
      const volumeId = volumeOf(fileId);
      if (volumeIds.has(volumeId)) await this.dropVersionsOf(fileId, this.snapshots.timesMs(volumeId));
    }
  }

  private async dropVersionsOf(fileId: string, timesMs: readonly number[]): Promise<void> {
    const seenMs = timesMs.map((timeMs) => this.snapshots.seenMs(volumeOf(fileId), timeMs));
    await this.store.use(fileId, async (log) => {
      if ((await dropUnusedVersions(log, seenMs)) > 0) this.store.tidyFile(fileId);
    });
  }

  private repeat(intervalMs: number, task: () => Promise<void>): void {
    const slot = this.timers.length;
    const next = (): void => {
      if (this.isStopping) return;
      this.timers[slot] = this.options.clock.after(intervalMs, () => this.keep(task().finally(next)), { unref: true });
    };
    next();
  }

  private keep(task: Promise<void>): void {
    const kept: Promise<void> = task
      .catch((error: unknown) => {
        this.options.logger.error('Background work failed', { problem: describeError(error) });
      })
      .finally(() => this.background.delete(kept));
    this.background.add(kept);
  }
}

import type { Clock, Timer } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import { inParallel } from '#common/parallel.ts';
import type { FileCredentials } from '#proto/generated/xtreemfs/global-types.ts';
import type { Logger } from '#common/logger.ts';
import { refuse } from '../core/errno.ts';
import { isChangeHeld } from '../core/changes.ts';
import { changesPrefix, inodesPrefix, metaKey, readU32, readU48 } from '../core/keys.ts';
import { decodeInode } from '../core/records.ts';
import { purgeErased, purgeOrphans, unshownFiles } from '../core/removal.ts';
import { decodeVolume, encodeVolume, isSnapshot, type Snapshot, type Volume } from '../core/volume.ts';
import { volumePrefixes } from '../core/volumes.ts';
import type { Engine } from '../engine.ts';
import type { OsdCalls } from '../replication/osd-calls.ts';
import { systemCaller } from '../engine.ts';
import type { Key, KvReader } from '../store/kv.ts';
import { copyTree } from './snapshot.ts';
import { dumpDatabase } from './dump.ts';
import { restoreDatabase } from './restore.ts';

/** What maintenance is made of. */
export interface MaintenanceOptions {
  readonly engine: Engine;
  readonly osds: Pick<OsdCalls, 'unlink' | 'lookAtSnapshots'>;
  /** UUIDs of all OSDs that may hold files. */
  readonly osdUuids: () => readonly string[];
  readonly clock: Clock;
  readonly logger: Logger;
  /** Folder where dumps are written and read. */
  readonly dumpFolder: string;
  /** Pause between two looks for orphans, milliseconds. */
  readonly orphanIntervalMs: number;
}

/** Records removed or copied in one transaction. */
const batchRecords = 1000;
/** Files whose objects are deleted at a time. */
const erasedAtOnce = 8;
/** Prefix of the marks of volumes whose records are being removed. */
const purgePrefix = 'Mpurge:';

/** The volume of a mark; undefined for one of an earlier version, which had its name alone. */
function readMark(value: Uint8Array): Volume | undefined {
  return value[0] === '{'.charCodeAt(0) ? decodeVolume(value) : undefined;
}

/** Work on whole volumes and on the store, in small steps between requests. */
export class Maintenance {
  private readonly options: MaintenanceOptions;
  private timer: Timer | undefined;
  private isStopped = false;
  private purging: Promise<void> = Promise.resolve();
  /** Marks of snapshots whose objects could not all be deleted: tried again with the next look for orphans. */
  private readonly waiting = new Set<Key>();
  private dumping: Promise<void> | undefined;

  constructor(options: MaintenanceOptions) {
    this.options = options;
  }

  /** Finishes what an earlier run began, and looks for orphans from now on. */
  async start(): Promise<void> {
    const { engine } = this.options;
    for (const volume of engine.allVolumes()) {
      const parent =
        volume.snapshotOf === undefined
          ? volume
          : engine.allVolumes().find((held) => held.number === volume.snapshotOf?.volume);
      if (volume.snapshotOf?.isComplete === false || parent === undefined) await this.drop(volume);
    }
    this.purging = this.purgeMarked();
    this.schedule();
  }

  async stop(): Promise<void> {
    this.isStopped = true;
    this.timer?.cancel();
    await this.purging;
    await this.dumping?.catch(() => undefined);
  }

  /** Removes a volume and its snapshots; their records go in the background, also over a restart. */
  async removeVolume(volume: Volume): Promise<void> {
    for (const snapshot of this.options.engine.env.snapshotsOf(volume)) await this.drop(snapshot);
    await this.drop(volume);
    this.purging = this.purging.then(() => this.purgeMarked());
  }

  /**
   * Freezes the tree of a directory as the volume `<volume>@<name>`; resolves when it can be mounted. OSDs keep what files hold from then on;
   * one that does not answer shows what it keeps by itself (ADR 0053), and a strict snapshot is not made then.
   * @throws {PosixError} EEXIST, EAGAIN while files of the volume move, EIO when an OSD does not answer.
   */
  async createSnapshot(
    volume: Volume,
    ino: number,
    name: string,
    { isRecursive, isStrict }: { readonly isRecursive: boolean; readonly isStrict: boolean },
  ): Promise<void> {
    const { engine, logger } = this.options;
    const snapshot = await engine.run(systemCaller, (op) => {
      if (engine.env.snapshotsOf(volume).some((held) => held.snapshotOf.name === name))
        refuse('EEXIST', `There is a snapshot ${name} already`);
      const number = engine.nextVolumeNumber(op.tx);
      const made: Volume = {
        ...volume,
        number,
        snapshotOf: { volume: volume.number, name, timeMs: op.tx.nowMs, rootIno: ino, isComplete: false },
      };
      op.tx.putVolume(made);
      return made;
    });
    const view = await engine.store.view();
    try {
      await this.demandStill(volume, view);
      if (isStrict) await this.haveOsdsLook(volume);
      else await this.tryToHaveOsdsLook(volume);
      const copied = await copyTree(engine, view, { from: volume.number, to: snapshot.number, ino, isRecursive });
      logger.info('Snapshot made', { Volume: volume.name, snapshot: name, records: copied });
    } catch (error) {
      await this.dropSnapshot(volume, snapshot);
      throw error;
    } finally {
      view.close();
    }
    await engine.run(systemCaller, (op) => {
      const { snapshotOf } = snapshot;
      if (snapshotOf !== undefined) op.tx.putVolume({ ...snapshot, snapshotOf: { ...snapshotOf, isComplete: true } });
    });
  }

  async deleteSnapshot(volume: Volume, name: string): Promise<void> {
    const snapshot = this.options.engine.snapshotsOf(volume).find((held) => held.snapshotOf.name === name);
    if (snapshot === undefined) refuse('ENOENT', `${volume.name} has no snapshot ${name}`);
    await this.dropSnapshot(volume, snapshot);
  }

  private async dropSnapshot(volume: Volume, snapshot: Volume): Promise<void> {
    await this.drop(snapshot);
    this.purging = this.purging.then(() => this.purgeMarked());
    // One that doesn't answer now looks by itself later.
    await this.tryToHaveOsdsLook(volume);
  }

  private async tryToHaveOsdsLook(volume: Volume): Promise<void> {
    await this.haveOsdsLook(volume).catch((error: unknown) => {
      this.options.logger.warn('An OSD was not told of snapshots', {
        Volume: volume.name,
        problem: describeError(error),
      });
    });
  }

  /** @throws {PosixError} EIO naming an OSD that does not answer. */
  private async haveOsdsLook({ id }: Volume): Promise<void> {
    const { osds, osdUuids } = this.options;
    await inParallel([...osdUuids()], erasedAtOnce, async (osd) => {
      try {
        await osds.lookAtSnapshots(osd, id);
      } catch (error) {
        const why = describeError(error);
        refuse('EIO', `OSD ${osd} does not keep what the snapshot shows: ${why}; see that it serves, or remove it`);
      }
    });
  }

  /** @throws {PosixError} EAGAIN while replicas of files are changed: the OSDs that a snapshot would name may be left. */
  private async demandStill(volume: Volume, view: KvReader): Promise<void> {
    const prefix = changesPrefix(volume.number);
    const changes = view.scan({ prefix, limit: batchRecords }).map(({ key }) => readU48(key, prefix.length));
    const isHeld = await this.options.engine.run(systemCaller, (op) =>
      changes.some((ino) => {
        const inode = op.tx.findInode(volume.number, ino);
        return inode !== undefined && isChangeHeld(op, inode);
      }),
    );
    if (isHeld) refuse('EAGAIN', `Files of ${volume.name} are moving: make the snapshot when that is over`);
  }

  /** Moves the log's changes into the database (procedure 30). */
  async checkpoint(): Promise<void> {
    (await this.options.engine.store.view()).close();
  }

  /** Writes a consistent dump while the MRC goes on working (procedure 32). One at a time. */
  async dump(file: string): Promise<void> {
    if (this.dumping !== undefined) refuse('EAGAIN', 'Another dump or restore is being made');
    this.dumping = dumpDatabase(this.options.engine, this.options.dumpFolder, file).finally(
      () => (this.dumping = undefined),
    );
    await this.dumping;
    this.options.logger.info('Database dumped', { file });
  }

  /** Reads a dump into an empty database (procedure 42). */
  async restore(file: string): Promise<void> {
    if (this.dumping !== undefined) refuse('EAGAIN', 'Another dump or restore is being made');
    this.dumping = restoreDatabase(this.options.engine, this.options.dumpFolder, file).finally(
      () => (this.dumping = undefined),
    );
    await this.dumping;
    this.options.logger.info('Database restored', { file });
  }

  /** Resolves when nothing is being removed (tests). */
  async settle(): Promise<void> {
    await this.purging;
  }

  private async drop(volume: Volume): Promise<void> {
    await this.options.engine.run(systemCaller, (op) => {
      op.tx.removeVolume(volume.number);
      op.tx.put(metaKey(`purge:${volume.number}`), encodeVolume(volume));
    });
  }

  private async purgeMarked(): Promise<void> {
    const { engine, logger } = this.options;
    try {
      for (;;) {
        const limit = 100 + this.waiting.size;
        const all = await engine.run(systemCaller, (op) => op.tx.scan({ prefix: purgePrefix, limit }));
        const marks = all.filter(({ key }) => !this.waiting.has(key));
        if (marks.length === 0 || this.isStopped) return;
        for (const { key, value } of marks) {
          const volume = readMark(value);
          if (volume !== undefined && isSnapshot(volume) && !(await this.eraseUnshown(volume))) this.waiting.add(key);
          else await this.purge(Number(key.slice(purgePrefix.length)), key);
        }
      }
    } catch (error) {
      logger.error('Records of a removed volume stay until the next start', { problem: describeError(error) });
    }
  }

  /** Deletes the objects of files that only this snapshot showed. @returns false when that has to be tried again. */
  private async eraseUnshown(snapshot: Snapshot): Promise<boolean> {
    const { engine } = this.options;
    const prefix = inodesPrefix(snapshot.number);
    let failures = 0;
    let after: Key | undefined;
    const view = await engine.store.view();
    try {
      for (let isMore = true; isMore && !this.isStopped;) {
        const page = view.scan({ prefix, limit: batchRecords, ...(after === undefined ? {} : { after }) });
        const inodes = page.map(({ key, value }) => decodeInode(snapshot.number, readU48(key, prefix.length), value));
        const files = await engine.run(systemCaller, (op) => unshownFiles(op, snapshot, inodes));
        await inParallel(files, erasedAtOnce, async (creds) => {
          if (!(await this.unlink(creds))) failures++;
        });
        after = page.at(-1)?.key;
        isMore = page.length === batchRecords;
      }
    } finally {
      view.close();
    }
    return failures === 0 && !this.isStopped;
  }

  private async purge(number: number, mark: string): Promise<void> {
    const { engine } = this.options;
    for (const prefix of volumePrefixes(number)) {
      for (let isMore = true; isMore && !this.isStopped;) {
        const view = await this.keysOf(prefix);
        await engine.run(systemCaller, (op) => {
          for (const key of view.keys) if (readU32(key, 1) === number) op.tx.remove(key);
        });
        isMore = view.isMore;
      }
    }
    if (!this.isStopped) await engine.run(systemCaller, (op) => op.tx.remove(mark));
  }

  /** Keys of a whole table of a volume can't be scanned in memory (see `bucketOf`): they are taken from a frozen view. */
  private async keysOf(prefix: string): Promise<{ keys: string[]; isMore: boolean }> {
    const view = await this.options.engine.store.view();
    try {
      const limit = batchRecords * 20;
      const keys = view.scan({ prefix, limit }).map((entry) => entry.key);
      return { keys, isMore: keys.length === limit };
    } finally {
      view.close();
    }
  }

  private async purgeOrphans(): Promise<void> {
    const { engine } = this.options;
    for (let isMore = true; isMore && !this.isStopped;) {
      const purged = await engine.run(systemCaller, (op) => purgeOrphans(op, batchRecords));
      await inParallel(purged.toErase, erasedAtOnce, async (creds) => {
        if (!this.isStopped) await this.erase(creds);
      });
      isMore = purged.isMore;
    }
  }

  private async erase(creds: FileCredentials): Promise<void> {
    if (!(await this.unlink(creds))) return;
    await this.options.engine.run(systemCaller, (op) => {
      purgeErased(op, creds.xcap.fileId);
    });
  }

  /** Deletes the objects of a file. @returns whether all OSDs did. */
  private async unlink(creds: FileCredentials): Promise<boolean> {
    const { osds, logger } = this.options;
    try {
      for (const { osdUuids } of creds.xlocs.replicas) await osds.unlink(osdUuids[0] ?? '', creds);
      return true;
    } catch (error) {
      logger.warn('Objects of an unlinked file stay for now', {
        fileId: creds.xcap.fileId,
        problem: describeError(error),
      });
      return false;
    }
  }

  private schedule(): void {
    const { clock, orphanIntervalMs, logger } = this.options;
    this.timer = clock.after(
      orphanIntervalMs,
      () => {
        void (async (): Promise<void> => {
          try {
            await this.purgeOrphans();
            if (this.waiting.size > 0) {
              this.waiting.clear();
              this.purging = this.purging.then(() => this.purgeMarked());
            }
          } catch (error) {
            logger.error('Unlinked files not removed', { problem: describeError(error) });
          }
          if (!this.isStopped) this.schedule();
        })();
      },
      { unref: true },
    );
  }
}

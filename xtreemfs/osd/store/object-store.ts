import { createHash } from 'node:crypto';
import { systemClock, type Clock } from '#common/clock.ts';
import { InvalidInputError } from '#common/errors.ts';
import {
  compact,
  compactionDefaults,
  extentsMaxOf,
  isCompactionDue,
  rewriteObject,
  type CompactionLimits,
} from './compaction.ts';
import { diskFailure, type Disk, type DiskSpace } from './disk.ts';
import { replaceFile } from './disk-files.ts';
import { FileLog, type LogEnvironment } from './file-log.ts';
import type { LogPaths } from './log-paths.ts';
import { SegmentFiles } from './segment-files.ts';

/** Limits of an {@link ObjectStore}. */
export interface StoreOptions {
  /** Files whose state is kept in memory; the least recently used idle ones are closed above it. */
  readonly openFilesMax?: number;
  /** Idle file handles kept open. */
  readonly handlesMax?: number;
  readonly segmentBytes?: number;
  readonly checkpointRecords?: number;
  readonly compaction?: CompactionLimits;
  /** Stamps records; the clock of the machine by default. */
  readonly clock?: Pick<Clock, 'now'>;
}

interface OpenFile {
  readonly log: Promise<FileLog>;
  /** Once open. */
  ready: FileLog | undefined;
  users: number;
  isTidying: boolean;
}

const directoryCount = 1024;
const formatFile = 'xos-osd-format-1';

/**
 * The objects of all files on one OSD: one log a file, in `directoryCount` directories by hash of the file id. Callers
 * work on a {@link FileLog} through `use`; the store opens, closes, tidies and deletes them.
 */
export class ObjectStore {
  readonly disk: Disk;
  private readonly env: LogEnvironment;
  private readonly limits: CompactionLimits;
  private readonly openFilesMax: number;
  /** Least recently used first. */
  private readonly open = new Map<string, OpenFile>();
  private readonly closing = new Map<string, Promise<void>>();
  private readonly background = new Set<Promise<void>>();
  private isClosed = false;
  /** Called when tidying in the background fails; the file itself stays usable. */
  onBackgroundFailure: (fileId: string, error: unknown) => void = () => undefined;

  private constructor(disk: Disk, options: StoreOptions) {
    this.disk = disk;
    this.limits = options.compaction ?? compactionDefaults;
    this.openFilesMax = options.openFilesMax ?? 4096;
    this.env = {
      disk,
      clock: options.clock ?? systemClock,
      files: new SegmentFiles(disk, options.handlesMax ?? 512),
      segmentBytes: options.segmentBytes ?? 64 * 1024 * 1024,
      checkpointRecords: options.checkpointRecords ?? 4096,
    };
  }

  /** Opens a store, laying it out on an empty disk. @throws {DiskFailure} when the disk can't be used. */
  static async open(disk: Disk, options: StoreOptions = {}): Promise<ObjectStore> {
    const store = new ObjectStore(disk, options);
    try {
      const names = await disk.list('.');
      if (!names.includes(formatFile)) await layOut(disk);
    } catch (error) {
      throw diskFailure(error, 'opening the object store');
    }
    return store;
  }

  /**
   * Runs `task` with the log of a file, opened if need be. The log stays open at least that long.
   * @throws {InvalidInputError} when the id can't be one of XtreemFS.
   */
  async use<T>(fileId: string, task: (log: FileLog) => Promise<T>): Promise<T> {
    const file = await this.acquire(fileId);
    try {
      return await task(await file.log);
    } finally {
      this.release(fileId, file);
    }
  }

  /** The log of a file if it is open now. */
  peek(fileId: string): FileLog | undefined {
    return this.open.get(fileId)?.ready;
  }

  /** Removes all of a file. Calls that use it at the same time fail or act on the file that comes after it. */
  async remove(fileId: string): Promise<void> {
    const file = await this.acquire(fileId);
    if (this.open.get(fileId) === file) this.open.delete(fileId);
    const removal = file.log.then((log) => log.destroy());
    const settled = removal.then(
      () => undefined,
      () => undefined,
    );
    this.closing.set(fileId, settled);
    try {
      await removal;
    } finally {
      if (this.closing.get(fileId) === settled) this.closing.delete(fileId);
    }
  }

  /** All file ids on disk, one directory at a time. */
  async *fileIds(): AsyncGenerator<string> {
    for (let i = 0; i < directoryCount; i++) {
      const names = new Set<string>();
      for (const name of await this.disk.list(directoryName(i))) {
        const dot = name.lastIndexOf('.');
        const isLog = /^\.(s\d+|ck)$/.test(name.slice(Math.max(0, dot)));
        if (isLog) names.add(decodeURIComponent(name.slice(0, dot)));
      }
      yield* names;
    }
  }

  /** Free and total bytes of the disk. @throws {DiskFailure} */
  async space(): Promise<DiskSpace> {
    try {
      return await this.disk.space();
    } catch (error) {
      throw diskFailure(error, 'reading the free space');
    }
  }

  /** Files with acknowledged changes that are not durable. */
  get dirtyFiles(): string[] {
    const dirty: string[] = [];
    for (const [fileId, file] of this.open) if (file.ready?.isDirty === true) dirty.push(fileId);
    return dirty;
  }

  /** Files whose state is in memory. */
  get openFiles(): number {
    return this.open.size;
  }

  /** Syncs every file that is dirty now, one after the other; goes on when one fails and then throws the first failure. */
  async syncAll(): Promise<void> {
    let first: unknown;
    for (const fileId of this.dirtyFiles) {
      try {
        await this.use(fileId, (log) => log.sync());
      } catch (error) {
        first ??= error;
      }
    }
    if (first !== undefined) throw first as Error;
  }

  /** Makes everything durable and closes every file. */
  async close(): Promise<void> {
    this.isClosed = true;
    await Promise.all(this.background);
    let first: unknown;
    for (const [fileId, file] of [...this.open]) {
      try {
        await this.evict(fileId, file, 'sync');
      } catch (error) {
        first ??= error;
      }
    }
    await Promise.all(this.closing.values());
    if (first !== undefined) throw first as Error;
  }

  private async acquire(fileId: string): Promise<OpenFile> {
    for (let waiting = this.closing.get(fileId); waiting !== undefined; waiting = this.closing.get(fileId))
      await waiting;
    let file = this.open.get(fileId);
    if (file === undefined) {
      const log = FileLog.open(this.env, pathsOf(fileId));
      const opened: OpenFile = { log, ready: undefined, users: 0, isTidying: false };
      file = opened;
      log.then(
        (ready) => (opened.ready = ready),
        () => {
          if (this.open.get(fileId) === opened) this.open.delete(fileId);
        },
      );
    } else {
      this.open.delete(fileId);
    }
    this.open.set(fileId, file);
    file.users++;
    return file;
  }

  private release(fileId: string, file: OpenFile): void {
    file.users--;
    const log = file.ready;
    if (log === undefined || this.isClosed) return;
    if (!file.isTidying && isCompactionDue(log, this.limits)) this.tidy(fileId, file, () => compact(log));
    if (this.open.size > this.openFilesMax) this.evictOldest();
  }

  /** Rewrites an object that has become too scattered, in the background. */
  tidyObject(fileId: string, object: number): void {
    const file = this.open.get(fileId);
    const log = file?.ready;
    const entry = log?.state.objects.get(object);
    if (file === undefined || log === undefined || entry === undefined || file.isTidying) return;
    if (entry.extents.length <= extentsMaxOf(entry)) return;
    this.tidy(fileId, file, () => rewriteObject(log, object));
  }

  /** Gives back what a file holds no more, in the background, however little that is. */
  tidyFile(fileId: string): void {
    const file = this.open.get(fileId);
    const log = file?.ready;
    if (file !== undefined && log !== undefined && !file.isTidying) this.tidy(fileId, file, () => compact(log));
  }

  private tidy(fileId: string, file: OpenFile, task: () => Promise<unknown>): void {
    file.isTidying = true;
    file.users++;
    const running: Promise<void> = task()
      .then(() => undefined)
      .catch((error: unknown) => this.onBackgroundFailure(fileId, error))
      .finally(() => {
        file.isTidying = false;
        file.users--;
        this.background.delete(running);
      });
    this.background.add(running);
  }

  private evictOldest(): void {
    for (const [fileId, file] of this.open) {
      if (file.users > 0 || file.ready?.isBusy !== false) continue;
      const evicting = this.evict(fileId, file, 'forget')
        .catch((error: unknown) => this.onBackgroundFailure(fileId, error))
        .finally(() => this.background.delete(evicting));
      this.background.add(evicting);
      return;
    }
  }

  private async evict(fileId: string, file: OpenFile, mode: 'sync' | 'forget'): Promise<void> {
    if (this.open.get(fileId) === file) this.open.delete(fileId);
    const closed = file.log.then((log) => log.close(mode));
    const settled = closed.then(
      () => undefined,
      () => undefined,
    );
    this.closing.set(fileId, settled);
    try {
      await closed;
    } finally {
      if (this.closing.get(fileId) === settled) this.closing.delete(fileId);
    }
  }
}

/** Where a file's log lies. @throws {InvalidInputError} for ids that no MRC gives out. */
export function pathsOf(fileId: string): LogPaths {
  if (!/^[\x21-\x7e]{1,180}$/.test(fileId)) {
    const shown = JSON.stringify(fileId.slice(0, 200));
    throw new InvalidInputError('file_id', `must be 1 to 180 printable ASCII characters without spaces, not ${shown}`);
  }
  const name = encodeURIComponent(fileId).replaceAll('.', '%2E').replaceAll('%3A', ':');
  if (name.length > 240) throw new InvalidInputError('file_id', `has too many special characters: ${fileId}`);
  const hash = createHash('sha1').update(fileId).digest();
  const directory = directoryName(hash.readUInt16BE(0) % directoryCount);
  return { fileId, directory, base: `${directory}/${name}` };
}

function directoryName(index: number): string {
  return index.toString(16).padStart(3, '0');
}

async function layOut(disk: Disk): Promise<void> {
  const names = Array.from({ length: directoryCount }, (_, i) => directoryName(i));
  await Promise.all(names.map((name) => disk.makeDirectory(name)));
  await replaceFile(disk, '.', formatFile, [Buffer.from('Objects of an XtreemFS OSD, format 1\n')]);
}

import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import { encodeCheckpoint } from './checkpoint.ts';
import { CorruptionError, DiskFailure, diskFailure, isMissing, type Disk } from './disk.ts';
import type { ObjectEntry } from './extents.ts';
import type { FileState } from './file-state.ts';
import { checkpointPath, seedOf, segmentPath, type LogPaths } from './log-paths.ts';
import { readObject, type ObjectBytes } from './log-reader.ts';
import { aligned, chunkChecksums, encodeHeader, recordType, type RecordBody, type RecordLink } from './record.ts';
import { recoverLog, type RecoveredLog } from './recovery.ts';
import { SegmentFile, type SegmentFiles } from './segment-files.ts';

/** What a log needs from the store around it. */
export interface LogEnvironment {
  readonly disk: Disk;
  readonly files: SegmentFiles;
  /** Stamps records. */
  readonly clock: Pick<Clock, 'now'>;
  /** A segment is closed and a new one begun when it would grow above this. */
  readonly segmentBytes: number;
  /** A checkpoint is due after this many records, or a quarter of the extents in use if that is more. */
  readonly checkpointRecords: number;
}

/** Most payload written by one call to the disk. */
const batchBytesMax = 4 * 1024 * 1024;
const batchRecordsMax = 64;
const noPayload = Buffer.alloc(0);
const zeros = Buffer.alloc(64);

interface AppendJob {
  readonly body: RecordBody;
  readonly payload: Buffer;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

interface ExclusiveJob {
  readonly run: () => Promise<void>;
}

type Job = AppendJob | ExclusiveJob;

/**
 * The log of one file on this OSD: every change is a record appended to the newest segment, and the state in memory is
 * what the records add up to. Nothing is ever overwritten, so a crash at any instant leaves a prefix of the log.
 *
 * Appends are written strictly one after the other (many at a time when they queue up), so an acknowledged record never
 * follows a torn one. Reads run beside them. `sync` makes everything acknowledged before its call durable; calls that
 * come together share one `fdatasync`. After a failed sync, or a failed write that can't be undone, the log refuses
 * all changes until the store is opened anew: what the disk holds is not known (ADR 0050).
 */
export class FileLog {
  readonly fileId: string;
  readonly state: FileState;
  private readonly env: LogEnvironment;
  private readonly paths: LogPaths;
  private readonly segments: SegmentFile[];
  private tail: SegmentFile | undefined;
  private nextNumber: number;
  private seq: number;
  /** Last record that changed something. */
  private contentSeq: number;
  private durableSeq: number;
  /** Highest durable sequence number that a record on disk tells. */
  private confirmedSeq: number;
  private link: RecordLink;
  private isDamaged: boolean;
  private isDirectoryDirty = false;
  private recordsSinceCheckpoint: number;
  private failure: DiskFailure | undefined;
  private readonly queue: Job[] = [];
  private isPumping = false;
  private syncing: Promise<void> | undefined;

  private constructor(env: LogEnvironment, paths: LogPaths, from: RecoveredLog) {
    this.env = env;
    this.paths = paths;
    this.fileId = paths.fileId;
    this.state = from.state;
    this.segments = from.segments;
    this.tail = from.tail;
    this.nextNumber = from.nextNumber;
    this.seq = from.seq;
    this.contentSeq = from.seq;
    this.durableSeq = from.durableSeq;
    this.confirmedSeq = from.durableSeq;
    this.link = from.link;
    this.isDamaged = from.isDamaged;
    this.recordsSinceCheckpoint = from.replayed;
    for (const segment of from.segments) {
      if (segment.isDirty) void env.files.acquire(segment).catch(() => undefined);
    }
    this.isDirectoryDirty = from.seq > from.durableSeq;
  }

  /** Opens a file's log, which may not exist yet. @throws {DiskFailure} when the disk can't be read. */
  static async open(env: LogEnvironment, paths: LogPaths): Promise<FileLog> {
    try {
      return new FileLog(env, paths, await recoverLog(env.disk, paths));
    } catch (error) {
      throw diskFailure(error, `opening ${paths.fileId}`);
    }
  }

  /** Whether changes were acknowledged that are not durable yet. */
  get isDirty(): boolean {
    return this.contentSeq > this.durableSeq;
  }

  /** Jobs waiting or running. */
  get isBusy(): boolean {
    return this.isPumping || this.syncing !== undefined;
  }

  /** Bytes in segments and bytes of them in use. */
  usage(): { total: number; live: number } {
    let total = 0;
    let live = 0;
    for (const segment of this.segments) {
      total += segment.size;
      live += segment.live;
    }
    return { total, live };
  }

  /** Segments of this log, oldest first. */
  get segmentList(): readonly SegmentFile[] {
    return this.segments;
  }

  /** The segment that is being written. */
  get tailSegment(): SegmentFile | undefined {
    return this.tail;
  }

  /** Appends a record and applies it. It survives a kill of this process once this resolves. */
  append(body: RecordBody, payload: Buffer = noPayload): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      this.queue.push({ body, payload, resolve, reject });
      this.pump();
    });
  }

  /** Runs `task` while no append runs. It must append through `appendNow`. */
  exclusive<T>(task: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const run = (): Promise<void> => task().then(resolve, reject);
      this.queue.push({ run });
      this.pump();
    });
  }

  /** Appends from inside an exclusive task. */
  async appendNow(body: RecordBody, payload: Buffer): Promise<void> {
    this.checkUsable();
    await this.writeRecords([{ body, payload }]);
  }

  /**
   * Reads from a present object or, given a file version's objects, from those.
   * @returns undefined when there is no such object.
   * @throws {CorruptionError} when the bytes don't match their checksum.
   */
  async read(
    object: number,
    offset: number,
    length: number,
    from: ReadonlyMap<number, ObjectEntry> = this.state.objects,
  ): Promise<ObjectBytes | undefined> {
    if (this.isDamaged) {
      throw new CorruptionError(`The log of ${this.fileId} is damaged beyond repair: restore the file from a replica`);
    }
    const entry = from.get(object);
    return entry === undefined ? undefined : readObject(this.env.files, entry, offset, length);
  }

  /** Makes everything acknowledged so far durable. @throws {DiskFailure} when the disk refuses. */
  async sync(): Promise<void> {
    const target = this.contentSeq;
    while (this.durableSeq < target) {
      this.checkUsable();
      this.syncing ??= this.syncNow().finally(() => (this.syncing = undefined));
      await this.syncing;
    }
  }

  /** Tells the log itself what is durable, so that recovery need not guess. Cheap; not durable by itself. */
  async confirm(): Promise<void> {
    if (this.confirmedSeq >= this.durableSeq || this.isDirty || this.failure !== undefined) return;
    await this.append({ type: recordType.mark, flags: 0, object: -1, version: 0, offset: 0, objectLength: 0 });
  }

  /** Whether enough records came since the last checkpoint that the next opening would be slow. */
  get isCheckpointDue(): boolean {
    if (this.recordsSinceCheckpoint < this.env.checkpointRecords) return false;
    let extents = 0;
    for (const entry of this.state.objects.values()) extents += entry.extents.length;
    return this.recordsSinceCheckpoint > extents / 4;
  }

  /**
   * Writes a checkpoint, durable when it resolves. Only inside an exclusive task.
   * @param without - segments to leave out, which are then removed.
   */
  async checkpoint(without: readonly SegmentFile[] = []): Promise<void> {
    await this.sync();
    if (this.tail !== undefined && without.includes(this.tail)) this.tail = undefined;
    const segments = this.segments.filter((segment) => !without.includes(segment));
    const buffers = encodeCheckpoint(
      {
        state: this.state,
        seq: this.seq,
        link: this.link,
        segments,
        tailNumber: this.tail?.number ?? 0,
        tailPosition: this.tail?.size ?? 0,
        nextNumber: this.nextNumber,
        reclaimed: without.map((segment) => segment.number),
        isDamaged: this.isDamaged,
      },
      seedOf(this.fileId, 0),
    );
    try {
      await this.replaceCheckpoint(buffers);
    } catch (error) {
      throw diskFailure(error, `writing the checkpoint of ${this.fileId}`);
    }
    this.segments.splice(0, this.segments.length, ...segments);
    this.recordsSinceCheckpoint = 0;
    this.durableSeq = this.seq;
    this.confirmedSeq = this.seq;
    for (const segment of without) await this.removeSegment(segment);
  }

  /**
   * Waits for what runs and gives back all handles. The log must not be used afterwards.
   * @param mode - `sync` makes everything durable first; `forget` leaves that to a later opening, which will know.
   */
  async close(mode: 'sync' | 'forget'): Promise<void> {
    try {
      if (mode === 'sync') {
        this.checkUsable();
        await this.sync();
      }
      if (this.failure === undefined) {
        if (this.isCheckpointDue) await this.exclusive(() => this.checkpoint());
        else await this.confirm();
      }
    } finally {
      await this.closeHandles();
    }
  }

  /** Removes the file from disk. The log must not be used afterwards. */
  async destroy(): Promise<void> {
    await this.exclusive(async () => {
      this.failure = new DiskFailure('EIO', `${this.fileId} was deleted`);
      await this.closeHandles();
      const { disk } = this.env;
      for (const path of [checkpointPath(this.paths), ...this.segments.map((segment) => segment.path)]) {
        try {
          await disk.unlink(path);
        } catch (error) {
          if (!isMissing(error)) throw diskFailure(error, `deleting ${path}`);
        }
      }
    });
  }

  private async closeHandles(): Promise<void> {
    for (const segment of this.segments) {
      if (segment.isDirty) {
        segment.isDirty = false;
        this.env.files.release(segment);
      }
      await this.env.files.close(segment);
    }
  }

  private pump(): void {
    if (this.isPumping) return;
    this.isPumping = true;
    void this.run();
  }

  private async run(): Promise<void> {
    for (let job = this.queue[0]; job !== undefined; job = this.queue[0]) {
      if ('run' in job) {
        this.queue.shift();
        await job.run();
      } else {
        await this.writeBatch(this.takeBatch());
      }
    }
    this.isPumping = false;
  }

  private takeBatch(): AppendJob[] {
    let bytes = 0;
    let count = 0;
    for (; count < this.queue.length && count < batchRecordsMax; count++) {
      const job = this.queue[count];
      if (job === undefined || 'run' in job) break;
      bytes += job.payload.length;
      if (count > 0 && bytes > batchBytesMax) break;
    }
    return this.queue.splice(0, count) as AppendJob[];
  }

  private async writeBatch(jobs: readonly AppendJob[]): Promise<void> {
    try {
      this.checkUsable();
      await this.writeRecords(jobs);
      for (const job of jobs) job.resolve();
    } catch (error) {
      // One large write on a nearly full disk must not fail the small ones beside it.
      if (jobs.length > 1 && this.failure === undefined) {
        for (const job of jobs) await this.writeBatch([job]);
      } else {
        for (const job of jobs) job.reject(error as Error);
      }
    }
  }

  private async writeRecords(jobs: readonly { body: RecordBody; payload: Buffer }[]): Promise<void> {
    const segment = await this.segmentForWrite(jobs);
    const seed = seedOf(this.fileId, segment.number);
    const timeMs = this.env.clock.now();
    let { seq, link } = this;
    let position = segment.size;
    const buffers: Uint8Array[] = [];
    const placed: { position: number; crcs: Uint32Array }[] = [];
    for (const { body, payload } of jobs) {
      const crcs = chunkChecksums(payload);
      const header = encodeHeader(body, ++seq, this.durableSeq, timeMs, payload.length, crcs, link, seed);
      const isData = body.type === recordType.write;
      link = {
        crc: header.crc,
        object: isData ? body.object : -1,
        offset: body.offset,
        length: isData ? payload.length : 0,
      };
      placed.push({ position: position + header.bytes.length, crcs });
      const padding = aligned(payload.length) - payload.length;
      buffers.push(header.bytes);
      if (payload.length > 0) buffers.push(payload);
      if (padding > 0) buffers.push(zeros.subarray(0, padding));
      position += header.bytes.length + payload.length + padding;
    }
    await this.writeOrUndo(segment, buffers);
    segment.size = position;
    this.seq = seq;
    this.link = link;
    this.confirmedSeq = this.durableSeq;
    this.recordsSinceCheckpoint += jobs.length;
    jobs.forEach(({ body, payload }, i) => {
      const place = placed[i] as { position: number; crcs: Uint32Array };
      const isData = body.type === recordType.write;
      this.state.apply(body, { segment, ...place, length: payload.length }, isData ? undefined : payload, timeMs);
      if (body.type !== recordType.mark) this.contentSeq = seq;
    });
    if (this.isDirty && !segment.isDirty) {
      segment.isDirty = true;
      void this.env.files.acquire(segment);
    }
  }

  private async writeOrUndo(segment: SegmentFile, buffers: readonly Uint8Array[]): Promise<void> {
    const { files } = this.env;
    const acquired = files.acquire(segment);
    try {
      const file = await acquired;
      try {
        await file.write(buffers, segment.size);
      } catch (error) {
        await file.truncate(segment.size).catch((undoError: unknown) => {
          this.fail(`undoing a failed write (${describeError(undoError)}) to ${segment.path}`, error);
        });
        throw error;
      }
    } catch (error) {
      throw diskFailure(error, `writing ${segment.path}`);
    } finally {
      files.release(segment);
    }
  }

  private async segmentForWrite(jobs: readonly { payload: Buffer }[]): Promise<SegmentFile> {
    const tail = this.tail;
    let bytes = 0;
    for (const { payload } of jobs) bytes += payload.length;
    if (tail !== undefined && (tail.size === 0 || tail.size + bytes <= this.env.segmentBytes)) return tail;
    const number = this.nextNumber;
    const segment = new SegmentFile(segmentPath(this.paths, number), number);
    try {
      this.env.files.adopt(segment, await this.createFile(segment.path));
      this.env.files.release(segment);
    } catch (error) {
      throw diskFailure(error, `creating ${segment.path}`);
    }
    this.isDirectoryDirty = true;
    this.nextNumber++;
    this.segments.push(segment);
    this.tail = segment;
    return segment;
  }

  private async createFile(path: string): ReturnType<Disk['open']> {
    const { disk } = this.env;
    try {
      return await disk.open(path, 'create');
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
      // Left over from a deletion or a checkpoint that a crash cut short: nothing refers to it.
      await disk.unlink(path);
      return disk.open(path, 'create');
    }
  }

  private async syncNow(): Promise<void> {
    const target = this.seq;
    const dirty = this.segments.filter((segment) => segment.isDirty);
    const withDirectory = this.isDirectoryDirty;
    this.isDirectoryDirty = false;
    for (const segment of dirty) segment.isDirty = false;
    try {
      for (const segment of dirty) {
        const file = await segment.handle;
        if (file === undefined) throw new Error(`${segment.path} could not be opened again`);
        await file.sync();
      }
      if (withDirectory) await this.env.disk.syncDirectory(this.paths.directory);
      this.durableSeq = Math.max(this.durableSeq, target);
    } catch (error) {
      throw this.fail(`syncing ${this.fileId}`, error);
    } finally {
      for (const segment of dirty) this.env.files.release(segment);
    }
  }

  private async replaceCheckpoint(buffers: readonly Buffer[]): Promise<void> {
    const { disk } = this.env;
    const path = checkpointPath(this.paths);
    const file = await this.createFile(`${path}.new`);
    try {
      await file.write(buffers, 0);
      await file.sync();
    } finally {
      await file.close();
    }
    await disk.rename(`${path}.new`, path);
    await disk.syncDirectory(this.paths.directory);
  }

  private async removeSegment(segment: SegmentFile): Promise<void> {
    if (segment.isDirty) {
      segment.isDirty = false;
      this.env.files.release(segment);
    }
    // Who reads it now has planned before the change and holds the handle, or is just getting it.
    await segment.handle?.catch(() => undefined);
    await this.env.files.close(segment);
    try {
      await this.env.disk.unlink(segment.path);
    } catch {
      // The checkpoint names it as reclaimed: the next opening, or the scrubber, removes it.
    }
  }

  private checkUsable(): void {
    if (this.failure !== undefined) throw this.failure;
  }

  private fail(doing: string, cause: unknown): DiskFailure {
    const text = `${doing} failed: changes to this file are refused until the OSD is restarted; check its disk`;
    this.failure ??= new DiskFailure('EIO', text, { cause });
    return this.failure;
  }
}

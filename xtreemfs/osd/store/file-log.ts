import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import { encodeCheckpoint } from './checkpoint.ts';
import { CorruptionError, DiskFailure, diskFailure, isMissing, type Disk } from './disk.ts';
import type { ObjectEntry } from './extents.ts';
import type { FileState } from './file-state.ts';
import { checkpointPath, seedOf, segmentPath, type LogPaths } from './log-paths.ts';
import { readObject, type ObjectBytes } from './log-reader.ts';
import { LogQueue, type Append } from './log-queue.ts';
import { createFresh, replaceFile } from './disk-files.ts';
import { layOutRecords } from './record-layout.ts';
import { recordType, type RecordBody, type RecordLink } from './record.ts';
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

const noPayload = Buffer.alloc(0);
const noChecksums = new Uint32Array(0);

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
  private readonly queue: LogQueue;
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
    this.queue = new LogQueue(
      (batch) => this.writeRecords(batch),
      () => this.failure === undefined,
    );
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
    return this.queue.isBusy || this.syncing !== undefined;
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
    return this.queue.append(body, payload);
  }

  /** Runs `task` while no append runs. It must append through `appendNow`. */
  exclusive<T>(task: () => Promise<T>): Promise<T> {
    return this.queue.exclusive(task);
  }

  /** Has the next record begin a new segment. Only inside an exclusive task. */
  closeTail(): void {
    this.tail = undefined;
  }

  /** Appends from inside an exclusive task. */
  async appendNow(body: RecordBody, payload: Buffer): Promise<void> {
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
      await replaceFile(this.env.disk, this.paths.directory, checkpointPath(this.paths), buffers);
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

  private async writeRecords(batch: readonly Append[]): Promise<void> {
    this.checkUsable();
    const segment = await this.segmentForWrite(batch);
    const timeMs = this.env.clock.now();
    const { seq, link, durableSeq } = this;
    const seed = seedOf(this.fileId, segment.number);
    const laid = layOutRecords(batch, { position: segment.size, seq, link, durableSeq, timeMs, seed });
    await this.writeOrUndo(segment, laid.buffers);
    segment.size = laid.end;
    this.seq += batch.length;
    this.link = laid.link;
    this.confirmedSeq = durableSeq;
    this.recordsSinceCheckpoint += batch.length;
    batch.forEach(({ body, payload }, i) => {
      const { position = 0, crcs = noChecksums } = laid.placed[i] ?? {};
      const isData = body.type === recordType.write;
      const placement = { segment, position, crcs, length: payload.length };
      this.state.apply(body, placement, isData ? undefined : payload, timeMs);
      if (body.type !== recordType.mark) this.contentSeq = this.seq;
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

  private async segmentForWrite(batch: readonly Append[]): Promise<SegmentFile> {
    const tail = this.tail;
    let bytes = 0;
    for (const { payload } of batch) bytes += payload.length;
    if (tail !== undefined && (tail.size === 0 || tail.size + bytes <= this.env.segmentBytes)) return tail;
    const number = this.nextNumber;
    const segment = new SegmentFile(segmentPath(this.paths, number), number);
    try {
      this.env.files.adopt(segment, await createFresh(this.env.disk, segment.path));
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

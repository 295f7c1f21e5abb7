import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { CorruptionError } from './store/disk.ts';
import type { ObjectStore } from './store/object-store.ts';

/** What {@link Scrubber} needs. */
export interface ScrubberOptions {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Bytes read a second at most, so that clients do not feel it. */
  readonly bytesPerSecond: number;
  /** Pause between two passes over everything. */
  readonly intervalMs: number;
}

/** What a pass has found so far, or found. */
export interface ScrubProgress {
  readonly files: number;
  readonly objects: number;
  readonly bytes: number;
  /** Damaged objects by file, at most {@link damagedMax} files. */
  readonly damaged: ReadonlyMap<string, readonly number[]>;
}

const damagedMax = 1000;
const readBytes = 1024 * 1024;

/**
 * Reads everything that is stored, slowly, so that damage is found while other replicas are still whole. It only
 * reports: reads fail on damage anyway, and repair is up to replication or the scrub tool.
 */
export class Scrubber {
  private readonly options: ScrubberOptions;
  private readonly abort = new AbortController();
  private loop: Promise<void> | undefined;
  private progress = { files: 0, objects: 0, bytes: 0, damaged: new Map<string, number[]>() };
  private finished: ScrubProgress | undefined;

  constructor(options: ScrubberOptions) {
    this.options = options;
  }

  /** The pass that is on. */
  get current(): ScrubProgress {
    return this.progress;
  }

  /** The last whole pass. */
  get last(): ScrubProgress | undefined {
    return this.finished;
  }

  /** Begins to scrub, pass after pass. */
  start(): void {
    this.loop ??= this.run();
  }

  async stop(): Promise<void> {
    this.abort.abort(new Error('stopped'));
    await this.loop;
  }

  /** One pass over everything. @returns what it found; the signal ends it early. */
  async pass(): Promise<ScrubProgress> {
    this.progress = { files: 0, objects: 0, bytes: 0, damaged: new Map() };
    for await (const fileId of this.options.store.fileIds()) {
      if (this.abort.signal.aborted) return this.progress;
      await this.scrubFile(fileId);
      this.progress.files++;
    }
    this.finished = this.progress;
    return this.progress;
  }

  private async run(): Promise<void> {
    const { clock, intervalMs, logger } = this.options;
    const { signal } = this.abort;
    while (!signal.aborted) {
      try {
        await clock.sleep(intervalMs, signal);
        const found = await this.pass();
        const { files, objects, bytes } = found;
        logger.info('Scrubbed all objects', { files, objects, bytes, damagedFiles: found.damaged.size });
      } catch (error) {
        if (!this.abort.signal.aborted) logger.warn('Scrubbing failed', { problem: describeError(error) });
      }
    }
  }

  private async scrubFile(fileId: string): Promise<void> {
    try {
      const objects = await this.options.store.use(fileId, async (log) => [...log.state.objects.keys()]);
      for (const object of objects) {
        if (this.abort.signal.aborted) return;
        await this.scrubObject(fileId, object);
      }
    } catch (error) {
      this.options.logger.warn('Cannot scrub a file', { fileId, problem: describeError(error) });
    }
  }

  private async scrubObject(fileId: string, object: number): Promise<void> {
    const { clock, logger, bytesPerSecond } = this.options;
    try {
      for (let offset = 0, got = readBytes; got === readBytes; offset += got) {
        got = await this.readSome(fileId, object, offset);
        await clock.sleep((1000 * got) / bytesPerSecond, this.abort.signal);
      }
    } catch (error) {
      if (!(error instanceof CorruptionError)) throw error;
      logger.error('Found a damaged object', { fileId, object, problem: error.message });
      this.noteDamage(fileId, object);
    }
    this.progress.objects++;
  }

  private async readSome(fileId: string, object: number, offset: number): Promise<number> {
    const bytes = await this.options.store.use(fileId, (log) => log.read(object, offset, readBytes));
    if (bytes === undefined) return 0;
    this.progress.bytes += bytes.data.length;
    return bytes.data.length + bytes.zeros;
  }

  private noteDamage(fileId: string, object: number): void {
    const { damaged } = this.progress;
    const objects = damaged.get(fileId);
    if (objects !== undefined) objects.push(object);
    else if (damaged.size < damagedMax) damaged.set(fileId, [object]);
  }
}

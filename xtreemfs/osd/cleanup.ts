import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { CleanupStartRequest } from '#proto/generated/xtreemfs/osd.ts';
import { volumeOf, type FileFate, type VolumeService } from './cluster.ts';
import type { ObjectStore } from './store/object-store.ts';

/** Files asked about in one call to an MRC. */
const batchMax = 500;
/** Lines of results kept. */
const resultsMax = 10_000;

/** What {@link Cleanup} needs. */
export interface CleanupOptions {
  readonly store: ObjectStore;
  readonly volumes: VolumeService;
  readonly clock: Clock;
  /** Deletes what this OSD holds of a file. */
  readonly remove: (fileId: string) => Promise<void>;
}

interface Counts {
  files: number;
  zombies: number;
  deleted: number;
  restored: number;
  failed: number;
}

/**
 * Finds objects that no MRC knows any more («zombies»: files deleted while this OSD was away, replicas moved off it) and
 * deletes or restores them, as `xtfs_cleanup` asks (protocol reference, 13.8). Files changed within `metadataTimeout`
 * seconds are left alone: their MRC entry may be on its way. An MRC that does not answer costs nothing but a line in
 * the results: only what an MRC says is deleted.
 */
export class Cleanup {
  private readonly options: CleanupOptions;
  private running: Promise<void> | undefined;
  private isStopping = false;
  private counts: Counts = { files: 0, zombies: 0, deleted: 0, restored: 0, failed: 0 };
  private lines: string[] = [];

  constructor(options: CleanupOptions) {
    this.options = options;
  }

  get isRunning(): boolean {
    return this.running !== undefined;
  }

  /** One line for a person. */
  get status(): string {
    const { files, zombies, deleted, restored, failed } = this.counts;
    const state = this.isRunning ? 'running' : 'not running';
    return `${state}: ${files} files seen, ${zombies} zombies, ${deleted} deleted, ${restored} restored, ${failed} failed`;
  }

  /** What was found, one line a file. */
  get results(): readonly string[] {
    return this.lines;
  }

  /** Starts a run; does nothing when one is on. */
  start(request: CleanupStartRequest): void {
    if (this.running !== undefined) return;
    this.isStopping = false;
    this.counts = { files: 0, zombies: 0, deleted: 0, restored: 0, failed: 0 };
    this.lines = [];
    this.running = this.run(request)
      .catch((error: unknown) => this.note(`stopped: ${describeError(error)}`))
      .finally(() => (this.running = undefined));
  }

  /** Ends the run after the batch it is in. */
  async stop(): Promise<void> {
    this.isStopping = true;
    await this.running;
  }

  private async run(request: CleanupStartRequest): Promise<void> {
    const batches = new Map<string, string[]>();
    for await (const fileId of this.options.store.fileIds()) {
      if (this.isStopping) return;
      this.counts.files++;
      const volume = volumeOf(fileId);
      const batch = batches.get(volume) ?? [];
      batches.set(volume, batch);
      batch.push(fileId);
      if (batch.length < batchMax) continue;
      batches.delete(volume);
      await this.check(volume, batch, request);
    }
    for (const [volume, batch] of batches) {
      if (this.isStopping) return;
      await this.check(volume, batch, request);
    }
  }

  private async check(volume: string, fileIds: readonly string[], request: CleanupStartRequest): Promise<void> {
    let fates: FileFate[];
    try {
      const numbers = fileIds.map((fileId) => fileId.slice(volume.length + 1));
      fates = await this.options.volumes.fates(volume, numbers);
    } catch (error) {
      this.counts.failed += fileIds.length;
      this.note(`volume ${volume}: not checked: ${describeError(error)}`);
      return;
    }
    for (const [i, fileId] of fileIds.entries()) {
      if (this.isStopping) return;
      await this.act(volume, fileId, fates[i] ?? 'registered', request);
    }
  }

  private async act(volume: string, fileId: string, fate: FileFate, request: CleanupStartRequest): Promise<void> {
    if (fate === 'registered') return;
    if (fate === 'volume-unknown' && !request.removeUnavailVolume) {
      this.note(`${fileId}: volume is not known at the DIR`);
      return;
    }
    try {
      if (await this.isFresh(fileId, request.metadataTimeout)) return;
      this.counts.zombies++;
      if (fate === 'deleted' && request.lostAndFound) await this.restore(volume, fileId);
      else if (request.removeZombies || fate === 'volume-unknown') {
        await this.options.remove(fileId);
        this.counts.deleted++;
        this.note(`${fileId}: ${fate}, deleted`);
      } else this.note(`${fileId}: ${fate}`);
    } catch (error) {
      this.counts.failed++;
      this.note(`${fileId}: ${fate}, failed: ${describeError(error)}`);
    }
  }

  private isFresh(fileId: string, timeoutS: number): Promise<boolean> {
    const now = this.options.clock.now();
    return this.options.store.use(fileId, async (log) => now - log.state.modifiedMs < 1000 * timeoutS);
  }

  /** Puts a file back into its volume. Its stripe size is not stored: the longest object, rounded to a power of two. */
  private async restore(volume: string, fileId: string): Promise<void> {
    const { fileBytes, stripeKb } = await this.options.store.use(fileId, async (log) => {
      let longest = 1;
      for (const entry of log.state.objects.values()) longest = Math.max(longest, entry.length);
      const kb = 2 ** Math.ceil(Math.log2(Math.max(1, longest / 1024)));
      const { lastObject, objects } = log.state;
      const last = objects.get(lastObject)?.length ?? 0;
      return { fileBytes: Math.max(0, lastObject) * kb * 1024 + last, stripeKb: kb };
    });
    await this.options.volumes.restore(volume, `lost+found/${fileId}`, fileId, fileBytes, stripeKb);
    this.counts.restored++;
    this.note(`${fileId}: restored into lost+found`);
  }

  private note(line: string): void {
    if (this.lines.length < resultsMax) this.lines.push(line);
  }
}

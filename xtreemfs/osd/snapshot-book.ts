import { z } from 'zod';
import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import type { VolumeService } from './cluster.ts';
import { replaceFile } from './store/disk-files.ts';
import type { Disk } from './store/disk.ts';

/** What {@link SnapshotBook} needs. */
export interface SnapshotBookOptions {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly volumes: Pick<VolumeService, 'snapshotTimes'>;
}

const fileName = 'snapshots';
/** Snapshots of one volume that are kept apart; beyond it the oldest show what the oldest kept one does. */
const snapshotsMax = 1024;

const stored = z.record(z.string(), z.array(z.object({ timeMs: z.number(), seenMs: z.number() })));

/** A snapshot of a volume: its time at the MRC, and when this OSD learnt of it by its own clock, which stamps the data. */
interface Seen {
  readonly timeMs: number;
  readonly seenMs: number;
}

/**
 * Which snapshots volumes have. What a file holds when the OSD learns of a snapshot is what the snapshot shows: the next change keeps
 * it as a version. The MRC has every OSD look before it says that a snapshot is there. Survives a restart; what was missed while the
 * OSD was away is found by looking again.
 */
export class SnapshotBook {
  private readonly options: SnapshotBookOptions;
  private readonly volumes: Map<string, readonly Seen[]>;
  private readonly running = new Map<string, Promise<void>>();
  private saving: Promise<void> = Promise.resolve();

  private constructor(options: SnapshotBookOptions, volumes: Map<string, readonly Seen[]>) {
    this.options = options;
    this.volumes = volumes;
  }

  /** @throws a system error when the disk can't be read, and when what lies there is not ours. */
  static async open(options: SnapshotBookOptions): Promise<SnapshotBook> {
    return new SnapshotBook(options, new Map(Object.entries(await read(options.disk))));
  }

  /** Volumes that had snapshots when they were last looked at. */
  get volumeIds(): string[] {
    return [...this.volumes.keys()];
  }

  /** When this OSD learnt of the newest snapshot; undefined when there is none. */
  newestMs(volumeId: string): number | undefined {
    return this.volumes.get(volumeId)?.at(-1)?.seenMs;
  }

  /** Times of a volume's snapshots at the MRC. */
  timesMs(volumeId: string): number[] {
    return (this.volumes.get(volumeId) ?? []).map(({ timeMs }) => timeMs);
  }

  /** When this OSD learnt of a snapshot; its own time when it never did. */
  seenMs(volumeId: string, timeMs: number): number {
    return this.volumes.get(volumeId)?.find((each) => each.timeMs === timeMs)?.seenMs ?? timeMs;
  }

  /**
   * Asks the MRC which snapshots a volume has. Calls that come together share one question, but none shares one that was asked before.
   * @returns whether one is gone, so that versions of files may be dropped.
   */
  async look(volumeId: string): Promise<boolean> {
    const before = this.running.get(volumeId) ?? Promise.resolve();
    let isFewer = false;
    const mine = before
      .catch(() => undefined)
      .then(async () => {
        isFewer = await this.lookNow(volumeId);
      });
    this.running.set(volumeId, mine);
    try {
      await mine;
    } finally {
      if (this.running.get(volumeId) === mine) this.running.delete(volumeId);
    }
    return isFewer;
  }

  /** Looks at all volumes again. @returns those that have fewer snapshots than before. */
  async lookAtAll(): Promise<string[]> {
    const fewer: string[] = [];
    for (const volumeId of this.volumeIds) {
      try {
        if (await this.look(volumeId)) fewer.push(volumeId);
      } catch (error) {
        this.options.logger.warn('Snapshots of a volume are not known anew', {
          volumeId,
          problem: describeError(error),
        });
      }
    }
    return fewer;
  }

  private async lookNow(volumeId: string): Promise<boolean> {
    const times = (await this.options.volumes.snapshotTimes(volumeId)) ?? [];
    const known = this.volumes.get(volumeId) ?? [];
    const seenMs = this.options.clock.now();
    const now = times
      .toSorted((a, b) => a - b)
      .slice(-snapshotsMax)
      .map((timeMs) => known.find((each) => each.timeMs === timeMs) ?? { timeMs, seenMs });
    const isFewer = known.some(({ timeMs }) => !times.includes(timeMs));
    if (!isFewer && now.length === known.length) return false;
    if (now.length === 0) this.volumes.delete(volumeId);
    else this.volumes.set(volumeId, now);
    await this.save();
    return isFewer;
  }

  /** One after the other, each with what is known by then. */
  private async save(): Promise<void> {
    this.saving = this.saving
      .catch(() => undefined)
      .then(async () => {
        const bytes = Buffer.from(`${JSON.stringify(Object.fromEntries(this.volumes))}\n`);
        await replaceFile(this.options.disk, '.', fileName, [bytes]);
      });
    await this.saving;
  }
}

async function read(disk: Disk): Promise<z.infer<typeof stored>> {
  if (!(await disk.list('.')).includes(fileName)) return {};
  try {
    const file = await disk.open(fileName, 'existing');
    try {
      const bytes = Buffer.alloc(await file.sizeBytes());
      await file.read(bytes, 0);
      return stored.parse(JSON.parse(bytes.toString('utf8')));
    } finally {
      await file.close();
    }
  } catch (error) {
    throw new Error(`The file ${fileName} in the folder of the OSD can not be read: ${describeError(error)}`, {
      cause: error,
    });
  }
}

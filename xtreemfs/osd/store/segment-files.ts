import type { Disk, DiskFile } from './disk.ts';
import type { SegmentUse } from './extents.ts';

/** One file of a log on disk, with its handle while it is open. */
export class SegmentFile implements SegmentUse {
  readonly number: number;
  readonly path: string;
  /** Payload bytes still in use. */
  live = 0;
  /** Bytes written; the next record goes here when this is the tail. */
  size = 0;
  /** Has data that was not synced. A dirty segment keeps its handle. */
  isDirty = false;
  /** Who needs the handle now. */
  users = 0;
  handle: Promise<DiskFile> | undefined;

  constructor(path: string, number: number) {
    this.path = path;
    this.number = number;
  }
}

/**
 * Keeps at most `limit` idle file handles open, dropping the least recently used. Handles in use are never closed, so
 * the number open is at most `limit` plus what is in use (bounded by the callers' queues and the dirty logs).
 */
export class SegmentFiles {
  private readonly disk: Disk;
  private readonly limit: number;
  /** Idle segments with an open handle, oldest first. */
  private readonly idle = new Set<SegmentFile>();

  constructor(disk: Disk, limit: number) {
    this.disk = disk;
    this.limit = limit;
  }

  /** The handle of a segment, opened if need be. Each call needs one `release`, also when it fails. */
  acquire(segment: SegmentFile): Promise<DiskFile> {
    segment.users++;
    this.idle.delete(segment);
    if (segment.handle !== undefined) return segment.handle;
    const opening = this.disk.open(segment.path, 'existing');
    segment.handle = opening;
    opening.catch(() => {
      if (segment.handle === opening) segment.handle = undefined;
    });
    return opening;
  }

  /** Takes over a handle that was just opened; counts as acquired. */
  adopt(segment: SegmentFile, file: DiskFile): void {
    segment.users++;
    segment.handle = Promise.resolve(file);
  }

  release(segment: SegmentFile): void {
    segment.users--;
    if (segment.users > 0 || segment.handle === undefined) return;
    this.idle.add(segment);
    if (this.idle.size <= this.limit) return;
    for (const oldest of this.idle) {
      void this.close(oldest);
      return;
    }
  }

  /** Closes the handle of a segment that nobody uses; does nothing otherwise. */
  async close(segment: SegmentFile): Promise<void> {
    const handle = segment.handle;
    if (segment.users > 0 || handle === undefined) return;
    this.idle.delete(segment);
    segment.handle = undefined;
    try {
      await (await handle).close();
    } catch {
      // Closing writes nothing: what had to be durable was synced before.
    }
  }

  /** Idle handles that are open now. */
  get idleCount(): number {
    return this.idle.size;
  }
}

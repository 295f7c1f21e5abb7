import type { Clock } from '#common/clock.ts';
import { FileLocks } from './locks.ts';
import { FileVouchers } from './vouchers.ts';

/** The greatest file size that any OSD of the stripe has told of, for one truncate epoch. */
export interface KnownSize {
  readonly epoch: number;
  readonly lastObject: number;
  readonly fileBytes: number;
}

/** What the OSD remembers of a file in use. All of it may be lost. */
export class OpenFile {
  lastUseMs: number;
  readonly locks = new FileLocks();
  readonly vouchers = new FileVouchers();
  private known: KnownSize = { epoch: 0, lastObject: -1, fileBytes: 0 };

  constructor(nowMs: number) {
    this.lastUseMs = nowMs;
  }

  /** What other OSDs said of the file's size, if it was said for this epoch. */
  knownSize(epoch: number): KnownSize {
    return this.known.epoch === epoch ? this.known : { epoch, lastObject: -1, fileBytes: 0 };
  }

  /** Takes over a size if it is of a newer epoch, or greater. */
  learn(size: KnownSize): void {
    const { known } = this;
    if (size.epoch > known.epoch || (size.epoch === known.epoch && size.fileBytes > known.fileBytes)) this.known = size;
  }

  /** Takes over a size that a truncate set. */
  reset(size: KnownSize): void {
    if (size.epoch >= this.known.epoch) this.known = size;
  }
}

/** Files are forgotten this long after their last use, unless they carry locks. */
const idleMs = 120_000;
const openFilesMax = 65_536;

/** The files in use on this OSD. */
export class OpenFiles {
  private readonly files = new Map<string, OpenFile>();
  private readonly clock: Pick<Clock, 'monotonic'>;

  constructor(clock: Pick<Clock, 'monotonic'>) {
    this.clock = clock;
  }

  get size(): number {
    return this.files.size;
  }

  /** The entry of a file, made if need be and marked as used now. */
  touch(fileId: string): OpenFile {
    const now = this.clock.monotonic();
    let file = this.files.get(fileId);
    if (file === undefined) {
      file = new OpenFile(now);
      if (this.files.size >= openFilesMax) this.dropOldest();
    } else {
      this.files.delete(fileId);
    }
    file.lastUseMs = now;
    this.files.set(fileId, file);
    return file;
  }

  /** The entry of a file if it is in use. */
  peek(fileId: string): OpenFile | undefined {
    return this.files.get(fileId);
  }

  /** Forgets a deleted file with all its locks. */
  drop(fileId: string): void {
    this.files.delete(fileId);
  }

  /** Forgets idle files without locks. Called now and then. */
  sweep(): void {
    const before = this.clock.monotonic() - idleMs;
    for (const [fileId, file] of this.files) {
      if (file.lastUseMs >= before) return;
      if (file.locks.size === 0) this.files.delete(fileId);
    }
  }

  private dropOldest(): void {
    for (const [fileId, file] of this.files) {
      if (file.locks.size > 0) continue;
      this.files.delete(fileId);
      return;
    }
  }
}

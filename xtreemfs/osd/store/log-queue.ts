import type { RecordBody } from './record.ts';

/** A record to append, with what its caller waits for. */
export interface Append {
  readonly body: RecordBody;
  readonly payload: Buffer;
}

interface AppendJob extends Append {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

interface ExclusiveJob {
  readonly run: () => Promise<void>;
}

/** Most payload and records written by one call to the disk. */
const batchBytesMax = 4 * 1024 * 1024;
const batchRecordsMax = 64;

/**
 * Does the changes of one log strictly one after the other, in the order they came; appends that wait together are
 * written together.
 */
export class LogQueue {
  private readonly write: (batch: readonly Append[]) => Promise<void>;
  private readonly mayRetry: () => boolean;
  private readonly jobs: (AppendJob | ExclusiveJob)[] = [];
  private isRunning = false;

  /**
   * @param write - appends a batch, all or nothing.
   * @param mayRetry - whether the log is still usable after a failed batch.
   */
  constructor(write: (batch: readonly Append[]) => Promise<void>, mayRetry: () => boolean) {
    this.write = write;
    this.mayRetry = mayRetry;
  }

  get isBusy(): boolean {
    return this.isRunning;
  }

  /** Resolves once the record was written. */
  append(body: RecordBody, payload: Buffer): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      this.jobs.push({ body, payload, resolve, reject });
      this.pump();
    });
  }

  /** Runs `task` while nothing else runs. */
  exclusive<T>(task: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.jobs.push({ run: () => task().then(resolve, reject) });
      this.pump();
    });
  }

  private pump(): void {
    if (this.isRunning) return;
    this.isRunning = true;
    void this.run();
  }

  private async run(): Promise<void> {
    for (let job = this.jobs[0]; job !== undefined; job = this.jobs[0]) {
      if ('run' in job) {
        this.jobs.shift();
        await job.run();
      } else {
        await this.writeBatch(this.takeBatch());
      }
    }
    this.isRunning = false;
  }

  private takeBatch(): AppendJob[] {
    const batch: AppendJob[] = [];
    let bytes = 0;
    for (const job of this.jobs) {
      if ('run' in job || batch.length === batchRecordsMax) break;
      bytes += job.payload.length;
      if (batch.length > 0 && bytes > batchBytesMax) break;
      batch.push(job);
    }
    this.jobs.splice(0, batch.length);
    return batch;
  }

  private async writeBatch(batch: readonly AppendJob[]): Promise<void> {
    try {
      await this.write(batch);
      for (const job of batch) job.resolve();
    } catch (error) {
      // One large write on a nearly full disk must not fail the small ones beside it.
      if (batch.length > 1 && this.mayRetry()) {
        for (const job of batch) await this.writeBatch([job]);
      } else {
        for (const job of batch) job.reject(error as Error);
      }
    }
  }
}

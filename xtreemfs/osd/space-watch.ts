import type { Clock, Timer } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import type { DiskSpace } from './store/disk.ts';

/** What {@link SpaceWatch} needs. */
export interface SpaceWatchOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly space: () => Promise<DiskSpace>;
  /** Tells others what is free now. */
  readonly tell: () => Promise<void>;
}

const lookEveryMs = 2_000;
/** Share of the disk by which free space has to change to be told at once. */
const notable = 0.02;

/**
 * Tells others soon when a disk fills up or gets room again: an OSD that they believe to be full gets no new files, and one
 * that they believe to have room gets files that nobody can write. Small changes wait for the next heartbeat.
 */
export class SpaceWatch {
  private readonly options: SpaceWatchOptions;
  private toldBytes: number | undefined;
  private timer: Timer | undefined;
  private isStopped = false;

  constructor(options: SpaceWatchOptions) {
    this.options = options;
  }

  start(): void {
    if (this.isStopped) return;
    const next = (): void => void this.look().finally(() => this.start());
    this.timer = this.options.clock.after(lookEveryMs, next, { unref: true });
  }

  stop(): void {
    this.isStopped = true;
    this.timer?.cancel();
  }

  private async look(): Promise<void> {
    const { space, tell, logger } = this.options;
    try {
      const { usableBytes, totalBytes } = await space();
      const before = (this.toldBytes ??= usableBytes);
      if (Math.abs(usableBytes - before) < notable * totalBytes) return;
      await tell();
      this.toldBytes = usableBytes;
    } catch (error) {
      logger.warn('Telling the free space failed', { problem: describeError(error) });
    }
  }
}

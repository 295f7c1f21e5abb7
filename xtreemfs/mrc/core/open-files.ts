import type { Clock } from '#common/clock.ts';

/** Files remembered at most; beyond that every unlinked file is treated as open. */
const entriesMax = 200_000;

/**
 * Which files hold a capability that may still be used. An unlinked file among them keeps its inode until the last
 * capability ends, so that an open file stays usable after its name is gone. In memory only: after a restart
 * everything counts as open for one capability time-out.
 */
export class OpenFiles {
  private readonly clock: Clock;
  private readonly timeoutMs: number;
  private readonly startedMs: number;
  private readonly expiryMs = new Map<string, number>();
  private droppedUntilMs: number;

  constructor(clock: Clock, capabilityTimeoutS: number) {
    this.clock = clock;
    this.timeoutMs = capabilityTimeoutS * 1000;
    this.startedMs = clock.now();
    this.droppedUntilMs = this.startedMs + this.timeoutMs;
  }

  /** Notes that a capability for the file was given out or renewed. */
  noteIssued(fileId: string): void {
    const expiry = this.clock.now() + this.timeoutMs;
    this.expiryMs.delete(fileId); // move to the end: the map stays ordered by expiry
    this.expiryMs.set(fileId, expiry);
    if (this.expiryMs.size > entriesMax) this.trim();
  }

  /** When the last capability for the file ends, milliseconds; undefined when none can be in use. */
  openUntilMs(fileId: string): number | undefined {
    const now = this.clock.now();
    const expiry = Math.max(this.expiryMs.get(fileId) ?? 0, this.droppedUntilMs);
    return expiry > now ? expiry : undefined;
  }

  private trim(): void {
    const now = this.clock.now();
    for (const [fileId, expiry] of this.expiryMs) {
      if (expiry > now && this.expiryMs.size <= entriesMax) return;
      this.expiryMs.delete(fileId);
      if (expiry > now) this.droppedUntilMs = Math.max(this.droppedUntilMs, expiry);
    }
  }
}

import type { Clock } from '#common/clock.ts';

/** What is known of a file's capabilities. */
interface Issued {
  expiryMs: number;
  /** The one client that has the file open; undefined when it is not known, or there are several. */
  client: string | undefined;
  /** Nobody has a capability that this entry doesn't know of: the file was made since the start. */
  isWhole: boolean;
}

/** Who opens a file: for a capability that is no new opening (a renewal) there is none. */
export interface Opener {
  /** UUID that our clients tell. */
  readonly client: string | undefined;
  readonly isNew: boolean;
}

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
  private readonly issued = new Map<string, Issued>();
  private droppedUntilMs: number;

  constructor(clock: Clock, capabilityTimeoutS: number) {
    this.clock = clock;
    this.timeoutMs = capabilityTimeoutS * 1000;
    this.startedMs = clock.now();
    this.droppedUntilMs = this.startedMs + this.timeoutMs;
  }

  /** Notes that a capability for the file was given out, or renewed when there is no `opener`. */
  noteIssued(fileId: string, opener?: Opener): void {
    const now = this.clock.now();
    const known = this.issued.get(fileId);
    const isWhole = known?.isWhole === true || opener?.isNew === true;
    let client = opener?.client;
    if (known !== undefined && known.expiryMs > now && known.client !== client) {
      client = opener === undefined ? known.client : undefined;
    }
    this.issued.delete(fileId); // move to the end: the map stays ordered by expiry
    this.issued.set(fileId, { expiryMs: now + this.timeoutMs, client, isWhole });
    if (this.issued.size > entriesMax) this.trim();
  }

  /** When the last capability for the file ends, milliseconds; undefined when none can be in use. */
  openUntilMs(fileId: string): number | undefined {
    const now = this.clock.now();
    const known = this.issued.get(fileId);
    const expiry = Math.max(known?.expiryMs ?? 0, known?.isWhole === true ? 0 : this.droppedUntilMs);
    return expiry > now ? expiry : undefined;
  }

  /** Whether anybody but `client` may have the file open. */
  isOpenElsewhere(fileId: string, client: string | undefined): boolean {
    if (this.openUntilMs(fileId) === undefined) return false;
    const known = this.issued.get(fileId);
    const isKnown = known?.isWhole === true || this.droppedUntilMs <= this.clock.now();
    return !isKnown || client === undefined || known?.client !== client;
  }

  private trim(): void {
    const now = this.clock.now();
    for (const [fileId, { expiryMs }] of this.issued) {
      if (expiryMs > now && this.issued.size <= entriesMax) return;
      this.issued.delete(fileId);
      if (expiryMs > now) this.droppedUntilMs = Math.max(this.droppedUntilMs, expiryMs);
    }
  }
}

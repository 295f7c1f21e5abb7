import type { Clock, Timer } from '#common/clock.ts';
import type { Descriptor } from './descriptor.ts';

const suspectsMax = 64;
const pingsBeforeDeath = 2;

interface Suspect {
  readonly descriptor: Descriptor;
  pings: number;
  timer: Timer;
}

/** What the detector does to the world. */
export interface DetectorActions {
  ping(descriptor: Descriptor): void;
  /** Called once when a suspect stayed silent. */
  bury(descriptor: Descriptor): void;
}

/**
 * Failure detection with suspicion (after SWIM): a peer that failed to answer is pinged twice before it counts as
 * dead, and any sign of life clears it. A node wrongly buried refutes that with its next stamp. At most
 * {@link suspectsMax} are watched at a time; the rest is found out in later rounds.
 */
export class FailureDetector {
  private readonly suspects = new Map<string, Suspect>();
  private readonly clock: Clock;
  private readonly timeoutMs: number;
  private readonly actions: DetectorActions;

  constructor(clock: Clock, timeoutMs: number, actions: DetectorActions) {
    this.clock = clock;
    this.timeoutMs = timeoutMs;
    this.actions = actions;
  }

  /** Whether a peer is under suspicion now: other links are preferred to it. */
  isSuspect(id: string): boolean {
    return this.suspects.size > 0 && this.suspects.has(id);
  }

  get suspectCount(): number {
    return this.suspects.size;
  }

  /** A peer failed to answer. */
  suspect(descriptor: Descriptor): void {
    const { id } = descriptor.profile;
    if (this.suspects.has(id) || this.suspects.size >= suspectsMax) return;
    const suspect: Suspect = { descriptor, pings: 0, timer: { cancel: () => undefined } };
    this.suspects.set(id, suspect);
    this.ping(suspect);
  }

  /** A peer showed itself alive. */
  clear(id: string): void {
    if (this.suspects.size === 0) return;
    this.suspects.get(id)?.timer.cancel();
    this.suspects.delete(id);
  }

  /** Stops watching. */
  stop(): void {
    for (const suspect of this.suspects.values()) suspect.timer.cancel();
    this.suspects.clear();
  }

  private ping(suspect: Suspect): void {
    suspect.pings++;
    this.actions.ping(suspect.descriptor);
    suspect.timer = this.clock.after(
      this.timeoutMs,
      () => {
        if (suspect.pings < pingsBeforeDeath) {
          this.ping(suspect);
          return;
        }
        this.suspects.delete(suspect.descriptor.profile.id);
        this.actions.bury(suspect.descriptor);
      },
      { unref: true },
    );
  }
}

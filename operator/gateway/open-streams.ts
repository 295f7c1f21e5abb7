import type { Clock, Timer } from '#common/clock.ts';
import { Counter } from './limits.ts';
import { PeerError } from './peers/contract.ts';

/** How many streams there may be at once. */
export interface StreamLimits {
  /** Of one member, or whatever the least scope stands for. */
  readonly member: number;
  readonly organization: number;
  readonly peer: number;
  /** What the least scope is, in a sentence. */
  readonly ofWhat: string;
}

/** Of streams to tasks. */
export const streamLimits: StreamLimits = {
  /** Of one member: `xos logs -f` follows sixteen tasks at once. */
  member: 32,
  /** Of one virtual organization from, or through, one peer. */
  organization: 64,
  /** Of one peer: a part of the calls that it may have open, so that work gets through. */
  peer: 128,
  ofWhat: 'one member',
};

/** A stream on which nothing goes either way for so long is ended, milliseconds: as long as kubelets wait by default. */
export const idleMaxMs = 4 * 3_600_000;
/** So often all are looked at: memberships end by the clock too. */
const lookMs = 5_000;
/** Changes that come together are looked at together. */
const gatherMs = 50;

/** Whose stream it is, as far as limits go. */
export interface StreamScopes {
  /** Name of the site at the other end. */
  readonly peer: string;
  readonly organization: string;
  readonly member: string;
}

/** A stream that is open. */
export interface OpenStream {
  /** Aborts with a {@link PeerError} when the stream has to end. */
  readonly signal: AbortSignal;
  /** Something went through. */
  touch(): void;
  /** It is over. */
  close(): void;
}

interface Entry {
  readonly stopper: AbortController;
  readonly check: () => PeerError | undefined;
  touchedAt: number;
}

/** The streams of one kind that go through this process: bounded, and ended as soon as what they were allowed for is over. */
export class OpenStreams {
  private readonly clock: Clock;
  private readonly limits: StreamLimits;
  private readonly counts = new Counter();
  private readonly open = new Set<Entry>();
  private timer: Timer | undefined;
  private isSoon = false;

  /** @param onChange - calls back whenever a check may come out otherwise. */
  constructor(clock: Clock, onChange: (listener: () => void) => unknown, limits: StreamLimits = streamLimits) {
    this.clock = clock;
    this.limits = limits;
    onChange(() => this.schedule(true));
  }

  /**
   * Begins a stream.
   * @param check - why it may not go on; undefined while it may.
   * @throws {PeerError} `Busy` when there are too many.
   */
  enter({ peer, organization, member }: StreamScopes, check: () => PeerError | undefined): OpenStream {
    const { limits } = this;
    const keys = [
      [`peer ${peer}`, limits.peer, `with site ${peer}`],
      [`organization ${peer} ${organization}`, limits.organization, `of ${organization} with site ${peer}`],
      [`member ${peer} ${organization} ${member}`, limits.member, `of ${limits.ofWhat} with site ${peer}`],
    ] as const;
    const taken: string[] = [];
    for (const [key, max, whose] of keys) {
      taken.push(key);
      if (this.counts.add(key) <= max) continue;
      for (const each of taken) this.counts.remove(each);
      throw new PeerError('Busy', `At most ${max} streams ${whose} are open at once: end some.`);
    }
    const entry: Entry = { stopper: new AbortController(), check, touchedAt: this.clock.monotonic() };
    this.open.add(entry);
    this.schedule(false);
    return {
      signal: entry.stopper.signal,
      touch: () => void (entry.touchedAt = this.clock.monotonic()),
      close: () => {
        if (this.open.delete(entry)) for (const each of taken) this.counts.remove(each);
      },
    };
  }

  /** Ends all of them. @param message - why, for a person. */
  endAll(message: string): void {
    for (const { stopper } of this.open) stopper.abort(new PeerError('Unreachable', message));
  }

  private schedule(isSoon: boolean): void {
    if (this.open.size === 0 || (this.timer !== undefined && (this.isSoon || !isSoon))) return;
    this.timer?.cancel();
    this.isSoon = isSoon;
    this.timer = this.clock.after(isSoon ? gatherMs : lookMs, () => this.look(), { unref: true });
  }

  private look(): void {
    this.timer = undefined;
    const now = this.clock.monotonic();
    for (const { stopper, check, touchedAt } of this.open) {
      const problem = check();
      if (problem !== undefined) stopper.abort(problem);
      else if (now - touchedAt >= idleMaxMs)
        stopper.abort(new PeerError('Unreachable', `Nothing went through for ${idleMaxMs / 3_600_000} hours.`));
    }
    this.schedule(false);
  }
}

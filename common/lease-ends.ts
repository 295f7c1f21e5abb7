import type { Clock } from './clock.ts';

/** How long leases last, and by how much the clocks of those who write and read them may run apart; milliseconds. */
export interface LeaseTerms {
  readonly durationMs: number;
  readonly skewMaxMs: number;
}

/**
 * When leases end whose renewals are written as wall-clock times. Each end is reckoned once, when a renewal is seen for the first time, and by the
 * monotonic clock from then on: a clock that is set later prolongs nothing. A renewal from the future proves nothing.
 */
export class LeaseEnds {
  private readonly clock: Clock;
  private readonly terms: LeaseTerms;
  private readonly ends = new Map<string, { readonly renewTime: string; readonly at: number }>();

  constructor(clock: Clock, terms: LeaseTerms) {
    this.clock = clock;
    this.terms = terms;
  }

  /** @param renewTime - RFC 3339, as the lease has it; undefined without a lease. @returns monotonic milliseconds. */
  endOf(name: string, renewTime: string | undefined): number {
    if (renewTime === undefined) return -Infinity;
    const known = this.ends.get(name);
    if (known?.renewTime === renewTime) return known.at;
    const { durationMs, skewMaxMs } = this.terms;
    const ageMs = this.clock.now() - Date.parse(renewTime);
    const leftMs = ageMs >= -skewMaxMs ? durationMs - Math.max(0, ageMs) : -1;
    const at = this.clock.monotonic() + leftMs;
    this.ends.set(name, { renewTime, at });
    return at;
  }

  /** Forgets a lease that nobody asks about any more. */
  forget(name: string): void {
    this.ends.delete(name);
  }
}

import type { Clock } from '#common/clock.ts';
import { Counter, RateLimiter } from '../limits.ts';
import { PeerError } from './contract.ts';

/** What one peer may do. Job traffic is batched (at most four requests per job), so this is some fifty jobs a second. */
export const peerLimits = {
  /** Calls that run at the same time, streams among them. */
  callsMax: 256,
  rate: { perSecond: 200, burst: 400 },
  /** Of one virtual organization through one peer: a part, so that others get through. */
  organizationRate: { perSecond: 100, burst: 200 },
} as const;

/** Keeps the calls of all peers within their limits. */
export class PeerBudget {
  private readonly open = new Counter();
  private readonly rate: RateLimiter;
  private readonly organizationRate: RateLimiter;

  constructor(clock: Clock) {
    this.rate = new RateLimiter(clock, peerLimits.rate);
    this.organizationRate = new RateLimiter(clock, peerLimits.organizationRate);
  }

  /** A call begins. @returns a function that tells that it is over. @throws {PeerError} `Busy`. */
  enter(site: string): () => void {
    this.take(this.rate, site, 'this site');
    if (this.open.add(site) > peerLimits.callsMax) {
      this.open.remove(site);
      throw new PeerError('Busy', `At most ${peerLimits.callsMax} calls of a site run at once: end some.`);
    }
    let isOver = false;
    return () => {
      if (!isOver) this.open.remove(site);
      isOver = true;
    };
  }

  /** Counts a call for a virtual organization. @throws {PeerError} `Busy`. */
  charge(site: string, virtualOrganization: string): void {
    this.take(this.organizationRate, `${site}/${virtualOrganization}`, `${virtualOrganization} through this site`);
  }

  private take(limiter: RateLimiter, key: string, whose: string): void {
    const seconds = limiter.take(key);
    if (seconds > 0) throw new PeerError('Busy', `Too many calls of ${whose}: wait ${seconds} s.`);
  }
}

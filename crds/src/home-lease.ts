/**
 * The leases under which a site carries out work of its peers: one `Lease` per home, in the namespace of the operator of the site that works. The
 * operator ends work whose lease is over, and the selector of each node does when there is no operator to do so.
 */
import type { LeaseTerms } from '#common/lease-ends.ts';

/** How long work goes on without a word of its home site. The home places it elsewhere only when this, and more, is over. */
export const homeLeaseTerms: LeaseTerms = { durationMs: 30_000, skewMaxMs: 5_000 };

/** Name of the Lease of a home. */
export function homeLeaseName(home: string): string {
  return `xtreemos-home-${home}`;
}

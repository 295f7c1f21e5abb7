/** Lays tasks over nodes that offered themselves. Pure. */
import type { Offer } from '#proto/selector/contract.ts';
import type { Predicates } from '#proto/selector/predicate.ts';
import type { Resources } from '#proto/selector/resources.ts';
import { fits, type Shape } from './shape.ts';

/** An offer and how much of it is still unspoken for, as far as this job manager knows. */
export interface Candidate {
  readonly offer: Offer;
  /** Free resources, less what was assigned since. */
  free: Record<string, number>;
  /** The Claim of a reservation that is drawn from, and when its window ends. */
  readonly drawn?: { readonly claim: string; readonly endMs: number };
}

/** So many tasks on one node. */
export interface Share {
  readonly candidate: Candidate;
  readonly count: number;
}

/** Offers in the order in which a shape wants them filled: best rank first, else as `spread` says. */
export function orderOffers(offers: readonly Offer[], shape: Shape, predicates: Predicates): Candidate[] {
  return order(
    offers.map((offer) => ({ offer, free: { ...offer.free } })),
    shape,
    predicates,
  );
}

/** As {@link orderOffers}, for candidates. */
export function order(candidates: Candidate[], shape: Shape, predicates: Predicates): Candidate[] {
  const { rank, demand, spread } = shape;
  const score = new Map(
    candidates.map((candidate) => {
      const { attributes: node, free, live } = candidate.offer;
      const room = fits(demand, free);
      if (rank !== undefined) return [candidate, predicates.score(rank, { free, live, node })];
      return [candidate, spread === 'Pack' ? -room : room];
    }),
  );
  return candidates.sort((a, b) => {
    const difference = (score.get(b) ?? 0) - (score.get(a) ?? 0);
    return difference !== 0 && !Number.isNaN(difference) ? difference : compare(a.offer.id, b.offer.id);
  });
}

/**
 * Shares out `count` tasks over candidates in order and takes the resources off them. Pack fills each in turn, Spread gives
 * each one in turns.
 * @returns at most `count` tasks in all; fewer when there is no more room.
 */
export function assign(count: number, candidates: readonly Candidate[], shape: Shape): Share[] {
  const counts = new Map<Candidate, number>();
  let left = count;
  const give = (candidate: Candidate, most: number): void => {
    if (left === 0) return;
    const given = Math.min(left, most, fits(shape.demand, candidate.free));
    if (given <= 0) return;
    take(candidate.free, shape.demand, given);
    counts.set(candidate, (counts.get(candidate) ?? 0) + given);
    left -= given;
  };
  if (shape.spread === 'Pack') for (const candidate of candidates) give(candidate, left);
  else {
    for (let before = -1; left > 0 && left !== before;) {
      before = left;
      for (const candidate of candidates) give(candidate, 1);
    }
  }
  return [...counts].map(([candidate, given]) => ({ candidate, count: given }));
}

/** Gives back what a share had taken. */
export function giveBack({ candidate, count }: Share, demand: Resources): void {
  take(candidate.free, demand, -count);
}

function take(free: Record<string, number>, demand: Resources, count: number): void {
  for (const [name, amount] of Object.entries(demand)) free[name] = (free[name] ?? 0) - amount * count;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

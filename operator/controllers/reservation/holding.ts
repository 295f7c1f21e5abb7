import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { type Random, randomName } from '#common/random.ts';
import { ask, type Found } from '#operator/scheduling/ask.ts';
import { assign, orderOffers, giveBack, type Share } from '#operator/scheduling/assign.ts';
import { isSiteWanted, type Shape, times } from '#operator/scheduling/shape.ts';
import {
  type ClaimOwnerReference,
  type HoldRequest,
  queryLimits,
  type Refusals,
  type ResourceSelection,
  type Span,
} from '#proto/selector/contract.ts';
import type { Predicates } from '#proto/selector/predicate.ts';

/** What slots are promised with. */
export interface HoldingParts {
  readonly selection: ResourceSelection;
  readonly predicates: Predicates;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Writes down what nodes of other sites have promised: the record of it is there, and here. */
  readonly record: (slots: readonly HeldSlots[], wanted: Wanted) => Promise<void>;
}

/** What is to be promised. */
export interface Wanted {
  readonly shape: Shape;
  readonly window: Span;
  readonly slots: number;
  readonly isDraining: boolean;
  /** `namespace/name` of the reservation: only who names it may release. */
  readonly holder: string;
  readonly owner: ClaimOwnerReference;
}

/** Slots that one node has promised, durably. */
export interface HeldSlots {
  readonly claim: string;
  readonly site: string;
  readonly node: string;
  readonly address: string;
  readonly count: number;
}

/** What came of it: every slot, or none and why. */
export type HoldOutcome =
  { readonly slots: readonly HeldSlots[] } | { readonly refusals: Refusals; readonly nothingMatches: boolean };

const selectTimeoutMs = 5_000;
const holdTtlMs = 30_000;
const roundsMax = 3;

/**
 * Has nodes promise slots for a window, at one site or several: all of them or none. Nodes hold first, for a short time, and confirm only when every
 * slot is held; nothing is kept while waiting, so that two who want the same slots can't block each other. What is left over from an attempt that was
 * cut short is found as Claims, and given back or made up for by who looks next.
 */
export class SlotHolder {
  private readonly parts: HoldingParts;

  constructor(parts: HoldingParts) {
    this.parts = parts;
  }

  /** @throws what the selection throws when it can't be asked at all. */
  async hold(wanted: Wanted): Promise<HoldOutcome> {
    const { offers, refusals, visited } = await this.ask(wanted);
    const candidates = orderOffers(offers, wanted.shape, this.parts.predicates);
    const all: Record<string, number> = { ...refusals };
    const held: HeldSlots[] = [];
    let left = wanted.slots;
    for (let round = 0; round < roundsMax && left > 0; round++) {
      const shares = assign(left, candidates, wanted.shape);
      if (shares.reduce((sum, { count }) => sum + count, 0) < left) {
        for (const share of shares) giveBack(share, wanted.shape.demand);
        break;
      }
      const answers = await Promise.all(shares.map(async (share) => this.holdShare(wanted, share)));
      for (const [index, answer] of answers.entries()) {
        if (typeof answer === 'string') {
          all[answer] = (all[answer] ?? 0) + 1;
          // It knows better than its offer.
          if (shares[index] !== undefined) shares[index].candidate.free = {};
        } else {
          held.push(answer);
          left -= answer.count;
        }
      }
    }
    if (left === 0) {
      const problem = (await this.confirm(wanted, held)) ?? (await this.record(wanted, held));
      if (problem === undefined) return { slots: held };
      all[problem] = (all[problem] ?? 0) + 1;
    }
    await Promise.all(held.map(async (slots) => this.release(wanted, slots)));
    if (Object.keys(all).length === 0) all['The nodes that match have fewer slots free in that window'] = offers.length;
    return { refusals: all, nothingMatches: visited === 0 && offers.length === 0 };
  }

  private async ask({ shape, window, slots }: Wanted): Promise<Found> {
    const { constraints, predicates, demand, virtualOrganization } = shape;
    const query = {
      ...{ id: randomName(this.parts.random, 12), constraints, predicates, demand, virtualOrganization },
      ...{ span: window, isReservation: true, sites: shape.sites },
    };
    // More than are needed: slots are shared out over the best of them.
    const options = { wanted: Math.min(queryLimits.wanted, 2 * slots + 8), timeoutMs: selectTimeoutMs };
    const found = await ask(this.parts.selection, query, options);
    return { ...found, offers: found.offers.filter(({ site }) => isSiteWanted(shape, site)) };
  }

  private async holdShare(wanted: Wanted, { candidate, count }: Share): Promise<HeldSlots | string> {
    const { shape, window, owner, holder, isDraining } = wanted;
    const { address, site, node } = candidate.offer;
    const claim = `${owner.uid.slice(0, 8)}-${Math.floor(window.startMs / 1000).toString(36)}-${randomName(this.parts.random, 5)}`;
    const request: HoldRequest = {
      ...{ id: claim, owner: holder, virtualOrganization: shape.virtualOrganization, ttlMs: holdTtlMs },
      demand: times(shape.demand, count),
      ...{ span: window, isReservation: true, isDraining, ownerReference: owner },
    };
    try {
      const answer = await this.parts.selection.hold(address, request);
      return answer.granted ? { claim, site, node, address, count } : answer.reason;
    } catch (error) {
      this.parts.log.debug('A node could not be asked', { node, problem: describeError(error) });
      return 'the node could not be reached';
    }
  }

  /** @returns why a node would not, in the end. */
  private async confirm({ holder }: Wanted, held: readonly HeldSlots[]): Promise<string | undefined> {
    const problems = await Promise.all(
      held.map(async ({ address, claim, node }) => {
        try {
          await this.parts.selection.confirm(address, { id: claim, owner: holder });
          return undefined;
        } catch (error) {
          this.parts.log.warn('A node did not confirm', { node, problem: describeError(error) });
          return 'the node did not confirm what it had promised';
        }
      }),
    );
    return problems.find((problem) => problem !== undefined);
  }

  /** @returns why what was confirmed could not be written down. */
  private async record(wanted: Wanted, held: readonly HeldSlots[]): Promise<string | undefined> {
    try {
      await this.parts.record(held, wanted);
      return undefined;
    } catch (error) {
      this.parts.log.warn('What other sites have promised was not written down', { problem: describeError(error) });
      return 'what it had promised could not be written down';
    }
  }

  /** What can't be given back now is found as a Claim later. */
  private async release({ holder }: Wanted, { address, claim, node }: HeldSlots): Promise<void> {
    try {
      await this.parts.selection.release(address, { id: claim, owner: holder });
    } catch (error) {
      this.parts.log.debug('Leaving a hold to run out', { node, claim, problem: describeError(error) });
    }
  }
}

import type { Clock, Timer } from '#common/clock.ts';
import type { Offer, Query } from '#proto/selector/contract.ts';
import type { Descriptor } from './descriptor.ts';
import { messageLimits, nothing, type QueryMessage, type QueryOutcome } from './messages.ts';
import type { OverlaySettings } from './settings.ts';

/** Whoever waits for answers to queries that it handed over. */
export interface BranchOwner {
  /** «Working on it». */
  onAck(token: number): void;
  /** The end; `hints` are peers of the answering node that match, when they were asked for. */
  onDone(token: number, refused: boolean, outcome: QueryOutcome, hints: readonly Descriptor[]): void;
}

/** What a query hands over to another node. */
export type Handover = Omit<QueryMessage, 'type' | 'token' | 'replyTo'>;

/** What a harvest needs of its node. */
export interface HarvestHost {
  readonly clock: Clock;
  readonly settings: OverlaySettings;
  isSuspect(id: string): boolean;
  forward(to: Descriptor, owner: BranchOwner, request: Handover): number;
  forget(token: number): void;
  failed(descriptor: Descriptor): void;
  /** Judges what peers say of others. @returns those to be believed. */
  admit(hints: readonly Descriptor[]): readonly Descriptor[];
  isMatch(peer: Descriptor, query: Query): boolean;
}

/** Peers that match which a node names to another; each names others, so few are enough. */
export const hintsPerAnswer = 8;

/** Nodes asked at the same time. */
const askedAtOnce = 48;

/** Some offers come twice or are refused; waiting for the last one costs a round trip. */
const overcommit = 1.15;

/**
 * Finds a few of many without disturbing anybody who doesn't match: asks the peers that match for an offer and for whom
 * they know that matches, then those, and so on. Where an eighth of the nodes match, the peers of peers of a handful are
 * hundreds, so two or three round trips do. Where hardly anybody matches it ends soon, with what there is.
 */
export class Harvest implements BranchOwner {
  private readonly host: HarvestHost;
  private readonly query: Query;
  private readonly wanted: number;
  private readonly deadline: number;
  private readonly onEnd: (outcome: QueryOutcome) => void;
  private readonly onOffers: (offers: readonly Offer[]) => void;
  private readonly candidates: Descriptor[] = [];
  private readonly known = new Set<string>();
  private readonly asked = new Map<
    number,
    { readonly target: Descriptor; readonly timer: Timer; readonly depth: number }
  >();
  private readonly offers = new Map<string, Offer>();
  private readonly refusals: Record<string, number> = {};
  private visited = 0;
  private falseVisits = 0;
  private hops = 0;
  private hasEnded = false;

  constructor(
    host: HarvestHost,
    request: { readonly query: Query; readonly wanted: number; readonly remainingMs: number },
    onEnd: (outcome: QueryOutcome) => void,
    onOffers: (offers: readonly Offer[]) => void,
  ) {
    this.host = host;
    this.query = request.query;
    this.wanted = request.wanted;
    this.deadline = host.clock.monotonic() + request.remainingMs;
    this.onEnd = onEnd;
    this.onOffers = onOffers;
  }

  /** Starts from the peers known. May end before it returns. */
  start(peers: readonly Descriptor[], own: readonly Offer[]): void {
    this.take(own);
    this.note(peers);
    this.pump();
  }

  onAck(): void {
    // Nodes answer a harvest at once.
  }

  onDone(token: number, refused: boolean, outcome: QueryOutcome, hints: readonly Descriptor[]): void {
    const asked = this.asked.get(token);
    if (asked === undefined) return;
    this.settle(token);
    this.hops = Math.max(this.hops, asked.depth);
    if (!refused) {
      this.visited++;
      this.falseVisits += outcome.falseVisits;
      for (const [reason, count] of Object.entries(outcome.refusals)) {
        if (Object.hasOwn(this.refusals, reason) || Object.keys(this.refusals).length < messageLimits.refusals) {
          this.refusals[reason] = (this.refusals[reason] ?? 0) + count;
        }
      }
      this.take(outcome.offers);
      this.note(this.host.admit(hints));
    }
    this.pump(asked.depth + 1);
  }

  /** Ends now with what there is. */
  end(): void {
    if (this.hasEnded) return;
    this.hasEnded = true;
    for (const token of [...this.asked.keys()]) this.settle(token);
    const { refusals, visited, falseVisits, hops } = this;
    this.onEnd({ ...nothing, offers: [...this.offers.values()], refusals, visited, falseVisits, hops });
  }

  private pump(depth = 1): void {
    while (!this.hasEnded) {
      if (this.offers.size >= this.wanted || this.host.clock.monotonic() >= this.deadline) {
        this.end();
        return;
      }
      const missing = Math.ceil(overcommit * (this.wanted - this.offers.size));
      if (this.asked.size >= Math.min(askedAtOnce, missing)) return;
      const target = this.candidates.shift();
      if (target === undefined) {
        if (this.asked.size === 0) this.end();
        return;
      }
      if (!this.host.isSuspect(target.profile.id)) this.ask(target, depth);
    }
  }

  private ask(target: Descriptor, depth: number): void {
    const { clock, settings } = this.host;
    const token = this.host.forward(target, this, {
      query: this.query,
      bordersId: '',
      depth: 0,
      budget: 1,
      floor: 0,
      hints: hintsPerAnswer,
      remainingMs: settings.ackTimeoutMs,
    });
    const timer = clock.after(
      settings.ackTimeoutMs,
      () => {
        this.settle(token);
        this.host.failed(target);
        this.pump(depth);
      },
      { unref: true },
    );
    this.asked.set(token, { target, timer, depth });
  }

  private settle(token: number): void {
    this.asked.get(token)?.timer.cancel();
    this.asked.delete(token);
    this.host.forget(token);
  }

  private note(peers: readonly Descriptor[]): void {
    for (const peer of peers) {
      const { id } = peer.profile;
      if (this.known.has(id) || !this.host.isMatch(peer, this.query)) continue;
      this.known.add(id);
      this.candidates.push(peer);
    }
  }

  private take(offers: readonly Offer[]): void {
    const fresh = offers.filter(({ id }) => !this.offers.has(id)).slice(0, this.wanted - this.offers.size);
    for (const offer of fresh) {
      this.offers.set(offer.id, offer);
      this.known.add(offer.id);
    }
    if (fresh.length > 0) this.onOffers(fresh);
  }
}

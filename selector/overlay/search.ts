import type { Offer, Query } from '#proto/selector/contract.ts';
import type { Descriptor } from './descriptor.ts';
import { Harvest, type HarvestHost } from './harvest.ts';
import type { QueryOutcome } from './messages.ts';
import { QueryRun, type Origin, type QueryHost } from './query-run.ts';
import type { Topology } from './topology.ts';

/** What is asked for, and for how long. */
export interface SearchRequest {
  readonly query: Query;
  readonly wanted: number;
  readonly timeoutMs: number;
}

/** What a search needs of its node. */
export interface SearchHost extends QueryHost, HarvestHost {
  /** Everybody this node knows. */
  readonly peers: readonly Descriptor[];
}

/** How many matches a cell should hold to be entered through a node that doesn't match: by this node, and by others. */
interface Stage {
  readonly own: number;
  readonly others: number;
}

/**
 * Where few of many are wanted and the peers of peers were not enough: this node enters large cells through whoever it
 * knows there, from which it goes on from match to match; then others do, too; then everywhere.
 */
const sparing: readonly Stage[] = [
  { own: 8, others: Infinity },
  { own: 1, others: Infinity },
  { own: 0, others: 4 },
  { own: 0, others: 0 },
];

/** Where all are wanted, everywhere at once. */
const everywhere: readonly Stage[] = [{ own: 0, others: 0 }];

/**
 * The search that a node makes for somebody who asked it. A few of many are harvested among the peers of peers; then the
 * cells are walked, run after run, each going further, until enough is found.
 */
export class Search {
  private readonly host: SearchHost;
  private readonly topology: Topology;
  private readonly request: SearchRequest;
  private readonly deadline: number;
  private readonly onEnd: (outcome: QueryOutcome) => void;
  private readonly onOffers: ((offers: readonly Offer[]) => void) | undefined;
  private readonly offers = new Map<string, Offer>();
  private readonly slots: Origin['slots'] = new Map();
  private effort = { visited: 0, falseVisits: 0, hops: 0 };
  private further: readonly Stage[] = everywhere;
  private step: { end(isExhausted: boolean): void } | undefined;
  private isCancelled = false;

  constructor(
    host: SearchHost,
    topology: Topology,
    request: SearchRequest,
    onEnd: (outcome: QueryOutcome) => void,
    onOffers?: (offers: readonly Offer[]) => void,
  ) {
    this.host = host;
    this.topology = topology;
    this.request = request;
    this.deadline = host.clock.monotonic() + request.timeoutMs;
    this.onEnd = onEnd;
    this.onOffers = onOffers;
  }

  /** Starts; may end before it returns. */
  start(): void {
    const { wanted } = this.request;
    if (wanted >= this.host.nodeCount || this.expectedMatches() < wanted / 2) {
      this.walk();
      return;
    }
    this.harvest((outcome) => {
      // Candidates that refuse would refuse again, run after run: look at everybody once.
      this.further = countRefusals(outcome) > this.offers.size ? everywhere : sparing;
      this.walk();
    });
  }

  /** Ends at once with what there is. */
  cancel(): void {
    this.isCancelled = true;
    this.step?.end(false);
  }

  private walk(): void {
    const [stage = { own: 0, others: 0 }, ...further] = this.further;
    this.further = further;
    const { query, wanted } = this.request;
    const origin = { ownFloor: stage.own, offers: this.offers, slots: this.slots };
    const { remainingMs } = this;
    const run = new QueryRun(
      this.host,
      this.topology,
      { query, depth: 0, budget: wanted, remainingMs, floor: stage.others, origin },
      (outcome) => {
        this.count(outcome);
        if (this.isOver(outcome)) return;
        if (this.further.length > 0) this.walk();
        else this.verify(outcome);
      },
      (offers) => this.report(offers),
    );
    this.step = run;
    run.start();
  }

  /**
   * All cells were walked. While borders change, nodes may follow different ones and refuse each other; peers that match
   * and have said nothing are then asked directly.
   */
  private verify(walked: QueryOutcome): void {
    const matching = this.host.peers.filter((peer) => this.host.isMatch(peer, this.request.query)).length;
    if (matching <= this.offers.size + countRefusals(walked)) {
      this.onEnd({ ...walked, ...this.effort });
      return;
    }
    const before = this.offers.size;
    this.harvest((outcome) => {
      const found = this.offers.size - before;
      const refusals = countRefusals(outcome) > countRefusals(walked) ? outcome.refusals : walked.refusals;
      const unreached = Math.max(0, walked.unreached - found);
      this.onEnd({ ...walked, ...this.effort, refusals, unreached, offers: [...this.offers.values()] });
    });
  }

  private harvest(next: (outcome: QueryOutcome) => void): void {
    const { query, wanted } = this.request;
    const harvest = new Harvest(
      this.host,
      { query, wanted, remainingMs: this.remainingMs },
      (outcome) => {
        this.count(outcome);
        if (!this.isOver(outcome)) next(outcome);
      },
      (offers) => this.report(offers),
    );
    this.step = harvest;
    harvest.start(this.host.peers, [...this.offers.values()]);
  }

  /** Ends when enough is found or nobody waits any longer. */
  private isOver(outcome: QueryOutcome): boolean {
    const isEnough = this.offers.size >= this.request.wanted;
    if (!isEnough && !this.isCancelled && this.remainingMs > 1) return false;
    this.onEnd({ ...outcome, ...this.effort, offers: [...this.offers.values()] });
    return true;
  }

  private count({ visited, falseVisits, hops }: QueryOutcome): void {
    this.effort = {
      visited: this.effort.visited + visited,
      falseVisits: this.effort.falseVisits + falseVisits,
      hops: Math.max(this.effort.hops, hops),
    };
  }

  private report(offers: readonly Offer[]): void {
    const fresh = offers.filter(({ id }) => !this.offers.has(id));
    for (const offer of fresh) this.offers.set(offer.id, offer);
    if (fresh.length > 0) this.onOffers?.(fresh);
  }

  private get remainingMs(): number {
    return Math.max(1, this.deadline - this.host.clock.monotonic());
  }

  /** About how many nodes match, going by the peers known. */
  private expectedMatches(): number {
    const { peers, nodeCount } = this.host;
    const matching = peers.filter((peer) => this.host.isMatch(peer, this.request.query)).length;
    return peers.length === 0 ? 0 : (matching / peers.length) * nodeCount;
  }
}

function countRefusals({ refusals }: QueryOutcome): number {
  return Object.values(refusals).reduce((sum, count) => sum + count, 0);
}

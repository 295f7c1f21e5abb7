import type { Clock, Timer } from '#common/clock.ts';
import { matchesAll } from '#proto/selector/attributes.ts';
import { Region } from './borders.ts';
import type { Descriptor } from './descriptor.ts';
import type { BranchOwner, Handover } from './harvest.ts';
import type { Offer, Query } from '#proto/selector/contract.ts';
import type { Resources } from '#proto/selector/resources.ts';
import { messageLimits, nothing, type QueryMessage, type QueryOutcome } from './messages.ts';
import type { OverlaySettings } from './settings.ts';
import type { Topology } from './topology.ts';

/** Branches are asked for this much more than is wanted: some bring less than hoped, and waiting costs a round trip. */
const overcommit = 1.2;

/** What a candidate says to a query whose static requirements it meets. */
export type Evaluation =
  | { readonly accepted: true; readonly free: Resources; readonly live: Readonly<Record<string, number>> }
  | { readonly accepted: false; readonly reason: string };

/** What a run needs of its node. */
export interface QueryHost {
  readonly clock: Clock;
  readonly settings: OverlaySettings;
  readonly self: Descriptor;
  /** About how many nodes there are; 0 when not known. */
  readonly nodeCount: number;
  evaluate(query: Query): Evaluation;
  isSuspect(id: string): boolean;
  isUncertain(slot: number): boolean;
  /** Sends a branch; the answer comes back through {@link QueryRun.onAck} and {@link QueryRun.onDone}. */
  forward(to: Descriptor, owner: BranchOwner, request: Handover): number;
  forget(token: number): void;
  /** A branch's node stayed silent. */
  failed(descriptor: Descriptor): void;
  /** Asks nodes that share the slot's cell for links into it; calls back once, whether or not it helped. */
  repair(topology: Topology, slot: number, done: () => void): void;
}

/** What a run is to do. */
export interface RunRequest extends Pick<QueryMessage, 'query' | 'depth' | 'budget' | 'remainingMs' | 'floor'> {
  /** Only at the node where a search begins. */
  readonly origin?: Origin;
}

/** What a search knows from its earlier runs. */
export interface Origin {
  /** As `floor`, for the cells that this node itself enters; those that it hands the query to keep to `floor`. */
  readonly ownFloor: number;
  /** Offers found so far. They count towards the budget and are not reported again. */
  readonly offers: ReadonlyMap<string, Offer>;
  /** By slot: the floor under which it gave all it had, and the offers that came from it. Filled in by the run. */
  readonly slots: Map<number, { exhaustedAt: number; had: number }>;
}

interface Branch {
  readonly slot: number;
  /** Offers it may bring, kept free for it. */
  readonly promised: number;
  readonly target: Descriptor;
  timer: Timer;
}

interface SlotState {
  readonly slot: number;
  /** Nodes guessed to match there. */
  readonly expected: number;
  readonly tried: Set<string>;
  hasAskedMates: boolean;
  /** Offers already had from it: asked again for more, it repeats them. */
  had: number;
}

/** What a node says for itself alone. A node that doesn't match was visited in vain. */
export function answerAlone(host: Pick<QueryHost, 'self' | 'evaluate'>, query: Query): QueryOutcome {
  const { profile } = host.self;
  const visit = { ...nothing, isExhausted: true, visited: 1 };
  if (!profile.isOffering || !matchesAll(profile.attributes, query.constraints)) return { ...visit, falseVisits: 1 };
  const evaluation = host.evaluate(query);
  if (!evaluation.accepted) return { ...visit, refusals: { [evaluation.reason]: 1 } };
  const { id, site, node, address, incarnation, attributes } = profile;
  const { free, live } = evaluation;
  return { ...visit, offers: [{ id, site, node, address, incarnation, attributes, free, live }] };
}

/** What a link that matches is worth beside one that is not under suspicion (2) and one of the own site (1). */
const matchScore = 4;

/**
 * One query at one node: evaluates the node itself, then hands the query to one link per cell that overlaps it,
 * shallower bits being someone else's, until `budget` offers are in. Runs keep no memory of past queries: a cell
 * asked twice repeats its offers and the asker drops the doubles, so a lost answer costs time and never an offer.
 *
 * A run with a floor goes through a link that doesn't match only into cells that should hold so many matches. Where far
 * more nodes match than are wanted that finds enough and disturbs nobody else; the asker follows with a lower floor when
 * it doesn't.
 */
export class QueryRun implements BranchOwner {
  private readonly host: QueryHost;
  private readonly topology: Topology;
  private readonly query: Query;
  private readonly region: Region;
  private readonly budget: number;
  private readonly floor: number;
  private readonly ownFloor: number;
  private readonly origin: Origin | undefined;
  private readonly deadline: number;
  private readonly offers = new Map<string, Offer>();
  private readonly refusals: Record<string, number> = {};
  private readonly waiting: SlotState[] = [];
  private readonly leftOver: SlotState[] = [];
  private readonly states = new Map<number, SlotState>();
  private readonly branches = new Map<number, Branch>();
  private readonly onEnd: (outcome: QueryOutcome) => void;
  private readonly onOffers: ((offers: readonly Offer[]) => void) | undefined;
  private deadlineTimer: Timer | undefined;
  private repairs = 0;
  private promised = 0;
  private unreached = 0;
  private visited = 0;
  private falseVisits = 0;
  private hops = 0;
  private hasEnded = false;
  private isCutShort = false;

  constructor(
    host: QueryHost,
    topology: Topology,
    request: RunRequest,
    onEnd: (outcome: QueryOutcome) => void,
    onOffers?: (offers: readonly Offer[]) => void,
  ) {
    this.host = host;
    this.topology = topology;
    this.query = request.query;
    this.region = new Region(request.query.constraints, topology.borders);
    this.budget = request.budget;
    this.floor = request.floor;
    this.origin = request.origin;
    this.ownFloor = request.origin?.ownFloor ?? request.floor;
    for (const [id, offer] of request.origin?.offers ?? []) this.offers.set(id, offer);
    this.deadline = host.clock.monotonic() + request.remainingMs;
    this.onEnd = onEnd;
    this.onOffers = onOffers;
    this.planSlots(request.depth);
  }

  /** Starts; may end before it returns. */
  start(): void {
    this.evaluateSelf();
    this.pump();
    if (this.hasEnded) return;
    const left = this.deadline - this.host.clock.monotonic();
    this.deadlineTimer = this.host.clock.after(left, () => this.end(false), { unref: true });
  }

  /** Whether it still waits for branches. */
  get isRunning(): boolean {
    return !this.hasEnded;
  }

  /** A branch says it is at work. */
  onAck(token: number): void {
    const branch = this.branches.get(token);
    if (branch === undefined) return;
    branch.timer.cancel();
    branch.timer = this.watch(token, 3 * this.host.settings.ackEveryMs);
  }

  /** A branch has ended. */
  onDone(token: number, refused: boolean, outcome: QueryOutcome): void {
    const branch = this.branches.get(token);
    if (branch === undefined) return;
    this.settle(token, branch);
    const state = this.stateOf(branch.slot);
    if (refused) {
      this.waiting.unshift(state);
      this.pump();
      return;
    }
    const before = this.offers.size;
    this.take(outcome.offers);
    for (const [reason, count] of Object.entries(outcome.refusals)) this.refuse(reason, count);
    this.unreached += outcome.unreached;
    this.visited += outcome.visited;
    this.falseVisits += outcome.falseVisits;
    this.hops = Math.max(this.hops, outcome.hops + 1);
    state.had += this.offers.size - before;
    this.origin?.slots.set(branch.slot, {
      exhaustedAt: outcome.isExhausted && outcome.unreached === 0 ? this.floor : Infinity,
      had: state.had,
    });
    if (!outcome.isExhausted) {
      state.tried.clear();
      this.leftOver.push(state);
    }
    this.pump();
  }

  /** Ends now with what there is. @param isExhausted - whether nothing more can be found. */
  end(isExhausted: boolean): void {
    if (this.hasEnded) return;
    this.hasEnded = true;
    this.deadlineTimer?.cancel();
    for (const [token, branch] of this.branches) this.settle(token, branch);
    this.onEnd({
      offers: [...this.offers.values()],
      refusals: this.refusals,
      isExhausted,
      unreached: this.unreached,
      visited: this.visited,
      falseVisits: this.falseVisits,
      hops: this.hops,
    });
  }

  private evaluateSelf(): void {
    const { offers, refusals, visited, falseVisits } = answerAlone(this.host, this.query);
    // Where the search begins nobody was visited.
    if (this.origin === undefined) {
      this.visited += visited;
      this.falseVisits += falseVisits;
    }
    this.take(offers);
    for (const [reason, count] of Object.entries(refusals)) this.refuse(reason, count);
  }

  /** Which slots to ask, in which order: those with a matching link first, of them what fits the need best. */
  private planSlots(depth: number): void {
    const { borders, self } = this.topology;
    const total = Math.max(this.host.nodeCount, 2);
    const checkedSince = this.host.clock.monotonic() - this.host.settings.wholeForMs;
    const ranked: { state: SlotState; rank: number }[] = [];
    const slots = new Set(this.topology.filledSlots);
    for (let slot = depth; slot <= borders.keyBits; slot++) {
      if (!slots.has(slot) && !this.host.isUncertain(slot)) continue;
      const share = this.region.shareOf(self.codes, slot);
      if (share === 0) continue;
      const expected = (total / 2 ** (slot + 1)) * share;
      const earlier = this.origin?.slots.get(slot);
      if (earlier !== undefined && earlier.exhaustedAt <= this.floor) continue;
      const hasMatch = this.topology.links(slot).some((link) => this.isMatch(link));
      if (!hasMatch && expected < this.ownFloor) continue;
      // The slot holds everyone of its cell: nobody there matches.
      const isWhole = this.topology.isWhole(slot, checkedSince) && !this.host.isUncertain(slot);
      if (isWhole && !hasMatch) continue;
      // Few wanted: the cell that should hold about that many. All wanted: large cells first, they take longest.
      const fit = this.budget < total ? -Math.abs(Math.log2(Math.max(expected, 1e-6) / this.budget)) : -slot;
      const state = { slot, expected, tried: new Set<string>(), hasAskedMates: false, had: earlier?.had ?? 0 };
      // Without a matching link to begin at, the cell that should hold most comes first.
      ranked.push({ state, rank: hasMatch ? 2e9 + (share === 1 ? 2 : 0) + fit : expected });
    }
    ranked.sort((a, b) => b.rank - a.rank);
    for (const { state } of ranked) this.waiting.push(state);
  }

  private pump(): void {
    while (!this.hasEnded) {
      const free = Math.ceil(overcommit * this.budget) - this.offers.size - this.promised;
      if (this.offers.size >= this.budget) {
        this.end(this.isIdle && this.waiting.length === 0 && this.leftOver.length === 0 && !this.isCutShort);
        return;
      }
      if (free <= 0 || this.branches.size + this.repairs >= this.host.settings.branchesMax) return;
      const state = this.waiting.shift() ?? (this.isIdle ? this.leftOver.shift() : undefined);
      if (state === undefined) {
        if (this.isIdle) this.end(true);
        return;
      }
      this.launch(state, free);
    }
  }

  private launch(state: SlotState, free: number): void {
    const target = this.choose(state);
    if (target === undefined) {
      if (state.expected >= this.ownFloor) this.mend(state);
      return;
    }
    // Whoever wants all asks all at once; else each cell is asked for about what it should hold, the last for the rest.
    const isForAll = this.budget >= this.host.nodeCount;
    const isLast = this.waiting.length === 0;
    const wanted = isForAll || isLast ? free : Math.min(free, Math.max(4, Math.ceil(2 * state.expected)));
    const { clock, settings } = this.host;
    const left = this.deadline - clock.monotonic();
    state.tried.add(target.profile.id);
    const token = this.host.forward(target, this, {
      query: this.query,
      bordersId: this.topology.borders.id,
      depth: state.slot + 1,
      // What was had from there before comes again and is dropped, so it is asked for on top.
      budget: wanted + state.had,
      floor: this.floor,
      hints: 0,
      remainingMs: Math.max(1, Math.floor(left * 0.95) - 20),
    });
    const promised = isForAll ? 0 : Math.max(1, Math.min(wanted, Math.round(state.expected)));
    const timer = this.watch(token, settings.ackTimeoutMs);
    this.branches.set(token, { slot: state.slot, promised, target, timer });
    this.states.set(state.slot, state);
    this.promised += promised;
  }

  private stateOf(slot: number): SlotState {
    const state = this.states.get(slot);
    if (state === undefined) throw new Error(`No state of slot ${slot}`);
    return state;
  }

  /** The link to use: not under suspicion, one that matches, of the own site since that is near, heard of last. */
  private choose(state: SlotState): Descriptor | undefined {
    let best: Descriptor | undefined;
    let bestScore = -1;
    for (const link of this.topology.links(state.slot)) {
      if (state.tried.has(link.profile.id)) continue;
      const isMatch = this.isMatch(link);
      if (!isMatch && state.expected < this.ownFloor) continue;
      const score =
        (this.host.isSuspect(link.profile.id) ? 0 : 2) +
        (isMatch ? matchScore : 0) +
        (link.profile.site === this.host.self.profile.site ? 1 : 0);
      if (score > bestScore || (score === bestScore && best !== undefined && link.stamp > best.stamp)) {
        best = link;
        bestScore = score;
      }
    }
    return best;
  }

  /** No link is left to try: asks neighbours of the same cell for one, once. */
  private mend(state: SlotState): void {
    if (state.hasAskedMates) {
      if (state.tried.size > 0) this.unreached++;
      return;
    }
    state.hasAskedMates = true;
    this.repairs++;
    this.host.repair(this.topology, state.slot, () => {
      this.repairs--;
      if (this.hasEnded) return;
      this.waiting.unshift(state);
      this.pump();
    });
  }

  private watch(token: number, delayMs: number): Timer {
    return this.host.clock.after(
      delayMs,
      () => {
        const branch = this.branches.get(token);
        if (branch === undefined) return;
        this.settle(token, branch);
        this.host.failed(branch.target);
        this.waiting.unshift(this.stateOf(branch.slot));
        this.pump();
      },
      { unref: true },
    );
  }

  private settle(token: number, branch: Branch): void {
    branch.timer.cancel();
    this.branches.delete(token);
    this.host.forget(token);
    this.promised -= branch.promised;
  }

  private take(offers: readonly Offer[]): void {
    const fresh: Offer[] = [];
    for (const offer of offers) {
      if (this.offers.has(offer.id)) continue;
      if (this.offers.size >= this.budget) {
        this.isCutShort = true;
        break;
      }
      this.offers.set(offer.id, offer);
      fresh.push(offer);
    }
    if (fresh.length > 0) this.onOffers?.(fresh);
  }

  private refuse(reason: string, count: number): void {
    const known = Object.hasOwn(this.refusals, reason);
    const key = known || Object.keys(this.refusals).length < messageLimits.refusals - 1 ? reason : 'other reasons';
    this.refusals[key] = (this.refusals[key] ?? 0) + count;
  }

  private isMatch(link: Descriptor): boolean {
    return link.profile.isOffering && matchesAll(link.profile.attributes, this.query.constraints);
  }

  private get isIdle(): boolean {
    return this.branches.size === 0 && this.repairs === 0;
  }
}

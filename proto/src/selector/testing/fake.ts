import { systemRandom } from '#common/random.ts';
import type { Clock } from '#common/clock.ts';
import { InvalidInputError } from '#common/errors.ts';
import { LiveFeed, type LiveValues } from '#selector/ads/live.ts';
import { Predicates } from '#proto/selector/predicate.ts';
import { Ledger, LedgerNotReadyError } from '#selector/ledger/ledger.ts';
import type { BoundPod } from '#selector/ledger/occupancy.ts';
import { MemoryClaimStore } from '#selector/ledger/store.ts';
import { checkConstraints, matchesAll, type Attributes } from '../attributes.ts';
import {
  queryLimits,
  SelectorUnavailableError,
  type ClaimName,
  type HoldAnswer,
  type HoldRequest,
  type LiveUpdate,
  type Query,
  type ResourceSelection,
  type Selected,
  type SelectOptions,
} from '../contract.ts';
import type { Resources } from '../resources.ts';

/** A node of the fake. */
export interface FakeNode {
  readonly name: string;
  readonly attributes: Attributes;
  /** What it has to give. */
  readonly allocatable: Resources;
  readonly live?: LiveValues;
}

interface Entry {
  readonly node: FakeNode;
  readonly store: MemoryClaimStore;
  readonly feed: LiveFeed;
  live: LiveValues;
  ledger: Ledger;
  incarnation: number;
  isReachable: boolean;
}

/**
 * {@link ResourceSelection} over nodes in memory: no overlay, no network, but each node's account is a real ledger and
 * predicates are really evaluated. Nodes crash, lose contact and fill up when the test says so.
 */
export class FakeResourceSelection implements ResourceSelection {
  /** The site that every node belongs to. */
  readonly site = 'local';
  private readonly entries = new Map<string, Entry>();
  private readonly predicates: Predicates;
  private readonly clock: Clock;
  private readonly random = systemRandom();

  constructor(clock: Clock, nodes: readonly FakeNode[]) {
    this.clock = clock;
    this.predicates = new Predicates(clock);
    for (const node of nodes) this.add(node);
  }

  /** A node joins. */
  add(node: FakeNode): void {
    const address = this.addressOf(node.name);
    const store = new MemoryClaimStore();
    const feed = new LiveFeed(() => this.entries.get(address)?.live ?? {}, this.clock);
    const ledger = this.openLedger(node, store, () => feed.changed());
    const live = node.live ?? {};
    this.entries.set(address, {
      ...{ node, store, feed, ledger, live, isReachable: true, incarnation: this.clock.now() },
    });
  }

  /** `host:port` of a node, as its offers say. */
  addressOf(name: string): string {
    return `${name}.fake:7946`;
  }

  /** The account of a node, to look at or to fill by hand. */
  ledgerOf(name: string): Ledger {
    return this.entryOf(name).ledger;
  }

  /** The selector of a node is killed and starts again: holds are forgotten, claims are not. */
  crash(name: string): void {
    const entry = this.entryOf(name);
    entry.incarnation = this.clock.now();
    entry.ledger = this.openLedger(entry.node, entry.store, () => entry.feed.changed());
  }

  /** Cuts a node off, or connects it again. */
  setReachable(name: string, isReachable: boolean): void {
    this.entryOf(name).isReachable = isReachable;
  }

  /** Sets the pods bound to a node, whoever made them. */
  setPods(name: string, pods: readonly BoundPod[]): void {
    this.entryOf(name).ledger.setPods(pods);
  }

  /** Sets the measured values of a node. */
  setLive(name: string, live: LiveValues): void {
    const entry = this.entryOf(name);
    entry.live = live;
    entry.feed.refresh();
  }

  async *select(query: Query, { wanted, timeoutMs }: SelectOptions): AsyncGenerator<Selected> {
    checkConstraints(query.constraints);
    this.predicates.check(query.predicates);
    within('wanted', wanted, queryLimits.wanted);
    within('timeoutMs', timeoutMs, queryLimits.timeoutMs);
    const refusals: Record<string, number> = {};
    const reachable = [...this.entries].filter(([, { isReachable }]) => isReachable);
    let [visited, offers] = [0, 0];
    // No node is preferred: as in the overlay, who answers first differs from query to query.
    const first = this.random.int(Math.max(1, reachable.length));
    for (const [address, entry] of [...reachable.slice(first), ...reachable.slice(0, first)]) {
      const { node, ledger, live, incarnation } = entry;
      if (offers >= wanted) break;
      if (!matchesAll(node.attributes, query.constraints)) continue;
      visited++;
      const reason = this.reasonAgainst(query, entry);
      if (reason !== undefined) {
        refusals[reason] = (refusals[reason] ?? 0) + 1;
        continue;
      }
      offers++;
      const { site } = this;
      const id = `${site}/${node.name}`;
      const { attributes } = node;
      const free = ledger.free(query);
      yield { offer: { id, site, node: node.name, address, incarnation, attributes, free, live } };
    }
    const isExhausted = offers < wanted;
    yield { summary: { refusals, isExhausted, unreached: 0, visited, falseVisits: 0, hops: 1 } };
  }

  async hold(address: string, request: HoldRequest): Promise<HoldAnswer> {
    return this.at(address, async ({ ledger }) => ledger.hold(request));
  }

  async confirm(address: string, { id, owner }: ClaimName): Promise<void> {
    await this.at(address, async ({ ledger }) => ledger.confirm(id, owner));
  }

  async release(address: string, { id, owner }: ClaimName): Promise<void> {
    await this.at(address, async ({ ledger }) => ledger.release(id, owner));
  }

  async *watch(address: string, predicates: readonly string[], signal: AbortSignal): AsyncGenerator<LiveUpdate> {
    this.predicates.check(predicates);
    const entry = this.reach(address);
    let wake = (): void => undefined;
    const news = { isThere: false };
    const notify = (): void => {
      news.isThere = true;
      wake();
    };
    const unsubscribe = entry.feed.subscribe(notify);
    signal.addEventListener('abort', notify);
    try {
      while (!signal.aborted) {
        if (news.isThere) {
          news.isThere = false;
          const state = { free: entry.ledger.free(), live: entry.live };
          const verdict = this.predicates.evaluate(predicates, { ...state, node: entry.node.attributes });
          yield { ...state, broken: verdict.holds ? undefined : verdict.reason };
        } else {
          await new Promise<void>((resolve) => (wake = resolve));
        }
      }
    } finally {
      signal.removeEventListener('abort', notify);
      unsubscribe?.();
    }
  }

  close(): void {
    this.entries.clear();
  }

  private openLedger(node: FakeNode, store: MemoryClaimStore, onChange: () => void): Ledger {
    const ledger = new Ledger(this.clock, store, onChange);
    ledger.setAllocatable(node.allocatable);
    ledger.openWith(store.all);
    return ledger;
  }

  private reasonAgainst(query: Query, { node, ledger, live }: Entry): string | undefined {
    const lacking = ledger.reasonAgainstDemand(query.demand, query);
    if (lacking !== undefined) return lacking;
    const state = { free: ledger.free(query), live, node: node.attributes };
    const verdict = this.predicates.evaluate(query.predicates, state);
    return verdict.holds ? undefined : verdict.reason;
  }

  private entryOf(name: string): Entry {
    const entry = this.entries.get(this.addressOf(name));
    if (entry === undefined) throw new InvalidInputError('node', `${name} is no node of this fake`);
    return entry;
  }

  private reach(address: string): Entry {
    const entry = this.entries.get(address);
    if (entry?.isReachable === true) return entry;
    throw new SelectorUnavailableError(`Selector ${address}: there is no answer`);
  }

  private async at<T>(address: string, act: (entry: Entry) => Promise<T>): Promise<T> {
    try {
      return await act(this.reach(address));
    } catch (error) {
      if (!(error instanceof LedgerNotReadyError)) throw error;
      throw new SelectorUnavailableError(`Selector ${address}: ${error.message}`, { cause: error });
    }
  }
}

function within(field: string, value: number, most: number): void {
  if (value < 1 || value > most) throw new InvalidInputError(field, `must be 1 to ${most}, not ${value}`);
}

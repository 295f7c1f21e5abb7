import type { Clock, Timer } from '#common/clock.ts';
import { shuffle, type Random } from '#common/random.ts';
import { matchesAll } from '#proto/selector/attributes.ts';
import type { Offer, Query } from '#proto/selector/contract.ts';
import { flipBit, Borders } from './borders.ts';
import { BordersKeeper } from './borders-keeper.ts';
import type { Descriptor, Profile } from './descriptor.ts';
import { signedBytes } from './descriptor.ts';
import { FailureDetector } from './detector.ts';
import type { AverageState } from './distribution.ts';
import { hintsPerAnswer, type BranchOwner, type Handover } from './harvest.ts';
import { Lookup } from './lookup.ts';
import { Membership } from './membership.ts';
import { nothing } from './messages.ts';
import type {
  BordersMark,
  ExchangeMessage,
  FindMessage,
  GossipMessage,
  Message,
  QueryMessage,
  QueryOutcome,
  ShuffleMessage,
  Transport,
} from './messages.ts';
import { answerAlone, QueryRun, type Evaluation } from './query-run.ts';
import { Search, type SearchHost } from './search.ts';
import { settingsWith, type OverlaySettings } from './settings.ts';
import type { Topology } from './topology.ts';
import type { Signer, Verifier } from './trust.ts';

/** What a node stands on. All of it is given, so that a simulation runs the very same code. */
export interface OverlayComponents {
  readonly clock: Clock;
  readonly random: Random;
  readonly transport: Transport;
  readonly signer: Signer;
  readonly verifier: Verifier;
  /** Judges a query whose static requirements this node meets: live predicates, ledger, site rules. */
  readonly evaluate: (query: Query) => Evaluation;
}

/** An exchange begun and not answered yet; at most one of each kind. */
interface PendingExchange {
  readonly token: number;
  readonly partner: Descriptor;
  readonly sent: readonly Descriptor[];
  readonly average?: AverageState | undefined;
}

const cascadePings = 4;
const lookupRounds = 30;
const lostProbeRounds = 3;
/** A node that has just started gossips faster for its first rounds. */
const eagerRounds = 12;
const eagerness = 4;
/** Questions of a look-up: of the own key when joining, of a lost slot's key. */
const joinAsks = 12;
const repairAsks = 2;
const slotsMendedAtOnce = 4;

/**
 * A member of the resource-selection overlay: gossips with peers once a period, keeps its links right, and carries
 * queries. Not thread-safe; every entry point is synchronous.
 */
export class OverlayNode implements SearchHost {
  readonly clock: Clock;
  readonly settings: OverlaySettings;
  readonly membership: Membership;
  readonly keeper: BordersKeeper;
  readonly detector: FailureDetector;
  self: Descriptor;
  private readonly profile: Profile;
  private readonly components: OverlayComponents;
  private readonly runs = new Map<number, BranchOwner>();
  private readonly serving = new Set<QueryRun>();
  private readonly searches = new Set<Search>();
  private readonly lookups = new Map<number, Lookup>();
  private shuffle: PendingExchange | undefined;
  private exchange: PendingExchange | undefined;
  private seeds: readonly string[] = [];
  private timer: Timer | undefined;
  private mendTimer: Timer | undefined;
  private round = 0;
  private hasStopped = false;

  constructor(profile: Profile, components: OverlayComponents, settings: Partial<OverlaySettings> = {}) {
    this.profile = profile;
    this.components = components;
    this.clock = components.clock;
    this.settings = settingsWith(settings);
    this.self = this.stamped(false);
    this.membership = new Membership(profile, Borders.first, components.verifier, this.clock, this.settings);
    this.keeper = new BordersKeeper(profile, this.membership, components, this.settings);
    this.detector = new FailureDetector(this.clock, this.settings.pingTimeoutMs, {
      ping: (descriptor) => this.ping(descriptor.profile.address),
      bury: (descriptor) => this.onDead(descriptor),
    });
  }

  /** Joins through any of `seeds` (addresses) and starts to gossip. The first round comes at a random moment of a period. */
  start(seeds: readonly string[]): void {
    this.setSeeds(seeds);
    this.schedule(Math.floor(this.components.random.next() * (this.settings.periodMs / eagerness)));
  }

  /** Sets the addresses that are tried when peers are lost. */
  setSeeds(seeds: readonly string[]): void {
    this.seeds = seeds.filter((seed) => seed !== this.profile.address);
    if (this.membership.view.entries.length === 0) for (const seed of this.seeds) this.ping(seed);
  }

  /** Addresses of everybody known, to join through after a restart. */
  get peerAddresses(): readonly string[] {
    return this.everyone().map(({ profile }) => profile.address);
  }

  /** Says goodbye to every link and stops. */
  stop(): void {
    this.halt();
    this.self = this.stamped(true);
    for (const { profile } of this.everyone()) this.send(profile.address, this.gossip('ping', 0, []));
  }

  /** Stops at once and silently, as a crash does. */
  halt(): void {
    this.hasStopped = true;
    this.timer?.cancel();
    this.mendTimer?.cancel();
    this.detector.stop();
    for (const run of [...this.serving]) run.end(false);
    for (const search of [...this.searches]) search.cancel();
    for (const lookup of this.lookups.values()) lookup.cancel();
  }

  /** About how many nodes there are: from the last estimate, else from the depth of the links. */
  get nodeCount(): number {
    const estimated = this.keeper.estimate?.nodeCount ?? 0;
    if (estimated > 0) return estimated;
    const slots = this.membership.current.filledSlots;
    return Math.max(this.membership.current.size + 1, 2 ** Math.min(30, slots.length));
  }

  /** Queries in progress here, own ones included. */
  get queriesInFlight(): number {
    return this.serving.size + this.searches.size;
  }

  /**
   * Selects up to `wanted` nodes.
   * @param onEnd - called once, also when time ran out; offers are distinct nodes.
   * @param onOffers - called as offers come in.
   * @returns a function that ends the query at once.
   */
  select(
    query: Query,
    request: { wanted: number; timeoutMs: number },
    onEnd: (outcome: QueryOutcome) => void,
    onOffers?: (offers: readonly Offer[]) => void,
  ): () => void {
    const topology = this.membership.topologyOf(this.keeper.serving.id) ?? this.membership.current;
    const search: Search = new Search(
      this,
      topology,
      { query, ...request },
      (outcome) => {
        this.searches.delete(search);
        onEnd(outcome);
      },
      onOffers,
    );
    this.searches.add(search);
    search.start();
    return () => search.cancel();
  }

  /** Takes a message from the network. */
  receive(message: Message): void {
    if (this.hasStopped) return;
    switch (message.type) {
      case 'query': {
        this.onQuery(message);
        return;
      }
      case 'ack':
        return this.runs.get(message.token)?.onAck(message.token);
      case 'done':
        return this.runs.get(message.token)?.onDone(message.token, message.refused, message.outcome, message.hints);
      case 'borders':
        if (message.borders === undefined) this.send(message.replyTo, this.bordersMessage(true));
        else this.keeper.consider(message.borders, message.former);
        return;
      default: {
        this.onGossip(message);
        return;
      }
    }
  }

  /** {@link QueryHost} */
  evaluate(query: Query): Evaluation {
    return this.components.evaluate(query);
  }

  /** {@link SearchHost} */
  get peers(): readonly Descriptor[] {
    return this.everyone();
  }

  /** {@link SearchHost} */
  admit(hints: readonly Descriptor[]): readonly Descriptor[] {
    return this.membership.admitAll(hints);
  }

  /** {@link SearchHost} */
  isMatch({ profile }: Descriptor, query: Query): boolean {
    return profile.isOffering && matchesAll(profile.attributes, query.constraints);
  }

  /** {@link QueryHost} */
  isSuspect(id: string): boolean {
    return this.detector.isSuspect(id);
  }

  /** {@link QueryHost} */
  isUncertain(slot: number): boolean {
    return this.membership.uncertain.has(slot);
  }

  /** {@link QueryHost} */
  forward(to: Descriptor, owner: BranchOwner, request: Handover): number {
    const token = this.newToken();
    this.runs.set(token, owner);
    this.send(to.profile.address, { type: 'query', token, replyTo: this.profile.address, ...request });
    return token;
  }

  /** {@link QueryHost} */
  forget(token: number): void {
    this.runs.delete(token);
  }

  /** {@link QueryHost} */
  failed(descriptor: Descriptor): void {
    this.detector.suspect(descriptor);
  }

  /** {@link QueryHost} */
  repair(topology: Topology, slot: number, done: () => void): void {
    const mates: Descriptor[] = [];
    for (const index of topology.filledSlots) {
      if (index <= slot) continue;
      const mate = topology.links(index).find((link) => !this.isSuspect(link.profile.id));
      if (mate !== undefined) mates.push(mate);
    }
    const key = slot < topology.borders.keyBits ? flipBit(topology.self.key, slot) : topology.self.key;
    this.lookUp(key, topology, mates.reverse().slice(0, repairAsks), repairAsks, () => {
      this.membership.asked(slot);
      done();
    });
  }

  private schedule(delayMs: number): void {
    this.timer = this.clock.after(
      delayMs,
      () => {
        const jitter = 0.95 + 0.1 * this.components.random.next();
        const periodMs = this.settings.periodMs / (this.round < eagerRounds ? eagerness : 1);
        this.schedule(Math.round(periodMs * jitter));
        this.runRound();
      },
      { unref: true },
    );
  }

  /** One round: judge unanswered exchanges, then shuffle, exchange, and see to what needs mending. */
  private runRound(): void {
    this.round++;
    this.self = this.stamped(false);
    for (const pending of [this.shuffle, this.exchange]) if (pending !== undefined) this.failed(pending.partner);
    this.shuffle = undefined;
    this.exchange = undefined;
    this.keeper.tick();
    this.beginShuffle();
    this.beginExchange();
    if (this.round === 1 || this.round % lookupRounds === 0) this.lookUpSelf();
    if (this.round % lostProbeRounds === 0 || this.membership.view.entries.length === 0) this.probeLost();
  }

  private beginShuffle(): void {
    const partner = this.membership.view.oldest();
    if (partner === undefined) return;
    const sent = this.membership.view.sample(this.settings.shuffleSize - 1, this.components.random, partner);
    const average = this.keeper.averaging.snapshot();
    const token = this.newToken();
    this.shuffle = { token, partner, sent: [...sent, partner], average };
    const mark = this.mark;
    this.send(partner.profile.address, { type: 'shuffle', token, from: this.self, mark, items: sent, average });
  }

  private beginExchange(): void {
    const partner = this.exchangePartner();
    if (partner === undefined) return;
    const sent = this.nearestFor(partner.profile);
    const token = this.newToken();
    this.exchange = { token, partner, sent };
    const { mark, self: from } = this;
    const filled = this.membership.current.filledBits();
    this.send(partner.profile.address, { type: 'exchange', token, from, mark, items: sent, filled });
  }

  /** In turn: the link heard of longest ago, which checks it, and one of a slot that may lack somebody. */
  private exchangePartner(): Descriptor | undefined {
    const { current, view } = this.membership;
    const slot = this.round % 2 === 0 ? undefined : (current.leastChecked() ?? current.filledSlots.at(-1));
    if (slot === undefined) return current.oldest() ?? view.oldest();
    const links = current.links(slot);
    return links[this.components.random.int(links.length)];
  }

  private nearestFor(profile: Profile, filled?: Uint32Array): Descriptor[] {
    const { current } = this.membership;
    const { key } = profile.placement(current.borders);
    return this.membership.helpful(key, current, this.settings.exchangeSize, profile, filled);
  }

  private onGossip(message: GossipMessage | ExchangeMessage | ShuffleMessage | FindMessage): void {
    const { from, token } = message;
    // Only who proves to be that node clears it of a suspicion: a forged sign of life must not keep a dead one among the links.
    if (!this.membership.admit(from, true)) return;
    this.detector.clear(from.profile.id);
    if (this.membership.lostAddresses.length > 0) this.membership.found(from.profile.address);
    this.compareBorders(message.mark, from.profile.address);
    switch (message.type) {
      case 'shuffle': {
        this.onShuffle(message);
        return;
      }
      case 'shuffled': {
        this.onShuffled(message);
        return;
      }
      case 'exchange': {
        const isTold = message.filled.length > 0 && message.mark.id === this.mark.id;
        const filled = isTold ? message.filled : undefined;
        this.send(from.profile.address, this.gossip('exchanged', token, this.nearestFor(from.profile, filled)));
        this.takeExchanged(message);
        return;
      }
      case 'exchanged':
        if (this.exchange?.token === token) this.exchange = undefined;
        this.takeExchanged(message);
        return;
      case 'find': {
        const topology = this.membership.topologyOf(message.bordersId);
        const { exchangeSize } = this.settings;
        const items =
          topology === undefined
            ? this.membership.view.sample(exchangeSize, this.components.random)
            : this.membership.helpful(message.key, topology, exchangeSize, from.profile);
        this.send(from.profile.address, this.gossip('found', token, items));
        return;
      }
      case 'found':
        this.lookups.get(token)?.onFound(token, this.membership.admitAll(message.items));
        return;
      case 'ping': {
        this.send(from.profile.address, this.gossip('pong', token, []));
        return;
      }
      case 'pong':
        return;
    }
  }

  /** Takes in what a partner thinks helps us; with the same borders that is everyone it knows of its cell, or enough. */
  private takeExchanged(message: GossipMessage | ExchangeMessage): void {
    this.membership.admitAll(message.items);
    const { current } = this.membership;
    if (message.mark.id === current.borders.id) current.markChecked(message.from.profile, this.clock.monotonic());
  }

  private onShuffle(message: ShuffleMessage): void {
    const sample = this.membership.view.sample(this.settings.shuffleSize, this.components.random, message.from);
    const average = message.average === undefined ? undefined : this.keeper.averaging.answer(message.average);
    const address = message.from.profile.address;
    const mark = this.mark;
    this.send(address, { type: 'shuffled', token: message.token, from: this.self, mark, items: sample, average });
    const accepted = this.membership.admitAll(message.items);
    this.membership.view.merge([message.from, ...accepted], sample);
  }

  private onShuffled(message: ShuffleMessage): void {
    const pending = this.shuffle;
    if (pending?.token !== message.token) return;
    this.shuffle = undefined;
    if (message.average !== undefined && pending.average !== undefined) {
      this.keeper.averaging.complete(pending.average, message.average);
    }
    this.membership.view.merge(this.membership.admitAll(message.items), pending.sent);
  }

  private onQuery(message: QueryMessage): void {
    const topology = this.membership.topologyOf(message.bordersId);
    const reply = (refused: boolean, outcome: QueryOutcome, hints: readonly Descriptor[] = []): void =>
      this.send(message.replyTo, { type: 'done', token: message.token, refused, outcome, hints });
    if (message.hints > 0) {
      reply(false, answerAlone(this, message.query), this.hintsFor(message));
      return;
    }
    if (topology === undefined || this.serving.size >= this.settings.queriesMax) {
      reply(true, nothing);
      return;
    }
    const run: QueryRun = new QueryRun(this, topology, message, (outcome) => {
      this.serving.delete(run);
      reply(false, outcome);
    });
    this.serving.add(run);
    run.start();
    if (run.isRunning) this.acknowledge(message, run);
  }

  /** Peers that match, chosen at random so that those who ask several nodes hear of many. */
  private hintsFor({ query, hints }: QueryMessage): Descriptor[] {
    const oldest = this.clock.now() - this.settings.forwardAgeMaxMs;
    const matching = this.everyone().filter(
      (peer) => peer.stamp >= oldest && this.isMatch(peer, query) && !this.isSuspect(peer.profile.id),
    );
    return shuffle(this.components.random, matching).slice(0, Math.min(hints, hintsPerAnswer));
  }

  /** Tells the asker, now and again, that the branch is alive. */
  private acknowledge(message: QueryMessage, run: QueryRun): void {
    if (!run.isRunning || this.hasStopped) return;
    this.send(message.replyTo, { type: 'ack', token: message.token });
    this.clock.after(this.settings.ackEveryMs, () => this.acknowledge(message, run), { unref: true });
  }

  private onDead(descriptor: Descriptor): void {
    this.membership.bury(descriptor);
    if (this.membership.uncertain.size > 0) this.mendSoon();
    // Where one died others may have: after a mass failure this finds the rest in seconds, in quiet it costs nothing.
    const links = this.membership.current.all().filter((link) => !this.isSuspect(link.profile.id));
    links.sort((a, b) => a.stamp - b.stamp);
    for (const link of links.slice(0, cascadePings)) {
      if (link.stamp < this.clock.now() - this.settings.periodMs) this.detector.suspect(link);
    }
  }

  /** Asks neighbours about slots that lost links, a few at a time, until each has been asked about often enough. */
  private mendSlots(): void {
    this.mendTimer = undefined;
    const { uncertain, current } = this.membership;
    for (const slot of [...uncertain.keys()].slice(0, slotsMendedAtOnce)) this.repair(current, slot, () => undefined);
    if (uncertain.size > 0) this.mendSoon();
  }

  private mendSoon(): void {
    if (this.mendTimer !== undefined || this.hasStopped) return;
    this.mendTimer = this.clock.after(2 * this.settings.pingTimeoutMs, () => this.mendSlots(), { unref: true });
  }

  private lookUpSelf(): void {
    const { current, view } = this.membership;
    this.lookUp(current.self.key, current, view.sample(2, this.components.random), joinAsks, () => undefined);
  }

  private lookUp(
    key: Uint32Array,
    topology: Topology,
    from: readonly Descriptor[],
    asksMax: number,
    done: () => void,
  ): void {
    const lookup = new Lookup(key, topology.borders, {
      clock: this.clock,
      timeoutMs: this.settings.ackTimeoutMs,
      asksMax,
      ask: (descriptor) => {
        const token = this.newToken();
        this.lookups.set(token, lookup);
        const bordersId = topology.borders.id;
        const message: FindMessage = { type: 'find', token, from: this.self, mark: this.mark, bordersId, key };
        this.send(descriptor.profile.address, message);
        return token;
      },
      forget: (token) => this.lookups.delete(token),
      failed: (descriptor) => this.failed(descriptor),
      done,
    });
    lookup.start(from);
  }

  private probeLost(): void {
    const candidates = [...this.membership.lostAddresses, ...this.seeds];
    const address = candidates[this.components.random.int(Math.max(1, candidates.length))];
    if (address !== undefined) this.ping(address);
  }

  private compareBorders(mark: BordersMark, address: string): void {
    const { borders } = this.membership.current;
    if (mark.id === borders.id) return;
    const isTheirsLater = mark.mintedAt !== borders.mintedAt ? mark.mintedAt > borders.mintedAt : mark.id > borders.id;
    this.send(address, this.bordersMessage(!isTheirsLater));
  }

  private bordersMessage(isGiving: boolean): Message {
    const { current, previous } = this.membership;
    return {
      type: 'borders',
      borders: isGiving ? current.borders : undefined,
      former: isGiving && this.keeper.isWarming ? previous?.borders : undefined,
      replyTo: this.profile.address,
    };
  }

  private ping(address: string): void {
    this.send(address, this.gossip('ping', this.newToken(), []));
  }

  private gossip(type: GossipMessage['type'], token: number, items: readonly Descriptor[]): GossipMessage {
    return { type, token, from: this.self, mark: this.mark, items };
  }

  private get mark(): BordersMark {
    return this.membership.current.borders;
  }

  private everyone(): Descriptor[] {
    return [...new Map(this.membership.pool().map((descriptor) => [descriptor.profile.id, descriptor])).values()];
  }

  private stamped(isLeaving: boolean): Descriptor {
    const unsigned = { profile: this.profile, stamp: this.components.clock.now(), isLeaving };
    return { ...unsigned, signature: this.components.signer.sign(() => signedBytes(unsigned)) };
  }

  private newToken(): number {
    return this.components.random.int(2 ** 48);
  }

  private send(to: string, message: Message): void {
    this.components.transport.send(to, message);
  }
}

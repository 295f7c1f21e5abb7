import { pick, SeededRandom, shuffle, type Random } from '#common/random.ts';
import { matchesAll, type Constraint } from '#proto/selector/attributes.ts';
import { Profile } from '#selector/overlay/descriptor.ts';
import type { Query } from '#proto/selector/contract.ts';
import type { QueryOutcome } from '#selector/overlay/messages.ts';
import { OverlayNode } from '#selector/overlay/node.ts';
import type { Evaluation } from '#selector/overlay/query-run.ts';
import type { OverlaySettings } from '#selector/overlay/settings.ts';
import type { Signer, Verifier } from '#selector/overlay/trust.ts';
import { SimNetwork } from './network.ts';
import { createPopulation, type Distribution, type Population } from './population.ts';
import { Scheduler } from './scheduler.ts';

/** How a simulated world begins. */
export interface WorldOptions {
  readonly seed: number;
  readonly nodes: number;
  readonly distribution: Distribution;
  readonly siteCount?: number;
  readonly settings?: Partial<OverlaySettings>;
  /** Signs and verifies for real where a test is about that; by default everything counts as signed. */
  readonly security?: { signer(site: string): Signer; verifier(site: string): Verifier };
  readonly evaluate?: (query: Query, profile: Profile) => Evaluation;
}

/** One node of the world. */
export interface SimNode {
  readonly node: OverlayNode;
  readonly profile: Profile;
  /** Virtual time of its start. */
  readonly startedAt: number;
}

/** How one query fared against the truth. */
export interface Judged {
  readonly outcome: QueryOutcome;
  /** Nodes that match and lived through the whole query. */
  readonly matching: number;
  /** Of those, found. */
  readonly found: number;
  /** Offers that don't match, or are named twice. Must be 0. */
  readonly wrong: number;
  /** Virtual milliseconds. */
  readonly tookMs: number;
}

const noSignature = new Uint8Array(64);
const openSecurity = {
  signer: (site: string): Signer => ({ site, sign: () => noSignature }),
  verifier: (): Verifier => ({ verifyDescriptor: () => true, verifyBorders: () => true }),
};

/** A world of overlay nodes on one virtual clock and network, all from one seed. */
export class World {
  readonly scheduler = new Scheduler();
  readonly random: SeededRandom;
  readonly network: SimNetwork;
  readonly population: Population;
  readonly alive: SimNode[] = [];
  /** Nodes that crashed, with the virtual time; the last 4,096. */
  readonly dead: { readonly profile: Profile; readonly at: number }[] = [];
  private readonly options: WorldOptions;
  private readonly sites: readonly string[];
  private created = 0;

  constructor(options: WorldOptions) {
    this.options = options;
    this.sites = Array.from({ length: options.siteCount ?? 20 }, (_, index) => `site-${index}`);
    this.random = new SeededRandom(options.seed);
    this.network = new SimNetwork(this.scheduler, this.random.fork());
    this.population = createPopulation(options.distribution, this.random.fork());
    for (let i = 0; i < options.nodes; i++) this.spawn();
  }

  /** Starts a node that knows one random living node, if there is one. */
  spawn(profile: Profile = this.newProfile(), seeds: readonly string[] = this.randomSeeds()): SimNode {
    const random: Random = this.random.fork();
    const { site, address } = profile;
    const transport = this.network.attach(address, site, (message) => node.receive(message));
    const security = this.options.security ?? openSecurity;
    const node: OverlayNode = new OverlayNode(
      profile,
      {
        clock: this.scheduler,
        random,
        transport,
        signer: security.signer(site),
        verifier: security.verifier(site),
        evaluate: (query) => this.options.evaluate?.(query, profile) ?? { accepted: true, free: {}, live: {} },
      },
      this.options.settings,
    );
    const entry = { node, profile, startedAt: this.scheduler.monotonic() };
    this.alive.push(entry);
    node.start(seeds);
    return entry;
  }

  /** A node's description with drawn attributes. */
  newProfile(): Profile {
    const index = this.created++;
    return new Profile({
      site: this.sites[index % this.sites.length] ?? 'site-0',
      node: `n${index}`,
      address: `10.0.0.0:${index}`,
      incarnation: this.scheduler.now(),
      attributes: this.population.attributes(),
      isOffering: true,
    });
  }

  /** Crashes nodes chosen at random. @returns them. */
  kill(count: number): SimNode[] {
    const victims = shuffle(this.random, [...this.alive.keys()])
      .slice(0, count)
      .sort((a, b) => b - a);
    return victims.map((index) => this.crash(index));
  }

  /** Lets time pass while `share` of the nodes is replaced every `everyMs`, evenly spread. */
  churn(durationMs: number, share: number, everyMs: number): void {
    const gap = everyMs / Math.max(1, share * this.alive.length);
    const end = this.scheduler.monotonic() + durationMs;
    const replace = (): void => {
      if (this.scheduler.monotonic() >= end) return;
      this.kill(1);
      this.spawn();
      this.scheduler.post(gap, replace);
    };
    this.scheduler.post(gap, replace);
  }

  /** Runs a query from a random node to its end and judges the answer. */
  ask(constraints: readonly Constraint[], wanted: number, timeoutMs = 60_000): Judged {
    const asker = pick(this.random, this.alive);
    const begin = this.scheduler.monotonic();
    const before = this.alive.filter(({ profile }) => matchesAll(profile.attributes, constraints));
    const answer: { outcome?: QueryOutcome } = {};
    const query: Query = { id: `q${begin}`, constraints, predicates: [], demand: {}, virtualOrganization: 'vo' };
    asker.node.select(query, { wanted, timeoutMs }, (outcome) => (answer.outcome = outcome));
    this.scheduler.run(timeoutMs + 1_000, () => answer.outcome !== undefined);
    const { outcome } = answer;
    if (outcome === undefined) throw new Error(`The query from ${asker.profile.id} never ended`);
    const ids = new Set(outcome.offers.map(({ id }) => id));
    const living = new Set(this.alive);
    const lasting = before.filter((entry) => living.has(entry));
    return {
      outcome,
      matching: lasting.length,
      found: lasting.filter(({ profile }) => ids.has(profile.id)).length,
      wrong:
        outcome.offers.length -
        ids.size +
        outcome.offers.filter((offer) => !matchesAll(offer.attributes, constraints)).length,
      tookMs: this.scheduler.monotonic() - begin,
    };
  }

  private crash(index: number): SimNode {
    const entry = this.alive[index];
    const last = this.alive.pop();
    if (entry === undefined || last === undefined) throw new RangeError(`No node ${index} is alive`);
    if (last !== entry) this.alive[index] = last;
    entry.node.halt();
    this.dead.push({ profile: entry.profile, at: this.scheduler.monotonic() });
    if (this.dead.length > 4_096) this.dead.shift();
    this.network.detach(entry.profile.address);
    return entry;
  }

  private randomSeeds(): string[] {
    if (this.alive.length === 0) return [];
    return [pick(this.random, this.alive).profile.address];
  }
}

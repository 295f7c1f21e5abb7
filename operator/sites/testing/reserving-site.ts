/** A site that reserves slots here and at its peer: the product's own code, above nodes, a store and links that are made up. */
import type { VirtualClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import type { SeededRandom } from '#common/random.ts';
import { type ClaimObject, claims } from '#crds/claim.ts';
import { type Reservation, reservations } from '#crds/reservation.ts';
import { ReservationReconciler } from '#operator/controllers/reservation/controller.ts';
import { recordElsewhere } from '#operator/controllers/reservation/elsewhere.ts';
import { SlotHolder } from '#operator/controllers/reservation/holding.ts';
import { ReservationClaims } from '#operator/scheduling/reserved.ts';
import type {
  ClaimName,
  HoldAnswer,
  HoldRequest,
  Query,
  ResourceSelection,
  Selected,
} from '#proto/selector/contract.ts';
import { Predicates } from '#proto/selector/predicate.ts';
import type { Client } from '#runtime/contracts.ts';
import type { Kind } from '#runtime/kind.ts';
import type { Stored } from '#runtime/types.ts';
import { KubernetesClaimStore } from '#selector/kubernetes/claim-store.ts';
import { Ledger } from '#selector/ledger/ledger.ts';
import { AwayClaims } from '../away-claims.ts';
import { HostedClaims } from '../peer-claims.ts';
import { HostedSelection } from '../selection-service.ts';
import { SitesSelection } from '../selection.ts';
import { memoryClient, MemoryKind } from './memory-api.ts';
import type { TestLink } from './two-sites.ts';

/** What each node has. */
export const nodeAllocatable = { cpu: 2_000, memory: 2 ** 33 };
const shared = { has: () => true };

/** The nodes of a site, whose accounts are real, as its selector offers them. */
class Nodes implements Pick<ResourceSelection, 'select' | 'hold' | 'confirm' | 'release'> {
  readonly ledgers = new Map<string, Ledger>();
  private readonly site: string;

  constructor(site: string) {
    this.site = site;
  }

  async *select(query: Query): AsyncGenerator<Selected> {
    for (const [node, ledger] of this.ledgers) {
      if (ledger.reasonAgainstDemand(query.demand, query) !== undefined) continue;
      const offer = {
        id: `${this.site}/${node}`,
        site: this.site,
        node,
        address: node,
        incarnation: 0,
        attributes: {},
      };
      yield await Promise.resolve({ offer: { ...offer, free: ledger.free(query), live: {} } });
    }
    const counts = { unreached: 0, visited: this.ledgers.size, falseVisits: 0, hops: 0 };
    yield { summary: { refusals: {}, isExhausted: true, ...counts } };
  }

  async hold(address: string, request: HoldRequest): Promise<HoldAnswer> {
    return Promise.resolve(this.at(address).hold(request));
  }

  async confirm(address: string, { id, owner }: ClaimName): Promise<void> {
    return this.at(address).confirm(id, owner);
  }

  async release(address: string, { id, owner }: ClaimName): Promise<void> {
    return this.at(address).release(id, owner);
  }

  private at(node: string): Ledger {
    const ledger = this.ledgers.get(node);
    if (ledger === undefined) throw new Error(`there is no node ${node}`);
    return ledger;
  }
}

/** Objects and nodes outlive the operator, which may die at any time. */
export class ReservingSite {
  readonly name: string;
  readonly claims: MemoryKind<ClaimObject>;
  readonly reservations: MemoryKind<Reservation>;
  private readonly clock: VirtualClock;
  private readonly random: SeededRandom;
  private readonly nodes: Nodes;
  private readonly out: TestLink;
  private readonly into: TestLink;
  private life: AbortController | undefined;

  /** @param out - the link by which it asks its peer. @param into - that by which it is asked. */
  constructor(
    name: string,
    nodeCount: number,
    world: {
      readonly clock: VirtualClock;
      readonly random: SeededRandom;
      readonly out: TestLink;
      readonly into: TestLink;
    },
  ) {
    const { clock, random, out, into } = world;
    [this.name, this.clock, this.random, this.out, this.into] = [name, clock, random, out, into];
    this.claims = new MemoryKind(claims, clock, random);
    this.reservations = new MemoryKind(reservations, clock, random);
    this.claims.onWrite((claim) => void clock.after(2_000, () => this.collect(claim)));
    this.nodes = new Nodes(name);
    const client = this.clientOf(() => true);
    const cache = this.claims.cache();
    for (let index = 0; index < nodeCount; index++) {
      const nodeName = `n${index}`;
      const isOwn = ({ spec }: ClaimObject): boolean => spec.nodeName === nodeName && spec.site === undefined;
      const store = new KubernetesClaimStore({
        ...{ client, nodeName, clock },
        claims: {
          list: () => cache.list().filter(isOwn),
          follow: (listener) => void cache.onEvent((event) => (isOwn(event.object) ? listener(event) : undefined)),
        },
      });
      const ledger = new Ledger(clock, store);
      ledger.setAllocatable(nodeAllocatable);
      ledger.openWith([]);
      store.follow({ appeared: (claim) => ledger.adopt(claim), vanished: (id) => ledger.lose(id) });
      this.nodes.ledgers.set(nodeName, ledger);
      void this.settle(ledger);
    }
  }

  /** Ids of everything that its nodes have promised, for a while or for good. */
  promises(): string[] {
    return [...this.nodes.ledgers.values()].flatMap((ledger) => ledger.claims().map(({ claim }) => claim.id)).sort();
  }

  /** A new process of its operator. */
  start(): void {
    const life = new AbortController();
    this.life = life;
    const { clock, random, name: siteName } = this;
    const client = this.clientOf(() => !life.signal.aborted);
    const [cache, wanted] = [this.claims.cache(), this.reservations.cache()];
    const local = this.nodes as unknown as ResourceSelection;
    const parts = { client, clock, log: silentLogger };
    const hosted = new HostedClaims({ ...parts, claims: cache, shared, nodeExists: () => true });
    this.into.methods = [hosted, new HostedSelection(local, shared, hosted, clock)].flatMap((each) => each.methods());
    const { channels } = this.out;
    void new AwayClaims({ ...parts, claims: cache, channels }).run(life.signal);
    const predicates = new Predicates(clock);
    const selection = new SitesSelection({ local, channels, shared, siteName, clock });
    const record: ConstructorParameters<typeof SlotHolder>[0]['record'] = async (slots, what) =>
      recordElsewhere(client, siteName, slots, what);
    const reconciler = new ReservationReconciler({
      ...{ ...parts, reservations: wanted, claims: new ReservationClaims(cache), predicates, random, siteName },
      holder: new SlotHolder({ selection, predicates, clock, random, log: silentLogger, record }),
      events: { publish: () => undefined },
      nodeExists: () => true,
      admission: () => undefined,
    });
    const work = async (): Promise<void> => {
      while (!life.signal.aborted) {
        for (const { metadata } of wanted.list())
          await reconciler.reconcile(metadata, life.signal).catch(() => undefined);
        await clock.sleep(200);
      }
    };
    void work();
  }

  /** The process dies, in the middle of whatever it does. */
  kill(): void {
    this.life?.abort(new Error('killed'));
    this.into.methods = undefined;
  }

  /** Deletes a reservation, and what belongs to it. */
  cancel(reservation: Stored<Reservation>): void {
    this.reservations.remove(reservation);
    for (const claim of this.claims.objects.values()) this.collect(claim);
  }

  /** Deletes a Claim whose owner is gone, as the API server does. */
  private collect(claim: Stored<ClaimObject>): void {
    const owners = claim.metadata.ownerReferences ?? [];
    const isOwned = [...this.reservations.objects.values()].some(({ metadata }) =>
      owners.some(({ uid }) => uid === metadata.uid),
    );
    if (owners.length > 0 && !isOwned) this.claims.remove(claim);
  }

  private async settle(ledger: Ledger): Promise<void> {
    for (;;) {
      await this.clock.sleep(1_000);
      await ledger.settle().catch(() => undefined);
    }
  }

  private clientOf(isAlive: () => boolean): Client {
    return memoryClient(
      new Map<Kind, object>([
        [claims, this.claims.client(isAlive, (claim) => this.claims.remove(claim))],
        [reservations, this.reservations.client(isAlive, (each) => this.reservations.remove(each))],
      ]),
    );
  }
}

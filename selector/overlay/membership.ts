import type { Clock } from '#common/clock.ts';
import type { Borders } from './borders.ts';
import { isNewer, type Descriptor, type Profile } from './descriptor.ts';
import { RandomView } from './random-view.ts';
import type { OverlaySettings } from './settings.ts';
import { linksPerSlot, Topology } from './topology.ts';
import type { Verifier } from './trust.ts';

/** Why descriptors were dropped, counted. */
export interface DropCounts {
  unsigned: number;
  stale: number;
  future: number;
  buried: number;
}

const tombstonesMax = 512;
const repairTries = 3;

/**
 * Everything a node knows of others: the random view, the links under the present borders and, while they change,
 * under the former ones; and who is dead. All of it is bounded, whatever peers send.
 */
export class Membership {
  readonly view: RandomView;
  current: Topology;
  /** The former edition's links, kept until the new ones have settled. */
  previous: Topology | undefined;
  readonly dropped: DropCounts = { unsigned: 0, stale: 0, future: 0, buried: 0 };
  /**
   * Slots that were full or lost their last link when a peer died, with the number of times neighbours are still to be
   * asked: until then neither «empty» nor «whole» can be believed of them.
   */
  readonly uncertain = new Map<number, number>();
  private readonly tombstones = new Map<string, number>();
  private readonly lost: string[] = [];
  private readonly own: Profile;
  private readonly clock: Clock;
  private readonly verifier: Verifier;
  private readonly settings: OverlaySettings;

  constructor(own: Profile, borders: Borders, verifier: Verifier, clock: Clock, settings: OverlaySettings) {
    this.own = own;
    this.clock = clock;
    this.verifier = verifier;
    this.settings = settings;
    this.view = new RandomView(settings.viewSize, own.site, settings.siteShareMax);
    this.current = new Topology(own, borders);
  }

  /** Addresses of peers once known and lost, to be tried again. */
  get lostAddresses(): readonly string[] {
    return this.lost;
  }

  /** Tombstones held, for the status page and the tests of bounds. */
  get buriedCount(): number {
    return this.tombstones.size;
  }

  /** The links under an edition, if this node follows it. */
  topologyOf(bordersId: string): Topology | undefined {
    if (this.current.borders.id === bordersId) return this.current;
    return this.previous?.borders.id === bordersId ? this.previous : undefined;
  }

  /**
   * Judges a descriptor and, when it holds, takes it into every table where it helps.
   * @param isDirect - it came from the node itself just now, which refutes any report of its death.
   * @returns whether it was accepted as a live node.
   */
  admit(descriptor: Descriptor, isDirect: boolean): boolean {
    const { profile } = descriptor;
    if (profile.tag === this.own.tag && profile.id === this.own.id) return false;
    if (!this.isAcceptable(descriptor, isDirect)) return false;
    if (descriptor.isLeaving) {
      if (!this.knowsNewer(descriptor)) this.bury(descriptor);
      return false;
    }
    if (isDirect) this.tombstones.delete(profile.id);
    const staleMs = 2 * this.settings.periodMs;
    this.view.offer(descriptor);
    if (this.current.offer(descriptor, staleMs) && this.uncertain.size > 0) {
      const slot = this.current.slotOf(profile);
      if (this.current.links(slot).length === linksPerSlot) this.uncertain.delete(slot);
    }
    this.previous?.offer(descriptor, staleMs);
    return true;
  }

  /** Judges a list; the accepted ones are in the tables and returned. */
  admitAll(descriptors: readonly Descriptor[]): Descriptor[] {
    return descriptors.filter((descriptor) => this.admit(descriptor, false));
  }

  /** Removes a dead or leaving node everywhere; only a newer sign of life brings it back. */
  bury(descriptor: Descriptor): void {
    const { profile } = descriptor;
    this.tombstones.delete(profile.id);
    this.tombstones.set(profile.id, this.clock.now());
    trim(this.tombstones, tombstonesMax);
    this.view.remove(profile);
    const slot = this.current.slotOf(profile);
    const before = this.current.links(slot).length;
    this.current.remove(profile);
    const after = this.current.links(slot).length;
    if (after < before && (before === linksPerSlot || after === 0)) this.uncertain.set(slot, repairTries);
    this.previous?.remove(profile);
    if (descriptor.isLeaving) return;
    const index = this.lost.indexOf(profile.address);
    if (index >= 0) this.lost.splice(index, 1);
    this.lost.push(profile.address);
    if (this.lost.length > this.settings.lostMax) this.lost.shift();
  }

  /** Neighbours have been asked about a slot. */
  asked(slot: number): void {
    const left = (this.uncertain.get(slot) ?? 1) - 1;
    if (left > 0) this.uncertain.set(slot, left);
    else this.uncertain.delete(slot);
  }

  /** Forgets a lost address that answered. */
  found(address: string): void {
    const index = this.lost.indexOf(address);
    if (index >= 0) this.lost.splice(index, 1);
  }

  /** Follows a new edition. The former links stay in service while the new ones settle. */
  follow(borders: Borders, keepPrevious: boolean): void {
    const pool = this.pool();
    if (keepPrevious) this.previous = this.current;
    this.current = new Topology(this.own, borders);
    this.uncertain.clear();
    for (const descriptor of pool) this.current.offer(descriptor, 0);
  }

  /** Takes part in the former edition as well while the present one settles. */
  alsoServe(former: Borders): void {
    const topology = new Topology(this.own, former);
    for (const descriptor of this.pool()) topology.offer(descriptor, 0);
    this.previous = topology;
  }

  /** Everyone known, links first; may name a node twice. */
  pool(): Descriptor[] {
    const pool: Descriptor[] = [];
    this.current.collect(pool);
    this.previous?.collect(pool);
    for (const entry of this.view.entries) pool.push(entry);
    return pool;
  }

  /** The known nodes that help a node at `key` most, without those too old to pass on. */
  helpful(key: Uint32Array, topology: Topology, count: number, except: Profile, filled?: Uint32Array): Descriptor[] {
    const oldest = this.clock.now() - this.settings.forwardAgeMaxMs;
    return topology.helpful(key, count, except, oldest, filled);
  }

  /** Whether a node has been declared dead and nothing newer was heard since. */
  isBuried(id: string): boolean {
    return this.tombstones.has(id);
  }

  private isAcceptable(descriptor: Descriptor, isDirect: boolean): boolean {
    const now = this.clock.now();
    if (descriptor.stamp > now + this.settings.clockSkewMaxMs || descriptor.profile.incarnation > descriptor.stamp) {
      this.dropped.future++;
      return false;
    }
    if (descriptor.stamp < now - this.settings.descriptorAgeMaxMs) {
      this.dropped.stale++;
      return false;
    }
    const buriedAt = this.tombstones.size === 0 ? undefined : this.tombstones.get(descriptor.profile.id);
    if (buriedAt !== undefined && !isDirect) {
      if (descriptor.stamp <= buriedAt) {
        this.dropped.buried++;
        return false;
      }
    }
    if (!this.verifier.verifyDescriptor(descriptor)) {
      this.dropped.unsigned++;
      return false;
    }
    if (buriedAt !== undefined) this.tombstones.delete(descriptor.profile.id);
    return true;
  }

  /** A replayed goodbye is older than what the node has said since. */
  private knowsNewer(descriptor: Descriptor): boolean {
    const { id } = descriptor.profile;
    return this.pool().some((known) => known.profile.id === id && isNewer(known, descriptor));
  }
}

/** Drops the oldest entries of a map beyond `max`. */
function trim<V>(map: Map<string, V>, max: number): void {
  while (map.size > max) {
    const [first] = map.keys();
    if (first === undefined) return;
    map.delete(first);
  }
}

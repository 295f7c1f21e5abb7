import type { Random } from '#common/random.ts';
import { isNewer, type Descriptor, type Profile } from './descriptor.ts';

/**
 * A small set of peers drawn at random from all nodes, kept by CYCLON's shuffle (Voulgaris, Gavidia, van Steen 2005):
 * each round a node swaps a few entries, its own fresh one among them, with the peer heard of longest ago. A
 * descriptor's stamp is its age. At most `siteShareMax` of the entries come from one foreign site, so that a site that
 * makes up nodes can't fill it (threat 50).
 */
export class RandomView {
  private readonly capacity: number;
  private readonly foreignMax: number;
  private readonly ownSite: string;
  private readonly items: Descriptor[] = [];
  /** The tag of each item, beside one another: a search reads nothing else. */
  private readonly tags: number[] = [];
  private readonly sites: string[] = [];

  /** @param siteShareMax - part of the view that one foreign site may hold, in (0, 1]. */
  constructor(capacity: number, ownSite: string, siteShareMax: number) {
    this.capacity = capacity;
    this.ownSite = ownSite;
    this.foreignMax = Math.max(1, Math.floor(capacity * siteShareMax));
  }

  /** The entries, in no order. */
  get entries(): readonly Descriptor[] {
    return this.items;
  }

  /** The entry whose stamp is the oldest: the partner of the next shuffle. */
  oldest(): Descriptor | undefined {
    let oldest: Descriptor | undefined;
    for (const item of this.items) if (oldest === undefined || item.stamp < oldest.stamp) oldest = item;
    return oldest;
  }

  /** Up to `count` entries other than `except`, uniformly. */
  sample(count: number, random: Random, except?: Descriptor): Descriptor[] {
    const pool = this.items.filter((item) => item.profile !== except?.profile);
    const taken: Descriptor[] = [];
    while (taken.length < count && pool.length > 0) {
      const index = random.int(pool.length);
      const item = pool[index];
      const last = pool.pop();
      if (item === undefined || last === undefined) break;
      if (index < pool.length) pool[index] = last;
      taken.push(item);
    }
    return taken;
  }

  /**
   * Takes in what a partner sent: newer descriptors replace older ones of the same node; new nodes fill free places,
   * then those of `sent`, which the partner now has.
   */
  merge(received: readonly Descriptor[], sent: readonly Descriptor[]): void {
    let spare = 0;
    for (const descriptor of received) {
      const index = this.indexOf(descriptor.profile);
      if (index >= 0) {
        this.refresh(index, descriptor);
        continue;
      }
      if (!this.hasRoomFor(descriptor)) continue;
      if (this.items.length < this.capacity) {
        this.set(this.items.length, descriptor);
        continue;
      }
      for (let given = -1; given < 0 && spare < sent.length;) {
        const candidate = sent[spare++];
        given = candidate === undefined ? -1 : this.indexOf(candidate.profile);
        if (given >= 0) this.set(given, descriptor);
      }
    }
  }

  /** Takes in one descriptor heard of outside a shuffle: refreshes its entry, or fills a free place. */
  offer(descriptor: Descriptor): void {
    const index = this.indexOf(descriptor.profile);
    if (index >= 0) this.refresh(index, descriptor);
    else if (this.items.length < this.capacity && this.hasRoomFor(descriptor)) {
      this.set(this.items.length, descriptor);
    }
  }

  /** Forgets a node. */
  remove(profile: Profile): void {
    const index = this.indexOf(profile);
    if (index < 0) return;
    const last = this.items.pop();
    this.tags.pop();
    this.sites.pop();
    if (last !== undefined && index < this.items.length) this.set(index, last);
  }

  private refresh(index: number, descriptor: Descriptor): void {
    const known = this.items[index];
    if (known !== undefined && isNewer(descriptor, known)) this.items[index] = descriptor;
  }

  private set(index: number, descriptor: Descriptor): void {
    this.items[index] = descriptor;
    this.tags[index] = descriptor.profile.tag;
    this.sites[index] = descriptor.profile.site;
  }

  private hasRoomFor(descriptor: Descriptor): boolean {
    const { site } = descriptor.profile;
    if (site === this.ownSite) return true;
    let count = 0;
    for (const other of this.sites) if (other === site) count++;
    return count < this.foreignMax;
  }

  private indexOf(profile: Profile): number {
    const { tags } = this;
    for (let i = 0; i < tags.length; i++) {
      if (tags[i] === profile.tag && this.items[i]?.profile.id === profile.id) return i;
    }
    return -1;
  }
}

import { hasBit, setBit, sharedBits, type Borders } from './borders.ts';
import { isNewer, type Descriptor, type Placement, type Profile } from './descriptor.ts';

/**
 * Links kept per slot: one in use and others to fall back on or to choose a matching one from. A slot with fewer links
 * holds everyone of its cell, as RSS's C_0 does, once a node of that cell has said whom it knows there: then nobody in
 * it needs to be asked whether they match.
 */
export const linksPerSlot = 4;
/** Of the nodes that a partner is told, those for slots that it has nobody in. The others bring it nearer to its own. */
const holesFilledMax = 4;

/** The links of one slot. Stamps and tags lie beside the links so that a search touches only what it needs. */
interface Slot {
  readonly links: Descriptor[];
  readonly tags: number[];
  readonly stamps: number[];
  /** When a node of the cell last told of its neighbours there, monotonic milliseconds. */
  checkedAt: number;
}

/**
 * A node's links under one edition of borders: slot i holds up to {@link linksPerSlot} nodes of the cell that shares
 * exactly the first i bits of this node's key. The slots are disjoint and, with the node itself, cover the space; so
 * a query that is handed to one link per overlapping slot, told to stay below that slot, reaches every node once.
 * Slot `keyBits` holds nodes with the very same key.
 */
export class Topology {
  readonly borders: Borders;
  /** Where the node itself lies. */
  readonly self: Placement;
  private readonly own: Profile;
  private readonly head: number;
  private readonly slots: (Slot | undefined)[] = [];
  private readonly slotIndexes: number[] = [];
  private linkCount = 0;

  constructor(own: Profile, borders: Borders) {
    this.own = own;
    this.borders = borders;
    this.self = own.placement(borders);
    this.head = this.self.key[0] ?? 0;
  }

  /** Links in all slots. */
  get size(): number {
    return this.linkCount;
  }

  /** Slots that have a link, shallow first. */
  get filledSlots(): readonly number[] {
    return this.slotIndexes;
  }

  /** The slot that a node belongs to. */
  slotOf(profile: Profile): number {
    const difference = this.head ^ profile.headUnder(this.borders);
    if (difference !== 0) return Math.clz32(difference);
    return sharedBits(this.self.key, profile.placement(this.borders).key, this.borders.keyBits);
  }

  /** The links of one slot. */
  links(slot: number): readonly Descriptor[] {
    return this.slots[slot]?.links ?? [];
  }

  /** A node has told whom it knows near itself: its slot here is now as full as it can be. */
  markChecked(profile: Profile, now: number): void {
    const slot = this.slots[this.slotOf(profile)];
    if (slot !== undefined) slot.checkedAt = now;
  }

  /** Whether a slot holds everyone of its cell, as far as was known there at `since` or later. */
  isWhole(slot: number, since: number): boolean {
    const { links, checkedAt } = this.slots[slot] ?? { links: [], checkedAt: -Infinity };
    return links.length < linksPerSlot && checkedAt >= since;
  }

  /** The slot with places left that was checked longest ago: whether more belong there is worth asking. */
  leastChecked(): number | undefined {
    let least: number | undefined;
    let at = Infinity;
    for (const index of this.slotIndexes) {
      const slot = this.slots[index];
      if (slot === undefined || slot.links.length >= linksPerSlot || slot.checkedAt >= at) continue;
      at = slot.checkedAt;
      least = index;
    }
    return least;
  }

  /** Every link, shallow slots first. */
  all(): Descriptor[] {
    const all: Descriptor[] = [];
    this.collect(all);
    return all;
  }

  /** Appends every link to `target`. */
  collect(target: Descriptor[]): void {
    for (const index of this.slotIndexes) for (const link of this.links(index)) target.push(link);
  }

  /**
   * Takes in a descriptor: refreshes a known link, fills a free place, or replaces the link heard of longest ago when
   * that is staler by more than `staleMs`. Foreign sites that crowd a slot get no further place in it.
   * @returns true when the node was not a link before and now is.
   */
  offer(descriptor: Descriptor, staleMs: number): boolean {
    const { profile, stamp } = descriptor;
    const { tag } = profile;
    if (tag === this.own.tag && profile.id === this.own.id) return false;
    const index = this.slotOf(profile);
    const slot = this.slots[index];
    if (slot === undefined) {
      this.openSlot(index, descriptor);
      return true;
    }
    const { links, tags, stamps } = slot;
    let oldest = 0;
    for (let i = 0; i < tags.length; i++) {
      const known = tags[i] === tag ? links[i] : undefined;
      if (known?.profile.id === profile.id) {
        if (isNewer(descriptor, known)) setLink(slot, i, descriptor);
        return false;
      }
      if ((stamps[i] ?? 0) < (stamps[oldest] ?? 0)) oldest = i;
    }
    if (tags.length < linksPerSlot) {
      setLink(slot, tags.length, descriptor);
      this.linkCount++;
      return true;
    }
    if ((stamps[oldest] ?? 0) + staleMs >= stamp || this.crowds(links, profile.site)) return false;
    setLink(slot, oldest, descriptor);
    return true;
  }

  /** Forgets a node. */
  remove(profile: Profile): void {
    const index = this.slotOf(profile);
    const slot = this.slots[index];
    const at = slot?.links.findIndex((link) => link.profile.id === profile.id) ?? -1;
    if (slot === undefined || at < 0) return;
    for (const list of [slot.links, slot.tags, slot.stamps]) list.splice(at, 1);
    this.linkCount--;
    if (slot.links.length > 0) return;
    this.slots[index] = undefined;
    this.slotIndexes.splice(this.slotIndexes.indexOf(index), 1);
  }

  /** The link heard of longest ago. */
  oldest(): Descriptor | undefined {
    let oldest: Descriptor | undefined;
    let stamp = Infinity;
    for (const index of this.slotIndexes) {
      const slot = this.slots[index];
      if (slot === undefined) continue;
      for (let i = 0; i < slot.stamps.length; i++) {
        const at = slot.stamps[i] ?? Infinity;
        if (at >= stamp) continue;
        stamp = at;
        oldest = slot.links[i];
      }
    }
    return oldest;
  }

  /** The slots that have a link, as bits from the most significant of the first word on. */
  filledBits(): Uint32Array {
    const bits = new Uint32Array(this.self.key.length);
    for (const index of this.slotIndexes) if (index < this.borders.keyBits) setBit(bits, index);
    return bits;
  }

  /**
   * The known nodes that help a node at `key` most: first one for each slot that it has nobody in, for a query that comes
   * through it finds nobody of such a cell; then as Vicinity and T-Man rank: those that share more bits with it
   * than this node does, then enough of this node's near ones to fill a slot there, then what lies further off.
   * @param except - whom it is for.
   * @param oldestStamp - descriptors older than this are not passed on.
   * @param filled - its slots that have a link, as {@link filledBits} tells them. All, if it did not say.
   */
  helpful(key: Uint32Array, count: number, except: Profile, oldestStamp: number, filled?: Uint32Array): Descriptor[] {
    const shared = sharedBits(this.self.key, key, this.borders.keyBits);
    const chosen: Descriptor[] = [];
    if (filled !== undefined) {
      // Below `shared` both nodes have the same cells.
      for (const index of this.slotIndexes) {
        if (index >= shared || chosen.length >= holesFilledMax) break;
        if (!hasBit(filled, index)) this.addLinks(index, count, 1, except, oldestStamp, chosen);
      }
    }
    this.addLinks(shared, count, linksPerSlot, except, oldestStamp, chosen);
    const near = chosen.length + linksPerSlot;
    const deepest = this.slotIndexes.length - 1;
    for (let i = deepest; i >= 0 && chosen.length < near; i--) {
      const index = this.slotIndexes[i] ?? 0;
      if (index <= shared) break;
      this.addLinks(index, count, near - chosen.length, except, oldestStamp, chosen);
    }
    for (let i = deepest; i >= 0 && chosen.length < count; i--) {
      const index = this.slotIndexes[i] ?? 0;
      if (index < shared) this.addLinks(index, count, linksPerSlot, except, oldestStamp, chosen);
    }
    return chosen;
  }

  private addLinks(
    index: number,
    count: number,
    most: number,
    except: Profile,
    oldestStamp: number,
    target: Descriptor[],
  ): void {
    const slot = this.slots[index];
    if (slot === undefined) return;
    const end = Math.min(count, target.length + most);
    for (let i = 0; i < slot.links.length && target.length < end; i++) {
      if ((slot.stamps[i] ?? 0) < oldestStamp || slot.tags[i] === except.tag) continue;
      const link = slot.links[i];
      if (link !== undefined && !target.includes(link)) target.push(link);
    }
  }

  private openSlot(index: number, descriptor: Descriptor): void {
    while (this.slots.length <= index) this.slots.push(undefined);
    this.slots[index] = {
      links: [descriptor],
      tags: [descriptor.profile.tag],
      stamps: [descriptor.stamp],
      checkedAt: -Infinity,
    };
    this.linkCount++;
    let at = this.slotIndexes.length;
    while (at > 0 && (this.slotIndexes[at - 1] ?? 0) > index) at--;
    this.slotIndexes.splice(at, 0, index);
  }

  /** A foreign site that already holds all but one place of a slot gets no more while others are there. */
  private crowds(links: readonly Descriptor[], site: string): boolean {
    if (site === this.own.site) return false;
    let same = 0;
    for (const link of links) if (link.profile.site === site) same++;
    return same === linksPerSlot - 1;
  }
}

function setLink(slot: Slot, at: number, descriptor: Descriptor): void {
  slot.links[at] = descriptor;
  slot.tags[at] = descriptor.profile.tag;
  slot.stamps[at] = descriptor.stamp;
}

import { createHash } from 'node:crypto';
import type { Constraint } from '#proto/selector/attributes.ts';
import { coordinateOf, wordCoordinate } from './coordinates.ts';
import { lengthPrefixed, type Placement, type Profile } from './descriptor.ts';

/** Halvings per attribute: 2^5 = 32 cells an axis. More than the population can fill cost nothing: empty cells have no link. */
export const levels = 5;
/** Cuts an axis has. */
export const cutsPerAxis = (1 << levels) - 1;
/** Axes at most; attributes beyond are compared at the node only. */
export const axesMax = 8;
/** Bits of the id's hash that follow the attribute bits. */
export const idBits = 64;

/** One attribute's axis, cut where the population's quantiles are. */
export interface Axis {
  readonly attribute: string;
  /** Ascending, {@link cutsPerAxis} of them; cell c holds coordinates in (cuts[c-1], cuts[c]]. */
  readonly cuts: Float64Array;
}

/**
 * One edition of the cell borders. Editions are minted by any node whose estimate of the population says that the
 * present ones are lopsided. They form a semilattice (the latest mint wins, ties by id), so all nodes end with the
 * same one whatever order they hear of them. Borders only steer: an unlucky or hostile edition costs messages, never
 * a node, because the bits of the id's hash tell any two nodes of one cell apart.
 *
 * The cells are those of RSS (ICDCS 2009): the halves N(l,k) are the nodes that share exactly the first
 * i = (max(l) − l)·d + k bits of the key; here C_0 is split on by the id's bits instead of being a list.
 */
export class Borders {
  readonly axes: readonly Axis[];
  /** Wall-clock milliseconds at the minting node. */
  readonly mintedAt: number;
  /** Site whose key signed the edition; empty for the first, which everyone has. */
  readonly site: string;
  readonly signature: Uint8Array;
  /** Digest of what is signed. */
  readonly id: string;
  /** Length of a key in bits. */
  readonly keyBits: number;

  constructor(axes: readonly Axis[], mintedAt: number, site: string, signature: Uint8Array = new Uint8Array()) {
    this.axes = axes;
    this.mintedAt = mintedAt;
    this.site = site;
    this.signature = signature;
    this.keyBits = axes.length * levels + idBits;
    this.id = createHash('sha256').update(this.signedBytes()).digest('hex').slice(0, 16);
  }

  /** The edition every node starts with: no axes, keys are hashed ids. */
  static readonly first = new Borders([], 0, '');

  /** What the minting site signs. */
  signedBytes(): Uint8Array {
    const fields = ['xtreemos-borders-1', String(this.mintedAt), this.site];
    for (const axis of this.axes) fields.push(axis.attribute, Array.from(axis.cuts, String).join(' '));
    return lengthPrefixed(fields);
  }

  /** Whether this edition replaces `other`. */
  isAfter(other: Borders): boolean {
    return this.mintedAt !== other.mintedAt ? this.mintedAt > other.mintedAt : this.id > other.id;
  }

  /** Bytes on the wire of the whole edition. */
  get wireBytes(): number {
    return 90 + this.axes.reduce((sum, axis) => sum + axis.attribute.length + 6 + 8 * axis.cuts.length, 0);
  }

  /** Computes where a profile lies; {@link Profile.placement} keeps the result. */
  place(profile: Profile): Placement {
    const codes = new Uint8Array(this.axes.length);
    for (const [k, axis] of this.axes.entries()) {
      const attributes = profile.attributes;
      const value = Object.hasOwn(attributes, axis.attribute) ? attributes[axis.attribute] : undefined;
      codes[k] = codeOf(coordinateOf(value), axis.cuts);
    }
    const key = new Uint32Array(Math.ceil(this.keyBits / 32));
    const d = codes.length;
    for (let i = 0; i < d * levels; i++) {
      const bit = ((codes[i % d] ?? 0) >> (levels - 1 - Math.floor(i / d))) & 1;
      if (bit === 1) setBit(key, i);
    }
    const [high, low] = profile.idHash;
    for (let i = 0; i < idBits; i++) {
      if ((((i < 32 ? high : low) >>> (31 - (i & 31))) & 1) === 1) setBit(key, d * levels + i);
    }
    return { borders: this, codes, key };
  }
}

/** Number of leading bits that two keys share. */
export function sharedBits(a: Uint32Array, b: Uint32Array, keyBits: number): number {
  for (let i = 0; i < a.length; i++) {
    const difference = ((a[i] ?? 0) ^ (b[i] ?? 0)) >>> 0;
    if (difference !== 0) return i * 32 + Math.clz32(difference);
  }
  return keyBits;
}

/** `key` with bit `index` turned. */
export function flipBit(key: Uint32Array, index: number): Uint32Array {
  const flipped = Uint32Array.from(key);
  const word = index >>> 5;
  flipped[word] = ((flipped[word] ?? 0) ^ (0x8000_0000 >>> (index & 31))) >>> 0;
  return flipped;
}

/** A requirement on one axis, in cell codes: from `first` to `last`, or the codes of words. */
interface Extent {
  readonly axis: number;
  readonly first: number;
  readonly last: number;
  readonly points: readonly number[] | undefined;
}

/** The part of space that a query asks for, compiled for one edition of borders. */
export class Region {
  private readonly extents: readonly Extent[];
  private readonly axisCount: number;

  constructor(constraints: readonly Constraint[], borders: Borders) {
    this.axisCount = borders.axes.length;
    const extents: Extent[] = [];
    for (const { attribute, min, max, in: words } of constraints) {
      const axis = borders.axes.findIndex((candidate) => candidate.attribute === attribute);
      const cuts = borders.axes[axis]?.cuts;
      if (cuts === undefined) continue;
      if (min !== undefined || max !== undefined) {
        const first = min === undefined ? 0 : codeOf(min, cuts);
        extents.push({ axis, first, last: max === undefined ? cutsPerAxis : codeOf(max, cuts), points: undefined });
      }
      if (words !== undefined) {
        const points = words.flatMap((word) => {
          const number = Number(word);
          const hasNumber = word.trim() !== '' && Number.isFinite(number);
          return [wordCoordinate(word), ...(hasNumber ? [number] : [])].map((coordinate) => codeOf(coordinate, cuts));
        });
        extents.push({ axis, first: 0, last: 0, points });
      }
    }
    this.extents = extents;
  }

  /**
   * How much of a cell lies inside, a guess in [0, 1]: 0 is certain (nobody there can match), 1 says that every range
   * covers it. The cell is the one that a node at `codes` sees as its slot `slot`: the nodes that share the first
   * `slot` bits with it and differ in the next; for slots of id bits that is the node's own attribute cell. As cuts
   * are quantiles, a share of cells is a share of nodes. `notIn` and attributes without an axis don't count.
   */
  shareOf(codes: Uint8Array, slot: number): number {
    const d = this.axisCount;
    let share = 1;
    for (const { axis, first, last, points } of this.extents) {
      const isFlipped = slot < d * levels && slot % d === axis;
      const fixed = isFlipped ? Math.floor(slot / d) + 1 : Math.max(0, Math.min(levels, Math.ceil((slot - axis) / d)));
      const open = levels - fixed;
      const low = (((codes[axis] ?? 0) >> open) ^ (isFlipped ? 1 : 0)) << open;
      const high = low + (1 << open) - 1;
      if (points !== undefined) {
        if (!points.some((point) => point >= low && point <= high)) return 0;
        share *= 0.5;
        continue;
      }
      if (high < first || low > last) return 0;
      // The cells in which the range begins and ends count half.
      let cells = Math.min(high, last) - Math.max(low, first) + 1;
      if (low <= first && first > 0) cells -= 0.5;
      if (high >= last && last < cutsPerAxis) cells -= 0.5;
      share *= Math.max(0.1, cells) / (high - low + 1);
    }
    return share;
  }
}

function codeOf(coordinate: number, cuts: Float64Array): number {
  let from = 0;
  let to = cuts.length;
  while (from < to) {
    const middle = (from + to) >> 1;
    if ((cuts[middle] ?? Infinity) < coordinate) from = middle + 1;
    else to = middle;
  }
  return from;
}

/** Whether bit `index` is set, counted from the most significant of the first word. */
export function hasBit(key: Uint32Array, index: number): boolean {
  return (((key[index >>> 5] ?? 0) >>> (31 - (index & 31))) & 1) === 1;
}

/** Sets bit `index`. */
export function setBit(key: Uint32Array, index: number): void {
  const word = index >>> 5;
  key[word] = ((key[word] ?? 0) | (0x8000_0000 >>> (index & 31))) >>> 0;
}

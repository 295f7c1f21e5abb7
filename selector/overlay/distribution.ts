import type { Attributes } from '#proto/selector/attributes.ts';
import { absentCoordinate, coordinateOf } from './coordinates.ts';
import { axesMax, cutsPerAxis, type Axis, type Borders } from './borders.ts';
import type { Descriptor } from './descriptor.ts';

/** Thresholds per attribute of one instance. */
export const thresholdsPerAxis = 24;

/** What one attribute's curve is sampled at. The first threshold is below every number: its share are the absent. */
export interface Curve {
  readonly attribute: string;
  readonly thresholds: Float64Array;
}

/** The part of an instance that doesn't change; shared by reference where messages are not serialized. */
export interface AverageInstance {
  /** `stamp` then `starter`: the later instance wins where two meet. */
  readonly stamp: number;
  readonly starter: string;
  readonly curves: readonly Curve[];
}

/** One node's state of an instance, as sent. `values`: per curve the shares at its thresholds, then the weight. */
export interface AverageState {
  readonly instance: AverageInstance;
  readonly values: Float64Array;
}

/** Estimated shares of all nodes at or below each threshold, per attribute, and how many nodes there are. */
export interface Estimate {
  readonly curves: readonly { readonly curve: Curve; readonly shares: Float64Array }[];
  readonly nodeCount: number;
}

/**
 * Adam2's estimation of attribute distributions by gossip (Sacha, Napper, Stratan, Pierre: ICDCS 2010). Each node
 * starts with 1 or 0 for «mine ≤ threshold»; push-pull averaging brings every node to the share over all nodes; a weight
 * that starts as 1 at one node gives their number. Exchanges ride on the shuffles of the random view. A node keeps the
 * sum constant by applying the difference to what it sent, so that exchanges may overlap.
 */
export class Averaging {
  private state: { instance: AverageInstance; values: Float64Array; roundsLeft: number } | undefined;
  private readonly rounds: number;
  private readonly own: Attributes;
  private finished: AverageInstance | undefined;

  constructor(own: Attributes, rounds: number) {
    this.own = own;
    this.rounds = rounds;
  }

  /** Whether an instance is in progress. */
  get isRunning(): boolean {
    return this.state !== undefined;
  }

  /** The instance in progress, as a message carries it; undefined between instances. */
  snapshot(): AverageState | undefined {
    return this.state === undefined
      ? undefined
      : { instance: this.state.instance, values: Float64Array.from(this.state.values) };
  }

  /** Begins an instance of which this node is the starter. */
  start(instance: AverageInstance): void {
    this.join(instance, 1);
  }

  /**
   * Answers a partner's state: moves to the mean of both.
   * @returns this node's state before, which the partner needs for its own half; undefined when it took no part.
   */
  answer(remote: AverageState): AverageState | undefined {
    if (!this.follow(remote.instance) || this.state === undefined) return undefined;
    const before = { instance: this.state.instance, values: Float64Array.from(this.state.values) };
    this.apply(before.values, remote.values);
    return before;
  }

  /** Ends an exchange this node began: `sent` is what it sent, `remote` what the partner had then. */
  complete(sent: AverageState, remote: AverageState): void {
    if (!isSame(sent.instance, remote.instance)) {
      this.follow(remote.instance);
      return;
    }
    if (this.state !== undefined && isSame(this.state.instance, sent.instance)) this.apply(sent.values, remote.values);
  }

  /** One round passes. @returns the estimate when the instance has run its rounds. */
  tick(): Estimate | undefined {
    if (this.state === undefined || --this.state.roundsLeft > 0) return undefined;
    const { instance, values } = this.state;
    this.state = undefined;
    this.finished = instance;
    let offset = 0;
    const curves = instance.curves.map((curve) => {
      const shares = values.slice(offset, offset + curve.thresholds.length);
      offset += curve.thresholds.length;
      for (let i = 0; i < shares.length; i++) {
        shares[i] = Math.min(1, Math.max(i === 0 ? 0 : (shares[i - 1] ?? 0), shares[i] ?? 0));
      }
      return { curve, shares };
    });
    const weight = values[offset] ?? 0;
    return { curves, nodeCount: weight > 0 ? Math.max(1, Math.round(1 / weight)) : 0 };
  }

  /** Joins an instance that is later than the one in progress. @returns whether this node takes part in it. */
  private follow(instance: AverageInstance): boolean {
    if (this.state !== undefined && isSame(this.state.instance, instance)) return true;
    if (this.finished !== undefined && !isLater(instance, this.finished)) return false;
    if (this.state !== undefined && !isLater(instance, this.state.instance)) return false;
    this.join(instance, 0);
    return true;
  }

  private join(instance: AverageInstance, weight: number): void {
    const length = instance.curves.reduce((sum, curve) => sum + curve.thresholds.length, 0);
    const values = new Float64Array(length + 1);
    let offset = 0;
    for (const { attribute, thresholds } of instance.curves) {
      const mine = coordinateOf(Object.hasOwn(this.own, attribute) ? this.own[attribute] : undefined);
      for (const threshold of thresholds) values[offset++] = mine <= threshold ? 1 : 0;
    }
    values[offset] = weight;
    this.state = { instance, values, roundsLeft: this.rounds };
  }

  private apply(from: Float64Array, towards: Float64Array): void {
    const values = this.state?.values;
    if (values?.length !== towards.length) return;
    for (let i = 0; i < values.length; i++) {
      const moved = ((towards[i] ?? 0) - (from[i] ?? 0)) / 2;
      if (Number.isFinite(moved)) values[i] = (values[i] ?? 0) + Math.min(1, Math.max(-1, moved));
    }
  }
}

/**
 * Thresholds for an instance: where an earlier estimate bends when there is one, else at the quantiles of the peers
 * known. Attributes are those known peers have with more than one value: the present axes, then the most diverse.
 */
export function planCurves(sample: readonly Descriptor[], earlier: Estimate | undefined, borders: Borders): Curve[] {
  const kept = borders.axes.map(({ attribute }) => attribute);
  return rankAttributes(sample, kept).map((attribute) => {
    const before = earlier?.curves.find(({ curve }) => curve.attribute === attribute);
    const coordinates = coordinatesOf(sample, attribute);
    const thresholds = new Float64Array(thresholdsPerAxis);
    thresholds[0] = -Number.MAX_VALUE;
    const inner = thresholdsPerAxis - 2;
    for (let i = 1; i <= inner; i++) {
      const share = i / inner;
      // Half from what is known of all, half from this node's own peers: a bend the last instance missed is found.
      thresholds[i] =
        before !== undefined && i % 2 === 0
          ? quantile(before.curve.thresholds, before.shares, share)
          : (coordinates[Math.min(coordinates.length - 1, Math.floor(share * coordinates.length))] ?? 0);
    }
    thresholds[thresholdsPerAxis - 1] = Number.MAX_VALUE;
    thresholds.sort();
    return { attribute, thresholds };
  });
}

/** Axes cut at the quantiles of an estimate. */
export function axesFromEstimate(estimate: Estimate): Axis[] {
  return estimate.curves.map(({ curve, shares }) => {
    const cuts = new Float64Array(cutsPerAxis);
    for (let i = 0; i < cutsPerAxis; i++) cuts[i] = quantile(curve.thresholds, shares, (i + 1) / (cutsPerAxis + 1));
    return { attribute: curve.attribute, cuts: cuts.sort() };
  });
}

/** Axes cut at the quantiles of the peers known: good enough to begin with. */
export function axesFromSample(sample: readonly Descriptor[]): Axis[] {
  return rankAttributes(sample).map((attribute) => {
    const coordinates = coordinatesOf(sample, attribute);
    const present = sample.length === 0 ? 0 : coordinates.length / sample.length;
    const shares = Float64Array.from(coordinates, (_, i) => 1 - present + ((i + 1) / coordinates.length) * present);
    const thresholds = Float64Array.from(coordinates);
    const cuts = new Float64Array(cutsPerAxis);
    for (let i = 0; i < cutsPerAxis; i++) {
      const share = (i + 1) / (cutsPerAxis + 1);
      cuts[i] = share <= 1 - present ? -Number.MAX_VALUE : quantile(thresholds, shares, share);
    }
    return { attribute, cuts: cuts.sort() };
  });
}

/**
 * Whether cells cut by `estimate` would be so much more even than those of `borders` that new borders pay: the
 * heaviest eighth of some axis shrinks below 0.7 of its weight, or a new attribute is to become an axis.
 */
export function areLopsided(borders: Borders, estimate: Estimate): boolean {
  const fresh = axesFromEstimate(estimate);
  for (const [index, { curve, shares }] of estimate.curves.entries()) {
    const axis = borders.axes.find(({ attribute }) => attribute === curve.attribute);
    if (axis === undefined) return true;
    const better = fresh[index];
    if (better === undefined) continue;
    if (heaviest(better.cuts, curve.thresholds, shares) < 0.7 * heaviest(axis.cuts, curve.thresholds, shares))
      return true;
  }
  return false;
}

/** The share of nodes at or below `coordinate`, by straight lines between thresholds. */
export function shareAt(thresholds: Float64Array, shares: Float64Array, coordinate: number): number {
  if (coordinate === absentCoordinate) return 0;
  let before = 0;
  let share = 0;
  for (let i = 0; i < thresholds.length; i++) {
    const at = thresholds[i] ?? 0;
    const here = shares[i] ?? share;
    if (coordinate < at) {
      const width = at - before;
      return i === 0 || !Number.isFinite(width) || width > 1e300
        ? share
        : share + ((coordinate - before) / width) * (here - share);
    }
    before = at;
    share = here;
  }
  return 1;
}

/** Weight of the heaviest of eight cells of an axis. */
function heaviest(cuts: Float64Array, thresholds: Float64Array, shares: Float64Array): number {
  const step = (cutsPerAxis + 1) / 8;
  let last = 0;
  let most = 0;
  for (let i = step - 1; i < cutsPerAxis; i += step) {
    const share = shareAt(thresholds, shares, cuts[i] ?? Infinity);
    most = Math.max(most, share - last);
    last = share;
  }
  return Math.max(most, 1 - last);
}

/** The coordinate at or below which `share` of the nodes lie. */
function quantile(thresholds: Float64Array, shares: Float64Array, share: number): number {
  for (let i = 0; i < thresholds.length; i++) {
    const here = shares[i] ?? 1;
    if (here < share) continue;
    const at = thresholds[i] ?? 0;
    const before = thresholds[i - 1];
    const low = shares[i - 1] ?? 0;
    if (before === undefined || here === low || Math.abs(at - before) > 1e300) return at;
    return before + ((share - low) / (here - low)) * (at - before);
  }
  return thresholds[thresholds.length - 1] ?? 0;
}

function rankAttributes(sample: readonly Descriptor[], kept: readonly string[] = []): string[] {
  const distinct = new Map<string, Set<number>>();
  for (const { profile } of sample) {
    for (const name of Object.keys(profile.attributes)) {
      const values = distinct.get(name) ?? new Set();
      values.add(coordinateOf(profile.attributes[name]));
      distinct.set(name, values);
    }
  }
  const isPartial = (name: string): boolean => sample.some(({ profile }) => !Object.hasOwn(profile.attributes, name));
  return [...distinct]
    .filter(([name, values]) => values.size > 1 || isPartial(name))
    .sort(
      ([a, x], [b, y]) => Number(kept.includes(b)) - Number(kept.includes(a)) || y.size - x.size || (a < b ? -1 : 1),
    )
    .slice(0, axesMax)
    .map(([name]) => name)
    .sort();
}

/** Ascending coordinates of the peers that have the attribute. */
function coordinatesOf(sample: readonly Descriptor[], attribute: string): number[] {
  const coordinates: number[] = [];
  for (const { profile } of sample) {
    if (Object.hasOwn(profile.attributes, attribute)) coordinates.push(coordinateOf(profile.attributes[attribute]));
  }
  return coordinates.sort((a, b) => a - b);
}

function isSame(a: AverageInstance, b: AverageInstance): boolean {
  return a.stamp === b.stamp && a.starter === b.starter;
}

function isLater(a: AverageInstance, b: AverageInstance): boolean {
  return a.stamp !== b.stamp ? a.stamp > b.stamp : a.starter > b.starter;
}

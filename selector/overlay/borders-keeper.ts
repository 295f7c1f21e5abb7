import type { Clock } from '#common/clock.ts';
import { Borders, type Axis } from './borders.ts';
import type { Descriptor } from './descriptor.ts';
import { areLopsided, Averaging, axesFromEstimate, axesFromSample, planCurves, type Estimate } from './distribution.ts';
import type { Membership } from './membership.ts';
import type { OverlaySettings } from './settings.ts';
import type { Signer, Verifier } from './trust.ts';

const roundsBeforeFirstMint = 3;
const roundsBeforeFirstEstimate = 8;
/** Editions adopted at once, and the time in which one more becomes allowed: a site that mints without end can't keep us busy. */
const adoptionsBurst = 8;
const adoptionRefillMs = 60_000;

/**
 * Decides which borders this node follows: runs its part of the distribution estimates, mints a new edition when the
 * present one is lopsided, and changes over without losing anyone: new links are made before old ones are left.
 */
export class BordersKeeper {
  readonly averaging: Averaging;
  /** The last estimate this node took part in. */
  estimate: Estimate | undefined;
  /** Editions followed since the start. */
  adopted = 0;
  private readonly membership: Membership;
  private readonly clock: Clock;
  private readonly settings: OverlaySettings;
  private readonly signer: Signer;
  private readonly verifier: Verifier;
  private readonly own: Descriptor['profile'];
  private pending: Borders | undefined;
  private allowance = adoptionsBurst;
  private allowanceAt: number;
  private round = 0;
  private restUntilRound = roundsBeforeFirstEstimate;
  private startedStamp: number | undefined;

  constructor(
    own: Descriptor['profile'],
    membership: Membership,
    components: { clock: Clock; signer: Signer; verifier: Verifier },
    settings: OverlaySettings,
  ) {
    this.own = own;
    this.membership = membership;
    this.clock = components.clock;
    this.signer = components.signer;
    this.verifier = components.verifier;
    this.settings = settings;
    this.averaging = new Averaging(own.attributes, settings.averagingRounds);
    this.allowanceAt = this.clock.monotonic();
  }

  /** The edition new queries of this node use: the former one until the links of the new one have settled. */
  get serving(): Borders {
    const { previous, current } = this.membership;
    return previous !== undefined && this.isWarming ? previous.borders : current.borders;
  }

  /** Whether the present edition is so new that its links are still being made. */
  get isWarming(): boolean {
    return this.ageMs < this.settings.warmUpMs;
  }

  /** Time since the present edition was minted, by our clock; a joiner takes a settled edition for what it is. */
  private get ageMs(): number {
    return this.clock.now() - this.membership.current.borders.mintedAt;
  }

  /** One gossip round passes. */
  tick(): void {
    this.round++;
    if (this.pending !== undefined) this.consider(this.pending);
    const { membership } = this;
    if (this.ageMs > 2 * this.settings.warmUpMs) membership.previous = undefined;
    const estimate = this.averaging.tick();
    if (estimate !== undefined) this.useEstimate(estimate);
    const isFirst = membership.current.borders.axes.length === 0;
    const mayMint = isFirst && this.round >= roundsBeforeFirstMint;
    const mayEstimate = this.round >= this.restUntilRound && !this.averaging.isRunning;
    if ((mayMint || mayEstimate) && this.isLeastKnown()) {
      if (mayMint) this.mint(axesFromSample(this.sample()));
      else this.beginEstimate();
    }
  }

  /**
   * An edition was heard of: follows it when it is later than the present one, signed and not from the future.
   * @param former - the edition that still serves meanwhile: a node that joins in between must be found by it as well.
   */
  consider(borders: Borders, former?: Borders): void {
    const { current } = this.membership;
    if (!borders.isAfter(current.borders)) {
      if (this.pending === borders) this.pending = undefined;
      return;
    }
    if (borders.mintedAt > this.clock.now() + this.settings.clockSkewMaxMs) return;
    const now = this.clock.monotonic();
    const refilled = Math.floor((now - this.allowanceAt) / adoptionRefillMs);
    if (refilled > 0) {
      this.allowance = Math.min(adoptionsBurst, this.allowance + refilled);
      this.allowanceAt += refilled * adoptionRefillMs;
    }
    if (this.allowance === 0) {
      if (this.pending === undefined || borders.isAfter(this.pending)) this.pending = borders;
      return;
    }
    if (this.pending !== borders && !this.verifier.verifyBorders(borders)) return;
    this.pending = undefined;
    this.allowance--;
    // While one change is under way its former links stay the ones in service.
    const hasServed = current.borders.axes.length > 0 && !this.isWarming;
    this.membership.follow(borders, hasServed);
    const isJoining = current.borders.axes.length === 0 && this.isWarming;
    if (isJoining && former !== undefined && borders.isAfter(former) && this.verifier.verifyBorders(former)) {
      this.membership.alsoServe(former);
    }
    this.adopted++;
  }

  private useEstimate(estimate: Estimate): void {
    this.estimate = estimate;
    const hasStarted = this.startedStamp !== undefined;
    this.startedStamp = undefined;
    this.restUntilRound = this.round + this.settings.averagingRestRounds;
    if (!hasStarted || estimate.nodeCount === 0) return;
    if (areLopsided(this.membership.current.borders, estimate)) this.mint(axesFromEstimate(estimate));
  }

  private beginEstimate(): void {
    const curves = planCurves(this.sample(), this.estimate, this.membership.current.borders);
    if (curves.length === 0) return;
    this.startedStamp = this.clock.now();
    this.averaging.start({ stamp: this.startedStamp, starter: this.own.id, curves });
  }

  private mint(axes: readonly Axis[]): void {
    if (axes.length === 0) return;
    const unsigned = new Borders(axes, this.clock.now(), this.own.site);
    const signature = this.signer.sign(() => unsigned.signedBytes());
    this.consider(new Borders(axes, unsigned.mintedAt, unsigned.site, signature));
  }

  /** Whether this node's hash is the least of all it knows: few nodes are, so few begin what one should begin. */
  private isLeastKnown(): boolean {
    const [high, low] = this.own.idHash;
    let known = 0;
    for (const { profile } of this.membership.pool()) {
      known++;
      const [otherHigh, otherLow] = profile.idHash;
      if (otherHigh < high || (otherHigh === high && otherLow < low)) return false;
    }
    return known > 0;
  }

  private sample(): Descriptor[] {
    const byId = new Map(this.membership.pool().map((descriptor) => [descriptor.profile.id, descriptor]));
    byId.set(this.own.id, { profile: this.own, stamp: 0, isLeaving: false, signature: new Uint8Array() });
    return [...byId.values()].filter(({ profile }) => profile.isOffering);
  }
}

import type { Clock } from '#common/clock.ts';
import {
  UnknownClaimError,
  type HoldAnswer,
  type HoldRequest,
  type Occasion,
  type Span,
} from '#proto/selector/contract.ts';
import { checkHoldRequest } from '#proto/selector/holds.ts';
import {
  checkResources,
  larger,
  minus,
  positive,
  shortage,
  smaller,
  sumOf,
  type Resources,
} from '#proto/selector/resources.ts';
import { overlaps } from './calendar.ts';
import { isLeaving, leavingOf, Occupancy, type BoundPod, type Leaving, type Promised } from './occupancy.ts';
import type { Claim, ClaimStore } from './store.ts';

/** Thrown before {@link Ledger.open} has finished. Trying again soon helps. */
export class LedgerNotReadyError extends Error {
  override readonly name = 'LedgerNotReadyError';
}

/** Most holds and claims of one node; Kubernetes runs at most a few hundred pods on one. */
const claimsMax = 1_024;
/** Work that gives way is not started when its place is needed sooner than this: it would have no time to end. */
const noticeMs = 180_000;

/**
 * - Held: in memory, until `expiresAt` (monotonic).
 * - Writing: being confirmed; doesn't expire.
 * - Confirmed: durable.
 * - Removing: being released, or doubtful after a failed write: counted until the store has surely forgotten it.
 */
type Stage = 'Held' | 'Writing' | 'Confirmed' | 'Removing';

interface Entry {
  readonly claim: Claim;
  stage: Stage;
  expiresAt: number;
  busy: Promise<void> | undefined;
  /** Whether the store says that it has to give way. */
  isToldToGo?: boolean;
  /** The most that pods have used under it at once; absent before the first. */
  used?: Resources;
}

/**
 * The node as the arbiter of its own resources: what it promises never exceeds allocatable − bound pods − holds −
 * reserved windows at any moment, now or later. Holds live in memory: a crash forgets them, and confirming one that was
 * forgotten is refused, so that nothing is promised twice. Confirmed claims are durable before the answer, and freed
 * only after the store has forgotten them. Hold times run on the monotonic clock, reservations on the wall clock.
 */
export class Ledger {
  private readonly clock: Clock;
  private readonly store: ClaimStore;
  private readonly onChange: () => void;
  private readonly entries = new Map<string, Entry>();
  private allocatable: Resources = {};
  private pods: readonly BoundPod[] = [];
  private isOpen = false;

  /** @param onChange - called after what is free may have changed. */
  constructor(clock: Clock, store: ClaimStore, onChange: () => void = () => undefined) {
    this.clock = clock;
    this.store = store;
    this.onChange = onChange;
  }

  /** Rebuilds the claims from the store. Nothing is answered before. */
  async open(): Promise<void> {
    this.openWith(await this.store.list());
  }

  /** As {@link open}, with the claims at hand. */
  openWith(claims: readonly Claim[]): void {
    for (const claim of claims) {
      this.entries.set(claim.id, { claim, stage: 'Confirmed', expiresAt: Infinity, busy: undefined });
    }
    this.isOpen = true;
  }

  /** Sets what the node has to give in all. @throws {InvalidInputError} on an amount that is no whole number. */
  setAllocatable(resources: Resources): void {
    checkResources(resources, 'allocatable');
    this.allocatable = resources;
    this.onChange();
  }

  /** Sets the pods bound here, all of them. A hold shrinks with the pods that ran under it, and ends with the last. */
  setPods(pods: readonly BoundPod[]): void {
    for (const pod of pods) checkResources(pod.demand, `pod ${pod.uid}`);
    this.pods = pods;
    const covered = this.occupancy().covered;
    for (const [id, entry] of this.entries) {
      const own = covered.get(id);
      if (own !== undefined) entry.used = larger(entry.used ?? {}, sumOf(own));
      else if (entry.stage === 'Held' && entry.used !== undefined) this.entries.delete(id);
    }
    this.onChange();
  }

  /**
   * Holds resources for a short time.
   * @throws {InvalidInputError} on a request that can never be granted as it is written.
   * @throws {LedgerNotReadyError} before the claims are rebuilt.
   */
  hold(request: HoldRequest): HoldAnswer {
    this.assertOpen();
    this.expire();
    const claim = this.claimOf(request);
    const known = this.entries.get(request.id);
    if (known !== undefined) return this.holdAgain(known, claim, request.ttlMs);
    if (this.entries.size >= claimsMax) {
      return refused(`The node holds ${claimsMax} claims, which is its limit`);
    }
    const reason = this.reasonAgainst(claim);
    if (reason !== undefined) return refused(reason);
    const entry: Entry = { claim, stage: 'Held', expiresAt: this.clock.monotonic() + request.ttlMs, busy: undefined };
    this.entries.set(claim.id, entry);
    this.onChange();
    return { granted: true, ttlMs: request.ttlMs };
  }

  /**
   * Turns a hold into a durable claim. Confirming again succeeds.
   * @throws {UnknownClaimError} when the hold has expired or isn't the owner's.
   * @throws the store's error; the claim is then given up unless it is confirmed again before.
   */
  async confirm(id: string, owner: string): Promise<void> {
    const entry = await this.quietEntry(id, owner);
    if (entry.stage === 'Confirmed') return;
    if (entry.stage === 'Removing') throw new UnknownClaimError(`Claim ${id} is being given up: hold anew`);
    entry.stage = 'Writing';
    await this.exclusively(entry, async () => {
      try {
        await this.store.put(entry.claim);
        entry.stage = 'Confirmed';
        entry.expiresAt = Infinity;
      } catch (error) {
        // Perhaps it was written: what it holds stays held until the store has surely forgotten it.
        entry.stage = 'Removing';
        throw error;
      }
    });
  }

  /** Gives a hold or claim back. Releasing what isn't there succeeds. @throws the store's error: then try again. */
  async release(id: string, owner: string): Promise<void> {
    this.assertOpen();
    const entry = this.entries.get(id);
    if (entry === undefined) return;
    assertOwner(entry, owner);
    await entry.busy?.catch(() => undefined);
    if (this.entries.get(id) !== entry) return;
    if (entry.stage === 'Held') {
      this.entries.delete(id);
      this.onChange();
      return;
    }
    entry.stage = 'Removing';
    await this.forget(entry);
  }

  /** Counts a durable claim that it has not made itself, for example one of a restored backup. Known ones stay as they are. */
  adopt(claim: Claim): void {
    if (this.entries.has(claim.id)) return;
    this.entries.set(claim.id, { claim, stage: 'Confirmed', expiresAt: Infinity, busy: undefined });
    this.onChange();
  }

  /** The store has lost a claim without being asked, for example since its owner was deleted: the place is free. */
  lose(id: string): void {
    const entry = this.entries.get(id);
    if (entry === undefined || entry.stage === 'Held' || entry.stage === 'Writing') return;
    this.entries.delete(id);
    this.onChange();
  }

  /** Tries again to give up claims whose write or removal failed, and those whose span is over. Run it now and then. */
  async settle(): Promise<void> {
    this.assertOpen();
    this.expire();
    for (const entry of [...this.entries.values()]) {
      if (entry.busy !== undefined) continue;
      if (entry.stage === 'Confirmed' && entry.claim.span.endMs <= this.clock.now()) entry.stage = 'Removing';
      if (entry.stage === 'Removing') await this.forget(entry).catch(() => undefined);
    }
    for (const claim of this.leaving().claims) {
      const entry = this.entries.get(claim.id);
      if (entry?.stage !== 'Confirmed' || entry.isToldToGo === true) continue;
      await this.store.markPreempted(claim);
      entry.isToldToGo = true;
    }
  }

  /** What could be held on this occasion; by itself: now, by work without a known end that doesn't give way. Never below 0. */
  free(occasion: Occasion = {}): Resources {
    this.expire();
    const { inSpan, atOnce } = this.left(occasion);
    const left = atOnce === undefined ? inSpan : smaller(inSpan, atOnce);
    return positive(left);
  }

  /** Why `demand` could not be held, or undefined. For offers; only a hold is a promise. */
  reasonAgainstDemand(demand: Resources, occasion: Occasion = {}): string | undefined {
    if (!this.isOpen) return 'The node has just started and is still reading its claims';
    this.expire();
    return this.reasonOnOccasion(demand, occasion);
  }

  /** Which work has to leave since a reservation needs its place; the newest goes first. */
  leaving(): Leaving {
    return leavingOf(this.occupancy(), this.allocatable, this.clock.now());
  }

  /** Everything promised at present, for the status page. */
  claims(): readonly { readonly claim: Claim; readonly stage: Stage }[] {
    this.expire();
    return [...this.entries.values()].map(({ claim, stage }) => ({ claim, stage }));
  }

  /** Sentence on why a claim can't be granted, or undefined. */
  private reasonAgainst(claim: Claim): string | undefined {
    if (claim.reservation !== undefined) return this.reasonWithinReservation(claim, claim.reservation);
    return this.reasonOnOccasion(claim.demand, claim);
  }

  private reasonOnOccasion(demand: Resources, occasion: Occasion): string | undefined {
    const { inSpan, atOnce } = this.left(occasion);
    const now = atOnce === undefined ? undefined : shortage(demand, atOnce);
    if (now !== undefined) return `Not enough free ${now}`;
    const later = shortage(demand, inSpan);
    if (later === undefined) return undefined;
    const isNow = overlaps(occasion.span ?? this.fromNow(), this.moment());
    return isNow && occasion.isReservation !== true
      ? `Reserved later: ${later}`
      : `Not enough free in that window: ${later}`;
  }

  /** What is left: throughout the span, and, for work that begins now, at this very moment, when places that are to be given up are still taken. */
  private left(occasion: Occasion): { inSpan: Record<string, number>; atOnce: Record<string, number> | undefined } {
    const { span = this.fromNow(), isPreemptible = false, isReservation = false } = occasion;
    const occupancy = this.occupancy();
    const moment = this.moment();
    const isNow = overlaps(span, moment) && !isReservation;
    const atOnce = isNow
      ? minus(
          this.allocatable,
          occupancy.peak(moment, () => true),
        )
      : undefined;
    const firm = occupancy.peak(span, (one) => !one.isPreemptible);
    if (!isPreemptible) return { inSpan: minus(this.allocatable, firm), atOnce };
    // Work that gives way may be where something begins later, unless that is so soon that it would have no time to end, or drains.
    const soon = {
      startMs: moment.startMs,
      endMs: Math.max(moment.endMs, Math.min(span.endMs, moment.startMs + noticeMs)),
    };
    // What gives way and stays so far counts: the newcomer would be the first to be sent away.
    const next = minus(
      this.allocatable,
      occupancy.peak(soon, (one) => !one.isPreemptible || !isLeaving(one)),
    );
    const drained = occupancy.peak(span, (one) => !one.isPreemptible && (one.isDraining || overlaps(one.span, moment)));
    return { inSpan: smaller(next, minus(this.allocatable, drained)), atOnce };
  }

  private reasonWithinReservation(claim: Claim, id: string): string | undefined {
    const reservation = this.entries.get(id);
    if (reservation?.stage !== 'Confirmed' || !reservation.claim.isReservation) {
      return `The node holds no reservation ${id}`;
    }
    if (reservation.claim.virtualOrganization !== claim.virtualOrganization) {
      return `Reservation ${id} belongs to another virtual organization`;
    }
    const { span, demand } = reservation.claim;
    const now = this.clock.now();
    if (span.startMs > claim.span.startMs || (claim.span.endMs !== Infinity && claim.span.endMs > span.endMs)) {
      return `Reservation ${id} does not cover the time asked for`;
    }
    if (span.endMs <= now) return `Reservation ${id} is over`;
    const occupancy = this.occupancy();
    const lacking = shortage(claim.demand, minus(demand, occupancy.peakDrawn(id, claim.span)));
    if (lacking !== undefined) return `Not enough left of reservation ${id}: ${lacking}`;
    const left = minus(
      this.allocatable,
      occupancy.peak(this.moment(), () => true),
    );
    const isOccupied = Object.entries(claim.demand).some(([name, amount]) => amount > 0 && (left[name] ?? 0) < 0);
    return isOccupied ? `Work that gives way to reservation ${id} has not left yet` : undefined;
  }

  private occupancy(): Occupancy {
    const promises = new Map<string, Promised>();
    for (const [id, { claim, stage, used }] of this.entries) {
      promises.set(id, { claim, isHeld: stage === 'Held', used: used ?? {} });
    }
    return new Occupancy(promises, this.pods, this.clock.now());
  }

  private fromNow(): Span {
    return { startMs: this.clock.now(), endMs: Infinity };
  }

  private moment(): Span {
    const now = this.clock.now();
    return { startMs: now, endMs: now + 1 };
  }

  private holdAgain(known: Entry, claim: Claim, ttlMs: number): HoldAnswer {
    if (known.claim.owner !== claim.owner || JSON.stringify(known.claim.demand) !== JSON.stringify(claim.demand)) {
      return refused('This id is in use for another hold: choose a new one');
    }
    if (known.stage === 'Removing') return refused('This hold is being given up: choose a new id');
    if (known.stage === 'Held') known.expiresAt = this.clock.monotonic() + ttlMs;
    return { granted: true, ttlMs };
  }

  private claimOf(request: HoldRequest): Claim {
    checkHoldRequest(request);
    const { id, owner, virtualOrganization, demand, reservation, ownerReference } = request;
    return {
      ...{ id, owner, virtualOrganization, demand },
      span: this.spanOf(request.span),
      isPreemptible: request.isPreemptible ?? false,
      isReservation: request.isReservation ?? false,
      isDraining: request.isDraining ?? false,
      ...(reservation === undefined ? {} : { reservation }),
      ...(ownerReference === undefined ? {} : { ownerReference }),
    };
  }

  /** A span from 0 on begins now, by this node's own clock. */
  private spanOf({ startMs, endMs }: Span = { startMs: 0, endMs: Infinity }): Span {
    return { startMs: startMs === 0 ? this.clock.now() : startMs, endMs };
  }

  private expire(): void {
    const now = this.clock.monotonic();
    let hasExpired = false;
    for (const [id, entry] of this.entries) {
      if (entry.stage !== 'Held' || entry.expiresAt > now) continue;
      this.entries.delete(id);
      hasExpired = true;
    }
    if (hasExpired) this.onChange();
  }

  /** The owner's entry once nothing is being written for it. */
  private async quietEntry(id: string, owner: string): Promise<Entry> {
    this.assertOpen();
    for (;;) {
      this.expire();
      const entry = this.entries.get(id);
      if (entry === undefined)
        throw new UnknownClaimError(`No hold ${id} here: it expired or the node restarted; hold anew`);
      assertOwner(entry, owner);
      if (entry.busy === undefined) return entry;
      await entry.busy.catch(() => undefined);
    }
  }

  private async forget(entry: Entry): Promise<void> {
    await this.exclusively(entry, async () => {
      await this.store.remove(entry.claim);
      this.entries.delete(entry.claim.id);
      this.onChange();
    });
  }

  private async exclusively(entry: Entry, action: () => Promise<void>): Promise<void> {
    while (entry.busy !== undefined) await entry.busy.catch(() => undefined);
    entry.busy = action().finally(() => (entry.busy = undefined));
    await entry.busy;
  }

  private assertOpen(): void {
    if (!this.isOpen) throw new LedgerNotReadyError('The ledger is reading its claims: try again in a moment');
  }
}

function assertOwner(entry: Entry, owner: string): void {
  if (entry.claim.owner !== owner) throw new UnknownClaimError(`Claim ${entry.claim.id} belongs to another owner`);
}

function refused(reason: string): HoldAnswer {
  return { granted: false, reason };
}

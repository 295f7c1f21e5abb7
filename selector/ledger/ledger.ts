import type { Clock } from '#common/clock.ts';
import { UnknownClaimError, type HoldAnswer, type HoldRequest, type Span } from '#proto/selector/contract.ts';
import { checkHoldRequest } from '#proto/selector/holds.ts';
import { addTo, checkResources, larger, minus, shortage, type Resources } from '#proto/selector/resources.ts';
import { overlaps, peakUse, type Booking } from './calendar.ts';
import type { Claim, ClaimStore } from './store.ts';

/** A pod bound to this node, whoever made it. */
export interface BoundPod {
  readonly uid: string;
  readonly demand: Resources;
  /** The claim that it names; its promise covers the pod when both are of one virtual organization. */
  readonly claim?: string;
  /** The virtual organization whose namespace it is in. */
  readonly virtualOrganization?: string;
}

/** Thrown before {@link Ledger.open} has finished. Trying again soon helps. */
export class LedgerNotReadyError extends Error {
  override readonly name = 'LedgerNotReadyError';
}

/** Most holds and claims of one node; Kubernetes runs at most a few hundred pods on one. */
const claimsMax = 1_024;

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
  /** Whether a pod ran under it. */
  isUsed?: boolean;
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

  /** Sets the pods bound here, all of them. A hold ends with the last pod that ran under it. */
  setPods(pods: readonly BoundPod[]): void {
    for (const pod of pods) checkResources(pod.demand, `pod ${pod.uid}`);
    this.pods = pods;
    const inUse = new Set(pods.filter((pod) => this.coveringOf(pod) !== undefined).map(({ claim }) => claim));
    for (const [id, entry] of this.entries) {
      if (inUse.has(id)) entry.isUsed = true;
      else if (entry.stage === 'Held' && entry.isUsed === true) this.entries.delete(id);
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
    for (const claim of this.preempted()) {
      const entry = this.entries.get(claim.id);
      if (entry?.stage !== 'Confirmed' || entry.isToldToGo === true) continue;
      await this.store.markPreempted(claim);
      entry.isToldToGo = true;
    }
  }

  /** What could be held now by work without a known end that doesn't give way. Never below 0. */
  free(): Resources {
    this.expire();
    const now = this.clock.now();
    const left = minus(this.allocatable, this.useIn({ startMs: now, endMs: Infinity }, false));
    return Object.fromEntries(Object.entries(left).map(([name, amount]) => [name, Math.max(0, amount)]));
  }

  /** Why `demand` could not be held now, or undefined. For offers; only a hold is a promise. */
  reasonAgainstDemand(demand: Resources): string | undefined {
    if (!this.isOpen) return 'The node has just started and is still reading its claims';
    this.expire();
    const lacking = shortage(demand, this.free());
    return lacking === undefined ? undefined : `Not enough free ${lacking}`;
  }

  /** Claims that have to leave now since a reservation has begun that needs their place; the newest go first. */
  preempted(): readonly Claim[] {
    const now = this.clock.now();
    const moment = { startMs: now, endMs: now + 1 };
    const leaving: Claim[] = [];
    const left = minus(this.allocatable, this.useIn(moment, true));
    const isShort = (): boolean => Object.values(left).some((amount) => amount < 0);
    for (const { claim } of [...this.entries.values()].reverse()) {
      if (!isShort()) break;
      if (!claim.isPreemptible || claim.reservation !== undefined || !overlaps(claim.span, moment)) continue;
      const helps = Object.keys(claim.demand).some((name) => (claim.demand[name] ?? 0) > 0 && (left[name] ?? 0) < 0);
      if (!helps) continue;
      leaving.push(claim);
      addTo(left, claim.demand);
    }
    return leaving;
  }

  /** Everything promised at present, for the status page. */
  claims(): readonly { readonly claim: Claim; readonly stage: Stage }[] {
    this.expire();
    return [...this.entries.values()].map(({ claim, stage }) => ({ claim, stage }));
  }

  /** Sentence on why a claim can't be granted, or undefined. */
  private reasonAgainst(claim: Claim): string | undefined {
    if (claim.reservation !== undefined) return this.reasonWithinReservation(claim, claim.reservation);
    const now = this.clock.now();
    // Work that gives way needs its place only now; later windows push it out. Work that doesn't needs it throughout.
    const span = claim.isPreemptible ? { startMs: now, endMs: now + 1 } : claim.span;
    const isNow = overlaps(span, { startMs: now, endMs: now + 1 });
    const firm = shortage(claim.demand, minus(this.allocatable, this.useIn(span, false)));
    if (firm !== undefined) return `Not enough ${isNow ? 'free' : 'free in that window'}: ${firm}`;
    if (!isNow || claim.isReservation) return undefined;
    const all = shortage(claim.demand, minus(this.allocatable, this.useIn({ startMs: now, endMs: now + 1 }, true)));
    return all === undefined ? undefined : `Not enough free: ${all}`;
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
    const drawn = [...this.entries.values()].map((entry) => entry.claim).filter((other) => other.reservation === id);
    const lacking = shortage(claim.demand, minus(demand, peakUse(drawn, claim.span)));
    return lacking === undefined ? undefined : `Not enough left of reservation ${id}: ${lacking}`;
  }

  /** Peak use in a span: pods outside claims, and claims outside reservations. */
  private useIn(span: Span, withPreemptible: boolean): Resources {
    const always: Span = { startMs: -Infinity, endMs: Infinity };
    const bookings: Booking[] = [];
    const byClaim = new Map<string, Record<string, number>>();
    for (const pod of this.pods) {
      const covering = this.coveringOf(pod);
      if (covering !== undefined) {
        const sum = byClaim.get(covering.id) ?? {};
        addTo(sum, pod.demand);
        byClaim.set(covering.id, sum);
      } else bookings.push({ span: always, demand: pod.demand });
    }
    const now = this.clock.now();
    for (const { claim, stage } of this.entries.values()) {
      if (claim.reservation !== undefined) continue;
      if (claim.isPreemptible && !withPreemptible) continue;
      // A claim that is over counts as long as its pods or its record are there.
      const isOver = claim.span.endMs <= now && stage !== 'Held';
      const bookedSpan = isOver ? { startMs: claim.span.startMs, endMs: Infinity } : claim.span;
      bookings.push({ span: bookedSpan, demand: larger(claim.demand, byClaim.get(claim.id) ?? {}) });
    }
    return peakUse(bookings, span);
  }

  /** The claim whose promise covers a pod: the one that it names, when that is of its own virtual organization. */
  private coveringOf({ claim, virtualOrganization }: BoundPod): Claim | undefined {
    const named = claim === undefined ? undefined : this.entries.get(claim)?.claim;
    return named?.virtualOrganization === virtualOrganization ? named : undefined;
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
      span: request.span ?? { startMs: this.clock.now(), endMs: Infinity },
      isPreemptible: request.isPreemptible ?? false,
      isReservation: request.isReservation ?? false,
      ...(reservation === undefined ? {} : { reservation }),
      ...(ownerReference === undefined ? {} : { ownerReference }),
    };
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

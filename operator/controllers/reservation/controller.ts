import type { Clock } from '#common/clock.ts';
import { describeError, InvalidInputError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import type { Random } from '#common/random.ts';
import { claims as claimKind, type ClaimObject } from '#crds/claim.ts';
import { organizationOfNamespace } from '#crds/organization.ts';
import { type Reservation, reservationHeld, reservations, type ReservationStatus } from '#crds/reservation.ts';
import type { ReservationClaims } from '#operator/scheduling/reserved.ts';
import { demandOf, demandOfQuantities, fits, type Shape, shapeOf } from '#operator/scheduling/shape.ts';
import type { Refusals, Span } from '#proto/selector/contract.ts';
import type { Predicates } from '#proto/selector/predicate.ts';
import {
  type Client,
  done,
  type EventRecorder,
  type Lister,
  type Reconciler,
  requeueAfter,
  type Result,
} from '#runtime/contracts.ts';
import { ignoreNotFound } from '#runtime/errors.ts';
import { isDeleting, type ObjectKey, type Stored } from '#runtime/types.ts';
import { isSame } from '../status-change.ts';
import { reservationEnded, reservationHeldEvent, reservationLost } from './events.ts';
import type { HeldSlots, SlotHolder } from './holding.ts';
import { computeStatus, type Holding, type Obstacle } from './status.ts';
import { windowsOf } from './windows.ts';

/** Why a member may not reserve now; undefined when they may. */
export type ReservationAdmission = (namespace: string, owner: string | undefined) => string | undefined;

/** What the reconciler of Reservations works with. */
export interface ReservationParts {
  readonly reservations: Lister<Reservation>;
  readonly claims: ReservationClaims;
  readonly holder: SlotHolder;
  readonly predicates: Predicates;
  readonly client: Client;
  readonly events: EventRecorder;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly siteName: string;
  readonly nodeExists: (name: string) => boolean;
  readonly admission: ReservationAdmission;
}

const backoffMs = { min: 1_000, max: 15_000 } as const;
/** While something outside is missing that can't be watched. */
const pollMs = 5_000;
/** A timer is set for this long at most, and then set again. */
const timerMaxMs = 3_600_000;
/** Until a Claim that was confirmed has to be in the cache. */
const unseenMs = 15_000;

interface Memory {
  /** Claims that were confirmed and may not be in the cache yet: name → slots, window, and until when they are believed (monotonic). */
  readonly unseen: Map<string, { slots: HeldSlots; window: Span; until: number }>;
  /** Where selectors were reached, by Claim. */
  readonly addresses: Map<string, string>;
  attempts: number;
  nextAttemptAt: number;
}

/**
 * Keeps the promise of a reservation: asks nodes for its slots, all or none, and tells what became of it. The record of what is held are the
 * Claims that nodes wrote; what is in memory here only spares asking again, and may be lost at any time.
 */
export class ReservationReconciler implements Reconciler {
  private readonly parts: ReservationParts;
  private readonly memories = new Map<string, Memory>();

  constructor(parts: ReservationParts) {
    this.parts = parts;
  }

  async reconcile(key: ObjectKey, signal: AbortSignal): Promise<Result> {
    const reservation = this.parts.reservations.get(key);
    if (reservation === undefined || isDeleting(reservation)) {
      // Its Claims are deleted with it, and the nodes are free again.
      this.memories.delete(nameOf(key));
      return done;
    }
    const now = this.parts.clock.now();
    const windows = windowsOf(reservation, now);
    const obstacle = await this.provide(reservation, windows, signal);
    const holdings = windows.map((window) => this.holdingOf(reservation, window));
    const scope = { reservation, holdings, obstacle, site: this.parts.siteName, now: this.parts.clock.now() };
    await this.write(reservation, computeStatus(scope), signal);
    const [next] = windows;
    if (next === undefined) {
      this.memories.delete(nameOf(key));
      return done;
    }
    const { attempts, nextAttemptAt } = this.memoryOf(reservation);
    const monotonic = this.parts.clock.monotonic();
    const waits = [
      (next.startMs > scope.now ? next.startMs : next.endMs) - scope.now,
      ...(obstacle === undefined || attempts === 0 ? [] : [nextAttemptAt - monotonic]),
      ...(obstacle?.is === 'refused' ? [pollMs] : []),
    ];
    return requeueAfter(Math.max(1, Math.min(timerMaxMs, ...waits)));
  }

  /** Sees to it that every slot of each window is held. @returns what is in the way, of the first window that lacks any. */
  private async provide(
    reservation: Stored<Reservation>,
    windows: readonly Span[],
    signal: AbortSignal,
  ): Promise<Obstacle | undefined> {
    const { namespace = '' } = reservation.metadata;
    await this.giveBackLost(reservation, signal);
    if (windows.length === 0) return undefined;
    const message = this.parts.admission(namespace, reservation.spec.owner);
    if (message !== undefined) {
      await this.giveBack(this.parts.claims.of(reservation), signal);
      return { is: 'refused', reason: 'NotAccepted', message };
    }
    let shape: Shape;
    try {
      shape = shapeOf(organizationOfNamespace(namespace) ?? '', reservation.spec, this.parts.predicates);
    } catch (error) {
      if (!(error instanceof InvalidInputError)) throw error;
      return { is: 'invalid', message: error.message };
    }
    for (const window of windows) {
      const obstacle = await this.holdWindow(reservation, shape, window, signal);
      if (obstacle !== undefined) return obstacle;
    }
    this.memoryOf(reservation).attempts = 0;
    return undefined;
  }

  private async holdWindow(
    reservation: Stored<Reservation>,
    shape: Shape,
    window: Span,
    signal: AbortSignal,
  ): Promise<Obstacle | undefined> {
    const { spec, metadata, status } = reservation;
    const { namespace = '', name, uid } = metadata;
    const { held } = this.holdingOf(reservation, window);
    if (held >= spec.slots) return undefined;
    const memory = this.memoryOf(reservation);
    const known = status?.windows?.find(({ start }) => Date.parse(start) === window.startMs);
    // What was whole once and lost nodes keeps the rest; what never was whole is what an attempt that was cut short left behind.
    const isLosing = status?.conditions?.some(({ reason }) => reason === reservationHeld.reasons.SlotsLost) === true;
    const wasWhole = known !== undefined && (known.held >= spec.slots || (known === status?.windows?.[0] && isLosing));
    if (held > 0 && !wasWhole) await this.giveBack(this.claimsOf(reservation, window), signal);
    const missing = wasWhole ? spec.slots - held : spec.slots;
    if (memory.attempts > 0 && this.parts.clock.monotonic() < memory.nextAttemptAt) return { is: 'waiting', wasWhole };
    const outcome = await this.parts.holder
      .hold({
        ...{ shape, window, slots: missing, isDraining: spec.atStart === 'Drain', holder: `${namespace}/${name}` },
        owner: { apiVersion: 'xtreemos.io/v1alpha1', kind: 'Reservation', name, uid },
      })
      .catch((error: unknown): { refusals: Refusals; nothingMatches: boolean } => ({
        refusals: { [`The selector could not be asked: ${describeError(error).slice(0, 160)}`]: 1 },
        nothingMatches: false,
      }));
    if ('slots' in outcome) {
      const until = this.parts.clock.monotonic() + unseenMs;
      for (const slots of outcome.slots) {
        memory.unseen.set(slots.claim, { slots, window, until });
        memory.addresses.set(slots.claim, slots.address);
      }
      this.parts.events.publish(
        reservationHeldEvent(reservation, window, [...new Set(outcome.slots.map(({ node }) => node))]),
      );
      return undefined;
    }
    const most = Math.min(backoffMs.max, backoffMs.min * 2 ** Math.min(10, memory.attempts++));
    memory.nextAttemptAt = this.parts.clock.monotonic() + most * (0.5 + this.parts.random.next() / 2);
    return { is: 'missing', wasWhole, ...outcome };
  }

  /** What is held for one window, from the Claims, and what was confirmed a moment ago. */
  private holdingOf(reservation: Stored<Reservation>, window: Span): Holding {
    const memory = this.memoryOf(reservation);
    const known = new Map(reservation.status?.slots?.map((slot) => [slot.claim, slot.address]));
    const perSlot = demandOf(reservation.spec.resources);
    const seen = this.claimsOf(reservation, window);
    const slots = seen.map(({ metadata: { name: claim }, spec }) => {
      memory.unseen.delete(claim);
      const address = memory.addresses.get(claim) ?? known.get(claim);
      const count = Math.max(1, fits(perSlot, demandOfQuantities(spec.resources)));
      const place = { claim, site: spec.site ?? this.parts.siteName, node: spec.nodeName, count };
      return address === undefined ? place : { ...place, address };
    });
    for (const [claim, { slots: fresh, window: of, until }] of memory.unseen) {
      if (until < this.parts.clock.monotonic()) memory.unseen.delete(claim);
      else if (of.startMs === window.startMs) slots.push(fresh);
    }
    slots.sort((a, b) => (a.node < b.node ? -1 : a.node > b.node ? 1 : a.claim < b.claim ? -1 : 1));
    return { window, slots, held: slots.reduce((sum, { count }) => sum + count, 0) };
  }

  private claimsOf(reservation: Stored<Reservation>, window: Span): Stored<ClaimObject>[] {
    return this.parts.claims
      .of(reservation)
      .filter(
        ({ metadata, spec }) =>
          !isDeleting({ metadata }) && this.isThere(spec) && Date.parse(spec.startTime) === window.startMs,
      );
  }

  /** Whether the node of a Claim is there; of nodes elsewhere their own sites tell. */
  private isThere({ site, nodeName }: ClaimObject['spec']): boolean {
    return site !== undefined || this.parts.nodeExists(nodeName);
  }

  /** A node that is gone keeps no promise. */
  private async giveBackLost(reservation: Stored<Reservation>, signal: AbortSignal): Promise<void> {
    const lost = this.parts.claims.of(reservation).filter(({ spec }) => !this.isThere(spec));
    if (lost.length === 0) return;
    this.parts.events.publish(reservationLost(reservation, [...new Set(lost.map(({ spec }) => spec.nodeName))]));
    await this.giveBack(lost, signal);
  }

  /** Deletes Claims: their nodes notice, and have the place back. */
  private async giveBack(held: readonly Stored<ClaimObject>[], signal: AbortSignal): Promise<void> {
    for (const { metadata } of held) {
      const { namespace, name, uid } = metadata;
      const claims = this.parts.client.of(claimKind);
      await ignoreNotFound(claims.delete({ namespace, name }, { preconditions: { uid }, signal }));
    }
  }

  private memoryOf({ metadata }: Stored<Reservation>): Memory {
    const key = nameOf(metadata);
    let memory = this.memories.get(key);
    if (memory === undefined) {
      memory = { unseen: new Map(), addresses: new Map(), attempts: 0, nextAttemptAt: 0 };
      this.memories.set(key, memory);
    }
    return memory;
  }

  private async write(reservation: Stored<Reservation>, status: ReservationStatus, signal: AbortSignal): Promise<void> {
    if (isSame(reservation.status, status)) return;
    const { namespace, name, uid } = reservation.metadata;
    const client = this.parts.client.of(reservations);
    const written = client.status.apply({ metadata: { namespace, name, uid }, status }, { signal });
    if ((await ignoreNotFound(written)) === undefined) return;
    if (status.state === 'Expired' && reservation.status?.state !== 'Expired') {
      this.parts.events.publish(reservationEnded(reservation));
    }
  }
}

const nameOf = ({ namespace, name }: ObjectKey): string => `${namespace ?? ''}/${name}`;

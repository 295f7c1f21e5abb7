/** The status of a Reservation, computed in one pure place. */
import {
  type Reservation,
  reservationActive,
  reservationExpired,
  reservationHeld,
  reservationReady,
  type ReservationStatus,
} from '#crds/reservation.ts';
import { waitingRows } from '#operator/controllers/gridjob/status.ts';
import type { Refusals, Span } from '#proto/selector/contract.ts';
import { type ConditionUpdate, updateConditions } from '#runtime/conditions.ts';
import type { Condition, Stored } from '#runtime/types.ts';

type Finding = Pick<ConditionUpdate, 'type' | 'status' | 'reason' | 'message'>;

/** What nodes have promised for one window. */
export interface Holding {
  readonly window: Span;
  readonly slots: NonNullable<ReservationStatus['slots']>;
  readonly held: number;
}

/** What is in the way of holding every slot. */
export type Obstacle =
  | { readonly is: 'refused'; readonly reason: 'NotAccepted'; readonly message: string }
  | { readonly is: 'invalid'; readonly message: string }
  /** Tried a moment ago; to be tried again. */
  | { readonly is: 'waiting'; readonly wasWhole: boolean }
  | {
      readonly is: 'missing';
      readonly wasWhole: boolean;
      readonly refusals: Refusals;
      readonly nothingMatches: boolean;
    };

/** What a status is computed from. */
export interface ReservationScope {
  readonly reservation: Stored<Reservation>;
  /** The windows that are not over. */
  readonly holdings: readonly Holding[];
  readonly obstacle: Obstacle | undefined;
  readonly site: string;
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
}

/** What the status should be. */
export function computeStatus(scope: ReservationScope): ReservationStatus {
  const { reservation, holdings, obstacle, site } = scope;
  const [first] = holdings;
  const waiting =
    obstacle?.is === 'missing'
      ? waitingRows(obstacle.refusals, site)
      : obstacle?.is === 'waiting'
        ? (reservation.status?.waiting ?? [])
        : [];
  return {
    ...(reservation.metadata.generation === undefined ? {} : { observedGeneration: reservation.metadata.generation }),
    conditions: conditionsOf(scope),
    state: stateOf(scope),
    windows: holdings.map(({ window, held }) => ({
      start: new Date(window.startMs).toISOString(),
      end: new Date(window.endMs).toISOString(),
      held,
    })),
    slots: first?.slots ?? [],
    ...(waiting.length === 0 ? {} : { waiting }),
  };
}

function stateOf({ holdings, reservation, now }: ReservationScope): NonNullable<ReservationStatus['state']> {
  const [first] = holdings;
  if (first === undefined) return 'Expired';
  if (first.held < reservation.spec.slots) return 'Pending';
  return first.window.startMs <= now ? 'Active' : 'Held';
}

function conditionsOf(scope: ReservationScope): Condition[] {
  const { reservation, now } = scope;
  const observedGeneration = reservation.metadata.generation;
  const state = stateOf(scope);
  const findings = [readyFinding(state), heldFinding(scope, state), activeFinding(scope, state), expiredFinding(state)];
  const updates = findings.map((finding) => ({ ...finding, observedGeneration }));
  return updateConditions(reservation.status?.conditions, updates, now);
}

type State = NonNullable<ReservationStatus['state']>;

const over = 'The last window has ended, and the slots are given back.';

function readyFinding(state: State): Finding {
  const { type, reasons } = reservationReady;
  if (state === 'Expired') return { type, status: 'False', reason: reasons.Expired, message: over };
  if (state === 'Pending') {
    return { type, status: 'False', reason: reasons.Pending, message: 'Not every slot is promised: see Held.' };
  }
  return { type, status: 'True', reason: reasons.Held, message: 'Every slot is promised.' };
}

function heldFinding({ obstacle, reservation }: ReservationScope, state: State): Finding {
  const { type, reasons } = reservationHeld;
  if (state === 'Expired') return { type, status: 'False', reason: reasons.WindowOver, message: over };
  if (state !== 'Pending') {
    return { type, status: 'True', reason: reasons.AllSlotsHeld, message: 'Nodes have promised every slot.' };
  }
  const before = reservation.status?.conditions?.find((condition) => condition.type === type);
  if (obstacle?.is === 'refused') {
    return { type, status: 'False', reason: reasons.NotAccepted, message: obstacle.message };
  }
  if (obstacle?.is === 'invalid') {
    return { type, status: 'False', reason: reasons.InvalidExpression, message: obstacle.message };
  }
  if (obstacle?.is === 'missing' && obstacle.wasWhole) {
    const message = 'Nodes that had promised slots are gone; others are looked for, see status.waiting.';
    return { type, status: 'False', reason: reasons.SlotsLost, message };
  }
  if (obstacle?.is === 'missing' && obstacle.nothingMatches) {
    const message = 'No node matches requirements.static: see `xos nodes` for what there is.';
    return { type, status: 'False', reason: reasons.NothingMatches, message };
  }
  if (obstacle?.is === 'waiting' && before?.status === 'False') {
    return { type, status: 'False', reason: before.reason, message: before.message };
  }
  const message =
    'Nodes can not promise every slot in that window, and nothing is kept: ask for fewer or smaller slots, or another time; see status.waiting.';
  return { type, status: 'False', reason: reasons.TooFewSlots, message };
}

function activeFinding({ holdings, now }: ReservationScope, state: State): Finding {
  const { type, reasons } = reservationActive;
  if (state === 'Expired') return { type, status: 'False', reason: reasons.WindowOver, message: over };
  if (state === 'Active') {
    return { type, status: 'True', reason: reasons.WindowOpen, message: 'The window is open: jobs may use the slots.' };
  }
  if ((holdings[0]?.window.startMs ?? 0) > now) {
    return { type, status: 'False', reason: reasons.BeforeWindow, message: 'The window has not begun.' };
  }
  const message = 'The window has begun, but not every slot is held: see Held.';
  return { type, status: 'False', reason: reasons.NotHeld, message };
}

function expiredFinding(state: State): Finding {
  const { type, reasons } = reservationExpired;
  return state === 'Expired'
    ? { type, status: 'True', reason: reasons.WindowOver, message: over }
    : { type, status: 'False', reason: reasons.NotOver, message: 'A window is open or to come.' };
}

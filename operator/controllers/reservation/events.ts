/** The events of a Reservation: one constructor each. */
import { type Reservation, reservations } from '#crds/reservation.ts';
import type { Span } from '#proto/selector/contract.ts';
import type { EventDraft } from '#runtime/contracts.ts';
import { referenceTo } from '#runtime/events.ts';
import type { Stored } from '#runtime/types.ts';
import { listed } from '../events.ts';

/** Nodes have promised slots. */
export function reservationHeldEvent(
  reservation: Stored<Reservation>,
  { startMs }: Span,
  nodes: readonly string[],
): EventDraft {
  const start = new Date(startMs).toISOString();
  return {
    object: referenceTo(reservations, reservation),
    type: 'Normal',
    reason: 'Held',
    action: 'Hold',
    note: `Slots are held from ${start} on: ${listed(nodes)}.`,
    dedupeKey: `held/${start}`,
  };
}

/** Nodes that had promised slots are gone. */
export function reservationLost(reservation: Stored<Reservation>, nodes: readonly string[]): EventDraft {
  return {
    object: referenceTo(reservations, reservation),
    type: 'Warning',
    reason: 'SlotsLost',
    action: 'Hold',
    note: `Nodes that had promised slots are gone: ${listed(nodes)}. Others are looked for.`,
    dedupeKey: 'lost',
  };
}

/** The last window has ended. */
export function reservationEnded(reservation: Stored<Reservation>): EventDraft {
  return {
    object: referenceTo(reservations, reservation),
    type: 'Normal',
    reason: 'Expired',
    action: 'Release',
    note: 'The last window has ended: the slots are given back.',
    dedupeKey: 'expired',
  };
}

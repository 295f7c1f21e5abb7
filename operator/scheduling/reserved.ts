/** Where jobs that use a reservation find their places. */
import type { ClaimObject } from '#crds/claim.ts';
import { organizationOfNamespace } from '#crds/organization.ts';
import type { Reservation } from '#crds/reservation.ts';
import type { Resources } from '#proto/selector/resources.ts';
import type { Pod } from '#runtime/builtin.ts';
import type { Informer, Lister } from '#runtime/contracts.ts';
import type { Stored } from '#runtime/types.ts';
import { demandOfQuantities } from './shape.ts';

/** What a reservation keeps on one node, for the present window. */
export interface ReservedNode {
  readonly site: string;
  readonly node: string;
  /** Where its selector was reached last; undefined when that is not known. */
  readonly address: string | undefined;
  /** Name of the Claim to draw from. */
  readonly claim: string;
  /** When the window ends, wall-clock milliseconds. */
  readonly endMs: number;
  /** What pods have not drawn yet. */
  readonly free: Resources;
}

const byReservation = 'claim/reservation';

/** Name of the index of pods by the Claim of a reservation that they draw from. */
export const byDrawn = 'pod/drawn';

/** The Claims that nodes made for a Reservation; they are the record of what is held. */
export class ReservationClaims {
  private readonly claims: Informer<ClaimObject>;

  constructor(informer: Informer<ClaimObject>) {
    this.claims = informer;
    informer.addIndex(byReservation, ({ metadata, spec }) =>
      spec.mode !== 'Reservation'
        ? []
        : (metadata.ownerReferences ?? []).filter(({ kind }) => kind === 'Reservation').map(({ uid }) => uid),
    );
  }

  /** Every Claim of a Reservation, whatever its window. */
  of({ metadata }: Stored<Reservation>): Stored<ClaimObject>[] {
    return this.claims.byIndex(byReservation, metadata.uid);
  }

  /** Claims of all kinds by the name of the kind, for sources. */
  get informer(): Informer<ClaimObject> {
    return this.claims;
  }
}

/** What the open window of a reservation has on each node, less what pods draw from it. */
export function reservedNodes(
  reservation: Stored<Reservation> | undefined,
  held: readonly Stored<ClaimObject>[],
  pods: Pick<Lister<Pod>, 'byIndex'>,
  now: number,
): ReservedNode[] {
  if (reservation === undefined || organizationOfNamespace(reservation.metadata.namespace) === undefined) return [];
  const known = new Map(reservation.status?.slots?.map((slot) => [slot.claim, slot]));
  return held.flatMap(({ metadata, spec }) => {
    const endMs = Date.parse(spec.endTime ?? '');
    const slot = known.get(metadata.name);
    if (slot === undefined || Date.parse(spec.startTime) > now || !(endMs > now)) return [];
    const free: Record<string, number> = { ...demandOfQuantities(spec.resources) };
    for (const pod of pods.byIndex(byDrawn, `${metadata.namespace ?? ''}/${metadata.name}`)) {
      if (pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed') continue;
      for (const { resources } of pod.spec?.containers ?? []) {
        for (const [name, amount] of Object.entries(demandOfQuantities(resources?.requests ?? {}))) {
          free[name] = (free[name] ?? 0) - amount;
        }
      }
    }
    return [{ site: slot.site, node: spec.nodeName, address: slot.address, claim: metadata.name, endMs, free }];
  });
}

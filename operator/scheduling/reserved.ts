/** Where jobs that use a reservation find their places. */
import { type ClaimObject, podFacts } from '#crds/claim.ts';
import type { Execution } from '#crds/execution.ts';
import { organizationOfNamespace } from '#crds/organization.ts';
import type { Reservation } from '#crds/reservation.ts';
import { addTo, type Resources } from '#proto/selector/resources.ts';
import { hasEnded, type Pod } from '#runtime/builtin.ts';
import type { Informer } from '#runtime/contracts.ts';
import type { ObjectKey, Stored } from '#runtime/types.ts';
import { IndexSet } from './index-set.ts';
import { demandOf, demandOfQuantities, times } from './shape.ts';

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
  /** What tasks have not drawn yet. */
  readonly free: Resources;
}

const byReservation = 'claim/reservation';

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

const byDrawn = 'claim/drawn';

/** What tasks draw from the Claims of reservations: pods here, and placements at other sites, whose pods are not seen here. */
export class Drawn {
  private readonly pods: Informer<Pod>;
  private readonly executions: Informer<Execution>;

  constructor(pods: Informer<Pod>, executions: Informer<Execution>) {
    this.pods = pods;
    this.executions = executions;
    pods.addIndex(byDrawn, ({ metadata }) => {
      const claim = metadata.annotations?.[podFacts.reservation];
      return claim === undefined ? [] : [claimKey(metadata.namespace, claim)];
    });
    executions.addIndex(byDrawn, ({ metadata, spec }) => [
      ...new Set(
        spec.placements.flatMap(({ site, reservation }) =>
          site === undefined || reservation === undefined ? [] : [claimKey(metadata.namespace, reservation)],
        ),
      ),
    ]);
  }

  /** What is drawn from a Claim now. */
  from({ namespace, name }: ObjectKey): Resources {
    const sum: Record<string, number> = {};
    const key = claimKey(namespace, name);
    for (const pod of this.pods.byIndex(byDrawn, key)) {
      if (hasEnded(pod)) continue;
      for (const { resources } of pod.spec?.containers ?? []) addTo(sum, demandOfQuantities(resources?.requests ?? {}));
    }
    for (const execution of this.executions.byIndex(byDrawn, key)) {
      const { template } = execution.spec;
      addTo(sum, times(demandOf(template.resources), tasksElsewhere(execution, name)));
    }
    return sum;
  }
}

/** How many tasks of an Execution have not ended that draw from a Claim at another site. */
function tasksElsewhere({ spec, status }: Stored<Execution>, claim: string): number {
  const ended = (status?.tasks?.rows ?? []).filter(({ state }) => state === 'Failed' || state === 'Killed');
  const over = IndexSet.parse(status?.tasks?.succeededIndexes).union(IndexSet.of(ended.map(({ index }) => index)));
  return spec.placements
    .filter(({ site, reservation }) => site !== undefined && reservation === claim)
    .reduce((count, { tasks }) => count + IndexSet.parse(tasks).minus(over).size, 0);
}

const claimKey = (namespace: string | undefined, name: string): string => `${namespace ?? ''}/${name}`;

/** What the open window of a reservation has on each node, less what tasks draw from it. */
export function reservedNodes(
  reservation: Stored<Reservation> | undefined,
  held: readonly Stored<ClaimObject>[],
  drawn: Drawn,
  now: number,
): ReservedNode[] {
  if (reservation === undefined || organizationOfNamespace(reservation.metadata.namespace) === undefined) return [];
  const known = new Map(reservation.status?.slots?.map((slot) => [slot.claim, slot]));
  return held.flatMap(({ metadata, spec }) => {
    const endMs = Date.parse(spec.endTime ?? '');
    const slot = known.get(metadata.name);
    if (slot === undefined || Date.parse(spec.startTime) > now || !(endMs > now)) return [];
    const free: Record<string, number> = { ...demandOfQuantities(spec.resources) };
    for (const [name, amount] of Object.entries(drawn.from(metadata))) free[name] = (free[name] ?? 0) - amount;
    return [{ site: slot.site, node: spec.nodeName, address: slot.address, claim: metadata.name, endMs, free }];
  });
}

import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import type { Random } from '#common/random.ts';
import { type ClaimObject, claims } from '#crds/claim.ts';
import type { Execution } from '#crds/execution.ts';
import { organizationNamespace } from '#crds/organization.ts';
import { type Reservation, reservations as reservationKind } from '#crds/reservation.ts';
import { Drawn, ReservationClaims, reservedNodes, type ReservedNode } from '#operator/scheduling/reserved.ts';
import type { ResourceSelection } from '#proto/selector/contract.ts';
import type { Predicates } from '#proto/selector/predicate.ts';
import { nodes as nodeKind, type Pod } from '#runtime/builtin.ts';
import type { Informer, Manager } from '#runtime/contracts.ts';
import { mapped } from '#runtime/sources.ts';
import type { ObjectKey } from '#runtime/types.ts';
import { type ReservationAdmission, ReservationReconciler } from './controller.ts';
import { recordElsewhere } from './elsewhere.ts';
import { SlotHolder } from './holding.ts';

/** What the controller of Reservations takes from the process it runs in. */
export interface ReservationSetup {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly siteName: string;
  readonly selection: ResourceSelection;
  readonly predicates: Predicates;
  /** Pods of tasks. */
  readonly pods: Informer<Pod>;
  readonly executions: Informer<Execution>;
  readonly surroundings: { readonly nodeExists: (name: string) => boolean };
  readonly reservationAdmission: ReservationAdmission;
}

/** What jobs need of reservations. */
export interface Reserved {
  readonly reservations: Informer<Reservation>;
  /** What the open window of a reservation has on nodes. */
  nodesOf(virtualOrganization: string, name: string): readonly ReservedNode[];
}

/** Reservations looked at at the same time: each asks many nodes. */
const concurrency = 4;
const byNode = 'claim/node';

/** Adds the controller of Reservations to a manager. @returns what jobs find their places by. */
export function addReservationController(manager: Manager, setup: ReservationSetup): Reserved {
  const { clock, random, log, siteName, selection, predicates, pods, surroundings } = setup;
  const reservations = manager.informer(reservationKind);
  const informer = manager.informer(claims);
  const held = new ReservationClaims(informer);
  const drawn = new Drawn(pods, setup.executions);
  informer.addIndex(byNode, ({ spec }) =>
    spec.mode === 'Reservation' && spec.site === undefined ? [spec.nodeName] : [],
  );
  const ownersOf = ({ metadata: { namespace, ownerReferences } }: ClaimObject): ObjectKey[] =>
    (ownerReferences ?? [])
      .filter(({ kind }) => kind === reservationKind.kind)
      .map(({ name }) => ({ namespace, name }));
  const controllerLog = log.with({ controller: 'reservation' });
  manager.addController({
    name: 'reservation',
    primary: reservations,
    reconciler: new ReservationReconciler({
      ...{ reservations, claims: held, predicates, clock, random, siteName },
      ...{ client: manager.client, events: manager.events, log: controllerLog },
      holder: new SlotHolder({
        ...{ selection, predicates, clock, random, log: controllerLog },
        record: async (slots, wanted) => recordElsewhere(manager.client, siteName, slots, wanted),
      }),
      nodeExists: (name) => surroundings.nodeExists(name),
      admission: setup.reservationAdmission,
    }),
    sources: [
      mapped(informer, ownersOf),
      mapped(manager.informer(nodeKind), ({ metadata }) => informer.byIndex(byNode, metadata.name).flatMap(ownersOf)),
    ],
    concurrency,
    changed: (after, before) => after.metadata.generation !== before.metadata.generation,
  });
  return {
    reservations,
    nodesOf: (virtualOrganization, name) => {
      const reservation = reservations.get({ namespace: organizationNamespace(virtualOrganization), name });
      return reservedNodes(reservation, reservation === undefined ? [] : held.of(reservation), drawn, clock.now());
    },
  };
}

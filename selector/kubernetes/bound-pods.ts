/** What the pods of a node occupy. Pure. */
import { claimLabel, podFacts } from '#crds/claim.ts';
import { addTo, larger, type Resources } from '#proto/selector/resources.ts';
import { hasEnded, type Pod } from '#runtime/builtin.ts';
import type { Stored } from '#runtime/types.ts';
import type { BoundPod } from '#selector/ledger/occupancy.ts';
import { amountOf } from './node-facts.ts';

/** `vo-` and the name of a virtual organization make its namespace. */
export const namespacePrefix = 'vo-';

type Container = NonNullable<Pod['spec']>['containers'][number];
type Requests = Readonly<Record<string, string>> | undefined;

/** Whether a pod has a node and still occupies it. */
export function isOccupying(pod: Pod): boolean {
  return pod.spec?.nodeName !== undefined && !hasEnded(pod);
}

/** A pod as the ledger counts it. What the operator wrote on pods of jobs is believed: nobody else may write such labels and annotations. */
export function boundPodOf(pod: Stored<Pod>): BoundPod {
  const { uid, namespace = '', labels, annotations, deletionTimestamp } = pod.metadata;
  const bound = { uid, demand: demandOf(pod), ...(deletionTimestamp === undefined ? {} : { isLeaving: true }) };
  if (!namespace.startsWith(namespacePrefix)) return bound;
  const claim = labels?.[claimLabel];
  const reservation = annotations?.[podFacts.reservation];
  const endMs = Date.parse(annotations?.[podFacts.until] ?? '');
  return {
    ...bound,
    virtualOrganization: namespace.slice(namespacePrefix.length),
    graceMs: 1_000 * (pod.spec?.terminationGracePeriodSeconds ?? 30),
    ...(claim === undefined ? {} : { claim }),
    ...(reservation === undefined ? {} : { reservation }),
    ...(Number.isNaN(endMs) ? {} : { endMs }),
    ...(annotations?.[podFacts.givesWay] === 'true' ? { givesWay: true } : {}),
  };
}

/**
 * What a pod may use of its node, as the scheduler counts it: the larger of its containers together and of the hungriest
 * moment while its init containers run, restartable ones staying from their turn on; plus overhead; and one pod.
 * Source: KEP-753, component-helpers `resource/helpers.go` PodRequests.
 */
export function demandOf(pod: Pod): Resources {
  const { spec, status } = pod;
  const total: Record<string, number> = {};
  const allocated = new Map(status?.containerStatuses?.map((one) => [one.name, one.allocatedResources]));
  for (const container of spec?.containers ?? []) {
    // A resize in place is under way: the node has still given what it gave.
    addTo(total, larger(requestsOf(container), amountsOf(allocated.get(container.name))));
  }
  let restartable: Record<string, number> = {};
  let peak: Resources = {};
  for (const container of spec?.initContainers ?? []) {
    const own = requestsOf(container);
    if (container.restartPolicy === 'Always') {
      addTo(total, own);
      restartable = { ...restartable };
      addTo(restartable, own);
      peak = larger(peak, restartable);
    } else {
      const moment: Record<string, number> = { ...restartable };
      addTo(moment, own);
      peak = larger(peak, moment);
    }
  }
  const demand: Record<string, number> = { ...larger(total, peak) };
  // Requests of the pod as a whole take the place of its containers'.
  Object.assign(demand, amountsOf(spec?.resources?.requests));
  addTo(demand, amountsOf(spec?.overhead));
  return { ...demand, pods: 1 };
}

function requestsOf(container: Container): Resources {
  return amountsOf(container.resources?.requests);
}

function amountsOf(requests: Requests): Resources {
  return Object.fromEntries(
    Object.entries(requests ?? {}).map(([name, quantity]) => [name, amountOf(name, quantity, 'up')]),
  );
}

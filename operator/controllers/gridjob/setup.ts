import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import type { Registry } from '#common/metrics.ts';
import type { Random } from '#common/random.ts';
import { type Execution, executions } from '#crds/execution.ts';
import { type GridJob, gridJobs } from '#crds/grid-job.ts';
import type { Reservation } from '#crds/reservation.ts';
import { podLabels } from '#crds/execution.ts';
import type { ReservationAdmission } from '#operator/controllers/reservation/controller.ts';
import { addReservationController } from '#operator/controllers/reservation/setup.ts';
import { addExecutionController } from '#operator/controllers/execution/setup.ts';
import type { Surroundings } from '#operator/controllers/execution/surroundings.ts';
import { LogKeeper } from '#operator/controllers/execution/log-keeper.ts';
import type { TaskLogs } from '#operator/controllers/execution/task-logs.ts';
import { addSitesWork, type SitesSetup } from '#operator/sites/setup.ts';
import { Dispatcher } from '#operator/scheduling/dispatcher.ts';
import { DispatchMetrics } from '#operator/scheduling/metrics.ts';
import type { ResourceSelection } from '#proto/selector/contract.ts';
import { Predicates } from '#proto/selector/predicate.ts';
import { persistentVolumeClaims, pods as podKind } from '#runtime/builtin.ts';
import type { Client, Informer, Manager, Source } from '#runtime/contracts.ts';
import type { Transport } from '#runtime/transport.ts';
import { mapped, owned } from '#runtime/sources.ts';
import { type ObjectKey, parseKey, type Stored } from '#runtime/types.ts';
import { type Admission, GridJobReconciler } from './controller.ts';
import { StatusMemory } from '../status-memory.ts';
import { below, stageOf } from './gates.ts';
import { Preemptor } from './preemptor.ts';

/** What the controllers of jobs take from the process they run in. */
export interface JobSetup {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly registry: Registry;
  /** Name of the Site of this cluster. */
  readonly siteName: string;
  /** Finds nodes and has them promise resources. */
  readonly selection: ResourceSelection;
  readonly surroundings: Surroundings;
  readonly taskLogs: TaskLogs;
  readonly transport: Transport;
  /** The ways to other sites, and the door for them. */
  readonly peers: Pick<
    SitesSetup,
    'channels' | 'services' | 'namespace' | 'shared' | 'members' | 'volumes' | 'access' | 'audit'
  >;
  readonly admission: (job: Stored<GridJob>) => Admission;
  /** Why a member may not reserve now; undefined when they may. */
  readonly reservationAdmission: ReservationAdmission;
  /** Whether a member is in one of these groups of the virtual organization of the namespace. */
  readonly isInGroup: (namespace: string, userName: string | undefined, groups: readonly string[]) => boolean;
  /** Further reasons to look at jobs again, for example changes of members. */
  readonly sources?: readonly Source[];
}

/** Jobs looked at, and Executions carried out, at the same time. */
const concurrency = 32;

/** Adds the controllers of GridJobs and Executions, and what finds nodes for them, to a manager. */
export function addJobControllers(manager: Manager, setup: JobSetup): void {
  const { clock, random, log, registry, siteName, selection, surroundings, admission } = setup;
  const jobs = manager.informer(gridJobs);
  const parts = manager.informer(executions);
  const pods = manager.informer(podKind, { labelSelector: podLabels.execution });
  const predicates = new Predicates(clock);
  const partStatuses = new StatusMemory<Execution>();
  const keeper = new LogKeeper({
    ...{ client: manager.client, taskLogs: setup.taskLogs, clock, log: log.with({ part: 'kept-logs' }) },
  });
  const work = addSitesWork(manager, {
    ...{ clock, log, transport: setup.transport, ...setup.peers, selection, keeper, siteName },
    nodeExists: (name) => surroundings.nodeExists(name),
  });
  const reserved = addReservationController(manager, {
    ...{ ...setup, predicates, pods, executions: parts, selection: work.selection },
  });
  const dispatcher = new Dispatcher({
    ...{ selection: work.selection, predicates, clock, random },
    log: log.with({ controller: 'dispatcher' }),
    metrics: new DispatchMetrics(registry),
    holder: siteName,
    reserved: (virtualOrganization, name) => reserved.nodesOf(virtualOrganization, name),
  });
  manager.addRunnable(dispatcher);
  const family = indexFamilies(jobs);
  const preemptor = new Preemptor({
    ...{ jobs, executions: parts, pods, client: manager.client, events: manager.events, selection, clock, random },
    log: log.with({ controller: 'preemptor' }),
  });
  manager.addController({
    name: 'gridjob',
    primary: jobs,
    reconciler: new GridJobReconciler({
      ...{ jobs, executions: parts, client: manager.client, events: manager.events, clock, dispatcher, predicates },
      preemptor,
      partStatuses,
      ...{ admission, siteName, reservations: reserved.reservations },
      hasLiveBelow: (job) => below(job, family.childrenOf).some((each) => !stageOf(each).ended),
      isSharedWith: ({ metadata, spec }, userName) =>
        userName !== undefined &&
        (spec.owner === userName ||
          spec.sharedWith.members.includes(userName) ||
          setup.isInGroup(metadata.namespace ?? '', userName, spec.sharedWith.groups)),
      log: log.with({ controller: 'gridjob' }),
      sitesWithVolumes: (namespace, names) => setup.peers.volumes.sitesWith(namespace, names),
      missingVolumes: async (job, signal) => missingVolumes(manager.client, job, signal),
    }),
    sources: [
      owned(gridJobs, parts),
      answersOf(dispatcher),
      heldStatusesOf(partStatuses),
      family.source,
      usersOf(jobs, reserved.reservations),
      ...(setup.sources ?? []),
    ],
    concurrency,
    changed: (after, before) =>
      after.metadata.generation !== before.metadata.generation ||
      after.status?.startTime !== before.status?.startTime ||
      after.status?.completionTime !== before.status?.completionTime,
  });
  addExecutionController(manager, {
    ...{ clock, log, siteName, surroundings, keeper, executions: parts, pods, concurrency },
    statuses: partStatuses,
    elsewhere: (execution, task, known) => work.away.findingOf(execution, task, known),
    mayWorkFor: async (home, signal) => work.leases.isHeld(home, signal),
    sources: [work.away.source],
    hasGivenWay: (execution, task) => preemptor.hasGivenWay(execution, task),
    freed: (count) => dispatcher.nudge(count),
  });
}

function answersOf(dispatcher: Dispatcher): Source {
  return {
    name: 'nodes-found',
    synced: async () => Promise.resolve(),
    attach: (enqueue) => dispatcher.onAnswer((key) => enqueue(parseKey(key), false)),
  };
}

/** What is known of the part of a job wakes it before it is written. */
function heldStatusesOf(statuses: StatusMemory<Execution>): Source {
  return {
    name: 'held-statuses',
    synced: async () => Promise.resolve(),
    attach: (enqueue) =>
      statuses.onHeld(({ metadata: { namespace }, spec: { gridJob } }) => {
        enqueue({ namespace, name: gridJob.name }, false);
      }),
  };
}

const byReservationName = 'reservation';

/** A change of a reservation wakes the jobs that use it. */
function usersOf(jobs: Informer<GridJob>, reservations: Informer<Reservation>): Source {
  const keyIn = (namespace: string | undefined, name: string): string => `${namespace ?? ''}/${name}`;
  jobs.addIndex(byReservationName, ({ metadata, spec }) =>
    spec.reservation === undefined ? [] : [keyIn(metadata.namespace, spec.reservation)],
  );
  return mapped(reservations, ({ metadata }): ObjectKey[] =>
    jobs
      .byIndex(byReservationName, keyIn(metadata.namespace, metadata.name))
      .map(({ metadata: { namespace, name } }) => ({ namespace, name })),
  );
}

const byDependency = 'dependency';
const byParent = 'parent';

/** Who is whose child, and that a change of a job wakes those that depend on it and all below it: those between may have ended and be silent. */
function indexFamilies(jobs: Informer<GridJob>): {
  readonly source: Source;
  readonly childrenOf: (job: Stored<GridJob>) => Stored<GridJob>[];
} {
  const inNamespace = (job: Stored<GridJob>, name: string): string => `${job.metadata.namespace ?? ''}/${name}`;
  jobs.addIndex(byDependency, (job) => job.spec.dependsOn.map(({ job: name }) => inNamespace(job, name)));
  jobs.addIndex(byParent, (job) => (job.spec.parent === undefined ? [] : [inNamespace(job, job.spec.parent.job)]));
  const childrenOf = (job: Stored<GridJob>): Stored<GridJob>[] =>
    jobs.byIndex(byParent, inNamespace(job, job.metadata.name));
  const source = mapped(jobs, (job): ObjectKey[] => {
    const dependents = jobs.byIndex(byDependency, inNamespace(job, job.metadata.name));
    return [...dependents, ...below(job, childrenOf)].map(({ metadata: { namespace, name } }) => ({ namespace, name }));
  });
  return { source, childrenOf };
}

/** Which volumes of a job are not there or not bound yet, with what to do. */
async function missingVolumes(client: Client, job: Stored<GridJob>, signal: AbortSignal): Promise<string[]> {
  const { namespace } = job.metadata;
  const names = [...new Set(job.spec.volumes.map(({ volume }) => volume))];
  const found = await Promise.all(
    names.map(async (name) => client.of(persistentVolumeClaims).find({ namespace, name }, { signal })),
  );
  return names.flatMap((name, index) => {
    const claim = found[index];
    if (claim === undefined) return [`${name} does not exist: make a Volume or a PersistentVolumeClaim of this name`];
    if (claim.status?.phase === 'Lost') return [`${name} has lost its volume`];
    return [];
  });
}

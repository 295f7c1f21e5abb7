import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import type { Registry } from '#common/metrics.ts';
import type { Random } from '#common/random.ts';
import { executions } from '#crds/execution.ts';
import { type GridJob, gridJobs } from '#crds/grid-job.ts';
import { addExecutionController } from '#operator/controllers/execution/setup.ts';
import type { Surroundings } from '#operator/controllers/execution/surroundings.ts';
import { Dispatcher } from '#operator/scheduling/dispatcher.ts';
import { DispatchMetrics } from '#operator/scheduling/metrics.ts';
import type { ResourceSelection } from '#proto/selector/contract.ts';
import { Predicates } from '#proto/selector/predicate.ts';
import { persistentVolumeClaims } from '#runtime/builtin.ts';
import type { Client, Informer, Manager, Source } from '#runtime/contracts.ts';
import { mapped, owned } from '#runtime/sources.ts';
import { type ObjectKey, parseKey, type Stored } from '#runtime/types.ts';
import { type Admission, GridJobReconciler } from './controller.ts';

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
  readonly admission: (job: Stored<GridJob>) => Admission;
  /** Further reasons to look at jobs again, for example changes of members. */
  readonly sources?: readonly Source[];
}

/** Jobs looked at, and Executions carried out, at the same time. */
const concurrency = 16;

/** Adds the controllers of GridJobs and Executions, and what finds nodes for them, to a manager. */
export function addJobControllers(manager: Manager, setup: JobSetup): void {
  const { clock, random, log, registry, siteName, selection, surroundings, admission } = setup;
  const jobs = manager.informer(gridJobs);
  const parts = manager.informer(executions);
  const predicates = new Predicates(clock);
  const dispatcher = new Dispatcher({
    ...{ selection, predicates, clock, random },
    log: log.with({ controller: 'dispatcher' }),
    metrics: new DispatchMetrics(registry),
    holder: siteName,
  });
  manager.addRunnable(dispatcher);
  manager.addController({
    name: 'gridjob',
    primary: jobs,
    reconciler: new GridJobReconciler({
      ...{ jobs, executions: parts, client: manager.client, events: manager.events, clock, dispatcher, predicates },
      ...{ admission, siteName },
      log: log.with({ controller: 'gridjob' }),
      missingVolumes: async (job, signal) => missingVolumes(manager.client, job, signal),
    }),
    sources: [owned(gridJobs, parts), answersOf(dispatcher), relativesOf(jobs), ...(setup.sources ?? [])],
    concurrency,
    changed: (after, before) =>
      after.metadata.generation !== before.metadata.generation ||
      after.status?.startTime !== before.status?.startTime ||
      after.status?.completionTime !== before.status?.completionTime,
  });
  addExecutionController(manager, {
    ...{ clock, log, siteName, surroundings, executions: parts, concurrency },
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

const byDependency = 'dependency';
const byParent = 'parent';

/** A change of a job wakes those that depend on it, and its children. */
function relativesOf(jobs: Informer<GridJob>): Source {
  const inNamespace = (job: Stored<GridJob>, name: string): string => `${job.metadata.namespace ?? ''}/${name}`;
  jobs.addIndex(byDependency, (job) => job.spec.dependsOn.map(({ job: name }) => inNamespace(job, name)));
  jobs.addIndex(byParent, (job) => (job.spec.parent === undefined ? [] : [inNamespace(job, job.spec.parent.job)]));
  return mapped(jobs, (job): ObjectKey[] => {
    const key = inNamespace(job, job.metadata.name);
    const related = [...jobs.byIndex(byDependency, key), ...jobs.byIndex(byParent, key)];
    return related.map(({ metadata: { namespace, name } }) => ({ namespace, name }));
  });
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

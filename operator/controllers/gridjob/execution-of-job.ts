/** The Execution that a job asks for, and what its tasks may take. Pure. */
import type { Execution } from '#crds/execution.ts';
import { type GridJob, gridJobs } from '#crds/grid-job.ts';
import { endMarginSeconds } from '#operator/controllers/execution/pod.ts';
import { controllerReference } from '#runtime/kind.ts';
import type { Stored } from '#runtime/types.ts';

/** Between the promise of a node and the start of the task: pulling its image, say. Nodes reckon with it where a job has a deadline. */
const startSecondsMax = 120;

/** How long a task can last at most: until the deadline of its job, with the time that it takes to start and to end. */
export function lastsMs({ spec: { deadlineSeconds, template } }: GridJob): number | undefined {
  if (deadlineSeconds === undefined) return undefined;
  return 1000 * (deadlineSeconds + startSecondsMax + template.terminationGraceSeconds + endMarginSeconds);
}

/** The signal of a job, as its Execution has it. */
export function signalOf({ spec }: GridJob): Pick<Execution['spec'], 'signal'> {
  return spec.signal === undefined ? {} : { signal: spec.signal };
}

/** Whether the Execution does not know the signal of its job yet. */
export function needsSignal({ spec }: GridJob, execution: Execution): boolean {
  return spec.signal !== undefined && (execution.spec.signal?.sequence ?? 0) < spec.signal.sequence;
}

/** The first Execution of a job. @param parts - what is placed. */
export function newExecution(
  job: Stored<GridJob>,
  site: string,
  parts: Pick<Execution['spec'], 'placements' | 'failures'>,
): Execution {
  const { metadata, spec } = job;
  const { template, volumes, stdin, stdout, stderr, interactive, tasks, preemptible, keepLogs, owner = '' } = spec;
  return {
    apiVersion: 'xtreemos.io/v1alpha1',
    kind: 'Execution',
    metadata: {
      name: metadata.name,
      namespace: metadata.namespace,
      ownerReferences: [controllerReference(gridJobs, job)],
    },
    spec: {
      gridJob: { name: metadata.name, uid: metadata.uid, site },
      ...{ owner, taskCount: tasks.count, template, volumes, interactive, preemptible, keepLogs, isClosed: false },
      gridAccess: spec.gridAccess,
      ...(stdin === undefined ? {} : { stdin }),
      ...(stdout === undefined ? {} : { stdout }),
      ...(stderr === undefined ? {} : { stderr }),
      ...signalOf(job),
      ...parts,
    },
  };
}

/** Placement at these sites, as far as the job may run there. */
export function atSites(
  { spec: { placement } }: GridJob,
  sites: readonly string[],
): NonNullable<GridJob['spec']['placement']['sites']> {
  const { in: wanted, notIn } = placement.sites ?? {};
  return {
    in: sites.filter((site) => wanted?.includes(site) !== false),
    ...(notIn === undefined ? {} : { notIn }),
  };
}

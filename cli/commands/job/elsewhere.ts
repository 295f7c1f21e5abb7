/** Tasks that run at other sites: their pods are there, and are reached through the gateway. */
import type { GridJob } from '#crds/grid-job.ts';
import type { TaskPod } from '../../api/job-api.ts';

/** What tells runs of tasks apart. */
export function runOf({ index, run }: Pick<TaskPod, 'index' | 'run'>): string {
  return `${index}.${run}`;
}

/** The tasks of a job that run, and whose pods are not among those here. */
export function tasksElsewhere({ metadata, status }: GridJob, pods: readonly TaskPod[]): TaskPod[] {
  const here = new Set(pods.map(runOf));
  return (status?.tasks?.rows ?? []).flatMap(({ index, run, site, pod: name, state, node, startTime }) =>
    state !== 'Running' ||
    run === undefined ||
    site === undefined ||
    name === undefined ||
    here.has(runOf({ index, run }))
      ? []
      : [{ ...{ name, job: metadata.name, index, run, site, node, startTime }, hasStarted: true, isRunning: true }],
  );
}

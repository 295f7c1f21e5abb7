/** Tasks that run at other sites: their pods are there, and so are `exec` and the logs until they have ended. */
import type { GridJob } from '#crds/grid-job.ts';
import type { JobApi, TaskPod } from '../../api/job-api.ts';
import { CommandError } from '../../frame/exit.ts';
import type { Context } from '../../frame/context.ts';
import { runOf } from './follow.ts';

/** A task with a pod at another site. */
export interface TaskElsewhere {
  readonly index: number;
  readonly site: string;
  readonly pod: string;
}

/** The tasks of a job that run, and whose pods are not among those here. */
export function tasksElsewhere({ status }: GridJob, pods: readonly TaskPod[]): TaskElsewhere[] {
  const here = new Set(pods.map(runOf));
  return (status?.tasks?.rows ?? []).flatMap(({ index, run = '', site, pod, state }) =>
    state !== 'Running' || site === undefined || pod === undefined || here.has(runOf({ index, run }))
      ? []
      : [{ index, site, pod }],
  );
}

/** Why nothing can be done here with a task elsewhere, and what to do there. @param kubectl - words, `POD` for its pod. */
export function notHere(
  { program }: Context,
  { namespace }: JobApi,
  job: GridJob,
  { index, site, pod }: TaskElsewhere,
  { what, kubectl }: { readonly what: string; readonly kubectl: string },
): CommandError {
  const words = `kubectl -n ${namespace} ${kubectl.replace('POD', pod)}`;
  return new CommandError(
    'notFound',
    `Task ${index} of ${job.metadata.name} runs at site ${site}: ${what}`,
    `You are the same user there: after ${program} login at ${site}, ${words}`,
  );
}

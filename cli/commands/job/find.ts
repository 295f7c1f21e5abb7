import type { GridJob } from '#crds/grid-job.ts';
import type { Stored } from '#runtime/types.ts';
import type { JobApi } from '../../api/job-api.ts';
import { getOrExplain } from '../../api/organizations.ts';

/** A job by its name. @throws {CommandError} naming those there are. */
export async function findJob(
  { jobs, namespace }: Pick<JobApi, 'jobs' | 'namespace'>,
  name: string,
  signal: AbortSignal,
): Promise<Stored<GridJob>> {
  return getOrExplain(jobs, { name, namespace }, 'job', signal);
}

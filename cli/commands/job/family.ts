/** Jobs that were submitted from within a job. */
import type { GridJob } from '#crds/grid-job.ts';
import type { Stored } from '#runtime/types.ts';
import type { JobApi } from '../../api/job-api.ts';
import { treeOf } from './printing.ts';
import { hasEnded } from './state.ts';

/** A job and those below it, at any depth, that have not ended. */
export async function liveFamily(
  { jobs, namespace }: Pick<JobApi, 'jobs' | 'namespace'>,
  uid: string | undefined,
  signal: AbortSignal,
): Promise<Stored<GridJob>[]> {
  const { items } = await jobs.list({ namespace, signal });
  const byUid = new Map(items.map((job) => [job.metadata.uid, job]));
  const rows = treeOf(items);
  const at = rows.findIndex(({ job }) => job.metadata.uid === uid);
  const depth = rows[at]?.depth ?? 0;
  const end = rows.findIndex((row, index) => index > at && row.depth <= depth);
  const family = at < 0 ? [] : rows.slice(at, end < 0 ? undefined : end);
  return family.flatMap(({ job }) => byUid.get(job.metadata.uid ?? '') ?? []).filter((job) => !hasEnded(job));
}

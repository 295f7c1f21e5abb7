import type { GridJob } from '#crds/grid-job.ts';
import { conditionOf } from '../../api/waiting.ts';
import type { Printing } from '../../output/print.ts';
import type { Column } from '../../output/table.ts';
import { formatAge } from '../../output/times.ts';

/** How jobs are printed; the columns are those of `kubectl get gj`. */
export function jobPrinting(nowMs: number, isFull = false): Printing<GridJob> {
  const columns: Column<GridJob>[] = [
    { name: 'job', value: ({ metadata }) => metadata.name },
    { name: 'owner', value: ({ spec }) => spec.owner },
    { name: 'state', value: ({ status }) => status?.state ?? 'Submitted' },
    { name: 'tasks', value: ({ spec }) => spec.tasks.count },
    { name: 'running', value: ({ status }) => status?.tasks?.running },
    { name: 'done', value: ({ status }) => status?.tasks?.succeeded },
    { name: 'failed', isWide: true, value: ({ status }) => status?.tasks?.failed },
    { name: 'exit', value: ({ status }) => status?.exitCode },
    { name: 'reason', isWide: true, value: (job) => conditionOf(job, 'Matched')?.reason },
    { name: 'nodes', isWide: true, value: nodesOf },
    { name: 'age', value: ({ metadata }) => formatAge(metadata.creationTimestamp, nowMs) },
    ...(isFull ? [{ name: 'command', value: commandOf }] : []),
  ];
  return { resource: 'gridjob.xtreemos.io', columns };
}

/** What a job runs, on one line. */
export function commandOf({ spec: { template } }: GridJob): string {
  const words = [...template.command, ...template.args];
  return words.length === 0 ? template.image : words.join(' ');
}

function nodesOf({ status }: GridJob): string {
  const nodes = new Set(status?.tasks?.rows.flatMap(({ node }) => node ?? []));
  return [...nodes].sort().join(',');
}

/** A job and how deep it is in the tree of jobs. */
export interface TreeRow {
  readonly job: GridJob;
  readonly depth: number;
}

/** Jobs with their children below them, the oldest first. A child whose parent is not shown stands on its own. */
export function treeOf(jobs: readonly GridJob[]): TreeRow[] {
  const sorted = [...jobs].sort((a, b) => createdAt(a) - createdAt(b) || (a.metadata.name < b.metadata.name ? -1 : 1));
  const uids = new Set(jobs.map(({ metadata }) => metadata.uid));
  const children = Map.groupBy(sorted, ({ spec }) => (uids.has(spec.parent?.uid) ? spec.parent?.uid : undefined));
  const rows: TreeRow[] = [];
  const below = (uid: string | undefined, depth: number): void => {
    for (const job of children.get(uid) ?? []) {
      rows.push({ job, depth });
      if (job.metadata.uid !== undefined) below(job.metadata.uid, depth + 1);
    }
  };
  below(undefined, 0);
  return rows;
}

function createdAt({ metadata }: GridJob): number {
  return Date.parse(metadata.creationTimestamp ?? '');
}

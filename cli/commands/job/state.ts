/** Where a job stands, in words and as an exit status. Pure. */
import type { GridJob } from '#crds/grid-job.ts';
import { conditionOf } from '../../api/waiting.ts';

/** Exit statuses of shells for what a signal ended: 128 and its number. */
const signalStatuses: Readonly<Record<string, number>> = { TERM: 143, KILL: 137 };

/** Whether nothing of the job will run any more. */
export function hasEnded({ status }: GridJob): boolean {
  return ['Succeeded', 'Failed', 'Killed'].includes(status?.state ?? '');
}

/** The exit status that stands for a job that has ended. */
export function exitStatusOf({ spec, status }: GridJob): number {
  if (status?.state === 'Succeeded') return 0;
  if ((status?.exitCode ?? 0) !== 0) return status?.exitCode ?? 1;
  if (status?.state === 'Killed') return signalStatuses[spec.signal?.name ?? ''] ?? 143;
  return 1;
}

/** The state of a job in a few words, with what it waits for. */
export function stateLine(job: GridJob): string {
  const state = job.status?.state;
  if (state === undefined) return 'submitted';
  if (state === 'Waiting') {
    const [first] = job.status?.waiting ?? [];
    if (first !== undefined) return `waiting: ${first.reason} (${first.nodes} ${first.nodes === 1 ? 'node' : 'nodes'})`;
    const matched = conditionOf(job, 'Matched');
    const accepted = conditionOf(job, 'Accepted');
    const why = accepted?.status === 'False' ? accepted : matched;
    return why === undefined || why.message === '' ? 'waiting' : `waiting: ${why.message}`;
  }
  const { running = 0, starting = 0 } = job.status?.tasks ?? {};
  if (state === 'Running') return starting > 0 && running === 0 ? 'starting' : 'running';
  return state.toLowerCase();
}

/** How a job ended that did not succeed; empty when it did. What its tasks said is in their logs. */
export function endLine({ metadata, spec, status }: GridJob): string {
  if (status?.state === 'Succeeded') return '';
  const failed = status?.tasks?.failed ?? 0;
  const exit = (status?.exitCode ?? 0) === 0 ? '' : ` with exit status ${status?.exitCode ?? 1}`;
  if (status?.state === 'Failed' && exit !== '') {
    const which = spec.tasks.count === 1 ? '' : `: ${failed} of ${spec.tasks.count} tasks failed, the first`;
    return `${metadata.name} failed${which}${exit}`;
  }
  const summary = status?.conditions?.find(({ type }) => type === 'Succeeded')?.message ?? '';
  return `${metadata.name} ${(status?.state ?? 'ended').toLowerCase()}: ${summary.split('\n')[0] ?? ''}`;
}

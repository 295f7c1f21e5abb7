/** The events of a GridJob: one constructor each. */
import { gridJobs, type GridJob, type GridJobStatus } from '#crds/grid-job.ts';
import type { EventDraft } from '#runtime/contracts.ts';
import { referenceTo } from '#runtime/events.ts';
import type { Condition, Stored } from '#runtime/types.ts';
import { listed } from '../events.ts';

/** Tasks were placed on nodes. */
export function jobPlaced(job: Stored<GridJob>, tasks: number, nodes: readonly string[]): EventDraft {
  return {
    object: referenceTo(gridJobs, job),
    type: 'Normal',
    reason: 'Placed',
    action: 'Place',
    note: `${tasks === 1 ? 'A task was' : `${tasks} tasks were`} placed on ${listed(nodes)}.`,
    dedupeKey: 'placed',
  };
}

/** Tasks of lower priority were ended for the job. */
export function jobMadeRoom(job: Stored<GridJob>, tasks: number): EventDraft {
  return {
    object: referenceTo(gridJobs, job),
    type: 'Normal',
    reason: 'Preempting',
    action: 'Preempt',
    note: `${tasks === 1 ? 'A task' : `${tasks} tasks`} of lower priority gave way.`,
    dedupeKey: 'preempting',
  };
}

/** Tasks of the job were ended for one of higher priority, and start again later. */
export function jobGaveWay(job: Stored<GridJob>, tasks: number, to: Stored<GridJob>): EventDraft {
  return {
    object: referenceTo(gridJobs, job),
    type: 'Normal',
    reason: 'Preempted',
    action: 'Preempt',
    note: `${tasks === 1 ? 'A task' : `${tasks} tasks`} gave way to ${to.metadata.name}, whose priority is ${to.spec.priority}.`,
    dedupeKey: `preempted/${to.metadata.uid}`,
  };
}

/** The job has ended, one way or the other. */
export function jobEnded(job: Stored<GridJob>, status: GridJobStatus): EventDraft {
  const summary = status.conditions?.find(({ type }) => type === 'Succeeded');
  return {
    object: referenceTo(gridJobs, job),
    type: summary?.status === 'True' ? 'Normal' : 'Warning',
    reason: summary?.status === 'True' ? 'Succeeded' : (summary?.reason ?? 'Failed'),
    action: 'Finish',
    note: summary?.message ?? 'The job has ended.',
    dedupeKey: 'ended',
  };
}

/** The job may not run. */
export function jobRefused(job: Stored<GridJob>, accepted: Condition): EventDraft {
  return {
    object: referenceTo(gridJobs, job),
    type: 'Warning',
    reason: accepted.reason,
    action: 'Admit',
    note: accepted.message,
    dedupeKey: `refused/${accepted.reason}`,
  };
}

/** Room in a tree of jobs: taken before a job is made in it, so that submissions at the same time, at whatever replica, make no more than may be. */
import { randomUUID } from 'node:crypto';
import type { Clock } from '#common/clock.ts';
import { jobRoomPrefix, jobTreeBounds, jobTreeLabel } from '#crds/grid-access.ts';
import { type GridJob, gridJobs } from '#crds/grid-job.ts';
import type { Client } from '#runtime/contracts.ts';
import { ConflictError, ignoreNotFound, NotFoundError } from '#runtime/errors.ts';
import type { Stored } from '#runtime/types.ts';
import { Refusal } from '../refusal.ts';
import type { TaskCaller } from './task-callers.ts';
import { checkRoom, treeOf } from './tree.ts';

/** Longer than an API server works on a request: after this a job that was to be made is there, or never will be. */
const roomTtlMs = 120_000;
/** Writers of other replicas, and of the status of the first job, come between; those of this replica take turns. */
const attemptsMax = 10;
const pauseMs = 20;

/** Room for one job that is about to be made. */
export interface Room {
  /** The job is there, or will not be. Failing to say so is no harm: the room is free again later. */
  readonly giveBack: () => Promise<void>;
}

/**
 * Takes room in trees of jobs. The first job of a tree bears an annotation for each job that is about to be made in it, written only over the
 * version of the first job that was read before the tree was listed. So whoever comes later sees the job, or its annotation.
 */
export class TreeRooms {
  private readonly client: Client;
  private readonly clock: Clock;
  /** The last in line, by tree. */
  private readonly lines = new Map<string, Promise<unknown>>();

  constructor(client: Client, clock: Clock) {
    this.client = client;
    this.clock = clock;
  }

  /** Every job of the tree that the caller is in but the first, as the API server has it now. */
  async treeOf({ namespace, job }: TaskCaller, signal: AbortSignal): Promise<Stored<GridJob>[]> {
    const labelSelector = `${jobTreeLabel}=${treeOf(job)}`;
    const limit = jobTreeBounds.jobsMax + 1;
    return (await this.client.of(gridJobs).listPage({ namespace, labelSelector, limit, signal })).items;
  }

  /** @param name - of the job to be made. @throws {Refusal} when the tree is too deep or too large, or its first job is gone. */
  async take(caller: TaskCaller, name: string, signal: AbortSignal): Promise<Room> {
    const tree = treeOf(caller.job);
    const before = this.lines.get(tree);
    const turn = (async (): Promise<Room> => {
      await before?.catch(() => undefined);
      return this.takeInTurn(caller, name, signal);
    })();
    this.lines.set(tree, turn);
    try {
      return await turn;
    } finally {
      if (this.lines.get(tree) === turn) this.lines.delete(tree);
    }
  }

  private async takeInTurn(caller: TaskCaller, name: string, signal: AbortSignal): Promise<Room> {
    const { namespace, job } = caller;
    const key = `${jobRoomPrefix}${randomUUID().slice(0, 8)}`;
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const first = await this.firstOf(caller, signal);
      const listed = await this.treeOf(caller, signal);
      const now = this.clock.now();
      const entries = entriesOf(first);
      const over = entries.filter(({ untilMs }) => untilMs <= now).map(({ key: old }): [string, null] => [old, null]);
      const names = new Set(listed.map(({ metadata }) => metadata.name));
      const coming = entries.filter((entry) => entry.untilMs > now && entry.name !== name && !names.has(entry.name));
      checkRoom(listed, job, coming.length);
      const annotations = {
        ...Object.fromEntries<null>(over),
        [key]: `${new Date(now + roomTtlMs).toISOString()} ${name}`,
      };
      const { uid, resourceVersion } = first.metadata;
      const body = { metadata: { uid, resourceVersion, annotations } };
      const id = { namespace, name: first.metadata.name };
      try {
        await this.client.of(gridJobs).patch(id, { type: 'merge', body }, { signal });
        return { giveBack: async () => this.giveBack(id, uid, key) };
      } catch (error) {
        if (!(error instanceof ConflictError || error instanceof NotFoundError)) throw error;
        await this.clock.sleep(pauseMs * (attempt + 1), signal);
      }
    }
    throw new Refusal('Conflict', 'Many jobs are submitted in this tree at the same time: try again in a moment.', {
      reason: 'TreeBusy',
    });
  }

  /** The first job of the tree, read before anything is counted. */
  private async firstOf({ namespace, job }: TaskCaller, signal: AbortSignal): Promise<Stored<GridJob>> {
    let name: string | undefined = job.metadata.name;
    for (let depth = 0; depth <= jobTreeBounds.depthMax + 1 && name !== undefined; depth++) {
      const found: Stored<GridJob> | undefined = await this.client.of(gridJobs).find({ namespace, name }, { signal });
      if (found?.metadata.uid === treeOf(job)) return found;
      name = found?.spec.parent?.job;
    }
    throw new Refusal('Conflict', `The first job above ${job.metadata.name} is gone: what is submitted would end.`, {
      reason: 'ParentEnded',
    });
  }

  private async giveBack(id: { namespace: string; name: string }, uid: string, key: string): Promise<void> {
    const body = { metadata: { uid, annotations: { [key]: null } } };
    try {
      await ignoreNotFound(this.client.of(gridJobs).patch(id, { type: 'merge', body }));
    } catch {
      // It is over by itself in a while.
    }
  }
}

interface Entry {
  readonly key: string;
  readonly untilMs: number;
  /** Of the job that is about to be made. */
  readonly name: string;
}

function entriesOf({ metadata }: Stored<GridJob>): Entry[] {
  return Object.entries(metadata.annotations ?? {})
    .filter(([key]) => key.startsWith(jobRoomPrefix))
    .map(([key, value]) => {
      const [until = '', name = ''] = value.split(' ');
      return { key, untilMs: Date.parse(until) || Infinity, name };
    });
}

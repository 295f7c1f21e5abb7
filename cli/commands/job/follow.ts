/** Follows what the tasks of a job say until it has ended. */
import type { GridJob } from '#crds/grid-job.ts';
import type { Stored } from '#runtime/types.ts';
import type { LogRequest } from '#runtime/pod-streams.ts';
import type { JobApi, TaskPod } from '../../api/job-api.ts';
import { CommandError } from '../../frame/exit.ts';
import type { Context } from '../../frame/context.ts';
import { JobOutput } from '../../output/job-output.ts';
import { runOf, tasksElsewhere } from './elsewhere.ts';
import { hasEnded, stateLine } from './state.ts';

const pollMs = 500;
/** Logs that are read at the same time; the others follow when one has ended. */
const logsMax = 16;
/** A log whose connection broke is taken up again so often without a new byte in between. */
const attemptsMax = 5;

/** What of a job is followed. */
export interface FollowRequest extends Omit<LogRequest, 'follow'> {
  /** Indices of tasks; undefined for all. */
  readonly tasks: ReadonlySet<number> | undefined;
}

/** Whether lines need no index before them. */
export function isOneTask({ spec }: GridJob, tasks: ReadonlySet<number> | undefined): boolean {
  return spec.tasks.count === 1 || tasks?.size === 1;
}

/** Whether a connection broke off, here or between sites: a gateway that is restarted says so. */
function isBroken(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return (
    error.name === 'ConnectionError' ||
    (error.name === 'ServerError' && 'statusCode' in error && error.statusCode === 503)
  );
}

/** One job that is followed. */
export class Follower {
  private readonly context: Context;
  private readonly api: JobApi;
  private readonly request: FollowRequest;
  private readonly seen = new Set<string>();
  private readonly runs = new Set<string>();
  private readonly open = new Set<Promise<void>>();

  constructor(context: Context, api: JobApi, request: FollowRequest) {
    this.context = context;
    this.api = api;
    this.request = request;
  }

  /**
   * @param name - of the job.
   * @returns the job as it ended.
   * @throws {CommandError} when it is deleted meanwhile.
   */
  async untilEnd(name: string): Promise<Stored<GridJob>> {
    const { clock, signal, terminal } = this.context;
    const key = { name, namespace: this.api.namespace };
    for (;;) {
      const job = await this.api.jobs.find(key, { signal });
      if (job === undefined) throw new CommandError('notFound', `${name} was deleted while it was followed`);
      const isLast = hasEnded(job);
      const pods = await this.api.podsOf(name);
      const isAllRead = this.begin([...pods, ...tasksElsewhere(job, pods)], job);
      if (isLast && isAllRead) {
        await Promise.all(this.open);
        await this.printKept(job);
        return job;
      }
      if (this.open.size === 0) terminal.progress(`${name}: ${stateLine(job)}`);
      // Whichever comes first: a log that ends makes room for the next.
      await Promise.race([clock.sleep(pollMs, signal), ...this.open]);
      signal.throwIfAborted();
    }
  }

  /** Begins to read logs that are there and not read yet. @returns false when there was no room for all of them. */
  private begin(pods: readonly TaskPod[], job: GridJob): boolean {
    const { tasks } = this.request;
    const fresh = pods.filter(
      ({ name, index, hasStarted }) => hasStarted && !this.seen.has(name) && (tasks === undefined || tasks.has(index)),
    );
    const isOne = isOneTask(job, tasks);
    for (const pod of fresh) {
      if (this.open.size >= logsMax) return false;
      this.seen.add(pod.name);
      this.runs.add(runOf(pod));
      const reading = this.read(pod, isOne).finally(() => this.open.delete(reading));
      this.open.add(reading);
    }
    return true;
  }

  /** Runs whose pods were gone before their logs could be read. */
  private async printKept(job: GridJob): Promise<void> {
    const { tasks } = this.request;
    const isOne = isOneTask(job, tasks);
    for (const log of await this.api.keptLogsOf(job)) {
      if (this.runs.has(runOf(log)) || tasks?.has(log.index) === false) continue;
      const output = new JobOutput(this.context.terminal, isOne ? undefined : log.index);
      output.write(Buffer.from(log.text));
      output.end();
    }
  }

  private async read(pod: TaskPod, isOne: boolean): Promise<void> {
    const { signal, terminal } = this.context;
    const { index } = pod;
    const output = new JobOutput(terminal, isOne ? undefined : index);
    const { tailLines, timestamps } = this.request;
    let received = 0;
    try {
      for (let attempt = 0; ; attempt++) {
        let skip = received;
        const take = (chunk: Buffer): void => {
          const fresh = chunk.subarray(Math.min(skip, chunk.length));
          skip -= chunk.length - fresh.length;
          if (fresh.length === 0) return;
          received += fresh.length;
          attempt = 0;
          output.write(fresh);
        };
        try {
          await this.api.readLog(pod, { follow: true, tailLines, timestamps }, take, signal);
          return;
        } catch (error) {
          signal.throwIfAborted();
          // From its beginning a log can be taken up where it broke off; its last lines are others by then.
          if (!isBroken(error) || tailLines !== undefined || attempt >= attemptsMax) throw error;
          await this.context.clock.sleep(pollMs * 2 ** attempt, signal);
        }
      }
    } catch (error) {
      signal.throwIfAborted();
      // It has ended meanwhile, far away: what was kept of it comes when the job has ended.
      if (pod.site !== undefined && received === 0 && error instanceof Error && error.name === 'NotFoundError') {
        this.runs.delete(runOf(pod));
        return;
      }
      const said = error instanceof Error ? error.message : String(error);
      terminal.warn(`the log of task ${index} can not be read any more: ${said}`);
    } finally {
      output.end();
    }
  }
}

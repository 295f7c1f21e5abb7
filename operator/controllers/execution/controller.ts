import { tryAll } from '#common/parallel.ts';
import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { type Execution, executions, type ExecutionStatus } from '#crds/execution.ts';
import { type Pod, pods as podKind } from '#runtime/builtin.ts';
import { type Client, done, type Lister, type Reconciler, requeueAfter, type Result } from '#runtime/contracts.ts';
import { AlreadyExistsError, ForbiddenError, InvalidError, NotFoundError } from '#runtime/errors.ts';
import { isDeleting, keyOf, type ObjectKey, type Stored } from '#runtime/types.ts';
import { isSame } from '../status-change.ts';
import type { StatusMemory } from '../status-memory.ts';
import type { LogKeeper } from './log-keeper.ts';
import type { Surroundings } from './surroundings.ts';
import { isEnded, isRoutine, type Knowledge, type Observation, observe, quietStartMs } from './observe.ts';
import { type TaskRun, taskPod } from './pod.ts';
import { computeStatus } from './status.ts';

/** Index of pods by the Execution that they belong to, as `namespace/name`. */
export const byExecution = 'execution';

/** What the reconciler of Executions works with. */
export interface ExecutionParts {
  readonly executions: Lister<Execution>;
  readonly pods: Lister<Pod>;
  readonly client: Client;
  readonly clock: Clock;
  readonly log: Logger;
  readonly surroundings: Surroundings;
  readonly siteName: string;
  /** What is known of runs at other sites. */
  readonly elsewhere: Knowledge['elsewhere'];
  readonly hasGivenWay: Knowledge['hasGivenWay'];
  /** Whether a site may have work done here now. */
  readonly mayWorkFor: (home: string, signal: AbortSignal) => Promise<boolean>;
  readonly keeper: LogKeeper;
  /** Statuses that are newer than the cache. */
  readonly statuses: StatusMemory<Execution>;
  /** Tells that tasks of a job ended here, so that those who wait for room can be tried again. */
  readonly freed: (count: number) => void;
}

/** Pods made or deleted at the same time for one Execution, and in one go. */
const parallelMax = 16;
const batchMax = 500;
/** After a refusal by admission or quota, which may be mended from outside. */
const refusedRetryMs = 5_000;
/** Until the account of the member is there. */
const accountRetryMs = 250;
/** While the home of a part has not renewed its lease. */
const leaseRetryMs = 1_000;
/**
 * So long it is not written down that tasks start and run: their job is told by it at once, in this process, and another one sees it from their
 * pods. Many have ended by then, and are written once.
 */
const routineMs = 60_000;

/**
 * Carries out the part of a job that is placed on this site: makes a pod for each placed run, ends what should not run, and tells what
 * became of each run. A run has one pod, whose name follows from it, so that it is never there twice, whoever is killed when.
 */
export class ExecutionReconciler implements Reconciler {
  private readonly parts: ExecutionParts;

  constructor(parts: ExecutionParts) {
    this.parts = parts;
  }

  async reconcile(key: ObjectKey, signal: AbortSignal): Promise<Result> {
    const { surroundings, siteName, clock, elsewhere, hasGivenWay, statuses } = this.parts;
    const stored = this.parts.executions.get(key);
    if (stored === undefined || isDeleting(stored)) {
      statuses.forget(key);
      return done;
    }
    const execution = statuses.newest(stored);
    const nodeExists = (node: string): boolean => surroundings.nodeExists(node);
    const knowledge = { nodeExists, siteName, elsewhere, hasGivenWay };
    const observation = observe(execution, podsOf(this.parts.pods, execution), knowledge);
    await this.end(observation.surplus, execution, signal);
    const { refusal, retryMs } = await this.start(execution, observation.missing, signal);
    const now = clock.now();
    const isNews = refusal !== undefined || execution.spec.isClosed || execution.status?.conditions !== undefined;
    const quietMs = isNews ? 0 : quietStartMs(execution, [...observation.findings.values()], now);
    if (quietMs > 0) return requeueAfter(Math.min(quietMs, retryMs ?? quietMs));
    const status = computeStatus({ execution, observation, refusal, now });
    const waitMs = refusal === undefined ? this.writeInMs(stored, execution, observation, status) : 0;
    if (waitMs <= 0) await this.write(stored, status, signal);
    const requeueMs = Math.min(retryMs ?? Infinity, waitMs > 0 ? waitMs : Infinity);
    return requeueMs === Infinity ? done : requeueAfter(requeueMs);
  }

  /** How long a status may wait to be written. What tells only that tasks start and run is held, so that their job knows it meanwhile. */
  private writeInMs(
    stored: Stored<Execution>,
    known: Stored<Execution>,
    { findings, succeeded }: Observation,
    status: ExecutionStatus,
  ): number {
    const { statuses, clock } = this.parts;
    const now = clock.monotonic();
    const rows = [...findings.values()];
    if (isRoutine(stored, rows, succeeded)) {
      if (isSame(statuses.written(stored).status, status)) return 0;
      const since = isSame(known.status, status) ? statuses.heldSince(stored) : undefined;
      return (since ?? statuses.hold(stored, status, now)) + routineMs - now;
    }
    const { taskCount, isClosed } = stored.spec;
    return isClosed || rows.every(isEnded) ? 0 : statuses.pauseMs(stored, taskCount, now);
  }

  /** Makes the missing pods. @returns why the site refuses and when to try again, if it does. */
  private async start(
    execution: Stored<Execution>,
    missing: readonly TaskRun[],
    signal: AbortSignal,
  ): Promise<{ refusal: string | undefined; retryMs: number | undefined }> {
    if (missing.length === 0) return { refusal: undefined, retryMs: undefined };
    const { part, gridJob } = execution.spec;
    if (part !== undefined && !(await this.parts.mayWorkFor(gridJob.site, signal)))
      return { refusal: undefined, retryMs: leaseRetryMs };
    const around = await this.parts.surroundings.of(execution, signal);
    if (around.status === 'refused') return { refusal: around.reason, retryMs: refusedRetryMs };
    if (around.status === 'waiting') return { refusal: undefined, retryMs: accountRetryMs };
    const batch = missing.slice(0, batchMax);
    let refusal: string | undefined;
    await tryAll(batch, parallelMax, async (task) => {
      if (refusal !== undefined || signal.aborted) return;
      try {
        await this.parts.client
          .of(podKind)
          .create(taskPod(execution, task, around.surroundings, this.parts.clock.now()), { signal });
      } catch (error) {
        if (error instanceof AlreadyExistsError) return;
        if (!(error instanceof ForbiddenError || error instanceof InvalidError)) throw error;
        refusal = `The pod of task ${task.index} was refused: ${describeError(error).slice(0, 1000)}`;
      }
    });
    if (refusal !== undefined) {
      this.parts.log.warn('A pod was refused', { Execution: keyOf(execution), refusal });
      return { refusal, retryMs: refusedRetryMs };
    }
    return { refusal: undefined, retryMs: batch.length < missing.length ? 1 : undefined };
  }

  private async end(surplus: readonly Stored<Pod>[], execution: Stored<Execution>, signal: AbortSignal): Promise<void> {
    if (surplus.length === 0) return;
    const { keeper, log } = this.parts;
    await keeper.keep(execution, surplus, signal).catch((error: unknown) => {
      signal.throwIfAborted();
      log.warn('Logs were not kept before pods were ended', { Execution: keyOf(execution), error });
    });
    const isKilled = execution.spec.signal?.name === 'KILL';
    await tryAll(surplus.slice(0, batchMax), parallelMax, async ({ metadata }) => {
      const { namespace, name, uid } = metadata;
      const options = { preconditions: { uid }, signal, ...(isKilled ? { gracePeriodSeconds: 1 } : {}) };
      try {
        await this.parts.client.of(podKind).delete({ namespace, name }, options);
      } catch (error) {
        if (!(error instanceof NotFoundError)) throw error;
      }
    });
  }

  /** One write, only when something changed; an Execution that was deleted meanwhile needs none. */
  private async write(stored: Stored<Execution>, status: ExecutionStatus, signal: AbortSignal): Promise<void> {
    const { statuses, client, clock } = this.parts;
    const execution = statuses.written(stored);
    if (isSame(execution.status, status)) return;
    const { namespace, name, uid } = execution.metadata;
    const ended = (before: ExecutionStatus | undefined): number =>
      (before?.tasks?.succeeded ?? 0) + (before?.tasks?.failed ?? 0);
    statuses.writing(stored);
    try {
      const metadata = { namespace, name, uid };
      statuses.wrote(await client.of(executions).status.apply({ metadata, status }, { signal }), clock.monotonic());
    } catch (error) {
      if (error instanceof NotFoundError) return;
      throw error;
    }
    const freed = ended(status) - ended(execution.status);
    if (freed > 0) this.parts.freed(freed);
  }
}

/** The pods that belong to an Execution, and not to an earlier one of its name. */
export function podsOf(pods: Lister<Pod>, { metadata }: Stored<Execution>): Stored<Pod>[] {
  const named = pods.byIndex(byExecution, `${metadata.namespace ?? ''}/${metadata.name}`);
  return named.filter((pod) => pod.metadata.ownerReferences?.some(({ uid }) => uid === metadata.uid));
}

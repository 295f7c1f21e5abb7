import type { Clock } from '#common/clock.ts';
import type { Execution } from '#crds/execution.ts';
import { hasEnded, type Pod } from '#runtime/builtin.ts';
import { done, type Lister, type Reconciler, requeueAfter, type Result } from '#runtime/contracts.ts';
import { formatKey, isDeleting, type ObjectKey, type Stored } from '#runtime/types.ts';
import type { LogKeeper } from './log-keeper.ts';

/** What the reconciler of kept logs works with. */
export interface ExecutionLogParts {
  readonly executions: Lister<Execution>;
  /** The pods of an Execution. */
  readonly podsOf: (execution: Stored<Execution>) => readonly Stored<Pod>[];
  readonly keeper: LogKeeper;
  readonly clock: Clock;
}

/** Between writes for one Execution: tasks of an array that end together are written together. */
const pauseMs = 1_000;

/** Has the logs of tasks kept that have ended, or whose pods others have deleted. Nothing waits for it. */
export class ExecutionLogReconciler implements Reconciler {
  private readonly parts: ExecutionLogParts;
  private readonly lastAt = new Map<string, number>();

  constructor(parts: ExecutionLogParts) {
    this.parts = parts;
  }

  async reconcile(key: ObjectKey, signal: AbortSignal): Promise<Result> {
    const { executions, keeper, clock, podsOf } = this.parts;
    const execution = executions.get(key);
    const name = formatKey(key);
    if (execution === undefined || isDeleting(execution)) {
      keeper.forget(key);
      this.lastAt.delete(name);
      return done;
    }
    const pods = podsOf(execution).filter((pod) => hasEnded(pod) || isDeleting(pod));
    if (pods.length === 0) return done;
    const inMs = (this.lastAt.get(name) ?? -Infinity) + pauseMs - clock.monotonic();
    if (inMs > 0) return requeueAfter(inMs);
    if (await keeper.keep(execution, pods, signal)) this.lastAt.set(name, clock.monotonic());
    return done;
  }
}

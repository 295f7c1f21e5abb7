import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { type Execution, executions } from '#crds/execution.ts';
import type { Pod } from '#runtime/builtin.ts';
import type { Informer, Manager, Source } from '#runtime/contracts.ts';
import { owned } from '#runtime/sources.ts';
import { byExecution, ExecutionReconciler, podsOf } from './controller.ts';
import { podLabels } from '#crds/execution.ts';
import type { LogKeeper } from './log-keeper.ts';
import type { Knowledge } from './observe.ts';
import { ExecutionLogReconciler } from './logs-controller.ts';
import type { StatusMemory } from '../status-memory.ts';
import type { Surroundings } from './surroundings.ts';

/** What the controller of Executions takes from the process it runs in. */
export interface ExecutionSetup {
  readonly clock: Clock;
  readonly log: Logger;
  readonly siteName: string;
  readonly surroundings: Surroundings;
  readonly executions: Informer<Execution>;
  /** Pods of tasks. */
  readonly pods: Informer<Pod>;
  readonly concurrency: number;
  readonly keeper: LogKeeper;
  readonly statuses: StatusMemory<Execution>;
  /** What is known of runs at other sites, and what tells of changes there. */
  readonly elsewhere: Knowledge['elsewhere'];
  /** Whether a site may have work done here now. */
  readonly mayWorkFor: (home: string, signal: AbortSignal) => Promise<boolean>;
  readonly sources: readonly Source[];
  readonly hasGivenWay: Knowledge['hasGivenWay'];
  readonly freed: (count: number) => void;
}

/** Executions whose logs are read at the same time: in the background, so that it takes nothing from those that start. */
const logConcurrency = 4;

/** Adds the controller of Executions to a manager. */
export function addExecutionController(manager: Manager, setup: ExecutionSetup): void {
  const { concurrency, executions: primary, pods, log, keeper, sources, ...parts } = setup;
  const { client } = manager;
  pods.addIndex(byExecution, ({ metadata }) => [
    `${metadata.namespace ?? ''}/${metadata.labels?.[podLabels.execution] ?? ''}`,
  ]);
  manager.addController({
    name: 'execution',
    primary,
    reconciler: new ExecutionReconciler({
      ...parts,
      ...{ executions: primary, pods, client, keeper },
      log: log.with({ controller: 'execution' }),
    }),
    sources: [owned(executions, pods), ...sources],
    concurrency,
    changed: (after, before) => after.metadata.generation !== before.metadata.generation,
  });
  manager.addController({
    name: 'execution-logs',
    primary,
    reconciler: new ExecutionLogReconciler({
      ...{ executions: primary, keeper, clock: setup.clock },
      podsOf: (execution) => podsOf(pods, execution),
    }),
    sources: [owned(executions, pods)],
    concurrency: logConcurrency,
    // Deletion counts always, and all else is told by pods.
    changed: () => false,
  });
}

import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { type Execution, executions } from '#crds/execution.ts';
import type { Pod } from '#runtime/builtin.ts';
import type { Informer, Manager } from '#runtime/contracts.ts';
import { owned } from '#runtime/sources.ts';
import { byExecution, ExecutionReconciler } from './controller.ts';
import { podLabels } from '#crds/execution.ts';
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
  readonly freed: (count: number) => void;
}

/** Adds the controller of Executions to a manager. */
export function addExecutionController(manager: Manager, setup: ExecutionSetup): void {
  const { concurrency, executions: primary, pods, log, ...parts } = setup;
  pods.addIndex(byExecution, ({ metadata }) => [
    `${metadata.namespace ?? ''}/${metadata.labels?.[podLabels.execution] ?? ''}`,
  ]);
  manager.addController({
    name: 'execution',
    primary,
    reconciler: new ExecutionReconciler({
      ...parts,
      ...{ executions: primary, pods, client: manager.client },
      log: log.with({ controller: 'execution' }),
    }),
    sources: [owned(executions, pods)],
    concurrency,
    changed: (after, before) => after.metadata.generation !== before.metadata.generation,
  });
}

import { AsyncLocalStorage } from 'node:async_hooks';
import type { LogFields } from '#common/logger.ts';
import type { Priority } from './contracts.ts';

/** What everything done inside a reconcile can know of it. */
export interface ReconcileContext {
  /** What requests without a priority of their own get; undefined: the usual of each. */
  readonly priority: Priority | undefined;
  /** Fields for logs: `reconcileID`, controller and object. */
  readonly logFields: LogFields;
}

const storage = new AsyncLocalStorage<ReconcileContext>();

/** Runs one reconcile with its context around it. */
export async function runReconcile<T>(context: ReconcileContext, work: () => Promise<T>): Promise<T> {
  return storage.run(context, work);
}

/** The priority that the surrounding reconcile asks for, if any. */
export function inheritedPriority(): Priority | undefined {
  return storage.getStore()?.priority;
}

/** Fields that tie a log line to the running reconcile; none outside of one. For `logger.with(reconcileFields())`. */
export function reconcileFields(): LogFields {
  return storage.getStore()?.logFields ?? {};
}

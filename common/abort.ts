import { asError } from './errors.ts';

/** Resolves once a signal aborts; at once when it has. */
export async function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
}

/** Rejects with the reason of a signal once it aborts; at once when it has. */
export async function rejectedOnAbort(signal: AbortSignal): Promise<never> {
  await untilAborted(signal);
  throw asError(signal.reason);
}

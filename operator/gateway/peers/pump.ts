import { once } from 'node:events';
import type { Writable } from 'node:stream';

/**
 * Writes everything of a source, waiting whenever the other side doesn't keep up, and ends the sink. Stops quietly when the signal aborts, also while
 * the source has nothing.
 * @throws what the source throws.
 */
export async function pump(source: AsyncIterable<unknown>, sink: Writable, signal: AbortSignal): Promise<void> {
  const iterator = source[Symbol.asyncIterator]();
  for (;;) {
    const next = await unlessAborted(iterator.next(), signal);
    if (next === undefined || signal.aborted) {
      // A source that waits for something of its own can't be made to end; nobody waits for it.
      iterator.return?.().then(undefined, () => undefined);
      return;
    }
    if (next.done === true) break;
    if (!sink.write(next.value)) await once(sink, 'drain', { signal }).catch(() => undefined);
  }
  sink.end();
}

/** The value, or undefined as soon as the signal aborts. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => resolve(undefined);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

import type { Condition, KubeObject, ObjectKey, Stored } from '#runtime/types.ts';
import type { Context } from '../frame/context.ts';
import { CommandError } from '../frame/exit.ts';
import type { Objects } from './organizations.ts';

const pollMs = 300;

/** What is waited for. */
export interface Awaited<T extends KubeObject> {
  /** For progress, for example `physics to be Operational`. */
  readonly what: string;
  readonly timeoutMs: number;
  /** True once it is so; undefined stands for an object that is gone. */
  isDone(object: Stored<T> | undefined): boolean;
  /** Why it isn't so yet. */
  why(object: Stored<T> | undefined): string;
}

/**
 * Looks at an object until it is as wanted.
 * @throws {CommandError} with status 124 when the time is over; the message says what is still missing.
 */
export async function waitUntil<T extends KubeObject>(
  context: Context,
  objects: Pick<Objects<T>, 'find'>,
  key: ObjectKey,
  wanted: Awaited<T>,
): Promise<Stored<T> | undefined> {
  const { clock, signal, terminal } = context;
  const deadline = clock.monotonic() + wanted.timeoutMs;
  for (;;) {
    const object = await objects.find(key, { signal });
    if (wanted.isDone(object)) {
      terminal.clear();
      return object;
    }
    const why = wanted.why(object);
    terminal.progress(`Waiting for ${wanted.what}${why === '' ? '' : `: ${why}`}`);
    if (clock.monotonic() >= deadline) {
      const missing = why === '' ? '' : `: ${why}`;
      const remedy = 'The change itself was made. Wait longer with --timeout, or look again later.';
      throw new CommandError('timeout', `Still waiting for ${wanted.what}${missing}`, remedy);
    }
    await clock.sleep(pollMs, signal);
  }
}

interface Observed {
  readonly status?: { readonly observedGeneration?: number | undefined; readonly conditions?: Condition[] | undefined };
}

/** True when the status is about the spec as it stands. */
export function isObserved(object: KubeObject): boolean {
  const { status } = object as Observed;
  return (status?.observedGeneration ?? 0) >= (object.metadata.generation ?? 0);
}

/** A condition of the object by its type. */
export function conditionOf(object: KubeObject | undefined, type: string): Condition | undefined {
  return (object as Observed | undefined)?.status?.conditions?.find((condition) => condition.type === type);
}

/** Reason and message of a condition, as one text; empty when there is none. */
export function explain(object: KubeObject | undefined, type: string): string {
  const condition = conditionOf(object, type);
  if (condition === undefined) return 'the operator has not looked at it yet';
  return condition.message === '' ? condition.reason : `${condition.reason}: ${condition.message}`;
}

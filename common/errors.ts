import { inspect } from 'node:util';

/**
 * A failure that trying again can't mend: the user has to change something. It is shown to the user (condition,
 * exit message) and not retried until the object changes.
 */
export class TerminalError extends Error {
  override readonly name: string = 'TerminalError';
}

/** Input that isn't as it must be. Names the field, the value and the remedy. */
export class InvalidInputError extends TerminalError {
  override readonly name = 'InvalidInputError';
  readonly field: string;

  /**
   * @param field - path of the field as the user wrote it, for example `spec.tasks.count`.
   * @param problem - what is wrong with which value, for example `must be at most 10000, not 20000`.
   */
  constructor(field: string, problem: string, options?: ErrorOptions) {
    super(`${field}: ${problem}`, options);
    this.field = field;
  }
}

/** An invariant of our own doesn't hold: a bug. The process should end rather than go on with a broken state. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/** @throws {AssertionError} when `condition` is false. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** The message of anything thrown, with the messages of its causes, at most 8 deep. */
export function describeError(thrown: unknown): string {
  const parts: string[] = [];
  let current: unknown = thrown;
  for (let depth = 0; depth < 8 && current !== undefined && current !== null; depth++) {
    const message = textOf(current);
    if (parts.at(-1)?.includes(message) !== true) parts.push(message);
    current = typeof current === 'object' && 'cause' in current ? current.cause : undefined;
  }
  return parts.join(': ');
}

/** Anything thrown as an Error: itself, or one that says it. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

/** Told by shape: errors of another realm (a `vm` context, a worker) are no instances of this realm's Error. */
function textOf(thrown: unknown): string {
  if (typeof thrown === 'string') return thrown;
  if (typeof thrown === 'object' && thrown !== null && 'message' in thrown && typeof thrown.message === 'string') {
    if (thrown.message !== '') return thrown.message;
    if ('name' in thrown && typeof thrown.name === 'string') return thrown.name;
  }
  return inspect(thrown, { depth: 2, breakLength: Infinity });
}

/** The `code` of a Node.js system error such as `ENOENT`; undefined for anything else. Told by shape, as above. */
export function systemErrorCode(thrown: unknown): string | undefined {
  if (typeof thrown !== 'object' || thrown === null || !('code' in thrown)) return undefined;
  return typeof thrown.code === 'string' ? thrown.code : undefined;
}

/** What happens around every handler of a call of a peer, whatever carries it. */
import { describeError, InvalidInputError, TerminalError } from '#common/errors.ts';
import type { PeerBudget } from './budget.ts';
import { type PeerCaller, PeerError, type PeerMethod } from './contract.ts';

/** What a call stands on. */
export interface CallParts {
  readonly site: string;
  readonly budget: PeerBudget;
  readonly signal: AbortSignal;
  /** What only our own log is told. */
  readonly onFailure: (error: unknown) => void;
}

/** Answers a call of one message. @throws {PeerError} */
export async function serveAnswer(method: PeerMethod, request: unknown, parts: CallParts): Promise<unknown> {
  const leave = parts.budget.enter(parts.site);
  try {
    if (method.handle.kind !== 'answer') throw new PeerError('Unsupported', 'This method is a stream.');
    return await method.handle.answer(request, callerOf(parts));
  } catch (error) {
    throw refusalOf(error, parts);
  } finally {
    leave();
  }
}

/** Answers a stream. @throws {PeerError} */
export async function* serveStream(
  method: PeerMethod,
  requests: AsyncIterable<unknown>,
  parts: CallParts,
): AsyncIterableIterator<unknown> {
  const leave = parts.budget.enter(parts.site);
  try {
    if (method.handle.kind !== 'stream') throw new PeerError('Unsupported', 'This method is no stream.');
    yield* method.handle.stream(requests, callerOf(parts));
  } catch (error) {
    throw refusalOf(error, parts);
  } finally {
    leave();
  }
}

function callerOf({ site, budget, signal }: CallParts): PeerCaller {
  return { site, signal, charge: (virtualOrganization) => budget.charge(site, virtualOrganization) };
}

/** What the peer is told. What is our own trouble stays here. */
function refusalOf(error: unknown, { signal, onFailure }: CallParts): PeerError {
  if (error instanceof PeerError) return error;
  if (error instanceof InvalidInputError) return new PeerError('Invalid', error.message, { cause: error });
  if (error instanceof TerminalError) return new PeerError('Refused', error.message, { cause: error });
  if (signal.aborted) return new PeerError('Unreachable', 'The call was ended.', { cause: error });
  onFailure(error);
  const cause = new Error(describeError(error));
  return new PeerError('Failed', 'Something went wrong at the site: its log says what.', { cause });
}

/** What every request of a user has in common, whatever becomes of its connection. */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { describeError } from '#common/errors.ts';
import type { Principal } from '#common/identity/ids.ts';
import type { Logger } from '#common/logger.ts';
import { ApiError, ConnectionError } from '#runtime/errors.ts';
import type { RateLimiter } from './limits.ts';
import { Refusal } from './refusal.ts';

/** Many users may share an address behind a translator; a single one needs far less. */
export const addressRate = { perSecond: 100, burst: 200 };
export const principalRate = { perSecond: 20, burst: 100 };
/** What a request may take here, with calls to providers and to the API server. */
export const handleMs = 20_000;

/** What is known of one request while it is handled. */
export class Act {
  readonly id = randomUUID();
  readonly address: string;
  readonly on: Record<string, string> = {};
  who: Principal | string = 'anonymous';

  constructor(request: IncomingMessage) {
    this.address = (request.socket.remoteAddress ?? '').replace(/^::ffff:/, '');
  }
}

/** The token that a request brings. */
export function bearerOf({ headers }: IncomingMessage): string | undefined {
  return /^Bearer ([A-Za-z0-9._~+/=-]{1,16384})$/.exec(headers.authorization ?? '')?.[1];
}

/** @throws {Refusal} when somebody asks too often. */
export function throttle(limiter: RateLimiter, key: string): void {
  const seconds = limiter.take(key);
  if (seconds > 0)
    throw new Refusal('TooManyRequests', `Too many requests: wait ${seconds} s.`, { retryAfterSeconds: seconds });
}

/** What the user is told. What is our own trouble goes to the log. */
export function refusalOf(error: unknown, { id }: Act, log: Logger): Refusal {
  if (error instanceof Refusal) {
    if (error.status >= 500)
      log.warn('Gateway can not serve', { id, reason: error.reason, problem: describeError(error) });
    return error;
  }
  if (error instanceof ConnectionError || error instanceof ApiError || isAbort(error)) {
    log.warn('Gateway can not serve', { id, problem: describeError(error) });
    return new Refusal('Unavailable', 'The cluster does not answer as it should: try again.', { retryAfterSeconds: 2 });
  }
  log.error('Gateway request failed', { id, err: error });
  return new Refusal(
    'InternalError',
    `Something is wrong with the gateway: tell the owner of the site, with the number ${id}.`,
  );
}

/** The body of a refusal. */
export function refusalBody({ code, message, policy }: Refusal): { error: object } {
  return { error: { code, message, policy } };
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && (error.name === 'TimeoutError' || error.name === 'AbortError');
}

import type { ErrorCode } from '#common/identity/gateway-api.ts';

const statusOf: Readonly<Record<ErrorCode, number>> = {
  InvalidRequest: 400,
  NotFound: 404,
  MethodNotAllowed: 405,
  TooLarge: 413,
  Unauthenticated: 401,
  SessionEnded: 401,
  LoginExpired: 400,
  LoginRefused: 403,
  Forbidden: 403,
  AcceptableUseRequired: 403,
  Conflict: 409,
  TooManyRequests: 429,
  Unavailable: 503,
  InternalError: 500,
};

/** The gateway says no. The message goes to the user; it never quotes a credential. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly code: ErrorCode;
  /** Rule that refused, for example `site/acceptedVirtualOrganizations`. */
  readonly policy: string | undefined;
  /** CamelCase, for the audit log; default: the code. */
  readonly reason: string;
  readonly retryAfterSeconds: number | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    more: { policy?: string; reason?: string; retryAfterSeconds?: number; cause?: unknown } = {},
  ) {
    super(message, { cause: more.cause });
    this.code = code;
    this.policy = more.policy;
    this.reason = more.reason ?? code;
    this.retryAfterSeconds = more.retryAfterSeconds;
  }

  /** Status code of HTTP. */
  get status(): number {
    return statusOf[this.code];
  }
}

import type { Status, StatusDetails } from './types.ts';

/** What was attempted: part of every message. */
export interface RequestInfo {
  readonly method: string;
  readonly path: string;
}

/**
 * The API server refused a request, or couldn't serve it. Subclasses name the usual reasons; anything else is this
 * class itself with its `statusCode`.
 */
export class ApiError extends Error {
  override readonly name: string = 'ApiError';
  readonly statusCode: number;
  /** Machine-readable reason of the Status, for example `NotFound`; empty when the answer was no Status. */
  readonly reason: string;
  readonly details: StatusDetails;
  /** How long the server asks to wait, in milliseconds. */
  readonly retryAfterMs: number | undefined;

  constructor(request: RequestInfo, statusCode: number, status: Status, retryAfterMs?: number) {
    super(`${request.method} ${request.path}: ${status.message ?? `status ${statusCode}`}`);
    this.statusCode = statusCode;
    this.reason = status.reason ?? '';
    this.details = status.details ?? {};
    this.retryAfterMs = retryAfterMs;
  }
}

/** What an {@link ApiError} says without the request that it begins with: for those who made none themselves. */
export function withoutRequest(message: string): string {
  return message.replace(/^[A-Z]+ \/\S*: /, '');
}

/** 404: the object, namespace or kind isn't there. */
export class NotFoundError extends ApiError {
  override readonly name = 'NotFoundError';
}
/** 409 AlreadyExists: create of a name that is taken. */
export class AlreadyExistsError extends ApiError {
  override readonly name = 'AlreadyExistsError';
}
/** 409 Conflict: the object changed since it was read, or a field belongs to another manager. Read again and retry. */
export class ConflictError extends ApiError {
  override readonly name = 'ConflictError';
}
/** 410: the resource version or continue token is too old. */
export class GoneError extends ApiError {
  override readonly name = 'GoneError';
}
/** 422 (or 400): the object or request isn't valid; the same request fails again. */
export class InvalidError extends ApiError {
  override readonly name = 'InvalidError';
}
/** 401: the credentials are missing or not accepted. */
export class UnauthorizedError extends ApiError {
  override readonly name = 'UnauthorizedError';
}
/** 403: not allowed by authorization, admission or quota. */
export class ForbiddenError extends ApiError {
  override readonly name = 'ForbiddenError';
}
/** 429: the server sheds load, or an eviction would break a disruption budget. */
export class TooManyRequestsError extends ApiError {
  override readonly name = 'TooManyRequestsError';
}
/** 5xx: the server, or what stands behind it, couldn't serve the request now. */
export class ServerError extends ApiError {
  override readonly name = 'ServerError';
}

/** No answer: the connection failed, ended early or timed out. `cause` tells how. */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError';
  /** False when the request certainly never reached the server, so that repeating it is safe. */
  readonly maySent: boolean;

  constructor(request: RequestInfo, message: string, options: { maySent: boolean; cause?: unknown }) {
    super(`${request.method} ${request.path}: ${message}`, { cause: options.cause });
    this.maySent = options.maySent;
  }
}

/**
 * A write was stopped before it left this process, since the process isn't the leader (any more). Nothing was sent.
 */
export class FencedError extends Error {
  override readonly name = 'FencedError';
}

/** The error for an answer of 400 and above. */
export function apiError(request: RequestInfo, statusCode: number, status: Status, retryAfterMs?: number): ApiError {
  const type = classOf(statusCode, status.reason);
  return new type(request, statusCode, status, retryAfterMs);
}

/** What the server says in the body of a refusal, also where a proxy in between answers in its own words. */
export function statusOf(body: string): Status {
  try {
    const parsed: unknown = JSON.parse(body);
    if (typeof parsed === 'object' && parsed !== null && 'message' in parsed) return parsed as Status;
  } catch {
    // A proxy in between answers in its own words.
  }
  return { message: body.slice(0, 500).trim() };
}

function classOf(statusCode: number, reason: string | undefined): typeof ApiError {
  switch (statusCode) {
    case 400:
    case 422:
      return reason === 'Expired' ? GoneError : InvalidError;
    case 401:
      return UnauthorizedError;
    case 403:
      return ForbiddenError;
    case 404:
      return NotFoundError;
    case 409:
      return reason === 'AlreadyExists' ? AlreadyExistsError : ConflictError;
    case 410:
      return GoneError;
    case 429:
      return TooManyRequestsError;
    default:
      return statusCode >= 500 ? ServerError : ApiError;
  }
}

/** The value, or undefined when the promise fails with {@link NotFoundError}. */
export async function ignoreNotFound<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

/** Whether the API server refused or did not answer, so that trying again later may help; never for a lost lease. */
export function isServerTrouble(error: unknown): error is ApiError | ConnectionError {
  return !(error instanceof FencedError) && (error instanceof ApiError || error instanceof ConnectionError);
}

/** Reasons as gRPC statuses and back, in one place. */
import { status } from '@grpc/grpc-js';
import { PeerError, type PeerErrorReason } from './contract.ts';

const codes: Readonly<Partial<Record<PeerErrorReason, status>>> = {
  Unreachable: status.UNAVAILABLE,
  Refused: status.FAILED_PRECONDITION,
  NotFound: status.NOT_FOUND,
  Invalid: status.INVALID_ARGUMENT,
  Busy: status.RESOURCE_EXHAUSTED,
  Unsupported: status.UNIMPLEMENTED,
};
const reasons = new Map(Object.entries(codes).map(([reason, code]) => [code, reason as PeerErrorReason]));
/** What a peer says of a failure is cut here, characters. */
const detailsMax = 1000;

/** The failure as gRPC sends it. */
export function toStatus(error: unknown): Error & { code: status; details: string } {
  const code = error instanceof PeerError ? (codes[error.reason] ?? status.INTERNAL) : status.INTERNAL;
  const details = (error instanceof PeerError ? error.message : 'Something went wrong at the site.').slice(
    0,
    detailsMax,
  );
  return Object.assign(new Error(details), { code, details });
}

/** The failure of a call to a peer. What the peer says may hold anything: control characters are taken out. */
export function fromStatus(error: unknown, site: string): PeerError {
  if (error instanceof PeerError) return error;
  const { code, details } = error as { code?: status; details?: unknown };
  const text = (typeof details === 'string' ? details : String(error))
    .slice(0, detailsMax)
    .replaceAll(/[\p{Cc}\p{Cf}]/gu, ' ');
  const isAway = code === status.DEADLINE_EXCEEDED || code === status.CANCELLED;
  const reason = isAway ? 'Unreachable' : (reasons.get(code ?? status.UNKNOWN) ?? 'Failed');
  return new PeerError(reason, `Site ${site}: ${text}`, { cause: error });
}

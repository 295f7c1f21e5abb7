import { InvalidInputError } from '#common/errors.ts';
import type { HoldRequest, Span } from './contract.ts';
import { checkResources } from './resources.ts';

/** Longest time that a hold may last without being confirmed. */
export const holdTtlMaxMs = 300_000;

const textMax = 253;
const labelPattern = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const claimIdMax = 63;
const timeMaxMs = Date.UTC(9999, 11, 31);
/** `vo-` and the name make a namespace. */
const virtualOrganizationMax = 60;

/**
 * Refuses a hold that can never be granted as it is written.
 * @throws {InvalidInputError} naming the field.
 */
export function checkHoldRequest(request: HoldRequest): void {
  checkLabel('id', request.id, claimIdMax);
  checkLabel('virtualOrganization', request.virtualOrganization, virtualOrganizationMax);
  if (request.reservation !== undefined) checkLabel('reservation', request.reservation, claimIdMax);
  checkText('owner', request.owner);
  checkResources(request.demand, 'demand');
  const { ttlMs, span, ownerReference } = request;
  if (!(ttlMs >= 1 && ttlMs <= holdTtlMaxMs)) {
    throw new InvalidInputError('ttlMs', `must be 1 to ${holdTtlMaxMs}, not ${ttlMs}`);
  }
  if (span !== undefined) checkSpan(span);
  if (request.isReservation === true && (request.isPreemptible === true || request.reservation !== undefined)) {
    throw new InvalidInputError('isReservation', 'a reservation can neither give way nor draw from another');
  }
  if (request.isDraining === true && request.isReservation !== true) {
    throw new InvalidInputError('isDraining', 'only a reservation drains its place');
  }
  for (const [field, text] of Object.entries(ownerReference ?? {})) checkText(`ownerReference.${field}`, String(text));
}

function checkSpan({ startMs, endMs }: Span): void {
  if (!(startMs < endMs)) throw new InvalidInputError('span', `must end after it starts, not ${startMs} to ${endMs}`);
  for (const ms of endMs === Infinity ? [startMs] : [startMs, endMs]) {
    if (Number.isSafeInteger(ms) && ms >= 0 && ms <= timeMaxMs) continue;
    throw new InvalidInputError('span', `must be whole milliseconds up to the year 9999, not ${ms}`);
  }
}

function checkLabel(field: string, text: string, lengthMax: number): void {
  if (text.length <= lengthMax && labelPattern.test(text)) return;
  throw new InvalidInputError(
    field,
    `${JSON.stringify(text.slice(0, 80))} is no name: use 1 to ${lengthMax} lower-case letters, digits and hyphens`,
  );
}

function checkText(field: string, text: string): void {
  if (text.length >= 1 && text.length <= textMax) return;
  throw new InvalidInputError(field, `must have 1 to ${textMax} characters, not ${text.length}`);
}

/** Translates what job managers say and hear to and from the wire, refusing whatever exceeds the limits. */
import { InvalidInputError } from '#common/errors.ts';
import { checkAttributes, checkConstraints, type Attributes, type AttributeValue } from './attributes.ts';
import { queryLimits, type HoldRequest, type Occasion, type Offer, type Query, type Summary } from './contract.ts';
import type * as wire from './wire.ts';

/** Largest message that selectors send or take, bytes. */
export const messageBytesMax = 4 * 1024 * 1024;

/** Most different reasons that a summary counts. */
export const refusalsMax = 16;

const valuesMax = 64;
const idMax = 253;
const addressPattern = /^(\[[0-9a-fA-F:.]{2,45}\]|[a-zA-Z0-9.-]{1,253}):[0-9]{1,5}$/;

/** @returns the wire form of a query. */
export function encodeQuery(query: Query): wire.Query {
  const constraints = query.constraints.map(({ attribute, min, max, in: words, notIn }) => ({
    attribute,
    ...(min === undefined ? {} : { min }),
    ...(max === undefined ? {} : { max }),
    in: [...(words ?? [])],
    notIn: [...(notIn ?? [])],
  }));
  const { id, predicates, demand, virtualOrganization } = query;
  return {
    ...{ id, constraints, predicates: [...predicates], demand: { ...demand }, virtualOrganization },
    ...encodeOccasion(query),
  };
}

/** Times as 0 where they are left out: 0 is now, and without end. */
function encodeOccasion({ span, isPreemptible = false, isReservation = false }: Occasion): wire.Occasion {
  const { startMs = 0, endMs = Infinity } = span ?? {};
  return { startMs, endMs: endMs === Infinity ? 0 : endMs, isPreemptible, isReservation };
}

function decodeOccasion({ startMs, endMs, isPreemptible, isReservation }: wire.Occasion): Occasion {
  const span = { startMs, endMs: endMs === 0 ? Infinity : endMs };
  return { ...(startMs === 0 && endMs === 0 ? {} : { span }), isPreemptible, isReservation };
}

/** @throws {InvalidInputError} on a query beyond the limits. Predicates are compiled where they are evaluated. */
export function decodeQuery(query: wire.Query | null): Query {
  if (query === null) throw new InvalidInputError('query', 'is missing');
  const constraints = query.constraints.map(({ attribute, min, max, in: words, notIn }) => ({
    attribute,
    ...(min === undefined ? {} : { min }),
    ...(max === undefined ? {} : { max }),
    ...(words.length === 0 ? {} : { in: words }),
    ...(notIn.length === 0 ? {} : { notIn }),
  }));
  checkConstraints(constraints);
  if (query.predicates.length > queryLimits.predicates) {
    throw tooMany('predicates', queryLimits.predicates, query.predicates.length);
  }
  for (const predicate of query.predicates) {
    if (predicate.length > queryLimits.predicateLength) {
      throw tooMany('predicate characters', queryLimits.predicateLength, predicate.length);
    }
  }
  if (Object.keys(query.demand).length > queryLimits.demand)
    throw tooMany('demand', queryLimits.demand, Object.keys(query.demand).length);
  const { predicates, demand } = query;
  const id = short(query.id, 'id');
  return {
    id,
    constraints,
    predicates,
    demand,
    virtualOrganization: short(query.virtualOrganization, 'virtualOrganization'),
    ...decodeOccasion(query),
  };
}

/** @returns the wire form of an offer. */
export function encodeOffer({ site, node, address, incarnation, attributes, free, live }: Offer): wire.Offer {
  return {
    ...{ site, node, address, incarnation, attributes: encodeAttributes(attributes) },
    ...{ free: { ...free }, live: { ...live } },
  };
}

/** @throws {InvalidInputError} on an offer beyond the limits. */
export function decodeOffer(offer: wire.Offer): Offer {
  const attributes = decodeAttributes(offer.attributes);
  checkAttributes(attributes);
  const { incarnation, free, live } = offer;
  for (const [field, values] of Object.entries({ free, live })) {
    const count = Object.keys(values).length;
    if (count > valuesMax) throw tooMany(field, valuesMax, count);
  }
  const [site, node] = [nonEmpty(offer.site, 'site'), nonEmpty(offer.node, 'node')];
  const address = addressOf(offer.address, 'address');
  return { id: `${site}/${node}`, site, node, address, incarnation, attributes, free, live };
}

/** @returns the wire form of a hold. */
export function encodeHold(request: HoldRequest): wire.HoldRequest {
  const { id, owner, virtualOrganization, demand, ttlMs, ownerReference } = request;
  return {
    ...{ id, owner, virtualOrganization, demand: { ...demand }, ttlMs },
    ...encodeOccasion(request),
    reservation: request.reservation ?? '',
    isDraining: request.isDraining ?? false,
    ownerReference: ownerReference === undefined ? null : { ...ownerReference },
  };
}

/** Reads a hold; whether it can be granted as it is written, `checkHoldRequest` says. */
export function decodeHold(request: wire.HoldRequest): HoldRequest {
  const { id, owner, virtualOrganization, demand, ttlMs, isDraining } = request;
  return {
    ...{ id, owner, virtualOrganization, demand, ttlMs, isDraining },
    ...decodeOccasion(request),
    ...(request.reservation === '' ? {} : { reservation: request.reservation }),
    ...(request.ownerReference === null ? {} : { ownerReference: request.ownerReference }),
  };
}

/** @returns the wire form of what a query came to, without its offers. */
export function encodeSummary(outcome: Summary): wire.Summary {
  const { refusals, isExhausted, unreached, visited, falseVisits, hops } = outcome;
  return { refusals: { ...refusals }, isExhausted, unreached, visited, falseVisits, hops };
}

/** @throws {InvalidInputError} on too many reasons. */
export function decodeSummary(summary: wire.Summary | null): Summary {
  if (summary === null) throw new InvalidInputError('summary', 'is missing');
  const count = Object.keys(summary.refusals).length;
  if (count > refusalsMax) throw tooMany('refusals', refusalsMax, count);
  const refusals = Object.fromEntries(Object.entries(summary.refusals).map(([reason, n]) => [reason.slice(0, 400), n]));
  const { isExhausted, unreached, visited, falseVisits, hops } = summary;
  return { refusals, isExhausted, unreached, visited, falseVisits, hops };
}

/** @returns the wire form of attributes. */
export function encodeAttributes(attributes: Attributes): Record<string, wire.Value> {
  return Object.fromEntries(
    Object.entries(attributes).map(([name, value]) => [
      name,
      typeof value === 'number' ? { number: value } : { word: value },
    ]),
  );
}

/** Reads attributes; whether they are within the limits, `checkAttributes` says. */
export function decodeAttributes(attributes: Record<string, wire.Value>): Attributes {
  const decoded: [string, AttributeValue][] = Object.entries(attributes).map(([name, value]) => [
    name,
    value.number ?? value.word ?? '',
  ]);
  return Object.fromEntries(decoded);
}

/** @throws {InvalidInputError} unless it is `host:port`. */
export function addressOf(text: string, field: string): string {
  if (!addressPattern.test(text)) {
    throw new InvalidInputError(field, `${JSON.stringify(text.slice(0, 80))} is no address: write HOST:PORT`);
  }
  return text;
}

/** @throws {InvalidInputError} on an empty or long text. */
export function nonEmpty(text: string, field: string): string {
  if (text.length === 0) throw new InvalidInputError(field, 'must not be empty');
  return short(text, field);
}

/** @throws {InvalidInputError} on a text of more than 253 characters. */
export function short(text: string, field: string): string {
  if (text.length > idMax) throw tooMany(`${field} characters`, idMax, text.length);
  return text;
}

/** The refusal of a list or text that is too long. */
export function tooMany(field: string, limit: number, count: number): InvalidInputError {
  return new InvalidInputError(field, `at most ${limit}, not ${count}`);
}

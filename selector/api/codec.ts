import { InvalidInputError } from '#common/errors.ts';
import {
  checkAttributes,
  checkConstraints,
  type Attributes,
  type AttributeValue,
} from '#selector/overlay/attributes.ts';
import { axesMax, Borders, cutsPerAxis } from '#selector/overlay/borders.ts';
import { Profile, type Descriptor } from '#selector/overlay/descriptor.ts';
import { thresholdsPerAxis, type AverageState } from '#selector/overlay/distribution.ts';
import {
  messageLimits,
  type GossipMessage,
  type Message,
  type Offer,
  type Query,
  type QueryOutcome,
} from '#selector/overlay/messages.ts';
import type * as wire from './wire.ts';

const idMax = 253;
const addressPattern = /^(\[[0-9a-fA-F:.]{2,45}\]|[a-zA-Z0-9.-]{1,253}):[0-9]{1,5}$/;
const profilesMax = 4_096;
const kinds = {
  EXCHANGE: 'exchange',
  EXCHANGED: 'exchanged',
  FOUND: 'found',
  PING: 'ping',
  PONG: 'pong',
} as const;

/** Translates the overlay's messages to and from the wire, refusing whatever exceeds the limits. */
export class Codec {
  private readonly profiles = new Map<string, Profile>();

  /** @returns the wire form. */
  encode(message: Message): wire.Envelope {
    switch (message.type) {
      case 'ack':
        return { ack: { token: message.token } };
      case 'borders':
        return {
          borders: {
            borders: message.borders === undefined ? null : encodeBorders(message.borders),
            former: message.former === undefined ? null : encodeBorders(message.former),
            replyTo: message.replyTo,
          },
        };
      case 'query': {
        const { token, replyTo, bordersId, depth, budget, floor, remainingMs } = message;
        const query = encodeQuery(message.query);
        return {
          query: { token, replyTo, query, bordersId, depth, budget: Math.min(budget, 2 ** 32 - 1), floor, remainingMs },
        };
      }
      case 'done': {
        const { offers, ...summary } = message.outcome;
        const { token, refused } = message;
        return { done: { token, refused, offers: offers.map(encodeOffer), summary: encodeSummary(summary) } };
      }
      default:
        return { gossip: encodeGossip(message) };
    }
  }

  /** @throws {InvalidInputError} on a message that breaks a limit or lacks a part. */
  decode(envelope: wire.Envelope): Message {
    const { gossip, borders, query, ack, done } = envelope;
    if (gossip !== undefined) return this.decodeGossip(gossip);
    if (ack !== undefined) return { type: 'ack', token: ack.token };
    if (borders !== undefined) {
      return {
        type: 'borders',
        borders: borders.borders === null ? undefined : decodeBorders(borders.borders),
        former: borders.former === null ? undefined : decodeBorders(borders.former),
        replyTo: addressOf(borders.replyTo, 'replyTo'),
      };
    }
    if (query !== undefined) {
      return {
        type: 'query',
        token: query.token,
        replyTo: addressOf(query.replyTo, 'replyTo'),
        query: decodeQuery(query.query),
        bordersId: short(query.bordersId, 'bordersId'),
        depth: query.depth,
        budget: Math.max(1, query.budget),
        floor: Number.isNaN(query.floor) ? 0 : query.floor,
        remainingMs: Math.min(query.remainingMs, 120_000),
      };
    }
    if (done !== undefined) {
      if (done.offers.length > messageLimits.offers) throw tooMany('offers', messageLimits.offers, done.offers.length);
      const outcome = { ...decodeSummary(done.summary), offers: done.offers.map(decodeOffer) };
      return { type: 'done', token: done.token, refused: done.refused, outcome };
    }
    throw new InvalidInputError('envelope', 'has no message in it: the peer speaks a later version');
  }

  private decodeGossip(gossip: wire.Gossip): Message {
    const { token, kind } = gossip;
    if (gossip.items.length > messageLimits.descriptors) {
      throw tooMany('items', messageLimits.descriptors, gossip.items.length);
    }
    const from = this.decodeDescriptor(gossip.from);
    const mark = { id: short(gossip.mark?.id ?? '', 'mark'), mintedAt: gossip.mark?.mintedAt ?? 0 };
    const items = gossip.items.map((item) => this.decodeDescriptor(item));
    if (kind === 'FIND') {
      if (gossip.key.length > 8) throw tooMany('key', 8, gossip.key.length);
      const bordersId = short(gossip.bordersId, 'bordersId');
      return { type: 'find', token, from, mark, bordersId, key: Uint32Array.from(gossip.key) };
    }
    if (kind === 'SHUFFLE' || kind === 'SHUFFLED') {
      const type = kind === 'SHUFFLE' ? 'shuffle' : 'shuffled';
      return { type, token, from, mark, items, average: decodeAverage(gossip.average) };
    }
    return { type: kinds[kind], token, from, mark, items };
  }

  private decodeDescriptor(descriptor: wire.Descriptor | null): Descriptor {
    if (descriptor === null) throw new InvalidInputError('from', 'is missing');
    const { stamp, isLeaving, signature } = descriptor;
    if (signature.length !== 64)
      throw new InvalidInputError('signature', `must have 64 bytes, not ${signature.length}`);
    return { profile: this.profileOf(descriptor), stamp, isLeaving, signature };
  }

  /** One object per node and start: places in space are computed once and comparisons are quick. */
  private profileOf(descriptor: wire.Descriptor): Profile {
    const { site, node, address, incarnation, isOffering } = descriptor;
    const attributes = decodeAttributes(descriptor.attributes);
    const name = JSON.stringify([site, node, address, incarnation, isOffering, attributes]);
    const known = this.profiles.get(name);
    if (known !== undefined) return known;
    checkAttributes(attributes);
    nonEmpty(site, 'site');
    nonEmpty(node, 'node');
    addressOf(address, 'address');
    const profile = new Profile({ site, node, address, incarnation, attributes, isOffering });
    this.profiles.set(name, profile);
    if (this.profiles.size > profilesMax) {
      const [first] = this.profiles.keys();
      if (first !== undefined) this.profiles.delete(first);
    }
    return profile;
  }
}

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
  return { id, constraints, predicates: [...predicates], demand: { ...demand }, virtualOrganization };
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
  if (query.predicates.length > messageLimits.predicates) {
    throw tooMany('predicates', messageLimits.predicates, query.predicates.length);
  }
  for (const predicate of query.predicates) {
    if (predicate.length > messageLimits.predicateLength) {
      throw tooMany('predicate characters', messageLimits.predicateLength, predicate.length);
    }
  }
  if (Object.keys(query.demand).length > 16) throw tooMany('demand', 16, Object.keys(query.demand).length);
  const { predicates, demand } = query;
  const id = short(query.id, 'id');
  return {
    id,
    constraints,
    predicates,
    demand,
    virtualOrganization: short(query.virtualOrganization, 'virtualOrganization'),
  };
}

/** @returns the wire form of an offer. */
export function encodeOffer(offer: Offer): wire.Offer {
  const { id, site, address, incarnation } = offer;
  return { id, site, address, incarnation, attributes: encodeAttributes(offer.attributes), live: { ...offer.live } };
}

/** @throws {InvalidInputError} on an offer beyond the limits. */
export function decodeOffer(offer: wire.Offer): Offer {
  const attributes = decodeAttributes(offer.attributes);
  checkAttributes(attributes);
  if (Object.keys(offer.live).length > 64) throw tooMany('live', 64, Object.keys(offer.live).length);
  const address = addressOf(offer.address, 'address');
  const { incarnation, live } = offer;
  return { id: nonEmpty(offer.id, 'id'), site: nonEmpty(offer.site, 'site'), address, incarnation, attributes, live };
}

/** @returns the wire form of what a query came to, without its offers. */
export function encodeSummary(outcome: Omit<QueryOutcome, 'offers'>): wire.Summary {
  const { refusals, isExhausted, unreached, visited, falseVisits, hops } = outcome;
  return { refusals: { ...refusals }, isExhausted, unreached, visited, falseVisits, hops };
}

/** @throws {InvalidInputError} on too many reasons. */
export function decodeSummary(summary: wire.Summary | null): Omit<QueryOutcome, 'offers'> {
  if (summary === null) throw new InvalidInputError('summary', 'is missing');
  const count = Object.keys(summary.refusals).length;
  if (count > messageLimits.refusals) throw tooMany('refusals', messageLimits.refusals, count);
  const refusals = Object.fromEntries(Object.entries(summary.refusals).map(([reason, n]) => [reason.slice(0, 400), n]));
  const { isExhausted, unreached, visited, falseVisits, hops } = summary;
  return { refusals, isExhausted, unreached, visited, falseVisits, hops };
}

function encodeGossip(message: Exclude<Message, { type: 'ack' | 'borders' | 'query' | 'done' }>): wire.Gossip {
  const { token, type } = message;
  const mark = { id: message.mark.id, mintedAt: message.mark.mintedAt };
  const base = { token, from: encodeDescriptor(message.from), mark, items: [], average: null, bordersId: '', key: [] };
  if (type === 'find') return { ...base, kind: 'FIND', bordersId: message.bordersId, key: [...message.key] };
  const items = message.items.map(encodeDescriptor);
  if (type === 'shuffle' || type === 'shuffled') {
    const average = message.average === undefined ? null : encodeAverage(message.average);
    return { ...base, kind: type === 'shuffle' ? 'SHUFFLE' : 'SHUFFLED', items, average };
  }
  return { ...base, kind: type.toUpperCase() as Uppercase<GossipMessage['type']>, items };
}

function encodeDescriptor({ profile, stamp, isLeaving, signature }: Descriptor): wire.Descriptor {
  const { site, node, address, incarnation, isOffering } = profile;
  const attributes = encodeAttributes(profile.attributes);
  return { site, node, address, incarnation, stamp, isLeaving, isOffering, attributes, signature };
}

function encodeAttributes(attributes: Attributes): Record<string, wire.Value> {
  return Object.fromEntries(
    Object.entries(attributes).map(([name, value]) => [
      name,
      typeof value === 'number' ? { number: value } : { word: value },
    ]),
  );
}

function decodeAttributes(attributes: Record<string, wire.Value>): Attributes {
  const decoded: [string, AttributeValue][] = Object.entries(attributes).map(([name, value]) => [
    name,
    value.number ?? value.word ?? '',
  ]);
  return Object.fromEntries(decoded);
}

function encodeBorders({ mintedAt, site, axes, signature }: Borders): wire.Borders {
  return { mintedAt, site, axes: axes.map(({ attribute, cuts }) => ({ attribute, cuts: [...cuts] })), signature };
}

function decodeBorders(borders: wire.Borders): Borders {
  if (borders.axes.length > axesMax) throw tooMany('axes', axesMax, borders.axes.length);
  const axes = borders.axes.map(({ attribute, cuts }) => {
    const isAscending = cuts.every(
      (cut, index) => !Number.isNaN(cut) && (index === 0 || cut >= (cuts[index - 1] ?? 0)),
    );
    if (cuts.length !== cutsPerAxis || !isAscending) {
      throw new InvalidInputError('cuts', `must be ${cutsPerAxis} ascending numbers`);
    }
    return { attribute: nonEmpty(attribute, 'attribute'), cuts: Float64Array.from(cuts) };
  });
  return new Borders(axes, borders.mintedAt, short(borders.site, 'site'), borders.signature);
}

function encodeAverage({ instance, values }: AverageState): wire.Average {
  const curves = instance.curves.map(({ attribute, thresholds }) => ({ attribute, thresholds: [...thresholds] }));
  return { stamp: instance.stamp, starter: instance.starter, curves, values: [...values] };
}

function decodeAverage(average: wire.Average | null): AverageState | undefined {
  if (average === null) return undefined;
  if (average.curves.length > axesMax) throw tooMany('curves', axesMax, average.curves.length);
  const curves = average.curves.map(({ attribute, thresholds }) => {
    if (thresholds.length !== thresholdsPerAxis) throw tooMany('thresholds', thresholdsPerAxis, thresholds.length);
    return { attribute: nonEmpty(attribute, 'attribute'), thresholds: Float64Array.from(thresholds).sort() };
  });
  const expected = curves.length * thresholdsPerAxis + 1;
  if (average.values.length !== expected || !average.values.every(Number.isFinite)) {
    throw new InvalidInputError('values', `must be ${expected} finite numbers`);
  }
  const instance = { stamp: average.stamp, starter: nonEmpty(average.starter, 'starter'), curves };
  return { instance, values: Float64Array.from(average.values) };
}

function addressOf(text: string, field: string): string {
  if (!addressPattern.test(text)) {
    throw new InvalidInputError(field, `${JSON.stringify(text.slice(0, 80))} is no address: write HOST:PORT`);
  }
  return text;
}

function nonEmpty(text: string, field: string): string {
  if (text.length === 0) throw new InvalidInputError(field, 'must not be empty');
  return short(text, field);
}

function short(text: string, field: string): string {
  if (text.length > idMax) throw tooMany(`${field} characters`, idMax, text.length);
  return text;
}

function tooMany(field: string, limit: number, count: number): InvalidInputError {
  return new InvalidInputError(field, `at most ${limit}, not ${count}`);
}

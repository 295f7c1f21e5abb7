import { InvalidInputError } from '#common/errors.ts';
import { checkAttributes } from '#proto/selector/attributes.ts';
import {
  addressOf,
  decodeAttributes,
  decodeOffer,
  decodeQuery,
  decodeSummary,
  encodeAttributes,
  encodeOffer,
  encodeQuery,
  encodeSummary,
  nonEmpty,
  short,
  tooMany,
} from '#proto/selector/codec.ts';
import type * as wire from '#proto/selector/wire.ts';
import { axesMax, Borders, cutsPerAxis } from '#selector/overlay/borders.ts';
import { Profile, type Descriptor } from '#selector/overlay/descriptor.ts';
import { thresholdsPerAxis, type AverageState } from '#selector/overlay/distribution.ts';
import { messageLimits, type GossipMessage, type Message } from '#selector/overlay/messages.ts';

const profilesMax = 4_096;
/** Words of the longest key, of {@link axesMax} axes. */
const keyWordsMax = 8;
const kinds = {
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
        const { token, replyTo, bordersId, depth, budget, floor, hints, remainingMs } = message;
        const query = encodeQuery(message.query);
        return {
          query: {
            token,
            replyTo,
            query,
            bordersId,
            depth,
            budget: Math.min(budget, 2 ** 32 - 1),
            floor,
            hints,
            remainingMs,
          },
        };
      }
      case 'done': {
        const { offers, ...summary } = message.outcome;
        const { token, refused } = message;
        const hints = message.hints.map(encodeDescriptor);
        return { done: { token, refused, offers: offers.map(encodeOffer), summary: encodeSummary(summary), hints } };
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
        hints: Math.min(query.hints, messageLimits.descriptors),
        remainingMs: Math.min(query.remainingMs, 120_000),
      };
    }
    if (done !== undefined) {
      if (done.offers.length > messageLimits.offers) throw tooMany('offers', messageLimits.offers, done.offers.length);
      const outcome = { ...decodeSummary(done.summary), offers: done.offers.map(decodeOffer) };
      if (done.hints.length > messageLimits.descriptors) {
        throw tooMany('hints', messageLimits.descriptors, done.hints.length);
      }
      const hints = done.hints.map((hint) => this.decodeDescriptor(hint));
      return { type: 'done', token: done.token, refused: done.refused, outcome, hints };
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
      const bordersId = short(gossip.bordersId, 'bordersId');
      return { type: 'find', token, from, mark, bordersId, key: decodeBits(gossip.key, 'key') };
    }
    if (kind === 'SHUFFLE' || kind === 'SHUFFLED') {
      const type = kind === 'SHUFFLE' ? 'shuffle' : 'shuffled';
      return { type, token, from, mark, items, average: decodeAverage(gossip.average) };
    }
    if (kind === 'EXCHANGE') {
      return { type: 'exchange', token, from, mark, items, filled: decodeBits(gossip.filled, 'filled') };
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

function encodeGossip(message: Exclude<Message, { type: 'ack' | 'borders' | 'query' | 'done' }>): wire.Gossip {
  const { token, type } = message;
  const mark = { id: message.mark.id, mintedAt: message.mark.mintedAt };
  const from = encodeDescriptor(message.from);
  const base = { token, from, mark, items: [], average: null, bordersId: '', key: [], filled: [] };
  if (type === 'find') return { ...base, kind: 'FIND', bordersId: message.bordersId, key: [...message.key] };
  const items = message.items.map(encodeDescriptor);
  if (type === 'shuffle' || type === 'shuffled') {
    const average = message.average === undefined ? null : encodeAverage(message.average);
    return { ...base, kind: type === 'shuffle' ? 'SHUFFLE' : 'SHUFFLED', items, average };
  }
  if (type === 'exchange') return { ...base, kind: 'EXCHANGE', items, filled: [...message.filled] };
  return { ...base, kind: type.toUpperCase() as Uppercase<GossipMessage['type']>, items };
}

/** Bits of a key, or one for each slot. */
function decodeBits(words: readonly number[], field: string): Uint32Array {
  if (words.length > keyWordsMax) throw tooMany(field, keyWordsMax, words.length);
  return Uint32Array.from(words);
}

function encodeDescriptor({ profile, stamp, isLeaving, signature }: Descriptor): wire.Descriptor {
  const { site, node, address, incarnation, isOffering } = profile;
  const attributes = encodeAttributes(profile.attributes);
  return { site, node, address, incarnation, stamp, isLeaving, isOffering, attributes, signature };
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

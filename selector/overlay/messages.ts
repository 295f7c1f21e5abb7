import { messageBytesMax, refusalsMax } from '#proto/selector/codec.ts';
import type { Offer, Query, Summary } from '#proto/selector/contract.ts';
import type { Borders } from './borders.ts';
import type { Descriptor } from './descriptor.ts';
import type { AverageState } from './distribution.ts';

/** Which edition of borders a node follows: enough to see who is behind. */
export interface BordersMark {
  readonly id: string;
  readonly mintedAt: number;
}

/** What a branch of a query brings back. */
export interface QueryOutcome extends Summary {
  readonly offers: readonly Offer[];
}

interface Gossip {
  /** Chosen by the asking side; an answer repeats it. */
  readonly token: number;
  readonly from: Descriptor;
  readonly mark: BordersMark;
}

/** A message of two layers of gossip, liveness or look-up, with descriptors. */
export interface GossipMessage extends Gossip {
  readonly type: 'exchanged' | 'found' | 'ping' | 'pong';
  readonly items: readonly Descriptor[];
}

/** Gives what may help the partner and asks for the same. */
export interface ExchangeMessage extends Gossip {
  readonly type: 'exchange';
  readonly items: readonly Descriptor[];
  /** Bit i, from the most significant of the first word, is set when slot i has a link under the borders of `mark`. Empty: not told. */
  readonly filled: Uint32Array;
}

/** CYCLON's swap and its answer, with a state of distribution averaging riding along. */
export interface ShuffleMessage extends Gossip {
  readonly type: 'shuffle' | 'shuffled';
  readonly items: readonly Descriptor[];
  readonly average: AverageState | undefined;
}

/** Asks for the nodes nearest to a key of the given edition. */
export interface FindMessage extends Gossip {
  readonly type: 'find';
  readonly bordersId: string;
  readonly key: Uint32Array;
}

/** Asks for the sender's newer borders, or gives them. */
export interface BordersMessage {
  readonly type: 'borders';
  /** Undefined: please send yours to `replyTo`. */
  readonly borders: Borders | undefined;
  /** The edition that still serves queries while `borders` settles. */
  readonly former: Borders | undefined;
  readonly replyTo: string;
}

/** Hands a query over: explore what shares at least `depth` bits with you. */
export interface QueryMessage {
  readonly type: 'query';
  readonly token: number;
  readonly replyTo: string;
  readonly query: Query;
  readonly bordersId: string;
  readonly depth: number;
  /** Offers wanted from here. */
  readonly budget: number;
  /** Matches to expect of a cell before it is entered through a node that does not match itself; see QueryRun. */
  readonly floor: number;
  readonly remainingMs: number;
  /** Above 0: answer for yourself alone, and name so many peers that match; see Harvest. */
  readonly hints: number;
}

/** «Working on it»: sent at once and again while branches are out. */
export interface AckMessage {
  readonly type: 'ack';
  readonly token: number;
}

/** The end of a branch; `refused` when it was not begun (too busy, unknown borders). */
export interface DoneMessage {
  readonly type: 'done';
  readonly token: number;
  readonly refused: boolean;
  readonly outcome: QueryOutcome;
  /** Peers that match, when they were asked for. */
  readonly hints: readonly Descriptor[];
}

/** The outcome of a query that went nowhere. */
export const nothing: QueryOutcome = {
  offers: [],
  refusals: {},
  isExhausted: false,
  unreached: 0,
  visited: 0,
  falseVisits: 0,
  hops: 0,
};

/** All that nodes send each other. */
export type Message =
  | GossipMessage
  | ExchangeMessage
  | ShuffleMessage
  | FindMessage
  | BordersMessage
  | QueryMessage
  | AckMessage
  | DoneMessage;

/** Limits of one message; a codec refuses what exceeds them. */
export const messageLimits = {
  descriptors: 32,
  offers: 4_096,
  refusals: refusalsMax,
  bytes: messageBytesMax,
} as const;

/** Carries messages. May lose, delay, repeat and reorder them; never throws. */
export interface Transport {
  send(to: string, message: Message): void;
}

/** Bytes of a message on the wire (protobuf, without framing); used where messages are not serialized. */
export function wireBytes(message: Message): number {
  switch (message.type) {
    case 'ack':
      return 10;
    case 'done':
      return (
        40 +
        message.outcome.offers.reduce((sum, offer) => sum + offerBytes(offer), 0) +
        message.hints.reduce((sum, { profile }) => sum + profile.wireBytes, 0)
      );
    case 'query':
      return 64 + message.replyTo.length + queryBytes(message.query);
    case 'borders':
      return 30 + (message.borders?.wireBytes ?? 0) + (message.former?.wireBytes ?? 0);
    case 'find':
      return 40 + message.from.profile.wireBytes + 4 * message.key.length;
    default: {
      let bytes = 36 + message.from.profile.wireBytes;
      for (const item of message.items) bytes += item.profile.wireBytes;
      if ('average' in message && message.average !== undefined) bytes += averageBytes(message.average);
      if ('filled' in message) bytes += 4 * message.filled.length;
      return bytes;
    }
  }
}

function averageBytes(state: AverageState): number {
  let bytes = 40 + 4 * state.values.length;
  for (const curve of state.instance.curves) bytes += curve.attribute.length + 6 + 8 * curve.thresholds.length;
  return bytes;
}

function offerBytes(offer: Offer): number {
  let bytes = 20 + offer.node.length + offer.site.length + offer.address.length;
  for (const [name, value] of Object.entries(offer.attributes)) {
    bytes += name.length + 6 + (typeof value === 'number' ? 9 : value.length + 2);
  }
  for (const values of [offer.free, offer.live]) for (const name of Object.keys(values)) bytes += name.length + 13;
  return bytes;
}

function queryBytes(query: Query): number {
  let bytes = query.id.length + query.virtualOrganization.length;
  for (const constraint of query.constraints) {
    bytes += constraint.attribute.length + 4;
    if (constraint.min !== undefined) bytes += 9;
    if (constraint.max !== undefined) bytes += 9;
    for (const word of [...(constraint.in ?? []), ...(constraint.notIn ?? [])]) bytes += word.length + 2;
  }
  for (const predicate of query.predicates) bytes += predicate.length + 3;
  return bytes + Object.keys(query.demand).reduce((sum, name) => sum + name.length + 13, 0);
}

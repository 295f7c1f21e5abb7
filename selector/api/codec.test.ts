import { describe, expect, test } from '@jest/globals';
import { Borders, cutsPerAxis } from '#selector/overlay/borders.ts';
import { Profile, type Descriptor } from '#selector/overlay/descriptor.ts';
import { planCurves } from '#selector/overlay/distribution.ts';
import { wireBytes, type Message } from '#selector/overlay/messages.ts';
import { Codec } from './codec.ts';
import { overlayMethods } from '#proto/selector/schema.ts';
import type * as wire from '#proto/selector/wire.ts';

const { requestSerialize, requestDeserialize } = overlayMethods.Connect;

function aDescriptor(i: number): Descriptor {
  const attributes = { a0: i + 0.5, a1: i * 3.25, a2: 7.125, a3: 11.5, arch: 'amd64' };
  const incarnation = Date.UTC(2026, 0, 1);
  const profile = new Profile({
    site: 'site-1',
    node: `n${i}`,
    address: `10.0.0.${i}:7946`,
    incarnation,
    attributes,
    isOffering: true,
  });
  return { profile, stamp: incarnation + 60_000, isLeaving: false, signature: Buffer.alloc(64, i) };
}

const from = aDescriptor(1);
const items = [2, 3, 4, 5, 6].map(aDescriptor);
const mark = { id: '0123456789abcdef', mintedAt: Date.UTC(2026, 0, 1) };
const axes = ['a0', 'a1'].map((attribute) => ({
  attribute,
  cuts: Float64Array.from({ length: cutsPerAxis }, (_, i) => i * 1.5),
}));
const borders = new Borders(axes, mark.mintedAt, 'site-1', Buffer.alloc(64));
const curves = planCurves(items, undefined, Borders.first);
const values = new Float64Array(curves.length * 24 + 1).fill(0.5);
const average = { instance: { stamp: mark.mintedAt, starter: 'site-1/n1', curves }, values };
const query = {
  ...{
    id: 'q1',
    constraints: [
      { attribute: 'a0', min: 1, max: 2.5 },
      { attribute: 'arch', in: ['amd64'] },
    ],
  },
  ...{ predicates: ['free.cpu > 1'], demand: { cpu: 500 }, virtualOrganization: 'physics' },
};
const summary = {
  refusals: { 'Not enough free cpu': 3 },
  isExhausted: true,
  unreached: 0,
  visited: 9,
  falseVisits: 1,
  hops: 4,
};
const offer = {
  id: 'site-1/n2',
  site: 'site-1',
  node: 'n2',
  address: '10.0.0.2:7946',
  incarnation: 5,
  attributes: { a0: 2.5 },
  free: { cpu: 500 },
  live: { load1: 0.25 },
};

const messages: Message[] = [
  { type: 'exchange', token: 7, from, mark, items, filled: Uint32Array.of(0x8000_0001, 5) },
  { type: 'ping', token: 8, from, mark, items: [] },
  { type: 'shuffle', token: 2 ** 47, from, mark, items, average },
  { type: 'shuffled', token: 9, from, mark, items, average: undefined },
  { type: 'find', token: 10, from, mark, bordersId: borders.id, key: Uint32Array.of(1, 2 ** 32 - 1, 3) },
  { type: 'borders', borders, former: undefined, replyTo: '10.0.0.1:7946' },
  {
    type: 'query',
    token: 11,
    replyTo: '10.0.0.1:7946',
    query,
    bordersId: borders.id,
    depth: 3,
    budget: 50,
    floor: Infinity,
    hints: 8,
    remainingMs: 900,
  },
  { type: 'ack', token: 12 },
  { type: 'done', token: 13, refused: false, outcome: { ...summary, offers: [offer] }, hints: items },
];

describe.each(messages.map((message) => [message.type, message] as const))('a message %s', (_, message) => {
  const codec = new Codec();
  const bytes = requestSerialize(codec.encode(message));

  test('survives the wire', () => {
    const decoded = codec.decode(requestDeserialize(bytes));
    expect(JSON.stringify(codec.encode(decoded))).toBe(JSON.stringify(codec.encode(message)));
    expect(decoded.type).toBe(message.type);
  });

  test('is as long as the simulation counts it, within a tenth or 24 bytes', () => {
    expect(Math.abs(bytes.length - wireBytes(message))).toBeLessThanOrEqual(Math.max(24, 0.1 * bytes.length));
  });
});

describe('a hostile message is refused with the field named', () => {
  const codec = new Codec();
  const ping = codec.encode(messages[1]!) as { gossip: wire.Gossip };
  const change = (part: Partial<wire.Gossip>): wire.Envelope => ({ gossip: { ...ping.gossip, ...part } });
  const descriptor = ping.gossip.from!;
  test.each([
    ['nothing in it', {}, 'envelope'],
    ['too many descriptors', change({ items: Array.from({ length: 33 }, () => descriptor) }), 'items: at most 32'],
    [
      '100,000 attributes',
      change({ from: { ...descriptor, attributes: manyAttributes(100_000) } }),
      'at most 32 attributes',
    ],
    ['no sender', change({ from: null }), 'from: is missing'],
    [
      'a short signature',
      change({ from: { ...descriptor, signature: new Uint8Array(3) } }),
      'signature: must have 64 bytes',
    ],
    ['an address that is none', change({ from: { ...descriptor, address: 'a b:1\n' } }), 'is no address'],
    ['slots without end', change({ kind: 'EXCHANGE', filled: new Array<number>(9).fill(0) }), 'filled: at most 8'],
    ['a long key', change({ kind: 'FIND', key: new Array<number>(9).fill(0) }), 'key: at most 8'],
  ])('%s', (_, envelope, message) => {
    expect(() => codec.decode(envelope)).toThrow(message);
  });

  test('borders with cuts out of order or too many axes', () => {
    const cuts = Array.from({ length: cutsPerAxis }, (_, i) => -i);
    const bad = (many: number): wire.Envelope => ({
      borders: {
        borders: {
          mintedAt: 1,
          site: 's',
          axes: Array.from({ length: many }, () => ({ attribute: 'a', cuts })),
          signature: new Uint8Array(),
        },
        former: null,
        replyTo: 'h:1',
      },
    });
    expect(() => codec.decode(bad(1))).toThrow('cuts: must be 31 ascending numbers');
    expect(() => codec.decode(bad(9))).toThrow('axes: at most 8');
  });
});

function manyAttributes(count: number): Record<string, wire.Value> {
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [`a${i}`, { number: i }]));
}

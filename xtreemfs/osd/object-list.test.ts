import { deflateSync, inflateSync } from 'node:zlib';
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { decodeObjectList, encodeObjectList } from './object-list.ts';

test('writes what Java serializes for the BitSet {0, 3}', () => {
  const { set, stripeWidth, first } = encodeObjectList([3, 0], 0, 1);
  expect({ stripeWidth, first }).toEqual({ stripeWidth: 1, first: 0 });
  // Golden vector of the protocol reference, section 20, made with JDK 17.
  expect(inflateSync(set).toString('hex')).toBe(
    'aced0005737200106a6176612e7574696c2e4269745365746efd887e3934ab210300015b0004626974737400025b4a7870' +
      '757200025b4a782004b512b1759302000078700000000100000000' +
      '0000000978',
  );
});

test('gives back the objects of a stripe', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(3000)), fc.integer({ min: 1, max: 9 }), fc.nat(8), (bits, width, first) => {
      const objects = bits.map((bit) => first + bit * width);
      expect([...decodeObjectList(encodeObjectList(objects, first, width))].sort()).toEqual([...objects].sort());
    }),
  );
});

test.each([
  ['is not deflated', Buffer.from('nonsense')],
  ['is not a BitSet', deflateSync(Buffer.from('aced0005', 'hex'))],
  ['inflates without end', deflateSync(Buffer.alloc(64 * 1024 * 1024))],
])('refuses a set that %s', (_name, set) => {
  expect(() => decodeObjectList({ set, stripeWidth: 1, first: 0 })).toThrow(/object set/);
});

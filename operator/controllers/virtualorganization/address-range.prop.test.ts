import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type AddressRange, coalesce, contains, formatRange, parseRange } from './address-range.ts';

const four = fc
  .tuple(fc.nat(0xffffffff), fc.integer({ min: 0, max: 32 }))
  .map(([value, prefix]) =>
    parseRange(`${[24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join('.')}/${prefix}`),
  );
const six = fc
  .tuple(fc.array(fc.nat(0xffff), { minLength: 8, maxLength: 8 }), fc.integer({ min: 0, max: 128 }))
  .map(([words, prefix]) => parseRange(`${words.map((word) => word.toString(16)).join(':')}/${prefix}`));
const range: fc.Arbitrary<AddressRange> = fc.oneof(four, six);

describe('address ranges', () => {
  test.each([
    ['192.0.2.77/24', '192.0.2.0/24'],
    ['10.0.0.1', '10.0.0.1/32'],
    ['0.0.0.0/0', '0.0.0.0/0'],
    ['2001:db8::1/32', '2001:db8:0:0:0:0:0:0/32'],
    ['::ffff:192.0.2.1', '0:0:0:0:0:ffff:c000:201/128'],
    ['::/0', '0:0:0:0:0:0:0:0/0'],
  ])('%s is %s', (text, normal) => {
    expect(formatRange(parseRange(text))).toBe(normal);
  });

  test.each(['', '10.0.0.0/33', '10.0.0/8', '2001:db8::/129', 'host/24', '10.0.0.0/8/8', '10.0.0.0/-1'])(
    '%p is refused',
    (text) => {
      expect(() => parseRange(text)).toThrow('is no address range');
    },
  );

  test('survive being written and read', () => {
    fc.assert(fc.property(range, (each) => expect(parseRange(formatRange(each))).toEqual(each)));
  });

  test('are nested or disjoint', () => {
    const ends = (each: AddressRange): [bigint, bigint] => {
      const free = BigInt((each.family === 4 ? 32 : 128) - each.prefix);
      return [each.base, each.base + (1n << free) - 1n];
    };
    fc.assert(
      fc.property(range, range, (a, b) => {
        const [[aFirst, aLast], [bFirst, bLast]] = [ends(a), ends(b)];
        const isInside = a.family === b.family && aFirst <= bFirst && bLast <= aLast;
        expect(contains(a, b)).toBe(isInside);
      }),
    );
  });

  test('coalesced still hold every address, in few ranges that are apart', () => {
    fc.assert(
      fc.property(fc.array(range, { maxLength: 40 }), fc.integer({ min: 1, max: 8 }), (ranges, max) => {
        const result = coalesce(ranges, max);
        for (const each of ranges) expect(result.some((outer) => contains(outer, each))).toBe(true);
        for (const family of [4, 6])
          expect(result.filter((each) => each.family === family).length).toBeLessThanOrEqual(max);
        for (const a of result) for (const b of result) expect(a !== b && contains(a, b)).toBe(false);
      }),
    );
  });

  test('few enough are joined exactly: no address is added', () => {
    expect(coalesce(['10.0.0.0/25', '10.0.0.128/25', '10.0.2.0/24'].map(parseRange), 8).map(formatRange)).toEqual([
      '10.0.0.0/24',
      '10.0.2.0/24',
    ]);
  });
});

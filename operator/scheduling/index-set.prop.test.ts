import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { IndexSet } from './index-set.ts';

const indices = fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 40 });
const sorted = (values: Iterable<number>): number[] => [...new Set(values)].sort((a, b) => a - b);

describe('an IndexSet', () => {
  test('holds what it was made of, and comes back from its text', () => {
    fc.assert(
      fc.property(indices, (values) => {
        const set = IndexSet.of(values);
        expect([...set]).toEqual(sorted(values));
        expect(set.size).toBe(new Set(values).size);
        expect([...IndexSet.parse(set.toString())]).toEqual([...set]);
        for (let index = 0; index <= 61; index++) expect(set.has(index)).toBe(values.includes(index));
      }),
    );
  });

  test('unites, subtracts and takes as plain sets do', () => {
    fc.assert(
      fc.property(indices, indices, fc.integer({ min: 0, max: 50 }), (a, b, count) => {
        const [left, right] = [IndexSet.of(a), IndexSet.of(b)];
        expect([...left.union(right)]).toEqual(sorted([...a, ...b]));
        expect([...left.minus(right)]).toEqual(sorted(a.filter((index) => !b.includes(index))));
        expect([...left.intersect(right)]).toEqual(sorted(a.filter((index) => b.includes(index))));
        expect([...left.take(count)]).toEqual(sorted(a).slice(0, count));
        expect(left.union(right).toString()).toBe(IndexSet.of([...a, ...b]).toString());
      }),
    );
  });

  test.each(['x', '1,', '2-1', '3,2', '1-2,2', '-1', '99999999', '0-10000'])('refuses the text %j', (text) => {
    expect(() => IndexSet.parse(text)).toThrow(/is no ascending range/);
  });
});

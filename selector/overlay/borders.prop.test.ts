import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { matchesAll, type Attributes, type Constraint } from '#proto/selector/attributes.ts';
import { Borders, cutsPerAxis, Region, sharedBits } from './borders.ts';
import { Profile } from './descriptor.ts';

const word = fc.constantFrom('amd64', 'arm64', 'riscv64', '6.8', '12');
const value = fc.oneof(fc.double({ noNaN: true, noDefaultInfinity: true }), fc.integer({ min: -5, max: 20 }), word);
const attributes: fc.Arbitrary<Attributes> = fc.dictionary(fc.constantFrom('a', 'b', 'c', 'd'), value, { maxKeys: 4 });
const borders = fc
  .array(fc.array(fc.double({ noNaN: true }), { minLength: cutsPerAxis, maxLength: cutsPerAxis }), { maxLength: 3 })
  .map(
    (cuts) =>
      new Borders(
        cuts.map((list, k) => ({ attribute: 'abc'[k]!, cuts: Float64Array.from(list).sort() })),
        1,
        's',
      ),
  );
const constraint: fc.Arbitrary<Constraint> = fc.oneof(
  fc
    .tuple(fc.constantFrom('a', 'b', 'c', 'd'), fc.integer({ min: -5, max: 20 }), fc.integer({ min: 0, max: 9 }))
    .map(([attribute, min, width]) => ({ attribute, min, max: min + width })),
  fc.record({ attribute: fc.constantFrom('a', 'b', 'c'), min: fc.integer({ min: -5, max: 20 }) }),
  fc.record({ attribute: fc.constantFrom('a', 'b', 'c'), max: fc.integer({ min: -5, max: 20 }) }),
  fc.record({ attribute: fc.constantFrom('a', 'b', 'c', 'd'), in: fc.array(word, { minLength: 1, maxLength: 3 }) }),
  fc.record({ attribute: fc.constantFrom('a', 'b', 'c', 'd'), notIn: fc.array(word, { minLength: 1, maxLength: 3 }) }),
);

let serial = 0;
const profileOf = (own: Attributes): Profile =>
  new Profile({ site: 's', node: `n${serial++}`, address: 'h:1', incarnation: 1, attributes: own, isOffering: true });

test('whatever the borders are, no cell that holds a matching node is ruled out', () => {
  fc.assert(
    fc.property(
      borders,
      attributes,
      attributes,
      fc.array(constraint, { maxLength: 4 }),
      (edition, mine, theirs, wanted) => {
        fc.pre(matchesAll(theirs, wanted));
        const me = profileOf(mine).placement(edition);
        const them = profileOf(theirs).placement(edition);
        const slot = sharedBits(me.key, them.key, edition.keyBits);
        expect(new Region(wanted, edition).shareOf(me.codes, slot)).toBeGreaterThan(0);
      },
    ),
    { numRuns: 500 },
  );
});

test('slots of a node and the node itself cover everyone exactly once', () => {
  fc.assert(
    fc.property(borders, fc.array(attributes, { minLength: 3, maxLength: 12 }), (edition, all) => {
      const nodes = all.map((own) => profileOf(own).placement(edition));
      // Depth-first from node 0: each hand-over goes to any node of the slot, told to stay below it.
      const visits = new Map<number, number>();
      const explore = (at: number, depth: number): void => {
        visits.set(at, (visits.get(at) ?? 0) + 1);
        const slots = new Map<number, number>();
        for (const [other, placement] of nodes.entries()) {
          const slot = sharedBits(nodes[at]!.key, placement.key, edition.keyBits);
          if (other !== at && slot >= depth) slots.set(slot, other);
        }
        for (const [slot, link] of slots) explore(link, slot + 1);
      };
      explore(0, 0);
      expect([...visits.entries()].sort(([a], [b]) => a - b)).toEqual(nodes.map((_, index) => [index, 1]));
    }),
    { numRuns: 200 },
  );
});

test('editions form a semilattice: everyone ends with the same one whatever order they hear of them', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 0, max: 3 }), fc.string()), { minLength: 1, maxLength: 6 }),
      (mints) => {
        const editions = mints.map(([mintedAt, site]) => new Borders([], mintedAt, site));
        const follow = (heard: readonly Borders[]): string =>
          heard.reduce((current, next) => (next.isAfter(current) ? next : current)).id;
        expect(follow([...editions].reverse())).toBe(follow(editions));
      },
    ),
  );
});

import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { splitRange } from './striping.ts';

describe('splitRange', () => {
  test('covers the range once, in order, each piece within one object', () => {
    fc.assert(
      fc.property(
        fc.nat(2 ** 40),
        fc.nat(5_000_000),
        fc.constantFrom(4096, 131_072, 1_048_576),
        (offset, length, size) => {
          let position = 0;
          for (const piece of splitRange(offset, length, size)) {
            expect(piece.position).toBe(position);
            expect(piece.objectNumber * size + piece.offset).toBe(offset + position);
            expect(piece.length).toBeGreaterThan(0);
            expect(piece.offset + piece.length).toBeLessThanOrEqual(size);
            position += piece.length;
          }
          expect(position).toBe(length);
        },
      ),
    );
  });
});

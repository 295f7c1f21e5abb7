import { describe, expect, test } from '@jest/globals';
import { pick, SeededRandom, shuffle } from './random.ts';

describe('SeededRandom', () => {
  test('the same seed gives the same sequence, another seed another', () => {
    const draw = (seed: number): number[] => {
      const random = new SeededRandom(seed);
      return Array.from({ length: 5 }, () => random.next());
    };
    expect(draw(42)).toEqual(draw(42));
    expect(draw(42)).not.toEqual(draw(43));
  });

  test('integers are uniform over their range', () => {
    const random = new SeededRandom(7);
    const counts = new Array<number>(10).fill(0);
    for (let i = 0; i < 100_000; i++) {
      const n = random.int(10);
      counts[n] = (counts[n] ?? 0) + 1;
    }
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500);
  });

  test('large ranges reach beyond 32 bits and stay below the bound', () => {
    const random = new SeededRandom(1);
    const draws = Array.from({ length: 1_000 }, () => random.int(2 ** 53));
    expect(Math.max(...draws)).toBeGreaterThan(2 ** 52);
    expect(Math.max(...draws)).toBeLessThan(2 ** 53);
  });
});

test('shuffle keeps every element', () => {
  const items = Array.from({ length: 100 }, (_, i) => i);
  const mixed = shuffle(new SeededRandom(3), [...items]);
  expect(mixed).not.toEqual(items);
  expect(mixed.sort((a, b) => a - b)).toEqual(items);
});

test('picking from an empty list is refused', () => {
  expect(() => pick(new SeededRandom(1), [])).toThrow(RangeError);
});

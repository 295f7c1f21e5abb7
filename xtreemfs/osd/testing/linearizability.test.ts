import { expect, test } from '@jest/globals';
import { isLinearizable, type RegisterOperation } from './linearizability.ts';

const write = (value: number, start: number, end: number): RegisterOperation => ({ kind: 'write', value, start, end });
const read = (value: number, start: number, end: number): RegisterOperation => ({ kind: 'read', value, start, end });

test.each<[string, boolean, RegisterOperation[]]>([
  ['nothing at all', true, []],
  ['a read of what was written', true, [write(1, 0, 1), read(1, 2, 3)]],
  ['a read of what was never written', false, [write(1, 0, 1), read(2, 2, 3)]],
  ['a read that misses a finished write', false, [write(1, 0, 1), read(0, 2, 3)]],
  ['a read during a write that misses it', true, [write(1, 0, 5), read(0, 2, 3)]],
  ['two reads that see a write and then not', false, [write(1, 0, 9), read(1, 2, 3), read(0, 4, 5)]],
  ['a lost write that shows up late', true, [write(1, 0, Infinity), read(0, 2, 3), read(1, 8, 9)]],
  ['a lost write that shows up and vanishes', false, [write(1, 0, Infinity), read(1, 2, 3), read(0, 8, 9)]],
  ['a lost write that never shows up', true, [write(1, 0, Infinity), write(2, 1, 2), read(2, 3, 4)]],
  ['writes at the same time in either order', true, [write(1, 0, 9), write(2, 0, 9), read(2, 10, 11), read(2, 12, 13)]],
  ['reads that see them in both orders', false, [write(1, 0, 3), write(2, 0, 3), read(2, 4, 5), read(1, 6, 7)]],
])('judges %s', (_name, isRight, history) => {
  expect(isLinearizable(history)).toBe(isRight);
});

test('judges thousands of operations of a few clients', () => {
  const history = Array.from({ length: 6_000 }, (_, index) =>
    index % 2 === 0 ? write(index, index, index + 3) : read(index - 1, index, index + 3),
  );
  expect(isLinearizable(history)).toBe(true);
  expect(isLinearizable([...history, read(1, 7_000, 7_001)])).toBe(false);
});

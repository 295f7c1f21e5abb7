import { expect, test } from '@jest/globals';
import { isLinearizable, type RegisterOperation } from './linearizability.ts';

const op = (kind: 'read' | 'write', value: number, start: number, end: number): RegisterOperation => ({
  kind,
  value,
  start,
  end,
});

test.each<[string, boolean, RegisterOperation[]]>([
  ['a read after a write that sees it', true, [op('write', 1, 0, 1), op('read', 1, 2, 3)]],
  ['a read after a write that does not see it', false, [op('write', 1, 0, 1), op('read', 0, 2, 3)]],
  ['a read beside a write that sees the old value', true, [op('write', 1, 0, 5), op('read', 0, 1, 2)]],
  ['two reads that see new, then old', false, [op('write', 1, 0, 9), op('read', 1, 1, 2), op('read', 0, 3, 4)]],
  [
    'a write without an answer that shows late',
    true,
    [op('write', 1, 0, Infinity), op('read', 0, 1, 2), op('read', 1, 3, 4)],
  ],
  [
    'a write without an answer that shows and is gone',
    false,
    [op('write', 1, 0, Infinity), op('read', 1, 1, 2), op('read', 0, 3, 4)],
  ],
  ['a value that nobody wrote', false, [op('read', 7, 0, 1)]],
])('judges %s', (_name, isRight, history) => {
  expect(isLinearizable(history, 0)).toBe(isRight);
});

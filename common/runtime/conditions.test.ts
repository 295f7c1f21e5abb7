import { describe, expect, test } from '@jest/globals';
import { findCondition, formatMicroTime, formatTime, isConditionTrue, setCondition } from './conditions.ts';
import type { Condition } from './types.ts';

const at = Date.UTC(2026, 0, 1);
const ready = { type: 'Ready', status: 'True', reason: 'Up', message: '', observedGeneration: 1 } as const;

describe('setCondition', () => {
  const first = setCondition([], ready, at);

  test('adds a condition with the time of its first sight', () => {
    expect(first).toEqual([{ ...ready, lastTransitionTime: '2026-01-01T00:00:00Z' }]);
  });

  test('returns the same list when nothing changed, so that no write is needed', () => {
    expect(setCondition(first, { ...ready }, at + 5_000)).toBe(first);
  });

  test.each([
    ['reason', { ...ready, reason: 'Other' }],
    ['message', { ...ready, message: 'All three nodes answer' }],
    ['observedGeneration', { ...ready, observedGeneration: 2 }],
  ])('a new %s keeps the time of the last transition', (_what, update) => {
    const [condition] = setCondition(first, update, at + 5_000);
    expect(condition).toEqual({ ...update, lastTransitionTime: '2026-01-01T00:00:00Z' });
  });

  test('a new status moves it', () => {
    const [condition] = setCondition(first, { ...ready, status: 'False' }, at + 5_000);
    expect(condition?.lastTransitionTime).toBe('2026-01-01T00:00:05Z');
  });

  test('leaves other conditions and their order alone', () => {
    const other: Condition = { ...ready, type: 'Mounted', lastTransitionTime: formatTime(at) };
    const both = setCondition([...first, other], { ...ready, status: 'Unknown' }, at);
    expect(both.map(({ type }) => type)).toEqual(['Ready', 'Mounted']);
    expect(both[1]).toBe(other);
  });
});

test('a condition counts for a generation only when it was computed from it', () => {
  const conditions = setCondition([], ready, at);
  expect(isConditionTrue(conditions, 'Ready')).toBe(true);
  expect(isConditionTrue(conditions, 'Ready', 1)).toBe(true);
  expect(isConditionTrue(conditions, 'Ready', 2)).toBe(false);
  expect(isConditionTrue(undefined, 'Ready')).toBe(false);
  expect(findCondition(conditions, 'Placed')).toBeUndefined();
});

test('micro times have six digits, which the API server insists on', () => {
  expect(formatMicroTime(at + 7)).toBe('2026-01-01T00:00:00.007000Z');
});

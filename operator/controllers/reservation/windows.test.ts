import { describe, expect, test } from '@jest/globals';
import { aReservation } from '#operator/testing/jobs.ts';
import { windowsOf } from './windows.ts';

const at = (text: string): number => Date.parse(text);
const span = (start: string, end: string): object => ({ startMs: at(start), endMs: at(end) });

test.each([
  [
    'begins when it was made, without a start',
    { durationSeconds: 60 },
    '2026-01-01T00:00:30Z',
    [span('2026-01-01T00:00:00Z', '2026-01-01T00:01:00Z')],
  ],
  ['is over at its end', { durationSeconds: 60 }, '2026-01-01T00:01:00Z', []],
  [
    'lasts until its end',
    { start: '2026-01-02T00:00:00Z', end: '2026-01-02T01:00:00Z' },
    '2026-01-01T00:00:00Z',
    [span('2026-01-02T00:00:00Z', '2026-01-02T01:00:00Z')],
  ],
])('a window %s', (_, window, now, expected) => {
  expect(windowsOf(aReservation('r', { window }), at(now))).toEqual(expected);
});

describe('a recurring window', () => {
  const nights = aReservation('r', {
    window: {
      ...{ start: '2026-01-01T22:00:00Z', durationSeconds: 7_200 },
      recurrence: { every: 'Day', until: '2026-01-04T00:00:00Z' },
    },
  });

  test.each([
    ['long before the first', '2025-12-01T00:00:00Z', ['2026-01-01T22:00:00.000Z', '2026-01-02T22:00:00.000Z']],
    ['in the first', '2026-01-01T23:00:00Z', ['2026-01-01T22:00:00.000Z', '2026-01-02T22:00:00.000Z']],
    ['at the end of the first', '2026-01-02T00:00:00Z', ['2026-01-02T22:00:00.000Z', '2026-01-03T22:00:00.000Z']],
    ['in the last', '2026-01-03T23:59:59Z', ['2026-01-03T22:00:00.000Z']],
    ['after the last', '2026-01-04T00:00:00Z', []],
  ])('%s: the present or next, and the one after', (_, now, starts) => {
    expect(windowsOf(nights, at(now)).map(({ startMs }) => new Date(startMs).toISOString())).toEqual(starts);
  });
});

import { describe, expect, test } from '@jest/globals';
import { isSame } from './status-change.ts';

const status = { state: 'Running', tasks: { running: 1, rows: [{ index: 0 }, { index: 1 }] } };

describe('two statuses say the same', () => {
  test.each<[string, object | undefined, object]>([
    ['when they are equal', status, structuredClone(status)],
    [
      'in whatever order their fields are',
      status,
      { tasks: { rows: status.tasks.rows, running: 1 }, state: 'Running' },
    ],
    ['when fields are undefined in one and missing in the other', { ...status, exitCode: undefined }, status],
    ['the same the other way round', status, { ...status, exitCode: undefined }],
    ['when there is none, and the other is empty', undefined, {}],
  ])('%s', (_, before, after) => {
    expect(isSame(before, after)).toBe(true);
  });

  test.each<[string, object | undefined, object]>([
    ['a value differs', status, { ...status, state: 'Waiting' }],
    ['a field is new', status, { ...status, exitCode: 0 }],
    ['a field is gone', { ...status, exitCode: 0 }, status],
    ['something deep inside differs', status, { ...status, tasks: { running: 1, rows: [{ index: 0 }, { index: 2 }] } }],
    ['a list is longer', { rows: [1] }, { rows: [1, 2] }],
    ['a list is in another order', { rows: [1, 2] }, { rows: [2, 1] }],
    ['a list is now a map', { rows: [] }, { rows: {} }],
    ['a field is null', { a: null }, {}],
    ['there was none', undefined, status],
  ])('but not when %s', (_, before, after) => {
    expect(isSame(before, after)).toBe(false);
  });
});

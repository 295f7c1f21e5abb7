import { readFile } from 'node:fs/promises';
import { expect, test } from '@jest/globals';
import { assert, AssertionError, describeError, InvalidInputError, systemErrorCode } from './errors.ts';

test('an invalid input names its field', () => {
  const error = new InvalidInputError('spec.count', 'must be at least 1, not 0');
  expect(error.message).toBe('spec.count: must be at least 1, not 0');
  expect(error.field).toBe('spec.count');
});

test('describes a chain of causes once each', () => {
  const root = new Error('connection refused');
  const middle = new Error('List pods: connection refused', { cause: root });
  expect(describeError(new Error('Sync site', { cause: middle }))).toBe('Sync site: List pods: connection refused');
});

test('describes what is not an Error, and ends on a cycle', () => {
  expect(describeError('plain')).toBe('plain');
  const cycle = new Error('round');
  cycle.cause = cycle;
  expect(describeError(cycle)).toBe('round');
});

test('tells a system error code from other codes', () => {
  expect(systemErrorCode(Object.assign(new Error('x'), { code: 'ENOENT' }))).toBe('ENOENT');
  expect(systemErrorCode(Object.assign(new Error('x'), { code: 7 }))).toBeUndefined();
  expect(systemErrorCode('ENOENT')).toBeUndefined();
});

test('reads errors of another realm, as those of Node modules are inside jest', async () => {
  const error: unknown = await readFile('/no/such/file').catch((thrown: unknown) => thrown);
  expect(systemErrorCode(error)).toBe('ENOENT');
  expect(describeError(error)).toContain('no such file');
});

test('a false assertion throws', () => {
  expect(() => assert(false, 'count is positive')).toThrow(AssertionError);
});

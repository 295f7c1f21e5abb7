import { describe, expect, test } from '@jest/globals';
import { attributeLimits, checkAttributes, checkConstraints, matches } from './attributes.ts';

const node = { cores: 16, arch: 'amd64', memory: 64.5 };

describe('a requirement', () => {
  test.each([
    ['a number in the range', { attribute: 'cores', min: 8, max: 16 }, true],
    ['a number outside the range', { attribute: 'cores', min: 17 }, false],
    ['a word of the set', { attribute: 'arch', in: ['amd64', 'arm64'] }, true],
    ['a word not in the set', { attribute: 'arch', in: ['arm64'] }, false],
    ['a number written as a word', { attribute: 'cores', in: ['16'] }, true],
    ['a forbidden word', { attribute: 'arch', notIn: ['amd64'] }, false],
    ['an attribute the node lacks, in a range', { attribute: 'gpus', min: 0 }, false],
    ['an attribute the node lacks, forbidden', { attribute: 'gpus', notIn: ['4'] }, true],
    ['a word where a range is asked', { attribute: 'arch', min: 0 }, false],
    ['a name of the language itself', { attribute: 'constructor', notIn: ['x'] }, true],
  ])('says of %s what is so', (_, constraint, expected) => {
    expect(matches(node, constraint)).toBe(expected);
  });
});

describe('limits (threat 50)', () => {
  test.each([
    ['too many attributes', Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`a${i}`, 1])), 'at most 32'],
    ['a name that is no name', { 'Bad Name': 1 }, 'is no attribute name'],
    ['a number that is none', { a: Number.NaN }, 'a: must be a finite number or a word, not NaN'],
    ['a long word', { a: 'x'.repeat(254) }, 'at most 253 characters'],
  ])('refuse %s', (_, attributes, message) => {
    expect(() => checkAttributes(attributes)).toThrow(message);
  });

  test.each([
    ['a range upside down', [{ attribute: 'a', min: 2, max: 1 }], 'static[0].min: must not exceed max (1), not 2'],
    [
      'too many words',
      [{ attribute: 'a', in: Array.from({ length: attributeLimits.words + 1 }, String) }],
      'at most 64',
    ],
    ['too many requirements', Array.from({ length: 33 }, () => ({ attribute: 'a', min: 1 })), 'at most 32'],
  ])('refuse %s', (_, constraints, message) => {
    expect(() => checkConstraints(constraints)).toThrow(message);
  });
});

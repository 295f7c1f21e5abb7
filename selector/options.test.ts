import { expect, test } from '@jest/globals';
import { readAttributes, readResources } from './options.ts';

test('attributes are numbers where they look like one', () => {
  expect(readAttributes('cores=16,arch=amd64, kernel=6.8')).toEqual({ cores: 16, arch: 'amd64', kernel: 6.8 });
  expect(readAttributes('')).toEqual({});
});

test.each([
  ['a part without a value', 'cores', '"cores" is not NAME=VALUE'],
  ['a file that is not there', '@/nonexistent', 'can not read /nonexistent'],
  ['a name that is none', 'Cores=1', 'is no attribute name'],
])('%s is refused with the remedy', (_, text, message) => {
  expect(() => readAttributes(text)).toThrow(message);
});

test('amounts must be numbers', () => {
  expect(readResources('cpu=4000,memory=8589934592')).toEqual({ cpu: 4_000, memory: 8_589_934_592 });
  expect(() => readResources('cpu=lots')).toThrow('cpu: lots is no number');
});

import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { formatQuantity, parseQuantity, sumQuantities } from './quantity.ts';

const suffix = fc.constantFrom(
  '',
  'n',
  'u',
  'm',
  'k',
  'M',
  'G',
  'T',
  'P',
  'E',
  'Ki',
  'Mi',
  'Gi',
  'Ti',
  'Pi',
  'Ei',
  'e3',
  'E-3',
);
const amount = fc
  .tuple(fc.nat({ max: 1_000_000 }), fc.option(fc.nat({ max: 999 }), { nil: undefined }), suffix)
  .map(([whole, fraction, unit]) => `${whole}${fraction === undefined ? '' : `.${fraction}`}${unit}`);

test('writing what was read changes neither the value nor, done again, the text', () => {
  fc.assert(
    fc.property(amount, (text) => {
      const read = parseQuantity(text);
      const written = formatQuantity(read);
      expect(parseQuantity(written).nano).toBe(read.nano);
      expect(formatQuantity({ ...parseQuantity(written), format: read.format })).toBe(written);
    }),
  );
});

test('sums do not depend on the order, and adding nothing changes nothing', () => {
  fc.assert(
    fc.property(fc.array(amount, { minLength: 1, maxLength: 20 }), (texts) => {
      const sum = parseQuantity(sumQuantities(texts)).nano;
      expect(parseQuantity(sumQuantities([...texts].reverse())).nano).toBe(sum);
      expect(parseQuantity(sumQuantities([...texts, '0'])).nano).toBe(sum);
    }),
  );
});

test.each([
  [['500m', '1500m'], '2'],
  [['100m', '1'], '1100m'],
  [['16Gi', '16Gi'], '32Gi'],
  [['16303428Ki', '16303428Ki'], '32606856Ki'],
  [['1024Ki', '1024Ki'], '2Mi'],
  [['110', 110], '220'],
  [['2e3'], '2k'],
  [['0.5Gi'], '512Mi'],
  [['1.5Ki', '100m'], '1536100m'],
  [['0.1n'], '1n'],
  [[], '0'],
] as const)('the sum of %j is %s', (texts, sum) => {
  expect(sumQuantities(texts)).toBe(sum);
});

test.each(['', '.', 'Gi', '1 Gi', '1gi', '0x10', '1e999', 'NaN', '9'.repeat(65)])('%j is refused', (text) => {
  expect(() => parseQuantity(text)).toThrow(/^quantity: .* is not one: use for example/);
});

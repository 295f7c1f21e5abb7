/**
 * Arithmetic on Kubernetes quantities, exact. A quantity is a decimal number with a suffix; the smallest part that Kubernetes keeps is 10⁻⁹.
 * Source: apimachinery `pkg/api/resource/quantity.go`.
 */
import { InvalidInputError } from '#common/errors.ts';

/** Ways of writing: powers of 1000, or of 1024. What is written with an exponent is read as the former. */
type Format = 'decimal' | 'binary';

/** A quantity as a whole number of 10⁻⁹, with the way it was written. */
export interface Quantity {
  readonly nano: bigint;
  readonly format: Format;
}

const nanoPerUnit = 1_000_000_000n;
/** From largest to smallest; each with the number of 10⁻⁹ in it. */
const decimalSuffixes: readonly (readonly [string, bigint])[] = [
  ['E', 10n ** 27n],
  ['P', 10n ** 24n],
  ['T', 10n ** 21n],
  ['G', 10n ** 18n],
  ['M', 10n ** 15n],
  ['k', 10n ** 12n],
  ['', nanoPerUnit],
  ['m', 1_000_000n],
  ['u', 1_000n],
  ['n', 1n],
];
const binarySuffixes: readonly (readonly [string, bigint])[] = ['Ei', 'Pi', 'Ti', 'Gi', 'Mi', 'Ki', ''].map(
  (suffix, index) => [suffix, 1024n ** BigInt(6 - index) * nanoPerUnit] as const,
);
const factors = new Map([...decimalSuffixes, ...binarySuffixes]);
const form = /^([+-]?)([0-9]*)(?:\.([0-9]*))?([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2})?$/;

/** Longer texts are no quantities of this world; the limit keeps arithmetic cheap. */
const textLengthMax = 64;

/**
 * Reads a quantity. What is smaller than 10⁻⁹ is rounded up, as Kubernetes does.
 * @throws {InvalidInputError} naming the text when it isn't a quantity.
 */
export function parseQuantity(input: string | number): Quantity {
  const text = String(input);
  const match = text.length > textLengthMax ? null : form.exec(text);
  const [, sign = '', whole = '', fraction = '', suffix = ''] = match ?? [];
  if (match === null || whole + fraction === '') {
    throw new InvalidInputError(
      'quantity',
      `${JSON.stringify(text.slice(0, textLengthMax))} is not one: use for example 4, 500m or 200Gi`,
    );
  }
  const exponent = /^[eE]([+-]?[0-9]+)$/.exec(suffix);
  const shift = exponent === null ? 0 : Number(exponent[1]);
  const factor = exponent === null ? (factors.get(suffix) ?? nanoPerUnit) : nanoPerUnit;
  const numerator = BigInt(whole + fraction) * factor * 10n ** BigInt(Math.max(0, shift));
  const denominator = 10n ** BigInt(fraction.length + Math.max(0, -shift));
  const nano = (numerator + denominator - 1n) / denominator;
  return { nano: sign === '-' ? -nano : nano, format: suffix.endsWith('i') ? 'binary' : 'decimal' };
}

/**
 * A quantity as a whole number of parts, `perUnit` to one: 1000 makes millicores of `cpu`.
 * @returns a number that is not exact above 2^53.
 */
export function wholeUnits(input: string | number, perUnit: number, rounding: 'up' | 'down'): number {
  const nano = parseQuantity(input).nano * BigInt(perUnit);
  return Number((rounding === 'up' ? nano + nanoPerUnit - 1n : nano) / nanoPerUnit);
}

/** Writes a quantity in its canonical form: the largest suffix that needs no fraction. */
export function formatQuantity({ nano, format }: Quantity): string {
  if (nano === 0n) return '0';
  const isFractional = nano % nanoPerUnit !== 0n;
  const suffixes = format === 'binary' && !isFractional ? binarySuffixes : decimalSuffixes;
  for (const [suffix, factor] of suffixes) {
    if (nano % factor === 0n) return `${nano / factor}${suffix}`;
  }
  return `${nano}n`;
}

/** The sum of quantities, written as the first of them; `0` when there are none. */
export function sumQuantities(texts: readonly (string | number)[]): string {
  const parts = texts.map(parseQuantity);
  const nano = parts.reduce((sum, part) => sum + part.nano, 0n);
  return formatQuantity({ nano, format: parts[0]?.format ?? 'decimal' });
}

/** Arithmetic on address ranges (CIDR), IPv4 and IPv6, exact. */
import { isIP } from 'node:net';
import { InvalidInputError } from '#common/errors.ts';

/** A range of addresses: all those whose first `prefix` bits are those of `base`. */
export interface AddressRange {
  readonly family: 4 | 6;
  /** Lowest address of the range, as a number. */
  readonly base: bigint;
  /** How many leading bits are fixed. */
  readonly prefix: number;
}

const widthOf = (family: 4 | 6): number => (family === 4 ? 32 : 128);

/**
 * Reads `192.0.2.0/24` or `2001:db8::/32`; an address alone is a range of one. Bits beyond the prefix are ignored.
 * @throws {InvalidInputError} naming the text when it is neither.
 */
export function parseRange(text: string): AddressRange {
  const [address = '', bits, ...rest] = text.split('/');
  const family = isIP(address);
  if ((family !== 4 && family !== 6) || rest.length > 0) throw notARange(text);
  const width = widthOf(family);
  const prefix = bits === undefined ? width : Number(bits);
  if (!Number.isInteger(prefix) || prefix < 0 || prefix > width) throw notARange(text);
  const value = family === 4 ? parseFour(address) : parseSix(address);
  return { family, base: masked(value, prefix, width), prefix };
}

function notARange(text: string): InvalidInputError {
  return new InvalidInputError('cidr', `${JSON.stringify(text)} is no address range: use for example 192.0.2.0/24`);
}

function parseFour(address: string): bigint {
  return address.split('.').reduce((sum, part) => (sum << 8n) | BigInt(part), 0n);
}

function parseSix(address: string): bigint {
  // A zone names an interface, which a range has none of.
  const plain = address.replace(/%.*$/, '').replace(/[0-9.]+\.[0-9]+$/, (four) => {
    const value = parseFour(four);
    return `${(value >> 16n).toString(16)}:${(value & 0xffffn).toString(16)}`;
  });
  const [head = '', tail] = plain.split('::');
  const words = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const [first, last] = [words(head), words(tail ?? '')];
  const zeros = tail === undefined ? [] : Array<string>(8 - first.length - last.length).fill('0');
  return [...first, ...zeros, ...last].reduce((sum, word) => (sum << 16n) | BigInt(`0x${word}`), 0n);
}

function masked(value: bigint, prefix: number, width: number): bigint {
  const free = BigInt(width - prefix);
  return (value >> free) << free;
}

/** Writes a range in the form that Kubernetes wants; IPv6 in full, without `::`. */
export function formatRange({ family, base, prefix }: AddressRange): string {
  const [count, bits] = family === 4 ? [4, 8n] : [8, 16n];
  const parts = Array.from({ length: count }, (_, index) => {
    const part = (base >> (BigInt(count - 1 - index) * bits)) & ((1n << bits) - 1n);
    return family === 4 ? part.toString() : part.toString(16);
  });
  return `${parts.join(family === 4 ? '.' : ':')}/${prefix}`;
}

/** Whether every address of `inner` is in `outer`. Two ranges are nested or disjoint, never anything between. */
export function contains(outer: AddressRange, inner: AddressRange): boolean {
  if (outer.family !== inner.family || outer.prefix > inner.prefix) return false;
  return masked(inner.base, outer.prefix, widthOf(outer.family)) === outer.base;
}

/**
 * The same addresses, and perhaps some more, in at most `max` ranges of each family: halves are joined, and when there are still too many,
 * ranges grow by a bit until they are few enough. Sorted; the order of the input doesn't matter.
 */
export function coalesce(ranges: readonly AddressRange[], max: number): AddressRange[] {
  return ([4, 6] as const).flatMap((family) => {
    let current = joined(ranges.filter((range) => range.family === family));
    for (let longest = widthOf(family); current.length > max && longest > 0; longest--) {
      current = joined(current.map((range) => (range.prefix >= longest ? grown(range) : range)));
    }
    return current;
  });
}

function grown(range: AddressRange): AddressRange {
  const prefix = range.prefix - 1;
  return { ...range, base: masked(range.base, prefix, widthOf(range.family)), prefix };
}

/** Drops what lies inside another range and joins two halves of one, until nothing changes. */
function joined(ranges: readonly AddressRange[]): AddressRange[] {
  const result: AddressRange[] = [];
  for (let range of [...ranges].sort(byBase)) {
    let last = result.at(-1);
    if (last !== undefined && contains(last, range)) continue;
    while (last !== undefined && areHalves(last, range)) {
      result.pop();
      range = grown(range);
      last = result.at(-1);
    }
    result.push(range);
  }
  return result;
}

function areHalves(a: AddressRange, b: AddressRange): boolean {
  return a.prefix === b.prefix && a.prefix > 0 && grown(a).base === grown(b).base;
}

/** Lowest first; of two that start alike the larger. */
function byBase(a: AddressRange, b: AddressRange): number {
  if (a.base !== b.base) return a.base < b.base ? -1 : 1;
  return a.prefix - b.prefix;
}

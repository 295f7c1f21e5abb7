import type { AttributeValue } from '#proto/selector/attributes.ts';

/** Where a node without the attribute lies: below every value. */
export const absentCoordinate = -Infinity;

/**
 * The place of a value on its attribute's axis: a number is its own place; a word lies at a hash of its text, so that
 * words need no agreed order. Two values may share a place: cells only steer a query, the node itself compares values.
 */
export function coordinateOf(value: AttributeValue | undefined): number {
  if (value === undefined) return absentCoordinate;
  return typeof value === 'number' ? value : wordCoordinate(value);
}

/** FNV-1a over UTF-16 units, mixed (murmur3's finalizer), as a number in [0, 2^32). */
export function wordCoordinate(word: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < word.length; i++) hash = Math.imul(hash ^ word.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

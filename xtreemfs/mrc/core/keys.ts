import { bytesToText, textToBytes } from '#proto/wire.ts';
import type { Key } from '../store/kv.ts';
import { refuse } from './errno.ts';

/**
 * Keys of the MRC's records. The first byte names the table; numbers are big-endian, so that byte order is their order.
 *
 * | key | value |
 * | --- | --- |
 * | `V` volume(4) | volume settings, JSON |
 * | `C` volume(4) | counters: next file number, files, directories, bytes used and blocked |
 * | `D` volume(4) parent(6) name | directory entry: file number and type. Children of a directory lie together, in name order |
 * | `I` volume(4) file(6) | inode: attributes, symlink target, replicas |
 * | `A` volume(4) file(6) | access control list |
 * | `X` volume(4) file(6) owner NUL name | extended attribute |
 * | `L` volume(4) file(6) | change of the replica set in progress |
 * | `O` expiry(6) volume(4) file(6) | unlinked file that capabilities may still name |
 * | `Q` volume(4) `u`/`g` name | quota and use of one user or group |
 * | `K` volume(4) file(6) expiry(6) | open voucher |
 * | `M` name | facts about the database itself |
 */
export const tables = {
  volume: 'V',
  counters: 'C',
  entry: 'D',
  inode: 'I',
  acl: 'A',
  attribute: 'X',
  change: 'L',
  orphan: 'O',
  quota: 'Q',
  voucher: 'K',
  meta: 'M',
} as const;

/** Longest name of a file, attribute, user or group, in UTF-8 bytes. */
export const nameBytesMax = 255;
const tableOnly = new Set<string>([tables.volume, tables.orphan, tables.quota, tables.meta]);
const perObject = new Set<string>([tables.entry, tables.attribute, tables.voucher]);
const objectKeyLength = 11;

/** The part of a key within which the store must be able to scan; undefined for records that are only looked up. */
export function bucketOf(key: Key): Key | undefined {
  const table = key.charAt(0);
  if (perObject.has(table)) return key.slice(0, objectKeyLength);
  return tableOnly.has(table) ? table : undefined;
}

const { fromCharCode } = String;

/** A number below 2^32 as four bytes. */
export function u32(value: number): string {
  return fromCharCode((value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255);
}

/** A number below 2^48 as six bytes. */
export function u48(value: number): string {
  const high = Math.floor(value / 0x1_0000_0000);
  return fromCharCode((high >>> 8) & 255, high & 255) + u32(value >>> 0);
}

/** The inverse of `u48` at an offset. */
export function readU48(key: Key, offset: number): number {
  let value = 0;
  for (let i = 0; i < 6; i++) value = value * 256 + key.charCodeAt(offset + i);
  return value;
}

/** The inverse of `u32` at an offset. */
export function readU32(key: Key, offset: number): number {
  let value = 0;
  for (let i = 0; i < 4; i++) value = value * 256 + key.charCodeAt(offset + i);
  return value;
}

// eslint-disable-next-line no-control-regex
const ascii = /^[\x01-\x7f]*$/;

/** Bytes of a text (UTF-8; bytes that are none are carried as the codecs carry them) as a binary string. */
export function toBinary(text: string): Key {
  return ascii.test(text) ? text : textToBytes(text).toString('latin1');
}

/** The inverse of `toBinary`. */
export function fromBinary(key: Key): string {
  return ascii.test(key) ? key : bytesToText(Buffer.from(key, 'latin1'));
}

export const volumeKey = (volume: number): Key => tables.volume + u32(volume);
export const countersKey = (volume: number): Key => tables.counters + u32(volume);
export const inodeKey = (volume: number, ino: number): Key => tables.inode + u32(volume) + u48(ino);
export const inodesPrefix = (volume: number): Key => tables.inode + u32(volume);
export const entriesPrefix = (volume: number, parent: number): Key => tables.entry + u32(volume) + u48(parent);
export const entryKey = (volume: number, parent: number, name: string): Key =>
  entriesPrefix(volume, parent) + toBinary(name);
export const aclKey = (volume: number, ino: number): Key => tables.acl + u32(volume) + u48(ino);
export const attributesPrefix = (volume: number, ino: number): Key => tables.attribute + u32(volume) + u48(ino);
export const attributeKey = (volume: number, ino: number, owner: string, name: string): Key =>
  `${attributesPrefix(volume, ino)}${toBinary(owner)}\0${toBinary(name)}`;
export const changeKey = (volume: number, ino: number): Key => tables.change + u32(volume) + u48(ino);
export const changesPrefix = (volume: number): Key => tables.change + u32(volume);
export const orphanKey = (expiryMs: number, volume: number, ino: number): Key =>
  tables.orphan + u48(expiryMs) + u32(volume) + u48(ino);
export const quotaPrefix = (volume: number): Key => tables.quota + u32(volume);
export const quotaKey = (volume: number, kind: 'u' | 'g', name: string): Key =>
  quotaPrefix(volume) + kind + toBinary(name);
export const vouchersPrefix = (volume: number, ino: number): Key => tables.voucher + u32(volume) + u48(ino);
export const voucherKey = (volume: number, ino: number, expireMs: number): Key =>
  vouchersPrefix(volume, ino) + u48(expireMs);
export const metaKey = (name: string): Key => tables.meta + name;

/**
 * Checks the name of a directory entry.
 * @throws {PosixError} ENAMETOOLONG above 255 bytes of UTF-8; EINVAL for an empty name, `.`, `..`, `/` or NUL.
 */
export function checkName(name: string): string {
  if (name.length > nameBytesMax || (!ascii.test(name) && textToBytes(name).length > nameBytesMax)) {
    refuse('ENAMETOOLONG', `A name has at most ${nameBytesMax} bytes, not ${textToBytes(name).length}`);
  }
  if (name === '' || name === '.' || name === '..' || name.includes('/') || name.includes('\0')) {
    refuse('EINVAL', `${JSON.stringify(name)} is not a file name`);
  }
  return name;
}

import type { Caller } from './access.ts';
import { demand, demandChangeable, demandWritable, rights } from './access.ts';
import { refuse } from './errno.ts';
import { attributeKey, attributesPrefix, fromBinary, nameBytesMax } from './keys.ts';
import type { Found, Operation } from './operation.ts';
import { resolveExisting } from './operation.ts';
import { inodeFlags } from './records.ts';
import { isSystemName, listSystem, readSystem, writeSystem } from './system-xattrs.ts';
import type { SystemWrite } from './system-attribute.ts';

/** Largest value of an attribute, bytes (XATTR_SIZE_MAX of Linux). */
const valueBytesMax = 65_536;
/** Names and bytes of one object's attributes at most: all of them together are copied and removed in one transaction. */
const attributesMax = 4096;
const attributesBytesMax = 2 * 2 ** 20;
/** Owner of the attributes that everyone shares. */
const sharedOwner = '*';

/** Bits of `flags` (XATTR_FLAGS of the wire). */
export const xattrFlags = { create: 1, replace: 2 } as const;

/** An attribute with its value (undefined when only names were asked for). */
export interface NamedValue {
  readonly name: string;
  readonly value: Buffer | undefined;
}

/**
 * In whose name space an attribute lives. `user.*`, `trusted.*`, `security.*` and `system.*` are shared, guarded by the file's
 * permissions as in Linux; any other name is private to each user, as upstream has it for all names.
 */
function ownerOf(name: string, caller: Caller): string {
  return /^(user|trusted|security|system)\./.test(name) ? sharedOwner : caller.user;
}

function checkAttributeName(name: string): void {
  if (name === '' || name.includes('\0')) refuse('EINVAL', `${JSON.stringify(name)} is not an attribute name`);
  if (Buffer.byteLength(name) > nameBytesMax) refuse('ERANGE', `An attribute name has at most ${nameBytesMax} bytes`);
}

function demandAttributeRight(op: Operation, found: Found, name: string, wanted: number): void {
  if (name.startsWith('trusted.') && !op.caller.isSuper) {
    refuse(wanted === rights.read ? 'ENODATA' : 'EPERM', 'trusted.* attributes are for the superuser');
  }
  demand(op.tx, found.volume, found.inode, op.caller, wanted);
}

/** Procedure 5. @throws {PosixError} ENODATA when the attribute is not set. */
export function getxattr(op: Operation, volumeName: string, path: string, name: string): Buffer {
  checkAttributeName(name);
  const found = resolveExisting(op, volumeName, path);
  if (isSystemName(name)) {
    return Buffer.from(readSystem(op, found, path, name) ?? refuse('ENODATA', `${path} has no attribute ${name}`));
  }
  demandAttributeRight(op, found, name, rights.read);
  const value = op.tx.get(attributeKey(found.volume.number, found.inode.ino, ownerOf(name, op.caller), name));
  return Buffer.from(value ?? refuse('ENODATA', `${path} has no attribute ${name}`));
}

/** Procedure 7: the attributes that the caller may see, system ones too. */
export function listxattr(op: Operation, volumeName: string, path: string, namesOnly: boolean): NamedValue[] {
  const found = resolveExisting(op, volumeName, path);
  const listed: NamedValue[] = [];
  if ((found.inode.flags & inodeFlags.hasAttributes) !== 0) {
    const prefix = attributesPrefix(found.volume.number, found.inode.ino);
    for (const { key, value } of op.tx.scan({ prefix, limit: attributesMax * 2 })) {
      const [owner = '', name = ''] = key.slice(prefix.length).split('\0', 2).map(fromBinary);
      const isSeen = owner === sharedOwner || owner === op.caller.user;
      if (owner === '' || !isSeen || (name.startsWith('trusted.') && !op.caller.isSuper)) continue;
      listed.push({ name, value: namesOnly ? undefined : Buffer.from(value) });
    }
  }
  for (const name of listSystem(op, found)) {
    const value = namesOnly ? undefined : readSystem(op, found, path, name);
    if (namesOnly || value !== undefined)
      listed.push({ name, value: value === undefined ? undefined : Buffer.from(value) });
  }
  return listed;
}

/** What a set needs beside path and name. */
export interface SetArguments {
  readonly value: Buffer;
  /** `xattrFlags`. */
  readonly flags: number;
  /** The request carried the admin password. */
  readonly isAdmin: boolean;
}

/**
 * Procedure 16.
 * @returns the write of a system attribute that can't be done inside the transaction (a snapshot, a change of replicas), if any.
 */
export function setxattr(
  op: Operation,
  volumeName: string,
  path: string,
  name: string,
  args: SetArguments,
): SystemWrite | undefined {
  checkAttributeName(name);
  if (args.value.length > valueBytesMax) refuse('ENOSPC', `A value has at most ${valueBytesMax} bytes`);
  const found = resolveExisting(op, volumeName, path);
  demandWritable(found.volume);
  if (isSystemName(name))
    return writeSystem(op, found, path, { name, value: args.value.toString(), isAdmin: args.isAdmin });
  demandChangeable(found.inode);
  demandAttributeRight(op, found, name, rights.write);
  const key = attributeKey(found.volume.number, found.inode.ino, ownerOf(name, op.caller), name);
  const exists = op.tx.get(key) !== undefined;
  if (exists && (args.flags & xattrFlags.create) !== 0) refuse('EEXIST', `${path} has the attribute ${name} already`);
  if (!exists && (args.flags & xattrFlags.replace) !== 0) refuse('ENODATA', `${path} has no attribute ${name}`);
  demandRoom(op, found, args.value.length);
  op.tx.put(key, args.value);
  found.inode.flags |= inodeFlags.hasAttributes;
  found.inode.ctimeNs = op.tx.nowNs;
  op.tx.touch(found.inode);
  return undefined;
}

function demandRoom(op: Operation, found: Found, valueBytes: number): void {
  if ((found.inode.flags & inodeFlags.hasAttributes) === 0) return;
  const prefix = attributesPrefix(found.volume.number, found.inode.ino);
  const held = op.tx.scan({ prefix, limit: attributesMax });
  const bytes = held.reduce((sum, { key, value }) => sum + key.length + value.length, valueBytes);
  if (held.length >= attributesMax || bytes > attributesBytesMax) {
    refuse('ENOSPC', `An object has at most ${attributesMax} attributes and ${attributesBytesMax} bytes of them`);
  }
}

/** Procedure 12. Removing a system attribute is setting it to nothing. */
export function removexattr(
  op: Operation,
  volumeName: string,
  path: string,
  name: string,
  isAdmin: boolean,
): SystemWrite | undefined {
  checkAttributeName(name);
  const found = resolveExisting(op, volumeName, path);
  demandWritable(found.volume);
  if (isSystemName(name)) return writeSystem(op, found, path, { name, value: '', isAdmin });
  demandChangeable(found.inode);
  demandAttributeRight(op, found, name, rights.write);
  const key = attributeKey(found.volume.number, found.inode.ino, ownerOf(name, op.caller), name);
  if (op.tx.get(key) === undefined) refuse('ENODATA', `${path} has no attribute ${name}`);
  op.tx.remove(key);
  found.inode.ctimeNs = op.tx.nowNs;
  op.tx.touch(found.inode);
  return undefined;
}

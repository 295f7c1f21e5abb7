import { z } from 'zod';
import { demandChangeable, isInGroup, modeBits } from './access.ts';
import { refuse } from './errno.ts';
import { nameBytesMax } from './keys.ts';
import type { Operation } from './operation.ts';
import type { AclEntry, Inode } from './records.ts';
import { inodeFlags, isDirectory, isSymlink } from './records.ts';
import type { Tx } from './tx.ts';

/**
 * Access control lists as the attribute `xtreemfs.acl` shows and takes them (protocol reference, section 9.4), and those that
 * new objects inherit, in `xtreemfs.default_acl`, which upstream lacks. Entities:
 * `u:` owner, `g:` owning group, `o:` others, `m:` mask, `u:<name>`, `g:<name>`. Rights are letters of
 * `rwx` or an octal digit when written, and three letters or dashes when read (upstream's xtfsutil wants text).
 */
const entriesMax = 256;

const shown = (octal: number): string =>
  `${(octal & 4) !== 0 ? 'r' : '-'}${(octal & 2) !== 0 ? 'w' : '-'}${(octal & 1) !== 0 ? 'x' : '-'}`;

/** The list as JSON: entity → rights. Undefined when the object has only its mode. */
export function readAcl(tx: Tx, inode: Inode): string | undefined {
  if ((inode.flags & inodeFlags.hasAcl) === 0) return undefined;
  const list = tx.acl(inode)?.access ?? [];
  const entries: Record<string, string> = { 'u:': shown((inode.mode >> 6) & 7) };
  for (const entry of list) entries[entityOf(entry)] = shown(entry.rights);
  entries['m:'] = shown((inode.mode >> 3) & 7);
  entries['o:'] = shown(inode.mode & 7);
  return JSON.stringify(entries);
}

/** How an entry is written: `u:`, `g:`, `o:`, `m:`, `u:NAME` or `g:NAME`. */
export function entityOf({ kind, name }: AclEntry): string {
  return { owner: 'u:', group: 'g:', other: 'o:', mask: 'm:', u: `u:${name}`, g: `g:${name}` }[kind];
}

/**
 * Carries out `m <entity>:<rights>` or `x <entity>`; ours are `s <list>`, which puts a whole list in the place of what is
 * there, and nothing at all, which takes the list away and leaves the mode.
 * @throws {PosixError} EINVAL when the command is malformed or names an entry that can't be removed.
 */
export function changeAcl({ tx, caller }: Operation, inode: Inode, command: string): void {
  demandChangeable(inode);
  const [verb = '', ...rest] = command.trim().split(' ');
  const argument = rest.join(' ').trim();
  if (verb === 'm') modify(tx, inode, argument);
  else if (verb === 'x') removeEntity(tx, inode, argument);
  else if (verb === 's') {
    replace(tx, inode, parseList(argument));
    if (!caller.isSuper && !isInGroup(caller, inode.group)) inode.mode &= ~modeBits.setgid;
  } else if (verb === '') put(tx, inode, []);
  else refuse('EINVAL', `${JSON.stringify(command)}: write "m <entity>:<rights>", "x <entity>" or "s <list>"`);
  inode.ctimeNs = tx.nowNs;
  tx.touch(inode);
}

/** The list that new objects in a directory get, as `readAcl` shows one; undefined when there is none. */
export function readDefaultAcl(tx: Tx, inode: Inode): string | undefined {
  if ((inode.flags & inodeFlags.hasDefaultAcl) === 0) return undefined;
  return showList(tx.acl(inode)?.inherited ?? []);
}

/** A whole list as JSON, as `parseList` reads it. */
export function showList(list: readonly AclEntry[]): string {
  return JSON.stringify(Object.fromEntries(list.map((entry) => [entityOf(entry), shown(entry.rights)])));
}

/** Carries out `s <list>`, or takes the list away (''). @throws {PosixError} EINVAL for a malformed list. */
export function changeDefaultAcl({ tx }: Operation, inode: Inode, command: string): void {
  demandChangeable(inode);
  const { access } = tx.acl(inode) ?? { access: [] };
  const text = command.trim();
  if (text !== '' && !text.startsWith('s ')) refuse('EINVAL', `${JSON.stringify(command)}: write "s <list>"`);
  const inherited = text === '' ? undefined : parseList(text.slice(2));
  tx.putAcl(inode, inherited === undefined && access.length === 0 ? undefined : { access, inherited });
  if (inherited === undefined) inode.flags &= ~inodeFlags.hasDefaultAcl;
  else inode.flags |= inodeFlags.hasDefaultAcl;
  inode.ctimeNs = tx.nowNs;
  tx.touch(inode);
}

/**
 * Gives a new object what its directory says: the default list, each class cut by the mode that was asked for, and to a
 * directory the default list too. Source: posix_acl_create of Linux.
 * @param mode - as asked for, without the caller's umask, which does not count here.
 */
export function inheritAcl(tx: Tx, parent: Inode, inode: Inode, mode: number): void {
  if ((parent.flags & inodeFlags.hasDefaultAcl) === 0 || isSymlink(inode)) return;
  const inherited = tx.acl(parent)?.inherited ?? [];
  const hasMask = inherited.some(({ kind }) => kind === 'mask');
  const cut = (shift: number) => (entry: AclEntry) => ({ ...entry, rights: entry.rights & (mode >> shift) & 7 });
  const asked = { owner: cut(6), other: cut(0), mask: cut(3), group: hasMask ? same : cut(3), u: same, g: same };
  replace(
    tx,
    inode,
    inherited.map((entry) => asked[entry.kind](entry)),
  );
  if (!isDirectory(inode)) return;
  tx.putAcl(inode, { access: tx.acl(inode)?.access ?? [], inherited });
  inode.flags |= inodeFlags.hasDefaultAcl;
}

const same = (entry: AclEntry): AclEntry => entry;

/** Puts a whole list in the place of mode and list. */
function replace(tx: Tx, inode: Inode, list: readonly AclEntry[]): void {
  const rightsOf = (kind: AclEntry['kind']): number | undefined => list.find((entry) => entry.kind === kind)?.rights;
  setBits(inode, 6, rightsOf('owner') ?? 0);
  setBits(inode, 0, rightsOf('other') ?? 0);
  setBits(inode, 3, rightsOf('mask') ?? rightsOf('group') ?? 0);
  const hasMask = rightsOf('mask') !== undefined;
  put(tx, inode, hasMask ? list.filter(({ kind }) => ['u', 'g', 'group'].includes(kind)) : []);
}

const listJson = z.record(z.string(), z.string());

/** Reads a whole list. @throws {PosixError} EINVAL unless it has what POSIX.1e asks of a list; ENOSPC when it is too long. */
export function parseList(text: string): AclEntry[] {
  let parsed: Record<string, string>;
  try {
    parsed = listJson.parse(JSON.parse(text));
  } catch {
    refuse('EINVAL', 'A list is an object of entities and rights, as xtreemfs.acl is read');
  }
  const list = Object.entries(parsed).map(([entity, octal]): AclEntry => {
    const { kind, name } = parseEntity(entity);
    const own = { u: 'owner', g: 'group', o: 'other', m: 'mask' } as const;
    const isNamed = (kind === 'u' || kind === 'g') && name !== '';
    return { kind: isNamed ? kind : own[kind], name, rights: parseRights(octal) };
  });
  const has = (kind: AclEntry['kind']): boolean => list.some((entry) => entry.kind === kind);
  if (!has('owner') || !has('group') || !has('other')) refuse('EINVAL', 'A list needs the entries u:, g: and o:');
  if ((has('u') || has('g')) && !has('mask')) refuse('EINVAL', 'A list with named entries needs a mask, m:');
  if (list.length > entriesMax) refuse('ENOSPC', `A list has at most ${entriesMax} entries`);
  return list;
}

function modify(tx: Tx, inode: Inode, argument: string): void {
  const colon = argument.lastIndexOf(':');
  if (colon < 0) refuse('EINVAL', `${JSON.stringify(argument)}: an entry is <entity>:<rights>`);
  const { kind, name } = parseEntity(argument.slice(0, colon));
  const octal = parseRights(argument.slice(colon + 1));
  if (kind === 'u' && name === '') setBits(inode, 6, octal);
  else if (kind === 'o') setBits(inode, 0, octal);
  else if (kind === 'g' && name === '' && (inode.flags & inodeFlags.hasAcl) === 0) setBits(inode, 3, octal);
  else if (kind === 'm') setMask(tx, inode, octal);
  else {
    const list = listOf(tx, inode);
    const entry: AclEntry =
      name === ''
        ? { kind: 'group', name: '', rights: octal }
        : { kind: kind === 'u' ? 'u' : 'g', name, rights: octal };
    const others = list.filter((held) => entityOf(held) !== entityOf(entry));
    if (others.length >= entriesMax) refuse('ENOSPC', `A list has at most ${entriesMax} entries`);
    const hadList = (inode.flags & inodeFlags.hasAcl) !== 0;
    save(tx, inode, [...others, entry]);
    // A first named entry would be cut by the group bits: as setfacl does, the mask grows to cover it.
    if (!hadList || name !== '') setBits(inode, 3, ((inode.mode >> 3) & 7) | octal);
  }
}

function removeEntity(tx: Tx, inode: Inode, argument: string): void {
  const { kind, name } = parseEntity(argument);
  const list = listOf(tx, inode);
  if (kind === 'm') {
    if (list.some((entry) => entry.kind !== 'group')) refuse('EINVAL', 'The mask stays while there are named entries');
    save(tx, inode, []);
    return;
  }
  if (name === '') refuse('EINVAL', 'The entries of owner, group and others can only be changed');
  const left = list.filter((entry) => entry.kind !== kind || entry.name !== name);
  if (left.length === list.length) refuse('ENODATA', `The list has no entry ${argument}`);
  save(tx, inode, left);
}

/** The list with the owning group's entry, which the mode's group bits stand for while there is no list. */
function listOf(tx: Tx, inode: Inode): readonly AclEntry[] {
  const list = (inode.flags & inodeFlags.hasAcl) === 0 ? undefined : tx.acl(inode)?.access;
  return list ?? [{ kind: 'group', name: '', rights: (inode.mode >> 3) & 7 }];
}

function setMask(tx: Tx, inode: Inode, octal: number): void {
  save(tx, inode, listOf(tx, inode));
  setBits(inode, 3, octal);
}

function setBits(inode: Inode, shift: number, octal: number): void {
  inode.mode = (inode.mode & ~(7 << shift)) | (octal << shift);
}

/** Stores a list; one that says no more than a mode does is dropped, and the group's rights return to the mode. */
function save(tx: Tx, inode: Inode, list: readonly AclEntry[]): void {
  if (
    list.some((entry) => entry.kind === 'u' || entry.kind === 'g') ||
    (list.length > 0 && (inode.flags & inodeFlags.hasAcl) === 0)
  ) {
    put(tx, inode, list);
    return;
  }
  const group =
    list.find((entry) => entry.kind === 'group') ?? tx.acl(inode)?.access.find((entry) => entry.kind === 'group');
  if (group !== undefined) setBits(inode, 3, group.rights);
  put(tx, inode, []);
}

/** Stores the object's own list; an empty one is none. */
function put(tx: Tx, inode: Inode, access: readonly AclEntry[]): void {
  const inherited = (inode.flags & inodeFlags.hasDefaultAcl) === 0 ? undefined : tx.acl(inode)?.inherited;
  tx.putAcl(inode, access.length === 0 && inherited === undefined ? undefined : { access, inherited });
  if (access.length === 0) inode.flags &= ~inodeFlags.hasAcl;
  else inode.flags |= inodeFlags.hasAcl;
}

function parseEntity(text: string): { kind: 'u' | 'g' | 'o' | 'm'; name: string } {
  const match = /^([ugmo]):?(.*)$/s.exec(text.trim());
  const [, kind, name = ''] =
    match ?? refuse('EINVAL', `${JSON.stringify(text)}: an entity is u:, g:, o:, m:, u:NAME or g:NAME`);
  if (Buffer.byteLength(name) > nameBytesMax) refuse('EINVAL', `A name has at most ${nameBytesMax} bytes`);
  if ((kind === 'o' || kind === 'm') && name !== '')
    refuse('EINVAL', `${JSON.stringify(text)}: ${kind}: takes no name`);
  return { kind: kind as 'u' | 'g' | 'o' | 'm', name };
}

function parseRights(text: string): number {
  const trimmed = text.trim();
  if (/^[0-7]$/.test(trimmed)) return Number(trimmed);
  if (!/^[rwx-]{0,3}$/.test(trimmed))
    refuse('EINVAL', `${JSON.stringify(text)}: rights are letters of rwx or a digit 0 to 7`);
  return (trimmed.includes('r') ? 4 : 0) | (trimmed.includes('w') ? 2 : 0) | (trimmed.includes('x') ? 1 : 0);
}

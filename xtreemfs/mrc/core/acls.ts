import { refuse } from './errno.ts';
import { nameBytesMax } from './keys.ts';
import type { AclEntry, Inode } from './records.ts';
import { inodeFlags } from './records.ts';
import type { Tx } from './tx.ts';

/**
 * Access control lists as the attribute `xtreemfs.acl` shows and takes them (protocol reference, section 9.4). Entities:
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

function entityOf(entry: AclEntry): string {
  return entry.kind === 'group' ? 'g:' : entry.kind === 'mask' ? 'm:' : `${entry.kind}:${entry.name}`;
}

/**
 * Carries out `m <entity>:<rights>` or `x <entity>`.
 * @throws {PosixError} EINVAL when the command is malformed or names an entry that can't be removed.
 */
export function changeAcl(tx: Tx, inode: Inode, command: string): void {
  const [verb, ...rest] = command.trim().split(' ');
  const argument = rest.join(' ').trim();
  if (verb === 'm') modify(tx, inode, argument);
  else if (verb === 'x') removeEntity(tx, inode, argument);
  else refuse('EINVAL', `${JSON.stringify(command)}: write "m <entity>:<rights>" or "x <entity>"`);
  inode.ctimeNs = tx.nowNs;
  tx.touch(inode);
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
    tx.putAcl(inode, { access: list });
    inode.flags |= inodeFlags.hasAcl;
    return;
  }
  const group =
    list.find((entry) => entry.kind === 'group') ?? tx.acl(inode)?.access.find((entry) => entry.kind === 'group');
  if (group !== undefined) setBits(inode, 3, group.rights);
  tx.putAcl(inode, undefined);
  inode.flags &= ~inodeFlags.hasAcl;
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

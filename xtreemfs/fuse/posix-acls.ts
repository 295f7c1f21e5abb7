import type { UserMapping } from '../client/users.ts';
import { refuse } from './errno.ts';

/**
 * Access control lists between the kernel's form (`struct posix_acl_xattr_header` and entries, in the attributes
 * `system.posix_acl_*`) and the MRC's: entities with names (`u:anna`) and their rights.
 */

/** Kernel's attribute → the MRC's, and the bit of `Stat.acls` that says whether there is one. */
const attributes: ReadonlyMap<string, { readonly stored: string; readonly bit: number }> = new Map([
  ['system.posix_acl_access', { stored: 'xtreemfs.acl', bit: 1 }],
  ['system.posix_acl_default', { stored: 'xtreemfs.default_acl', bit: 2 }],
]);

/** How the MRC knows an attribute that holds a list for the kernel; undefined for any other one. */
export function aclAttribute(name: string): { readonly stored: string; readonly bit: number } | undefined {
  return attributes.get(name);
}

/** Names of the kernel's attributes for lists that an object has. @param acls - `Stat.acls`. */
export function aclNames(acls: number): string[] {
  return [...attributes].filter(([, { bit }]) => (acls & bit) !== 0).map(([name]) => name);
}

/** Entity as the MRC writes it → octal rights. */
export type Acl = ReadonlyMap<string, number>;

const version = 2;
const headerBytes = 4;
const entryBytes = 8;
const tags = { owner: 1, user: 2, ownGroup: 4, group: 8, mask: 16, other: 32 } as const;
const undefinedId = 0xffff_ffff;
const ownTags: readonly (readonly [string, number])[] = [
  ['u:', tags.owner],
  ['g:', tags.ownGroup],
  ['m:', tags.mask],
  ['o:', tags.other],
];

/** Reads a list as the MRC shows it. @throws {FuseError} EIO when it is none. */
export function parseAcl(text: string): Acl {
  const rightsOf = (letters: string): number =>
    (letters.includes('r') ? 4 : 0) | (letters.includes('w') ? 2 : 0) | (letters.includes('x') ? 1 : 0);
  try {
    const entries = Object.entries(JSON.parse(text) as Record<string, string>);
    return new Map(entries.map(([entity, letters]) => [entity, rightsOf(letters)]));
  } catch {
    return refuse('EIO', 'the MRC shows an access control list that is none');
  }
}

/** A list as the MRC takes it. */
export function formatAcl(acl: Acl): string {
  return JSON.stringify(Object.fromEntries([...acl].map(([entity, rights]) => [entity, String(rights)])));
}

const isNamed = (entity: string): boolean => entity.length > 2;

/** Id of whom an entry names on this machine; undefined when the name is not one of this machine. */
function idOf(entity: string, users: UserMapping): number | undefined {
  const name = entity.slice(2);
  const isUser = entity.startsWith('u:');
  const id = isUser ? users.uid(name) : users.gid(name);
  return (isUser ? users.userName(id) : users.groupName(id)) === name ? id : undefined;
}

/** The list in the kernel's form. Names that this machine doesn't know have no number, and are left out. */
export function encodeAcl(acl: Acl, users: UserMapping): Buffer {
  const entries: { tag: number; rights: number; id: number }[] = [];
  for (const [entity, tag] of ownTags) {
    const rights = acl.get(entity);
    if (rights !== undefined) entries.push({ tag, rights, id: undefinedId });
  }
  for (const [entity, rights] of acl) {
    const id = isNamed(entity) ? idOf(entity, users) : undefined;
    if (id !== undefined) entries.push({ tag: entity.startsWith('u:') ? tags.user : tags.group, rights, id });
  }
  entries.sort((a, b) => a.tag - b.tag || a.id - b.id);
  const value = Buffer.alloc(headerBytes + entries.length * entryBytes);
  value.writeUInt32LE(version);
  entries.forEach(({ tag, rights, id }, index) => {
    const at = headerBytes + index * entryBytes;
    value.writeUInt16LE(tag, at);
    value.writeUInt16LE(rights, at + 2);
    value.writeUInt32LE(id, at + 4);
  });
  return value;
}

/** Reads the kernel's form. @throws {FuseError} EINVAL for a malformed one; EOPNOTSUPP for an unknown version. */
export function decodeAcl(value: Buffer, users: UserMapping): Acl {
  if (value.length < headerBytes || (value.length - headerBytes) % entryBytes !== 0) refuse('EINVAL');
  if (value.readUInt32LE() !== version) refuse('EOPNOTSUPP');
  const acl = new Map<string, number>();
  for (let at = headerBytes; at < value.length; at += entryBytes) {
    const tag = value.readUInt16LE(at);
    const id = value.readUInt32LE(at + 4);
    const own = ownTags.find(([, ownTag]) => ownTag === tag)?.[0];
    if (own === undefined && tag !== tags.user && tag !== tags.group) refuse('EINVAL');
    const entity = own ?? (tag === tags.user ? `u:${users.userName(id)}` : `g:${users.groupName(id)}`);
    acl.set(entity, value.readUInt16LE(at + 2) & 7);
  }
  return acl;
}

/**
 * A list that is to be set, with the entries of `held` whose names this machine doesn't know: who set it could not see them.
 * A list without named entries is meant to have none.
 */
export function keepUnknown(wanted: Acl, held: Acl, users: UserMapping): Acl {
  if (![...wanted.keys()].some(isNamed)) return wanted;
  const unknown = [...held].filter(([entity]) => isNamed(entity) && idOf(entity, users) === undefined);
  return new Map([...wanted, ...unknown]);
}

/**
 * The single steps that make one list of another at an MRC of upstream, which takes no whole lists.
 * @param held - undefined when there is only a mode.
 */
export function aclSteps(wanted: Acl, held: Acl | undefined): string[] {
  const gone = [...(held ?? new Map<string, number>()).keys()].filter(
    (entity) => isNamed(entity) && !wanted.has(entity),
  );
  const set = (entity: string): string[] => {
    const rights = wanted.get(entity);
    return rights === undefined ? [] : [`m ${entity}:${rights}`];
  };
  const named = [...wanted.keys()].filter(isNamed);
  // The mask last: naming somebody makes it larger.
  return [...gone.map((entity) => `x ${entity}`), ...['u:', 'o:', ...named, 'g:', 'm:'].flatMap(set)];
}

import { z } from 'zod';
import { isOwner } from './access.ts';
import { changeAcl, changeDefaultAcl, readAcl, readDefaultAcl } from './acls.ts';
import { refuse } from './errno.ts';
import { fromBinary, quotaPrefix } from './keys.ts';
import type { Found, Operation } from './operation.ts';
import { fileIdOf } from './operation.ts';
import { ownReplication, ownStriping, setDirectoryPolicy } from './policies.ts';
import type { Inode } from './records.ts';
import { decodeQuota, inodeFlags, isDirectory, isRegular, isSymlink } from './records.ts';
import { markComplete, parsePolicy } from './replicas.ts';
import type { Attribute, SystemWrite } from './system-attribute.ts';
import { booleanOf, bytesOf, parseJson, policyIds, setVolume, systemPrefix, withEntry } from './system-attribute.ts';
import { formatCoordinates } from '../placement/osd-catalogue.ts';
import type { Volume } from './volume.ts';
import { rootIno } from './volume.ts';
import { spaceOf } from './volumes.ts';

/** Attributes of the file system itself, `xtreemfs.*` (protocol reference, section 9.2). */
const prefix = systemPrefix;

export function isSystemName(name: string): boolean {
  return name.startsWith(prefix);
}

const stripingJson = z.object({
  pattern: z.string().default('STRIPING_POLICY_RAID0'),
  size: z.coerce
    .number()
    .int()
    .min(1)
    .max(1024 * 1024),
  width: z.coerce.number().int().min(1).max(1024),
});
const replicationJson = z.object({
  'update-policy': z.string(),
  'replication-factor': z.coerce.number().int().min(1).max(64).default(1),
  'replication-flags': z.coerce.number().int().min(0).default(0),
});

function showStriping(striping: { stripeSizeKb: number; width: number }): string {
  return JSON.stringify({ pattern: 'STRIPING_POLICY_RAID0', size: striping.stripeSizeKb, width: striping.width });
}

function locations(op: Operation, { inode }: Found): string {
  const xlocs = inode.xlocs;
  if (!isRegular(inode) || xlocs === undefined) return '';
  return JSON.stringify({
    'update-policy': xlocs.policy,
    version: xlocs.version,
    replicas: xlocs.replicas.map((replica) => ({
      'striping-policy': {
        pattern: 'STRIPING_POLICY_RAID0',
        size: replica.striping.stripeSizeKb,
        width: replica.striping.width,
      },
      'replication-flags': replica.flags,
      osds: replica.osds.map((uuid) => {
        const osd = op.env.placement.find(uuid);
        const coordinates = osd?.coordinates === undefined ? '' : formatCoordinates(osd.coordinates);
        return { uuid, vivaldi_coordinates: coordinates, address: osd?.address ?? '' };
      }),
    })),
  });
}

function writeStriping(op: Operation, found: Found, value: string): void {
  if (!isDirectory(found.inode)) refuse('EPERM', 'xtreemfs.default_sp: only a directory has a striping policy');
  const isRoot = found.inode.ino === rootIno;
  if (value === '') {
    if (isRoot) refuse('EPERM', "xtreemfs.default_sp: the volume's own policy can't be removed");
    setDirectoryPolicy(op.tx, found.inode, 'sp', undefined);
    return;
  }
  const { pattern, size, width } = parseJson('default_sp', value, stripingJson);
  if (!/^(STRIPING_POLICY_)?RAID0$/.test(pattern))
    refuse('EINVAL', `xtreemfs.default_sp: pattern ${pattern} is not RAID0`);
  const striping = { stripeSizeKb: size, width };
  if (isRoot) {
    setVolume(op, found, { striping });
    return;
  }
  setDirectoryPolicy(op.tx, found.inode, 'sp', striping);
}

function writeReplication(op: Operation, found: Found, value: string): void {
  if (!isDirectory(found.inode)) refuse('EPERM', 'xtreemfs.default_rp: only a directory has a replication policy');
  const isRoot = found.inode.ino === rootIno;
  if (value === '') {
    if (isRoot) {
      setVolume(op, found, { replication: { policy: '', factor: 1, flags: 0 } });
      return;
    }
    setDirectoryPolicy(op.tx, found.inode, 'rp', undefined);
    return;
  }
  const wanted = parseJson('default_rp', value, replicationJson);
  const policy = parsePolicy(wanted['update-policy']);
  const factor = wanted['replication-factor'];
  if (policy !== '' && factor === 1) refuse('EPERM', `xtreemfs.default_rp: ${policy} needs a factor of at least 2`);
  const striping = ownStriping(op.tx, found.inode) ?? found.volume.striping;
  if (policy.startsWith('W') && striping.width > 1) {
    refuse('EINVAL', `xtreemfs.default_rp: ${policy} needs stripes of width 1, not ${striping.width}`);
  }
  const replication = { policy, factor, flags: wanted['replication-flags'] };
  if (isRoot) {
    setVolume(op, found, { replication });
    return;
  }
  setDirectoryPolicy(op.tx, found.inode, 'rp', replication);
}

function readReplication(op: Operation, { volume, inode }: Found): string | undefined {
  const own = inode.ino === rootIno ? volume.replication : ownReplication(op.tx, inode);
  if (own === undefined || own.policy === '') return undefined;
  return JSON.stringify({
    'update-policy': own.policy,
    'replication-factor': own.factor,
    'replication-flags': own.flags,
  });
}

function snapshotNames(op: Operation, volume: Volume): string[] {
  const whole = op.env.snapshotsOf(volume).filter(({ snapshotOf }) => snapshotOf.isComplete);
  return whole.map(({ snapshotOf }) => snapshotOf.name);
}

function writeSnapshots(op: Operation, found: Found, value: string): SystemWrite {
  const match = /^(crs|cr|c|d) +([^/@\0]{1,128})$/.exec(value.trim());
  const [, verb, name = ''] =
    match ?? refuse('EINVAL', 'xtreemfs.snapshots: write "c NAME", "cr NAME", "crs NAME" or "d NAME"');
  const { volume, inode } = found;
  if (verb === 'd') return { kind: 'deleteSnapshot', volume, name };
  if (op.env.findVolume(`${volume.name}@${name}`) !== undefined)
    refuse('EEXIST', `There is a snapshot ${name} already`);
  // `crs`, ours: as `cr`, and only when every OSD keeps what files hold.
  return { kind: 'createSnapshot', volume, ino: inode.ino, name, isRecursive: verb !== 'c', isStrict: verb === 'crs' };
}

function quotaInfo(op: Operation, volume: Volume, kind: 'u' | 'g'): string {
  const start = quotaPrefix(volume.number) + kind;
  const shown: Record<string, { quota: number; usedSpace: number; blockedSpace: number }> = {};
  for (const { key, value } of op.tx.scan({ prefix: start, limit: 10_000 })) {
    const record = decodeQuota(value);
    shown[fromBinary(key.slice(start.length))] = {
      quota: record.quotaBytes,
      usedSpace: record.usedBytes,
      blockedSpace: record.blockedBytes,
    };
  }
  return JSON.stringify(shown);
}

const typeNumber = (found: Found): string => (isDirectory(found.inode) ? '2' : isSymlink(found.inode) ? '3' : '1');

const protections = { i: inodeFlags.immutable, a: inodeFlags.appendOnly } as const;

/** Letters of chattr(1): `i` immutable, `a` append-only. */
export function protectionOf(inode: Pick<Inode, 'flags'>): string {
  return Object.entries(protections)
    .filter(([, flag]) => (inode.flags & flag) !== 0)
    .map(([letter]) => letter)
    .join('');
}

/** Flags for letters of `protectionOf`. @throws {PosixError} EINVAL for any other letter. */
export function protectionFlags(letters: string): number {
  if (!/^[ia]{0,2}$/.test(letters))
    refuse('EINVAL', `xtreemfs.protection: "${letters}" has other letters than i and a`);
  return (letters.includes('i') ? protections.i : 0) | (letters.includes('a') ? protections.a : 0);
}

function writeProtection({ tx, caller }: Operation, { inode }: Found, value: string): void {
  if (!caller.isSuper) refuse('EPERM', 'xtreemfs.protection: only a superuser protects objects');
  if (!isRegular(inode) && !isDirectory(inode))
    refuse('EPERM', 'xtreemfs.protection: only files and directories have it');
  inode.flags = (inode.flags & ~(protections.i | protections.a)) | protectionFlags(value);
  inode.ctimeNs = tx.nowNs;
  tx.touch(inode);
}

/** Fixed names. Names with a variable part are in `dynamic`. */
const attributes: Readonly<Record<string, Attribute>> = {
  locations: { on: 'file', read: locations },
  file_id: { on: 'any', read: (_op, found) => fileIdOf(found.volume, found.inode) },
  object_type: { on: 'any', read: (_op, found) => typeNumber(found) },
  url: {
    on: 'any', // No slash behind the volume: upstream's xtfsutil takes what follows it for the path.
    read: (op, found, path) =>
      [op.env.url, found.volume.name, ...path.split('/').filter((name) => name !== '')].join('/'),
  },
  owner: { on: 'any', read: (_op, { inode }) => inode.user },
  group: { on: 'any', read: (_op, { inode }) => inode.group },
  acl: {
    on: 'any',
    read: (op, { inode }) => readAcl(op.tx, inode),
    write: (op, { inode }, value) => {
      changeAcl(op, inode, value);
    },
  },
  default_acl: {
    on: 'directory',
    isHidden: true,
    read: (op, { inode }) => readDefaultAcl(op.tx, inode),
    write: (op, { inode }, value) => {
      changeDefaultAcl(op, inode, value);
    },
  },
  protection: {
    on: 'any',
    isHidden: true,
    read: (_op, { inode }) => protectionOf(inode),
    write: writeProtection,
  },
  read_only: {
    on: 'file',
    read: (_op, { inode }) => String((inode.flags & inodeFlags.readOnly) !== 0),
    write: (op, { inode }, value) => {
      if (
        (inode.xlocs?.replicas.length ?? 0) > 1 &&
        !booleanOf('read_only', value) &&
        inode.xlocs?.policy === 'ronly'
      ) {
        refuse('EPERM', 'xtreemfs.read_only: a file with read-only replicas stays read-only');
      }
      inode.flags = booleanOf('read_only', value)
        ? inode.flags | inodeFlags.readOnly
        : inode.flags & ~inodeFlags.readOnly;
      inode.ctimeNs = op.tx.nowNs;
      op.tx.touch(inode);
    },
  },
  set_repl_update_policy: {
    on: 'file',
    isHidden: true,
    defer: (_op, { volume, inode }, policy) => ({ kind: 'setReplicaPolicy', volume, ino: inode.ino, policy }),
  },
  mark_replica_complete: {
    on: 'file',
    isHidden: true,
    write: (op, { inode }, value) => {
      markComplete(op, inode, value);
    },
  },
  default_sp: {
    on: 'directory',
    read: (op, { volume, inode }) => {
      const striping = inode.ino === rootIno ? volume.striping : ownStriping(op.tx, inode);
      return striping === undefined ? undefined : showStriping(striping);
    },
    write: writeStriping,
  },
  default_rp: { on: 'directory', read: readReplication, write: writeReplication },
  ac_policy_id: { on: 'root', read: (_op, { volume }) => String(volume.accessPolicy) },
  osel_policy: {
    on: 'root',
    read: (_op, { volume }) => volume.osdPolicies.join(','),
    write: (op, found, value) => setVolume(op, found, { osdPolicies: policyIds('osel_policy', value) }),
  },
  rsel_policy: {
    on: 'root',
    read: (_op, { volume }) => volume.replicaPolicies.join(','),
    write: (op, found, value) => setVolume(op, found, { replicaPolicies: policyIds('rsel_policy', value) }),
  },
  usable_osds: {
    on: 'root',
    read: (op, { volume }) =>
      JSON.stringify(Object.fromEntries(op.env.placement.usable(volume).map((osd) => [osd.uuid, osd.address]))),
  },
  usable_space: { on: 'root', read: (op, { volume }) => String(spaceOf(op, volume).available) },
  free_space: { on: 'root', read: (op, { volume }) => String(spaceOf(op, volume).free) },
  used_space: { on: 'root', read: (op, { volume }) => String(op.tx.readCounters(volume.number).usedBytes) },
  usedspace: { on: 'root', read: (op, { volume }) => String(op.tx.readCounters(volume.number).usedBytes) },
  blockedspace: { on: 'root', read: (op, { volume }) => String(op.tx.readCounters(volume.number).blockedBytes) },
  num_files: { on: 'root', read: (op, { volume }) => String(op.tx.readCounters(volume.number).files) },
  num_dirs: { on: 'root', read: (op, { volume }) => String(op.tx.readCounters(volume.number).directories) },
  snapshots: {
    on: 'directory',
    read: (op, { volume, inode }) => (inode.ino === rootIno ? snapshotNames(op, volume).join(',') : undefined),
    defer: writeSnapshots,
  },
  snapshot_times: {
    on: 'root',
    isHidden: true,
    read: (op, { volume }) =>
      op.env
        .snapshotsOf(volume)
        .map(({ snapshotOf }) => snapshotOf.timeMs)
        .join(','),
  },
  snapshots_enabled: {
    on: 'root',
    read: (_op, { volume }) => String(volume.snapshotsEnabled),
    write: (op, found, value) => setVolume(op, found, { snapshotsEnabled: booleanOf('snapshots_enabled', value) }),
  },
  snapshot_time: {
    on: 'root',
    read: (_op, { volume }) => (volume.snapshotOf === undefined ? undefined : String(volume.snapshotOf.timeMs)),
  },
  quota: {
    on: 'root',
    read: (_op, { volume }) => String(volume.quotaBytes),
    write: (op, found, value) => setVolume(op, found, { quotaBytes: bytesOf('quota', value) }),
  },
  vouchersize: {
    on: 'root',
    read: (_op, { volume }) => String(volume.voucherBytes),
    write: (op, found, value) => setVolume(op, found, { voucherBytes: Math.max(1, bytesOf('vouchersize', value)) }),
  },
  defaultuserquota: {
    on: 'root',
    read: (_op, { volume }) => String(volume.defaultUserQuotaBytes),
    write: (op, found, value) => setVolume(op, found, { defaultUserQuotaBytes: bytesOf('defaultuserquota', value) }),
  },
  defaultgroupquota: {
    on: 'root',
    read: (_op, { volume }) => String(volume.defaultGroupQuotaBytes),
    write: (op, found, value) => setVolume(op, found, { defaultGroupQuotaBytes: bytesOf('defaultgroupquota', value) }),
  },
  userquotainfo: { on: 'root', isHidden: true, read: (op, { volume }) => quotaInfo(op, volume, 'u') },
  groupquotainfo: { on: 'root', isHidden: true, read: (op, { volume }) => quotaInfo(op, volume, 'g') },
  tracing_enabled: {
    on: 'root',
    read: (_op, { volume }) => String(volume.tracing?.enabled ?? false),
    write: (op, found, value) => setTracing(op, found, { enabled: booleanOf('tracing_enabled', value) }),
  },
  tracing_policy: {
    on: 'root',
    read: (_op, { volume }) => volume.tracing?.policy,
    write: (op, found, value) => setTracing(op, found, { policy: value }),
  },
  tracing_policy_config: {
    on: 'root',
    read: (_op, { volume }) => volume.tracing?.config,
    write: (op, found, value) => setTracing(op, found, { config: value }),
  },
};

function setTracing(op: Operation, found: Found, change: Partial<NonNullable<Volume['tracing']>>): void {
  const held = found.volume.tracing ?? { enabled: false, policy: '', config: '' };
  setVolume(op, found, { tracing: { ...held, ...change } });
}

/** Names with a variable part: pattern → attribute for the matched part. */
const dynamic: readonly { readonly pattern: RegExp; readonly of: (part: string) => Attribute }[] = [
  {
    pattern: /^policies\.((?:[0-9]+\.)?[A-Za-z0-9_.-]{1,128})$/,
    of: (key) => ({
      on: 'root',
      read: (_op, { volume }) => volume.policyAttributes[key],
      write: (op, found, value) =>
        setVolume(op, found, { policyAttributes: withEntry(found.volume.policyAttributes, key, value) }),
    }),
  },
  {
    pattern: /^volattr\.(.{1,128})$/,
    of: (key) => ({
      on: 'root',
      read: (_op, { volume }) => volume.attributes[key],
      write: (op, found, value) => setVolume(op, found, { attributes: withEntry(found.volume.attributes, key, value) }),
    }),
  },
  { pattern: /^userquota\.(.{1,255})$/, of: (name) => quotaAttribute('u', name, 'quotaBytes') },
  { pattern: /^groupquota\.(.{1,255})$/, of: (name) => quotaAttribute('g', name, 'quotaBytes') },
  { pattern: /^userusedspace\.(.{1,255})$/, of: (name) => quotaAttribute('u', name, 'usedBytes') },
  { pattern: /^groupusedspace\.(.{1,255})$/, of: (name) => quotaAttribute('g', name, 'usedBytes') },
  { pattern: /^userblockedspace\.(.{1,255})$/, of: (name) => quotaAttribute('u', name, 'blockedBytes') },
  { pattern: /^groupblockedspace\.(.{1,255})$/, of: (name) => quotaAttribute('g', name, 'blockedBytes') },
];

function quotaAttribute(kind: 'u' | 'g', name: string, field: 'quotaBytes' | 'usedBytes' | 'blockedBytes'): Attribute {
  return {
    on: 'root',
    read: (op, { volume }) => String(op.tx.quota(volume.number, kind, name)[field]),
    ...(field === 'quotaBytes'
      ? {
          write: (op, { volume }, value) => {
            op.tx.quota(volume.number, kind, name).quotaBytes = bytesOf(`quota of ${name}`, value);
          },
        }
      : {}),
  };
}

function find(name: string): Attribute | undefined {
  const short = name.slice(prefix.length);
  if (Object.hasOwn(attributes, short)) return attributes[short];
  for (const { pattern, of } of dynamic) {
    const part = pattern.exec(short)?.[1];
    if (part !== undefined) return of(part);
  }
  return undefined;
}

function has(attribute: Attribute, { inode }: Found): boolean {
  if (attribute.on === 'any') return true;
  if (attribute.on === 'root') return inode.ino === rootIno;
  return attribute.on === 'directory' ? isDirectory(inode) : isRegular(inode);
}

/** Value of a system attribute; undefined when the object has none of that name. */
export function readSystem(op: Operation, found: Found, path: string, name: string): string | undefined {
  const attribute = find(name);
  return attribute?.read === undefined || !has(attribute, found) ? undefined : attribute.read(op, found, path);
}

/** Names of the system attributes that the object has; one without a value may be among them. */
export function listSystem(_op: Operation, found: Found): string[] {
  const fixed = Object.entries(attributes)
    .filter(([, attribute]) => attribute.isHidden !== true && attribute.read !== undefined && has(attribute, found))
    .map(([name]) => prefix + name);
  if (found.inode.ino !== rootIno) return fixed;
  const policies = Object.keys(found.volume.policyAttributes).map((key) => `${prefix}policies.${key}`);
  return [...fixed, ...policies, ...Object.keys(found.volume.attributes).map((key) => `${prefix}volattr.${key}`)];
}

/**
 * Writes a system attribute: for the object's owner, a superuser, or with the admin password.
 * @throws {PosixError} EPERM without that right, or for one that can't be written; EINVAL for a bad value.
 */
export function writeSystem(
  op: Operation,
  found: Found,
  path: string,
  args: { name: string; value: string; isAdmin: boolean },
): SystemWrite | undefined {
  const attribute = find(args.name);
  if (attribute === undefined) refuse('EINVAL', `There is no attribute ${args.name}`);
  if (!has(attribute, found)) refuse('EPERM', `${path} can't have the attribute ${args.name}`);
  const { write, defer } = attribute;
  if (write === undefined && defer === undefined) refuse('EPERM', `${args.name} can't be written`);
  if (!args.isAdmin && !isOwner(found.inode, op.caller)) {
    refuse('EPERM', `${args.name}: ${op.caller.user} neither owns ${path} nor sent the admin password`);
  }
  write?.(op, found, args.value);
  return defer?.(op, found, args.value);
}

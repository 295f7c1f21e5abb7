import { resolve } from 'node:path';
import { systemClock } from '#common/clock.ts';
import { InvalidInputError, TerminalError } from '#common/errors.ts';
import { silentLogger } from '#common/logger.ts';
import { mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { type Caller, MetadataClient, serviceUser } from '../client/metadata.ts';
import { Services } from '../client/services.ts';
import { systemUsers, UserMapping } from '../client/users.ts';
import { listMounts } from '../fuse/mount.ts';
import { isErrno } from '../rpc/errors.ts';
import { ServerList } from '../rpc/retry.ts';
import { type Command, type CommandIo, parseTool, toolHelp, type ToolOption, type ToolOptions } from './command.ts';
import { parseSize } from './volumes-command.ts';
import { parseVolumeUrl } from './volume-url.ts';

const options: Readonly<Record<string, ToolOption>> = {
  'set-dsp': { isFlag: true, about: 'Set the default striping policy (with -p, -w, -s)' },
  'striping-policy': { short: 'p', about: 'RAID0', value: 'POLICY' },
  'striping-policy-width': { short: 'w', about: 'OSDs per file', value: 'N' },
  'striping-policy-stripe-size': { short: 's', about: 'Bytes of one object, KiB', value: 'KB' },
  'set-drp': { isFlag: true, about: 'Set the default replication policy of a directory' },
  'replication-policy': { about: 'ronly, WqRq, WaR1 or none', value: 'POLICY' },
  'replication-factor': { about: 'How many replicas', value: 'N' },
  full: { isFlag: true, about: 'Replicas that hold everything (read-only replication)' },
  'set-replication-policy': {
    short: 'r',
    about: 'Replication policy of a file: ronly, WqRq, WaR1 or none',
    value: 'POLICY',
  },
  'add-replica': { short: 'a', about: 'Add a replica at an OSD, or AUTO', value: 'UUID' },
  'delete-replica': { short: 'd', about: 'Remove the replica at an OSD', value: 'UUID' },
  'list-osds': { short: 'l', isFlag: true, about: 'OSDs that a new replica may be at' },
  'set-osp': { about: 'OSD selection: default, dcmap, fqdn, uuid, vivaldi, or numbers', value: 'POLICY' },
  'set-rsp': { about: 'Replica selection: as --set-osp', value: 'POLICY' },
  'set-pattr': { about: 'Attribute of a policy (with --value)', value: 'KEY' },
  value: { about: 'Value of --set-pattr', value: 'TEXT' },
  'list-pattrs': { isFlag: true, about: 'Attributes of policies' },
  'set-acl': { about: 'Add or change an entry: u|g|m|o:[NAME]:RIGHTS', value: 'ENTRY' },
  'del-acl': { about: 'Remove an entry: u|g|m|o:[NAME]', value: 'ENTRY' },
  'get-quotas': { isFlag: true, about: 'Quotas of the volume, its users and groups' },
  'set-quota': { about: 'Quota of the volume, or of --user or --group; K, M, G or T may follow', value: 'BYTES' },
  user: { short: 'u', about: 'Whose quota', value: 'USER' },
  group: { short: 'g', about: 'Whose quota', value: 'GROUP' },
  'set-voucher-size': { about: 'Space reserved when a file is opened for writing', value: 'BYTES' },
  'set-default-user-quota': { about: 'Quota of users who have none of their own', value: 'BYTES' },
  'set-default-group-quota': { about: 'Quota of groups that have none of their own', value: 'BYTES' },
  'enable-snapshots': { isFlag: true, about: 'Keep versions of files from now on' },
  'disable-snapshots': { isFlag: true, about: 'Keep no more versions' },
  'list-snapshots': { isFlag: true, about: 'Snapshots of the volume' },
  'create-snapshot': { about: 'Make a snapshot of a directory and all below', value: 'NAME' },
  'create-snapshot-non-recursive': { about: 'Make a snapshot of one directory', value: 'NAME' },
  'delete-snapshot': { about: 'Remove a snapshot', value: 'NAME' },
  'enable-tracing': { isFlag: true, about: 'Trace requests' },
  'disable-tracing': { isFlag: true, about: 'Trace no requests' },
  'tracing-policy': { about: 'Where traces go', value: 'POLICY' },
  'tracing-policy-config': { about: 'Settings of that', value: 'TEXT' },
  help: { short: 'h', isFlag: true, about: 'This text' },
};

/** A file of a mounted volume, and who asks. */
interface Target {
  readonly metadata: MetadataClient;
  readonly path: string;
  readonly caller: Caller;
}

/** `xtfsutil PATH` */
export const xtfsutilCommand: Command = {
  names: ['util', 'xtfsutil'],
  usage: 'xtfsutil PATH [OPTIONS]',
  about: 'Shows and changes what XtreemFS keeps of a file, a directory or a volume, by its path in a mount.',
  run: async (argv, io) => {
    const given = parseTool(options, argv);
    if (given.has('help')) {
      io.print(toolHelp(xtfsutilCommand, options));
      return 0;
    }
    const { mountPoint, source } = findMount(resolve(given.word(0, 'PATH')));
    const url = parseVolumeUrl(source.replace(/^xtreemfs@/, ''), 32_638);
    const services = new Services({ clock: systemClock, logger: silentLogger, dirs: url.servers, triesMax: 3 });
    try {
      const metadata = new MetadataClient(services, url.volumeName, await services.findVolume(url.volumeName));
      const path = resolve(given.word(0, 'PATH')).slice(mountPoint.length).replace(/^\//, '');
      const users = new UserMapping(systemUsers, systemClock);
      const user = users.caller(process.getuid?.() ?? 0, process.getgid?.() ?? 0, process.pid);
      return await act({ metadata, path, caller: { user, signal: io.signal } }, given, io);
    } finally {
      services.close();
    }
  },
};

function findMount(path: string): { mountPoint: string; source: string } {
  const mount = listMounts()
    .filter((one) => one.type === 'fuse.xtreemfs' && (path === one.mountPoint || path.startsWith(`${one.mountPoint}/`)))
    .sort((a, b) => a.mountPoint.length - b.mountPoint.length)
    .at(-1);
  if (mount === undefined) throw new TerminalError(`${path} is in no mounted volume: mount one with mount.xtreemfs`);
  return mount;
}

async function act(target: Target, given: ToolOptions, io: CommandIo): Promise<number> {
  const changes = attributeChanges(given);
  for (const [name, value] of changes) {
    await target.metadata.setxattr(target.caller, target.path, `xtreemfs.${name}`, Buffer.from(value), 0);
    io.print(`${name}: ${value === '' ? 'cleared' : value}`);
  }
  const shown = attributesShown(given);
  for (const name of shown) io.print(`${name}: ${(await read(target, name)) ?? '-'}`);
  const add = given.text('add-replica');
  if (add !== undefined) await addReplica(target, add, io);
  const remove = given.text('delete-replica');
  if (remove !== undefined) await removeReplica(target, remove, io);
  if (changes.length === 0 && shown.length === 0 && add === undefined && remove === undefined) await show(target, io);
  return 0;
}

/** Attributes to set, in the order of the options. */
function attributeChanges(given: ToolOptions): [string, string][] {
  const changes: [string, string][] = [];
  const size = given.number('striping-policy-stripe-size', 128, 4);
  const width = given.number('striping-policy-width', 1, 1);
  if (given.has('set-dsp')) {
    changes.push(['default_sp', JSON.stringify({ pattern: 'STRIPING_POLICY_RAID0', size, width })]);
  }
  if (given.has('set-drp')) changes.push(['default_rp', replicationPolicy(given)]);
  const simple: readonly [option: string, attribute: string, convert: (text: string) => string][] = [
    ['set-replication-policy', 'set_repl_update_policy', (text) => (text === 'none' ? '' : text)],
    ['set-osp', 'osel_policy', selectionPolicy],
    ['set-rsp', 'rsel_policy', selectionPolicy],
    ['set-acl', 'acl', (text) => `m ${text}`],
    ['del-acl', 'acl', (text) => `x ${text}`],
    ['set-voucher-size', 'vouchersize', (text) => String(parseSize('--set-voucher-size', text))],
    ['set-default-user-quota', 'defaultuserquota', (text) => String(parseSize('--set-default-user-quota', text))],
    ['set-default-group-quota', 'defaultgroupquota', (text) => String(parseSize('--set-default-group-quota', text))],
    ['create-snapshot', 'snapshots', (text) => `cr ${text}`],
    ['create-snapshot-non-recursive', 'snapshots', (text) => `c ${text}`],
    ['delete-snapshot', 'snapshots', (text) => `d ${text}`],
    ['tracing-policy', 'tracing_policy', (text) => text],
    ['tracing-policy-config', 'tracing_policy_config', (text) => text],
  ];
  for (const [option, attribute, convert] of simple) {
    const text = given.text(option);
    if (text !== undefined) changes.push([attribute, convert(text)]);
  }
  const quota = given.text('set-quota');
  if (quota !== undefined) changes.push([quotaName(given), String(parseSize('--set-quota', quota))]);
  const policyAttribute = given.text('set-pattr');
  if (policyAttribute !== undefined) changes.push([`policies.${policyAttribute}`, given.text('value') ?? '']);
  for (const [flag, name, value] of [
    ['enable-snapshots', 'snapshots_enabled', 'true'],
    ['disable-snapshots', 'snapshots_enabled', 'false'],
    ['enable-tracing', 'tracing_enabled', 'true'],
    ['disable-tracing', 'tracing_enabled', 'false'],
  ] as const) {
    if (given.has(flag)) changes.push([name, value]);
  }
  return changes;
}

function quotaName(given: ToolOptions): string {
  const [user, group] = [given.text('user'), given.text('group')];
  return user !== undefined ? `userquota.${user}` : group !== undefined ? `groupquota.${group}` : 'quota';
}

function replicationPolicy(given: ToolOptions): string {
  const policy = given.text('replication-policy');
  if (policy === undefined) throw new InvalidInputError('--replication-policy', 'is required with --set-drp');
  const factor = given.number('replication-factor', policy === 'none' ? 1 : 2, 1);
  return JSON.stringify({
    'update-policy': policy === 'none' ? '' : policy,
    'replication-factor': factor,
    'replication-flags': given.has('full') ? 1 : 0,
  });
}

const selectionPolicies: Readonly<Record<string, string>> = {
  default: '1000,3002',
  dcmap: '1000,3000',
  fqdn: '1000,3001',
  uuid: '1000,1002,3998',
  vivaldi: '1000,3003',
};

function selectionPolicy(text: string): string {
  const named = selectionPolicies[text.toLowerCase()];
  if (named !== undefined) return named;
  if (/^\d+(,\d+)*$/.test(text)) return text;
  throw new InvalidInputError('policy', `${text}: use ${Object.keys(selectionPolicies).join(', ')} or numbers`);
}

function attributesShown(given: ToolOptions): string[] {
  return [
    ...(given.has('list-snapshots') ? ['snapshots'] : []),
    ...(given.has('list-osds') ? ['usable_osds'] : []),
    ...(given.has('get-quotas')
      ? [
          'quota',
          'usedspace',
          'blockedspace',
          'vouchersize',
          'defaultuserquota',
          'defaultgroupquota',
          'userquotainfo',
          'groupquotainfo',
        ]
      : []),
    ...(given.has('list-pattrs') ? ['policies'] : []),
  ];
}

/** Everything worth knowing, as upstream's tool shows it: what isn't there is left out. */
async function show(target: Target, io: CommandIo): Promise<void> {
  io.print(`Path (on volume)     /${target.path}`);
  const labels: readonly [label: string, attribute: string][] = [
    ['XtreemFS file id', 'file_id'],
    ['XtreemFS URL', 'url'],
    ['Owner', 'owner'],
    ['Group', 'group'],
    ['Type', 'object_type'],
    ['Replicas', 'locations'],
    ['Default striping', 'default_sp'],
    ['Default replication', 'default_rp'],
    ['OSD selection', 'osel_policy'],
    ['Replica selection', 'rsel_policy'],
    ['Snapshots enabled', 'snapshots_enabled'],
    ['Files, directories', 'num_files'],
    ['Free space', 'free_space'],
    ['Used space', 'used_space'],
    ['Quota', 'quota'],
    ['ACL', 'acl'],
  ];
  for (const [label, attribute] of labels) {
    const value = await read(target, attribute);
    if (value !== undefined && value !== '') io.print(`${label.padEnd(20)} ${value}`);
  }
}

/** A system attribute; undefined when the object has none of that name. */
async function read(target: Target, name: string): Promise<string | undefined> {
  try {
    return (await target.metadata.getxattr(target.caller, target.path, `xtreemfs.${name}`)).toString('utf8');
  } catch (error) {
    if (isErrno(error, PosixErrno.ENODATA) || isErrno(error, PosixErrno.EINVAL) || isErrno(error, PosixErrno.EPERM)) {
      return undefined;
    }
    throw error;
  }
}

async function addReplica({ metadata, path, caller }: Target, where: string, io: CommandIo): Promise<void> {
  const { services, mrcs, volumeName } = metadata;
  const at = { path, volumeName };
  const call = { user: caller.user, signal: caller.signal };
  const { replicas } = (await services.call(mrcs, mrcProcedures.replicaList, at, call)).response;
  const [first] = replicas;
  if (first === undefined) throw new TerminalError(`/${path} has no replica yet: write it first`);
  const width = first.stripingPolicy.width;
  let osdUuids = where.split(',');
  if (where.toUpperCase() === 'AUTO') {
    const asked = { ...at, numOsds: width };
    osdUuids = (await services.call(mrcs, mrcProcedures.getSuitableOsds, asked, call)).response.osdUuids.slice(
      0,
      width,
    );
  }
  if (osdUuids.length < width) throw new TerminalError(`the file needs ${width} OSDs for a replica: there are too few`);
  const newReplica = { osdUuids, replicationFlags: first.replicationFlags & ~2, stripingPolicy: first.stripingPolicy };
  await services.call(mrcs, mrcProcedures.replicaAdd, { ...at, newReplica }, call);
  io.print(`Replica added at ${osdUuids.join(', ')}`);
}

async function removeReplica({ metadata, path, caller }: Target, osdUuid: string, io: CommandIo): Promise<void> {
  const { services, mrcs, volumeName } = metadata;
  const call = { user: caller.user, signal: caller.signal };
  const request = { path, volumeName, osdUuid };
  const { unlinkXcap, unlinkXloc } = (await services.call(mrcs, mrcProcedures.replicaRemove, request, call)).response;
  const unlink = { fileCredentials: { xcap: unlinkXcap, xlocs: unlinkXloc }, fileId: unlinkXcap.fileId };
  await services.call(new ServerList([osdUuid]), osdProcedures.unlink, unlink, { user: serviceUser });
  io.print(`Replica at ${osdUuid} removed`);
}

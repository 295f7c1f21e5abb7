import { createInterface } from 'node:readline/promises';
import { systemClock } from '#common/clock.ts';
import { InvalidInputError } from '#common/errors.ts';
import { silentLogger } from '#common/logger.ts';
import { AccessControlPolicyType } from '#proto/generated/xtreemfs/global-types.ts';
import { Services } from '../client/services.ts';
import { systemUsers, UserMapping } from '../client/users.ts';
import { formatAddress } from '../rpc/address.ts';
import { TlsMaterial } from '../rpc/tls.ts';
import { type Command, type CommandIo, parseTool, toolHelp, type ToolOption, type ToolOptions } from './command.ts';
import { connectionOptions, readConnection } from './connection-options.ts';
import { listVolumes, makeVolume, removeVolume } from './volume-admin.ts';
import { parseVolumeUrl } from './volume-url.ts';

const mrcPort = 32_636;

const common: Readonly<Record<string, ToolOption>> = {
  admin_password: { about: 'Password of administrative calls', value: 'TEXT' },
  'max-tries': { about: 'Tries per call (default 1)', value: 'N' },
  help: { short: 'h', isFlag: true, about: 'This text' },
  ...connectionOptions,
};

/** Runs `work` with a connection to the MRC that the first word names. */
async function withMrc<T>(
  options: ToolOptions,
  work: (services: Services, mrc: string, volumeName: string) => Promise<T>,
): Promise<T> {
  const url = parseVolumeUrl(options.word(0, 'MRC'), mrcPort);
  const { scheme, tls } = readConnection(options, url.scheme);
  const [first] = url.servers;
  if (first === undefined) throw new InvalidInputError('MRC', 'is missing');
  const deps = { clock: systemClock, logger: silentLogger };
  const services = new Services({
    ...deps,
    dirs: [],
    scheme,
    ...(tls === undefined ? {} : { tls: new TlsMaterial(tls, deps) }),
    triesMax: options.number('max-tries', 1),
  });
  try {
    return await work(services, formatAddress(first), url.volumeName);
  } finally {
    services.close();
  }
}

const mkfsOptions: Readonly<Record<string, ToolOption>> = {
  mode: { short: 'm', about: 'Permissions of the root directory, octal (default 777)', value: 'MODE' },
  'owner-user-id': { short: 'u', about: 'Owner (default: you)', value: 'USER' },
  'owner-group-id': { short: 'g', about: 'Group (default: yours)', value: 'GROUP' },
  'access-policy': { short: 'a', about: 'NULL, POSIX (default) or VOLUME', value: 'POLICY' },
  quota: { short: 'q', about: 'Quota; K, M, G or T may follow (default 0: none)', value: 'BYTES' },
  'striping-policy': { short: 'p', about: 'RAID0, the only one there is', value: 'POLICY' },
  'striping-policy-stripe-size': { short: 's', about: 'Bytes of one object, KiB (default 128)', value: 'KB' },
  'striping-policy-width': { short: 'w', about: 'OSDs per file (default 1)', value: 'N' },
  'volume-attribute': { isList: true, about: 'Attribute of the volume', value: 'KEY=VALUE' },
  'chown-non-root': { isFlag: true, about: 'Owners may give their files away' },
  ...common,
};

/** `mkfs.xtreemfs MRC[:PORT]/VOLUME` */
export const mkfsCommand: Command = {
  names: ['mkfs', 'mkfs.xtreemfs'],
  usage: 'mkfs.xtreemfs [OPTIONS] [pbrpc[g|s]://]MRC[:PORT]/VOLUME',
  about: 'Makes a volume.',
  run: async (argv, io) => {
    const options = parseTool(mkfsOptions, argv);
    if (options.has('help')) {
      io.print(toolHelp(mkfsCommand, mkfsOptions));
      return 0;
    }
    const users = new UserMapping(systemUsers, systemClock);
    const policy = options.text('striping-policy') ?? 'RAID0';
    if (policy !== 'RAID0') throw new InvalidInputError('--striping-policy', `${policy} is not known: use RAID0`);
    const attributes = options.list('volume-attribute').map(parseAttribute);
    if (options.has('chown-non-root')) attributes.push({ key: 'chown_non_root', value: 'true' });
    await withMrc(options, async (services, mrc, name) => {
      if (name === '') throw new InvalidInputError('VOLUME', 'is missing: use MRC[:PORT]/VOLUME');
      await makeVolume(services, mrc, {
        name,
        mode: parseMode(options.text('mode') ?? '777'),
        user: options.text('owner-user-id') ?? users.userName(process.getuid?.() ?? 0),
        group: options.text('owner-group-id') ?? users.groupName(process.getgid?.() ?? 0),
        stripeKib: options.number('striping-policy-stripe-size', 128, 4),
        width: options.number('striping-policy-width', 1, 1),
        accessControl: parsePolicy(options.text('access-policy') ?? 'POSIX'),
        quotaBytes: parseSize('--quota', options.text('quota') ?? '0'),
        attributes,
        adminPassword: options.text('admin_password'),
      });
      io.print(`Volume ${name} made at ${mrc}`);
    });
    return 0;
  },
};

/** `lsfs.xtreemfs MRC[:PORT]` */
export const lsfsCommand: Command = {
  names: ['lsfs', 'lsfs.xtreemfs'],
  usage: 'lsfs.xtreemfs [OPTIONS] [pbrpc[g|s]://]MRC[:PORT]',
  about: 'Lists the volumes of an MRC.',
  run: async (argv, io) => {
    const options = parseTool(common, argv);
    if (options.has('help')) {
      io.print(toolHelp(lsfsCommand, common));
      return 0;
    }
    await withMrc(options, async (services, mrc) => {
      const volumes = await listVolumes(services, mrc, options.text('admin_password'));
      for (const { name, id, ownerUserId, ownerGroupId, mode, defaultStripingPolicy } of volumes) {
        const { stripeSize, width } = defaultStripingPolicy;
        io.print(`${name}\t${id}\t${ownerUserId}:${ownerGroupId}\t${mode.toString(8)}\t${stripeSize} KiB x ${width}`);
      }
      if (volumes.length === 0) io.note(`${mrc} has no volume: make one with mkfs.xtreemfs ${mrc}/NAME`);
    });
    return 0;
  },
};

const rmfsOptions: Readonly<Record<string, ToolOption>> = {
  force: { short: 'f', isFlag: true, about: 'Do not ask' },
  ...common,
};

/** `rmfs.xtreemfs MRC[:PORT]/VOLUME` */
export const rmfsCommand: Command = {
  names: ['rmfs', 'rmfs.xtreemfs'],
  usage: 'rmfs.xtreemfs [-f] [OPTIONS] [pbrpc[g|s]://]MRC[:PORT]/VOLUME',
  about: 'Removes a volume with everything in it. Its objects are removed by xtfs_cleanup.',
  run: async (argv, io) => {
    const options = parseTool(rmfsOptions, argv);
    if (options.has('help')) {
      io.print(toolHelp(rmfsCommand, rmfsOptions));
      return 0;
    }
    return await withMrc(options, async (services, mrc, name) => {
      if (name === '') throw new InvalidInputError('VOLUME', 'is missing: use MRC[:PORT]/VOLUME');
      if (!options.has('force') && !(await confirmed(`Remove volume ${name} and all its files? (yes/no) `, io)))
        return 1;
      await removeVolume(services, mrc, name, options.text('admin_password'));
      io.print(`Volume ${name} removed`);
      return 0;
    });
  },
};

async function confirmed(question: string, io: CommandIo): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await terminal.question(question, { signal: io.signal });
    return answer.trim().toLowerCase() === 'yes';
  } finally {
    terminal.close();
  }
}

function parseMode(text: string): number {
  if (!/^[0-7]{1,4}$/.test(text)) throw new InvalidInputError('--mode', `${text} is no octal mode such as 755`);
  return Number.parseInt(text, 8);
}

function parsePolicy(text: string): AccessControlPolicyType {
  const policy = (AccessControlPolicyType as Readonly<Record<string, AccessControlPolicyType>>)[text.toUpperCase()];
  if (policy === undefined) throw new InvalidInputError('--access-policy', `${text}: use NULL, POSIX or VOLUME`);
  return policy;
}

function parseAttribute(text: string): { key: string; value: string } {
  const [key, value] = text.split(/=(.*)/s, 2);
  if (key === undefined || key === '' || value === undefined) {
    throw new InvalidInputError('--volume-attribute', `${text} is not KEY=VALUE`);
  }
  return { key, value };
}

/** Bytes of `10`, `10M` or `2T`. @throws {InvalidInputError} for anything else. */
export function parseSize(field: string, text: string): number {
  const match = /^(\d+)([KMGT]?)B?$/i.exec(text);
  if (match === null)
    throw new InvalidInputError(field, `${text} is no size: use bytes, or a number with K, M, G or T`);
  const power = ['', 'K', 'M', 'G', 'T'].indexOf((match[2] ?? '').toUpperCase());
  return Number(match[1]) * 1024 ** power;
}

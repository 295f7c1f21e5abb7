import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { openSync } from 'node:fs';
import { resolve } from 'node:path';
import { systemClock } from '#common/clock.ts';
import { InvalidInputError, TerminalError } from '#common/errors.ts';
import { createLogger, logLevels } from '#common/logger.ts';
import { Keeper } from '../fuse/keeper.ts';
import { abortConnection, checkMountable, connectionOf, mountAt, type MountOptions, unmount } from '../fuse/mount.ts';
import type { MountConfig } from '../fuse/mount-config.ts';
import { consistencyModes } from '../fuse/negotiation.ts';
import { posixPolicy, probeVolume } from '../fuse/probe.ts';
import { type Command, type CommandIo, parseTool, toolHelp, type ToolOption, type ToolOptions } from './command.ts';
import { connectionOptions, readConnection } from './connection-options.ts';
import { parseVolumeUrl } from './volume-url.ts';

const dirPort = 32_638;

const mountOptions: Readonly<Record<string, ToolOption>> = {
  foreground: { short: 'f', isFlag: true, about: 'Stay in the foreground' },
  'log-level': { short: 'd', about: 'error, warn, info (default) or debug', value: 'LEVEL' },
  'log-file-path': {
    short: 'l',
    about: 'Where the log goes; without it a mount in the background has none',
    value: 'PATH',
  },
  option: {
    short: 'o',
    isList: true,
    about: 'Mount options: ro, nosuid, nodev, noexec, noacl, no_allow_other …',
    value: 'OPTIONS',
  },
  consistency: {
    about:
      'strict: ask for everything; close-to-open (default): ask when a file is opened; exclusive: nobody else writes',
    value: 'MODE',
  },
  'no-default-permissions': { isFlag: true, about: 'The MRC checks every access, not the kernel' },
  'metadata-cache-ttl-s': { about: 'How long names and attributes are trusted, seconds (default 10)', value: 'S' },
  'enable-async-writes': {
    isFlag: true,
    about: 'Answer writes before they are at an OSD: faster, but a mount that dies loses them',
  },
  'async-writes-max-mib': { about: 'Bytes under way to OSDs, MiB (default 64)', value: 'MIB' },
  'readdir-chunk-size': { about: 'Entries asked for at a time (default 1024)', value: 'N' },
  'max-tries': { about: 'Tries per call; 0 (default): until it works', value: 'N' },
  'retry-delay': { about: 'Pause between rounds of tries, seconds (default 1)', value: 'S' },
  'connect-timeout': { about: 'Seconds (default 15)', value: 'S' },
  'request-timeout': { about: 'Seconds (default 15)', value: 'S' },
  'linger-timeout': { about: 'How long an unused connection is kept, seconds (default 600)', value: 'S' },
  'read-ahead-kb': { about: 'How far the kernel reads ahead (default 4096)', value: 'KB' },
  help: { short: 'h', isFlag: true, about: 'This text' },
  ...connectionOptions,
};

/** `mount.xtreemfs DIR[:PORT][,…]/VOLUME[@SNAPSHOT] MOUNTPOINT` */
export const mountCommand: Command = {
  names: ['mount', 'mount.xtreemfs'],
  usage: 'mount.xtreemfs [OPTIONS] [pbrpc[g|s]://]DIR[:PORT][,…]/VOLUME[@SNAPSHOT] MOUNTPOINT',
  about: 'Mounts a volume.',
  run: async (argv, io) => {
    const options = parseTool(mountOptions, argv);
    if (options.has('help')) {
      io.print(toolHelp(mountCommand, mountOptions));
      return 0;
    }
    const config = readConfig(options);
    checkMountable(config.mountPoint);
    const policy = await probeVolume(config);
    if (!options.has('foreground')) return await runInBackground(argv, options, io);
    const mount = readMountOptions(options, config, policy);
    const posixAcl = mount.defaultPermissions && !givenOptions(options).includes('noacl');
    return await serveMount({ ...config, posixAcl }, mount, io);
  },
};

const umountOptions: Readonly<Record<string, ToolOption>> = {
  lazy: { short: 'l', isFlag: true, about: 'Also when files are open: the rest goes when the last one is closed' },
  force: { short: 'f', isFlag: true, about: 'Cut off every open file: for mounts whose process hangs' },
  help: { short: 'h', isFlag: true, about: 'This text' },
};

/** `umount.xtreemfs MOUNTPOINT` */
export const umountCommand: Command = {
  names: ['umount', 'umount.xtreemfs'],
  usage: 'umount.xtreemfs [-l|-f] MOUNTPOINT',
  about: 'Unmounts a volume.',
  run: async (argv, io) => {
    const options = parseTool(umountOptions, argv);
    if (options.has('help')) {
      io.print(toolHelp(umountCommand, umountOptions));
      return 0;
    }
    const mountPoint = resolve(options.word(0, 'MOUNTPOINT'));
    const connection = connectionOf(mountPoint);
    if (connection === undefined) throw new TerminalError(`${mountPoint} is no FUSE mount: nothing to unmount`);
    if (options.has('force')) await abortConnection(connection);
    await unmount(mountPoint, { lazy: options.has('lazy') || options.has('force') });
    return 0;
  },
};

function readConfig(options: ToolOptions): MountConfig {
  const url = parseVolumeUrl(options.word(0, 'VOLUME'), dirPort);
  if (url.volumeName === '') throw new InvalidInputError('VOLUME', 'is missing: use DIR[:PORT]/VOLUME');
  const consistency = options.text('consistency') ?? 'close-to-open';
  if (!isOneOf(consistencyModes, consistency)) {
    throw new InvalidInputError('--consistency', `${consistency} is not known: use ${consistencyModes.join(', ')}`);
  }
  const logLevel = (options.text('log-level') ?? 'info').toLowerCase();
  if (!isOneOf(logLevels, logLevel)) {
    throw new InvalidInputError('--log-level', `${logLevel} is not known: use ${logLevels.join(', ')}`);
  }
  return {
    dirs: url.servers,
    ...readConnection(options, url.scheme),
    volumeName: url.volumeName,
    mountPoint: resolve(options.word(1, 'MOUNTPOINT')),
    consistency,
    metadataTtlMs: options.number('metadata-cache-ttl-s', 10) * 1000,
    readdirChunk: options.number('readdir-chunk-size', 1024, 1),
    asyncWrites: options.has('enable-async-writes'),
    dirtyBytesMax: options.number('async-writes-max-mib', 64, 1) << 20,
    triesMax: options.number('max-tries', 0),
    retryDelayMs: options.number('retry-delay', 1) * 1000,
    connectTimeoutMs: options.number('connect-timeout', 15, 1) * 1000,
    requestTimeoutMs: options.number('request-timeout', 15, 1) * 1000,
    lingerMs: options.number('linger-timeout', 600, 1) * 1000,
    readAheadBytes: options.number('read-ahead-kb', 4096) * 1024,
    transferBytes: 1 << 20,
    lockClient: randomUUID(),
    logLevel,
  };
}

function readMountOptions(options: ToolOptions, config: MountConfig, policy: string): MountOptions {
  const given = givenOptions(options);
  const ours = new Set([
    'ro',
    'rw',
    'allow_other',
    'no_allow_other',
    'default_permissions',
    'user_xattr',
    'xtreemfs_acl',
    'acl',
    'noacl',
    'intr',
  ]);
  return {
    mountPoint: config.mountPoint,
    source: `xtreemfs@${config.dirs.map((dir) => `${dir.host}:${dir.port}`).join(',')}/${config.volumeName}`,
    subtype: 'xtreemfs',
    allowOther: !given.includes('no_allow_other'),
    defaultPermissions: !options.has('no-default-permissions') && policy === posixPolicy,
    readOnly: given.includes('ro') || config.volumeName.includes('@'),
    maxReadBytes: config.transferBytes,
    // A shared volume must not bring programs of another's rights, or devices, to this machine; `suid` and `dev` undo it.
    extra: ['nosuid', 'nodev', ...given.filter((option) => !ours.has(option))],
  };
}

function givenOptions(options: ToolOptions): string[] {
  return options
    .list('option')
    .flatMap((text) => text.split(','))
    .filter(Boolean);
}

async function serveMount(config: MountConfig, mount: MountOptions, io: CommandIo): Promise<number> {
  const keeper = new Keeper({
    config,
    mount,
    clock: systemClock,
    logger: createLogger({ level: config.logLevel, name: 'mount-keeper' }),
    workerCommand: [...io.self, 'mount-worker'],
    onMounted: () => {
      if (process.connected) process.send?.({ kind: 'mounted' }, () => process.disconnect());
      else io.note(`Mounted ${config.volumeName} at ${config.mountPoint}`);
    },
  });
  io.signal.addEventListener('abort', () => void keeper.stop(), { once: true });
  await keeper.run();
  return 0;
}

/** Starts this program again as a daemon; ends when the mount can be used, or has failed. */
async function runInBackground(argv: readonly string[], options: ToolOptions, io: CommandIo): Promise<number> {
  const logPath = options.text('log-file-path');
  const log = logPath === undefined ? ('ignore' as const) : openSync(logPath, 'a', 0o640);
  const [program, ...args] = io.self;
  const daemon = spawn(program, [...args, 'mount', '--foreground', ...argv], {
    stdio: ['ignore', log, log, 'ipc'],
    detached: true,
  });
  return await new Promise((resolveRun, reject) => {
    daemon.once('message', () => {
      daemon.unref();
      daemon.disconnect();
      resolveRun(0);
    });
    daemon.once('exit', (code) => {
      const where = logPath === undefined ? 'run it with -f to see why' : `see ${logPath}`;
      reject(new TerminalError(`mounting failed (exit ${code ?? 'by signal'}): ${where}`));
    });
  });
}

/** Whether something is mounted there, of our type. */
export function isXtreemfsMount(mountPoint: string): boolean {
  return mountAt(mountPoint)?.type === 'fuse.xtreemfs';
}

function isOneOf<T extends string>(list: readonly T[], value: string): value is T {
  return (list as readonly string[]).includes(value);
}

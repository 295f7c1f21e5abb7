import { randomBytes, randomUUID } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { untilAborted } from '#common/abort.ts';
import { systemClock } from '#common/clock.ts';
import { makeFolder, replaceFile } from '#common/durable-files.ts';
import { InvalidInputError, TerminalError } from '#common/errors.ts';
import { silentLogger } from '#common/logger.ts';
import { Services } from '../client/services.ts';
import { checkMountable } from '../fuse/mount.ts';
import { type Command, type CommandIo, parseTool, toolHelp, type ToolOption, type ToolOptions } from './command.ts';
import { Supervised } from './supervisor.ts';
import { makeVolume, listVolumes, waitForOsds } from './volume-admin.ts';

const upOptions: Readonly<Record<string, ToolOption>> = {
  dir: { about: 'Folder of everything: data, logs, settings. It is made when it is missing', value: 'PATH' },
  osds: { about: 'How many OSDs (default 2; can only grow later)', value: 'N' },
  volume: { about: 'Volume to have (default: demo)', value: 'NAME' },
  'stripe-size': { short: 's', about: 'Stripe size of a new volume, KiB (default 128)', value: 'KB' },
  'striping-width': { short: 'w', about: 'OSDs that a file of a new volume is spread over (default 1)', value: 'N' },
  mount: { about: 'Mount the volume there, too (needs root)', value: 'MOUNTPOINT' },
  'mount-option': {
    isList: true,
    about: 'Option for mount.xtreemfs, for example --consistency=exclusive',
    value: 'OPTION',
  },
  'log-level': { about: 'error, warn, info (default) or debug', value: 'LEVEL' },
  help: { short: 'h', isFlag: true, about: 'This text' },
};

/** What an installation is; kept in its folder, so that it comes back as it was. */
interface Installation {
  readonly secret: string;
  readonly dirPort: number;
  readonly mrc: { readonly uuid: string; readonly port: number };
  readonly osds: readonly { readonly uuid: string; readonly port: number }[];
}

const host = '127.0.0.1';

/** `xtreemfs up --dir PATH` */
export const upCommand: Command = {
  names: ['up'],
  usage: 'xtreemfs up --dir PATH [OPTIONS]',
  about: 'Starts a whole installation on this machine: DIR, MRC, OSDs, a volume, and a mount of it. Ctrl-C stops it.',
  run: async (argv, io) => {
    const options = parseTool(upOptions, argv);
    if (options.has('help')) {
      io.print(toolHelp(upCommand, upOptions));
      return 0;
    }
    const folder = resolve(options.text('dir') ?? missingFolder());
    const mountPoint = options.text('mount');
    if (mountPoint !== undefined) checkMountable(resolve(mountPoint));
    await makeFolder(folder, 0o750);
    const release = lockFolder(folder);
    const servers: Supervised[] = [];
    try {
      await start(folder, options, io, servers);
      await untilAborted(io.signal);
    } finally {
      for (const server of servers.reverse()) await server.stop();
      release();
      io.note('Stopped');
    }
    return 0;
  },
};

function missingFolder(): never {
  throw new InvalidInputError('--dir', 'is required: name a folder for data, logs and settings');
}

async function start(folder: string, options: ToolOptions, io: CommandIo, servers: Supervised[]): Promise<void> {
  const installation = await loadInstallation(folder, options.number('osds', 2, 1));
  const supervise = (name: string, args: readonly string[]): Supervised => {
    const server = new Supervised({
      name,
      command: [...io.self, ...args],
      env: { ...io.env, XTREEMOS_CAPABILITY_SECRET: installation.secret },
      logPath: join(folder, 'log', `${name}.log`),
      clock: systemClock,
      note: io.note,
    });
    servers.push(server);
    return server;
  };
  const common = ['--listen-host', host, '--host-name', host, '--http-host', host, '--http-port', '0'];
  const level = ['--log-level', options.text('log-level') ?? 'info'];
  const member = ['--dir', `${host}:${installation.dirPort}`, ...common, ...level];
  const startedAt = systemClock.monotonic();
  const dirArgs = ['dir', '--port', String(installation.dirPort), '--data-dir', join(folder, 'dir'), '--no-discover'];
  await supervise('dir', [...dirArgs, ...common, ...level]).start();
  io.note(`DIR serves at ${host}:${installation.dirPort}`);
  const { mrc, osds } = installation;
  await Promise.all(
    osds.map(async (osd, index) => {
      const place = join(folder, `osd${index}`);
      const osdArgs = ['osd', '--uuid', osd.uuid, '--port', String(osd.port), '--object-dir', place];
      await supervise(`osd${index}`, [...osdArgs, ...member]).start();
    }),
  );
  // The MRC asks for OSDs when it starts and then only now and then: so they come first.
  await withServices(installation, async (services) => await waitForOsds(services, osds.length, 30_000));
  const mrcArgs = ['mrc', '--uuid', mrc.uuid, '--port', String(mrc.port), '--data-dir', join(folder, 'mrc')];
  await supervise('mrc', [...mrcArgs, ...member]).start();
  io.note(`MRC serves at ${host}:${mrc.port}, OSDs at ${osds.map((osd) => `${host}:${osd.port}`).join(', ')}`);
  const volume = options.text('volume') ?? 'demo';
  await ensureVolume(installation, volume, options);
  io.note(`Volume ${volume} is there: pbrpc://${host}:${installation.dirPort}/${volume}`);
  writeState(folder, servers);
  const mountPoint = options.text('mount');
  if (mountPoint !== undefined) {
    const args = [
      'mount',
      '--foreground',
      ...options.list('mount-option'),
      `${host}:${installation.dirPort}/${volume}`,
    ];
    await supervise('mount', [...args, resolve(mountPoint)]).start();
    io.note(`Mounted at ${resolve(mountPoint)}`);
  }
  writeState(folder, servers);
  io.print(`Ready after ${((systemClock.monotonic() - startedAt) / 1000).toFixed(1)} s`);
}

/** Process ids, for those who want to see one die. */
function writeState(folder: string, servers: readonly Supervised[]): void {
  const pids = Object.fromEntries(servers.map((server) => [server.name, server.pid]));
  writeFileSync(join(folder, 'processes.json'), `${JSON.stringify(pids, undefined, 2)}\n`);
}

async function ensureVolume(installation: Installation, volume: string, options: ToolOptions): Promise<void> {
  const mrc = `${host}:${installation.mrc.port}`;
  await withServices(installation, async (services) => {
    const known = await listVolumes(services, mrc, undefined);
    if (known.some((existing) => existing.name === volume)) return;
    await makeVolume(services, mrc, {
      name: volume,
      mode: 0o777,
      user: 'root',
      group: 'root',
      stripeKib: options.number('stripe-size', 128, 4),
      width: options.number('striping-width', 1, 1),
    });
  });
}

async function withServices(installation: Installation, work: (services: Services) => Promise<void>): Promise<void> {
  const dirs = [{ host, port: installation.dirPort }];
  const services = new Services({ clock: systemClock, logger: silentLogger, dirs, triesMax: 5 });
  try {
    await work(services);
  } finally {
    services.close();
  }
}

async function loadInstallation(folder: string, osdCount: number): Promise<Installation> {
  await makeFolder(join(folder, 'log'), 0o750);
  const file = join(folder, 'installation.json');
  const known = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Installation) : undefined;
  if (known !== undefined && known.osds.length >= osdCount) return known;
  const osds = [...(known?.osds ?? [])];
  while (osds.length < osdCount) osds.push({ uuid: randomUUID(), port: await freePort() });
  const installation: Installation = {
    secret: known?.secret ?? randomBytes(24).toString('hex'),
    dirPort: known?.dirPort ?? (await freePort()),
    mrc: known?.mrc ?? { uuid: randomUUID(), port: await freePort() },
    osds,
  };
  // The servers' data is worth nothing without it.
  await replaceFile(file, `${JSON.stringify(installation, undefined, 2)}\n`, 0o600);
  return installation;
}

async function freePort(): Promise<number> {
  return await new Promise((resolvePort, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, host, () => {
      const address = probe.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      probe.close(() => resolvePort(port));
    });
  });
}

/** One `up` per folder. @throws {TerminalError} when another one runs. */
function lockFolder(folder: string): () => void {
  const file = join(folder, 'up.pid');
  const owner = existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0;
  if (owner > 0 && isRunning(owner)) {
    throw new TerminalError(`${folder} is in use by process ${owner}: stop that first, or choose another folder`);
  }
  writeFileSync(file, String(process.pid));
  return () => rmSync(file, { force: true });
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return pid !== process.pid;
  } catch {
    return false;
  }
}

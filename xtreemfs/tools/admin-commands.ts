import { systemClock } from '#common/clock.ts';
import { InvalidInputError, TerminalError } from '#common/errors.ts';
import { silentLogger } from '#common/logger.ts';
import { dirProcedures } from '#proto/generated/xtreemfs/dir.ts';
import { mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { Services } from '../client/services.ts';
import { formatAddress } from '../rpc/address.ts';
import { ServerList } from '../rpc/retry.ts';
import { type Command, parseTool, toolHelp, type ToolOption, type ToolOptions } from './command.ts';
import { passwordAuth, rootUser } from './volume-admin.ts';
import { parseVolumeUrl } from './volume-url.ts';

/** Upstream's Java tools write long options with one dash (`-dir`). */
export const modernized = (argv: readonly string[], options: Readonly<Record<string, ToolOption>>): string[] =>
  argv.map((word) =>
    word.startsWith('-') && !word.startsWith('--') && Object.hasOwn(options, word.slice(1)) ? `-${word}` : word,
  );

/** A connection to the DIR that `--dir` names. */
export function servicesOf(given: ToolOptions): Services {
  const dirs = parseVolumeUrl(given.text('dir') ?? given.text('dirs') ?? 'localhost', 32_638).servers;
  return new Services({ clock: systemClock, logger: silentLogger, dirs, triesMax: 3 });
}

/** Options of tools that ask a DIR. */
export const dirOption = {
  dir: { about: 'DIR (default localhost)', value: 'HOST[:PORT]' },
  dirs: { about: 'As --dir', value: 'HOST[:PORT]' },
  admin_password: { about: 'Password of administrative calls', value: 'TEXT' },
  help: { short: 'h', isFlag: true, about: 'This text' },
} satisfies Readonly<Record<string, ToolOption>>;

const statusNames = ['online', 'locked', 'removed'] as const;

/** `xtfs_chstatus OSD [online|locked|removed]` */
export const chstatusCommand: Command = {
  names: ['chstatus', 'xtfs_chstatus'],
  usage: 'xtfs_chstatus -dir HOST[:PORT] OSD-UUID [online|locked|removed]',
  about: 'Shows or sets the status of an OSD: locked ones get no new files, removed ones have lost their data.',
  run: async (argv, io) => {
    const given = parseTool(dirOption, modernized(argv, dirOption));
    if (given.has('help')) {
      io.print(toolHelp(chstatusCommand, dirOption));
      return 0;
    }
    const uuid = given.word(0, 'OSD-UUID').replace(/^uuid:/, '');
    const services = servicesOf(given);
    try {
      const { response } = await services.call(services.dirs, dirProcedures.serviceGetByUuid, { name: uuid });
      const [service] = response.services;
      if (service === undefined) throw new TerminalError(`the DIR knows no service ${uuid}`);
      const pairs = service.data.data.filter((pair) => pair.key !== 'static.status');
      const now = Number(service.data.data.find((pair) => pair.key === 'static.status')?.value ?? 0);
      const wanted = given.words[1];
      if (wanted === undefined) {
        io.print(statusNames[now] ?? String(now));
        return 0;
      }
      const status = statusNames.findIndex((name) => name === wanted);
      if (status < 0) throw new InvalidInputError('status', `${wanted} is not known: use ${statusNames.join(', ')}`);
      const data = { data: [...pairs, { key: 'static.status', value: String(status) }] };
      await services.call(services.dirs, dirProcedures.serviceRegister, { service: { ...service, data } });
      io.print(`${uuid} is ${wanted} now`);
      return 0;
    } finally {
      services.close();
    }
  },
};

const cleanupOptions: Readonly<Record<string, ToolOption>> = {
  ...dirOption,
  e: { isFlag: true, short: 'e', about: 'Erase objects without a file' },
  r: { isFlag: true, short: 'r', about: 'Put them into lost+found instead' },
  delete_volumes: { isFlag: true, about: 'Also those of volumes that nobody knows' },
  metadata_keep: { isFlag: true, about: 'Keep metadata of files without objects' },
  metadata_timeout: { about: 'Age of metadata that may go, seconds (default 600)', value: 'S' },
  v: { isFlag: true, short: 'v', about: 'Remove file versions that no snapshot needs' },
  stop: { isFlag: true, about: 'Stop a clean-up that runs' },
  wait: { isFlag: true, about: 'Wait for its end and show the result' },
};

/** `xtfs_cleanup uuid:OSD` */
export const cleanupCommand: Command = {
  names: ['cleanup', 'xtfs_cleanup'],
  usage: 'xtfs_cleanup -dir HOST[:PORT] [OPTIONS] uuid:OSD-UUID',
  about: 'Looks for objects at an OSD that belong to no file any more.',
  run: async (argv, io) => {
    const given = parseTool(cleanupOptions, modernized(argv, cleanupOptions));
    if (given.has('help')) {
      io.print(toolHelp(cleanupCommand, cleanupOptions));
      return 0;
    }
    const services = servicesOf(given);
    const osd = new ServerList([given.word(0, 'OSD-UUID').replace(/^uuid:/, '')]);
    const options = { user: rootUser, auth: passwordAuth(given.text('admin_password')) };
    try {
      if (given.has('stop')) {
        await services.call(osd, osdProcedures.cleanupStop, {}, options);
      } else if (given.has('v')) {
        await services.call(osd, osdProcedures.cleanupVersionsStart, {}, options);
      } else {
        const terms = {
          removeZombies: given.has('e'),
          removeUnavailVolume: given.has('delete_volumes'),
          lostAndFound: given.has('r'),
          deleteMetadata: !given.has('metadata_keep'),
          metadataTimeout: given.number('metadata_timeout', 600),
        };
        await services.call(osd, osdProcedures.cleanupStart, terms, options);
      }
      while (given.has('wait')) {
        if (!(await services.call(osd, osdProcedures.cleanupIsRunning, {}, options)).response.isRunning) break;
        await services.clock.sleep(500, io.signal);
      }
      io.print((await services.call(osd, osdProcedures.cleanupStatus, {}, options)).response.status);
      if (!given.has('wait')) return 0;
      const { results } = (await services.call(osd, osdProcedures.cleanupGetResults, {}, options)).response;
      for (const line of results) io.print(line);
      return 0;
    } finally {
      services.close();
    }
  },
};

const dumpOptions: Readonly<Record<string, ToolOption>> = {
  mrc: { about: 'MRC', value: 'HOST[:PORT]' },
  admin_password: { about: 'Password of administrative calls', value: 'TEXT' },
  help: { short: 'h', isFlag: true, about: 'This text' },
};

/** `xtfs_mrcdbtool -mrc HOST dump|restore FILE` */
export const mrcdbtoolCommand: Command = {
  names: ['mrcdbtool', 'xtfs_mrcdbtool'],
  usage: 'xtfs_mrcdbtool -mrc HOST[:PORT] dump|restore FILE',
  about: "Writes an MRC's database to a file on its machine, or reads one into an empty database.",
  run: async (argv, io) => {
    const given = parseTool(dumpOptions, modernized(argv, dumpOptions));
    if (given.has('help')) {
      io.print(toolHelp(mrcdbtoolCommand, dumpOptions));
      return 0;
    }
    const what = given.word(0, 'dump|restore');
    const request = { dumpFile: given.word(1, 'FILE') };
    const [address] = parseVolumeUrl(given.text('mrc') ?? 'localhost', 32_636).servers;
    if (address === undefined) throw new InvalidInputError('--mrc', 'is missing');
    const services = new Services({ clock: systemClock, logger: silentLogger, dirs: [], triesMax: 1 });
    const mrc = new ServerList([formatAddress(address)]);
    const options = { user: rootUser, auth: passwordAuth(given.text('admin_password')) };
    try {
      if (what === 'dump') await services.call(mrc, mrcProcedures.dumpDatabase, request, options);
      else if (what === 'restore') await services.call(mrc, mrcProcedures.restoreDatabase, request, options);
      else throw new InvalidInputError('command', `${what} is not known: use dump or restore`);
      io.print(`${what} of ${request.dumpFile} done`);
      return 0;
    } finally {
      services.close();
    }
  },
};

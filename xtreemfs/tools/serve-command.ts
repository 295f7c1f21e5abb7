import { systemClock } from '#common/clock.ts';
import { createLogger } from '#common/logger.ts';
import { helpText, parseOptions } from '#common/options.ts';
import { dirOptionSpecs, startDir } from '../dir/dir-server.ts';
import { mrcOptionSpecs, startMrc } from './mrc-server.ts';
import { osdOptionSpecs, startOsd } from '../osd/osd-server.ts';
import type { Command, CommandIo } from './command.ts';

interface Running {
  readonly port: number;
  readonly httpPort: number;
  stop(): Promise<void>;
}

async function serve(io: CommandIo, start: (onShutdown: () => void) => Promise<Running>): Promise<number> {
  const ended = new Promise<void>((resolve) => io.signal.addEventListener('abort', () => resolve(), { once: true }));
  let shutDown: () => void = () => undefined;
  const asked = new Promise<void>((resolve) => (shutDown = resolve));
  const running = await start(shutDown);
  if (process.connected) process.send?.({ kind: 'serving', port: running.port, httpPort: running.httpPort });
  await Promise.race([ended, asked]);
  await running.stop();
  if (process.connected) process.disconnect();
  return 0;
}

const wantsHelp = (argv: readonly string[]): boolean => argv.includes('--help') || argv.includes('-h');

/** `xtreemfs dir` */
export const dirCommand: Command = {
  names: ['dir'],
  usage: 'xtreemfs dir [OPTIONS]',
  about: 'Runs a directory service (DIR).',
  run: async (argv, io) => {
    if (wantsHelp(argv)) {
      io.print(helpText(dirCommand.usage, dirCommand.about, dirOptionSpecs));
      return 0;
    }
    const { values } = parseOptions(dirOptionSpecs, argv, io.env);
    const logger = createLogger({ level: values.logLevel, name: 'dir' });
    return await serve(io, async () => await startDir(values, { clock: systemClock, logger }));
  },
};

/** `xtreemfs mrc` */
export const mrcCommand: Command = {
  names: ['mrc'],
  usage: 'xtreemfs mrc [OPTIONS]',
  about: 'Runs a metadata and replica catalogue (MRC).',
  run: async (argv, io) => {
    if (wantsHelp(argv)) {
      io.print(helpText(mrcCommand.usage, mrcCommand.about, mrcOptionSpecs));
      return 0;
    }
    const { values } = parseOptions(mrcOptionSpecs, argv, io.env);
    const logger = createLogger({ level: values.logLevel, name: 'mrc' });
    return await serve(io, async (onShutdown) => await startMrc(values, { clock: systemClock, logger, onShutdown }));
  },
};

/** `xtreemfs osd` */
export const osdCommand: Command = {
  names: ['osd'],
  usage: 'xtreemfs osd [OPTIONS]',
  about: 'Runs an object storage device (OSD).',
  run: async (argv, io) => {
    if (wantsHelp(argv)) {
      io.print(helpText(osdCommand.usage, osdCommand.about, osdOptionSpecs));
      return 0;
    }
    const { values } = parseOptions(osdOptionSpecs, argv, io.env);
    const logger = createLogger({ level: values.logLevel, name: 'osd' });
    return await serve(io, async (onShutdown) => await startOsd(values, { clock: systemClock, logger, onShutdown }));
  },
};

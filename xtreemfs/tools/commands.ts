import { chstatusCommand, cleanupCommand, mrcdbtoolCommand } from './admin-commands.ts';
import type { Command } from './command.ts';
import { mountCommand, umountCommand, workerCommand } from './mount-command.ts';
import { dirCommand, mrcCommand, osdCommand } from './serve-command.ts';
import { upCommand } from './up-command.ts';
import { lsfsCommand, mkfsCommand, rmfsCommand } from './volumes-command.ts';
import { xtfsutilCommand } from './xtfsutil.ts';

/** Every command of the program. */
export const commands: readonly Command[] = [
  upCommand,
  dirCommand,
  mrcCommand,
  osdCommand,
  mkfsCommand,
  lsfsCommand,
  rmfsCommand,
  mountCommand,
  umountCommand,
  xtfsutilCommand,
  chstatusCommand,
  cleanupCommand,
  mrcdbtoolCommand,
  workerCommand,
];

import type { Command } from './command.ts';
import { mountCommand, umountCommand, workerCommand } from './mount-command.ts';
import { dirCommand, mrcCommand, osdCommand } from './serve-command.ts';
import { upCommand } from './up-command.ts';

/** Every command of the program. */
export const commands: readonly Command[] = [
  upCommand,
  dirCommand,
  mrcCommand,
  osdCommand,
  mountCommand,
  umountCommand,
  workerCommand,
];

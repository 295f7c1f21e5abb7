import { TerminalError } from '#common/errors.ts';
import { runWorker } from '../fuse/worker.ts';
import type { Command } from './command.ts';

/** The process behind a mount; started by its keeper only. */
export const workerCommand: Command = {
  names: ['mount-worker'],
  usage: 'mount-worker',
  about: 'Serves a mount; started by mount.xtreemfs itself.',
  run: async () => {
    if (process.send === undefined) {
      throw new TerminalError('mount-worker is started by mount.xtreemfs, not by hand: use mount.xtreemfs');
    }
    await runWorker();
    return 0;
  },
};

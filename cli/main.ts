#!/usr/bin/env node
/** The command line of XtreemOS: `xos`, and as a kubectl plugin `kubectl xos`. */
import { homedir } from 'node:os';
import path from 'node:path';
import { systemClock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import manifest from '../package.json' with { type: 'json' };
import { areas } from './commands/areas.ts';
import { exitStatuses } from './frame/exit.ts';
import { runProgram } from './frame/program.ts';
import { Terminal } from './output/terminal.ts';

/** Ctrl-C once ends what is being waited for; twice ends the process. */
function interruption(): { readonly signal: AbortSignal } {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => controller.abort(new Error(`Got ${name}`)));
  }
  return controller;
}

/** A reader that has enough, for example `head`, is no failure. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(exitStatuses.success.code);
  throw error;
});

const { signal } = interruption();
const context = {
  terminal: new Terminal(process.stdout, process.stderr, process.env),
  surroundings: { env: process.env, homeDir: homedir() },
  areas,
  clock: systemClock,
  signal,
  program: path.basename(process.argv[1] ?? '').startsWith('kubectl-') ? 'kubectl xos' : 'xos',
  version: manifest.version,
};
try {
  process.exitCode = await runProgram(process.argv.slice(2), context, () => signal.aborted);
} catch (error) {
  context.terminal.error(describeError(error));
  process.exitCode = exitStatuses.failure.code;
}

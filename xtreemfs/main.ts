#!/usr/bin/env node
/**
 * XtreemFS: servers, mounts and tools in one program. `xtreemfs COMMAND …`, or by the name that it is called under:
 * a link named `mount.xtreemfs` mounts.
 */
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeError, TerminalError } from '#common/errors.ts';
import type { CommandIo } from './tools/command.ts';
import { type CommandEntry, commands } from './tools/commands.ts';

const version = '0.1.0';

function overview(): string {
  const lines = commands
    .filter((command) => command.names[0] !== 'mount-worker')
    .map((command) => `  ${command.names.join(', ').padEnd(34)} ${command.about}`);
  return ['Usage: xtreemfs COMMAND [OPTIONS]', '', 'Commands (each has --help):', ...lines].join('\n');
}

function findCommand(name: string): CommandEntry | undefined {
  return commands.find((command) => command.names.includes(name));
}

/** Runs one command. @returns the exit status. */
async function main(argv: readonly string[], calledAs: string, io: CommandIo): Promise<number> {
  const byName = calledAs === 'xtreemfs' ? undefined : findCommand(calledAs);
  const [first, ...rest] = argv;
  if (byName === undefined && (first === undefined || first === '--help' || first === '-h')) {
    io.print(overview());
    return first === undefined ? 2 : 0;
  }
  if (first === '--version' || first === '-V') {
    io.print(`xtreemfs ${version}`);
    return 0;
  }
  const command = byName ?? findCommand(first ?? '');
  if (command === undefined) {
    io.note(`xtreemfs: ${first ?? ''} is no command.\n\n${overview()}`);
    return 2;
  }
  try {
    return await (await command.load()).run(byName === undefined ? rest : argv, io);
  } catch (error) {
    const isExpected = error instanceof TerminalError || (error instanceof Error && error.name === 'RpcError');
    io.note(`${command.names.at(-1) ?? calledAs}: ${isExpected ? describeError(error) : describeUnexpected(error)}`);
    return 1;
  }
}

function describeUnexpected(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : describeError(error);
}

const ending = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => ending.abort());
const self = fileURLToPath(import.meta.url);
const calledAs = basename(process.argv[1] ?? '').replace(/\.(ts|mjs|js)$/, '');
process.exitCode = await main(process.argv.slice(2), calledAs === 'main' ? 'xtreemfs' : calledAs, {
  print: (line) => void process.stdout.write(`${line}\n`),
  note: (line) => void process.stderr.write(`${line}\n`),
  env: process.env,
  signal: ending.signal,
  self: [process.execPath, ...process.execArgv, self],
});
process.exit();

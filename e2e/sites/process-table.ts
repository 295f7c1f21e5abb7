import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { z } from 'zod';

import { writeFileAtomic } from './files.ts';
import { isAlive, logTail, type ProcessRecord, signalProcess, startProcess, stopProcess } from './processes.ts';

const entrySchema = z.strictObject({
  name: z.string(),
  command: z.tuple([z.string()], z.string()),
  logPath: z.string(),
  env: z.record(z.string(), z.string()),
  startedAt: z.string(),
  process: z.strictObject({ pid: z.number().int().positive(), startTicks: z.string(), bootId: z.string() }),
});

/** A process of a site, as kept in its own small file. */
export type ProcessEntry = z.infer<typeof entrySchema>;

/** Turns the command of a program into the one that is run, for instance inside a network namespace, at each start. */
export type Wrap = (command: readonly [string, ...string[]], name: string) => [string, ...string[]];

/** What a table needs to know. */
export interface ProcessTableOptions {
  /** Folder with one JSON file per process. Made when missing. */
  readonly dir: string;
  /** Folder of the log files. */
  readonly logDir: string;
  /** Applied to each command before it is run; none by default. */
  readonly wrap?: Wrap;
}

/** The named processes of one machine or control plane, on disk, so that any later command can find and end them. */
export class ProcessTable {
  private readonly options: ProcessTableOptions;

  constructor(options: ProcessTableOptions) {
    this.options = options;
    mkdirSync(options.dir, { recursive: true });
  }

  /** Starts a program under a name, unless one of that name runs already. */
  async start(name: string, command: readonly [string, ...string[]], env: Record<string, string> = {}): Promise<void> {
    if (this.isRunning(name)) return;
    await this.launch({ name, command: [...command], logPath: join(this.options.logDir, `${name}.log`), env });
  }

  /** The command as this table would run it. */
  wrap(command: readonly [string, ...string[]], name = ''): [string, ...string[]] {
    return this.options.wrap?.(command, name) ?? [...command];
  }

  /** Starts again what ran under this name last, with the same command. @throws when nothing ever did. */
  async restart(name: string): Promise<void> {
    const entry = this.find(name);
    if (entry === undefined) throw new Error(`no process is called ${name}; there are: ${this.names().join(', ')}`);
    await stopProcess(entry.process);
    await this.launch(entry);
  }

  /** Ends a process and waits for it; nothing happens when it doesn't run. */
  async stop(name: string, { graceMs = 5000 } = {}): Promise<void> {
    const entry = this.find(name);
    if (entry !== undefined) await stopProcess(entry.process, { graceMs });
  }

  /** Ends a process as a crash would, and waits until it is gone. */
  async kill(name: string): Promise<void> {
    const entry = this.find(name);
    if (entry !== undefined) await stopProcess(entry.process, { signal: 'SIGKILL' });
  }

  /** Sends a signal. @returns false when the process doesn't run. */
  signal(name: string, signal: NodeJS.Signals): boolean {
    const entry = this.find(name);
    return entry !== undefined && signalProcess(entry.process, signal);
  }

  /** Whether the process of this name runs. */
  isRunning(name: string): boolean {
    const entry = this.find(name);
    return entry !== undefined && isAlive(entry.process);
  }

  /** @throws when the process has ended, with the end of its log. For use while waiting for it to get ready. */
  assertRunning(name: string): void {
    if (this.isRunning(name)) return;
    const logPath = join(this.options.logDir, `${name}.log`);
    throw new Error(`${name} ended. The end of ${logPath}:\n${logTail(logPath)}`);
  }

  /** What is recorded under a name; undefined when nothing is, or the file is damaged (a crash while writing). */
  find(name: string): ProcessEntry | undefined {
    const path = this.path(name);
    if (!existsSync(path)) return undefined;
    try {
      return entrySchema.parse(JSON.parse(readFileSync(path, 'utf8')));
    } catch {
      return undefined;
    }
  }

  /** All recorded names, sorted. */
  names(): string[] {
    return readdirSync(this.options.dir)
      .filter((file) => file.endsWith('.json'))
      .map((file) => file.slice(0, -'.json'.length))
      .sort();
  }

  /** All recorded processes, by name. */
  list(): ProcessEntry[] {
    return this.names().flatMap((name) => this.find(name) ?? []);
  }

  /** Forgets a process that has ended. */
  forget(name: string): void {
    rmSync(this.path(name), { force: true });
  }

  private path(name: string): string {
    return join(this.options.dir, `${name}.json`);
  }

  private async launch(entry: Pick<ProcessEntry, 'name' | 'command' | 'logPath' | 'env'>): Promise<void> {
    const { name, command, logPath, env } = entry;
    const process: ProcessRecord = await startProcess({
      command: this.wrap(command, name),
      logPath,
      env: { ...baseEnv(), ...env },
    });
    const record: ProcessEntry = { name, command, logPath, env, startedAt: new Date().toISOString(), process };
    writeFileAtomic(this.path(name), `${JSON.stringify(record, null, 2)}\n`);
  }
}

/** Nothing of the caller's environment reaches the programs, so that sites are the same whoever starts them. */
function baseEnv(): Record<string, string> {
  return { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root', LANG: 'C.UTF-8' };
}

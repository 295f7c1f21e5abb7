import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';

/** Options of `runCommand`. */
export interface CommandOptions {
  /** Text for standard input, or a file that is opened as it. */
  readonly input?: string | { readonly file: string };
  readonly timeoutMs?: number;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** What a command left behind. */
export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number;
}

/** A command ended with a status other than 0. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly result: CommandResult;

  constructor(command: readonly string[], result: CommandResult) {
    const said = (result.stderr.trim() || result.stdout.trim()).slice(-2000);
    super(`${command.join(' ').slice(0, 300)} ended with status ${result.status}: ${said}`);
    this.result = result;
  }
}

const outputBytesMax = 16 * 1024 * 1024;

/**
 * Runs a command to its end and returns what it printed, whatever its status.
 * @throws when it can't be started or takes longer than `timeoutMs` (60 s by default); it is killed then.
 */
export async function tryCommand(command: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const { input, timeoutMs = 60_000 } = options;
  const file = typeof input === 'object' ? openSync(input.file, 'r') : undefined;
  try {
    return await new Promise((resolve, reject) => {
      const [program = '', ...args] = command;
      const child = spawn(program, args, {
        stdio: [file ?? 'pipe', 'pipe', 'pipe'],
        timeout: timeoutMs,
        killSignal: 'SIGKILL',
        cwd: options.cwd ?? '/',
        env: options.env ?? process.env,
      });
      const output = { stdout: '', stderr: '' };
      for (const name of ['stdout', 'stderr'] as const) {
        child[name]?.setEncoding('utf8').on('data', (chunk: string) => {
          output[name] += chunk;
          if (output[name].length > outputBytesMax) child.kill('SIGKILL');
        });
      }
      child.stdin?.on('error', () => undefined); // a program that ends without reading is judged by its status
      child.stdin?.end(typeof input === 'string' ? input : '');
      child.once('error', (cause) => {
        reject(new Error(`${program} could not be run: ${cause.message}`, { cause }));
      });
      child.once('close', (status, signal) => {
        if (signal === 'SIGKILL' && child.killed) {
          reject(
            new Error(`${command.join(' ').slice(0, 300)} was ended after ${timeoutMs / 1000} s: ${output.stderr}`),
          );
        } else resolve({ ...output, status: status ?? 128 });
      });
    });
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** As `tryCommand`, but a status other than 0 throws. @returns standard output. @throws {CommandError} */
export async function runCommand(command: readonly string[], options: CommandOptions = {}): Promise<string> {
  const result = await tryCommand(command, options);
  if (result.status !== 0) throw new CommandError(command, result);
  return result.stdout;
}

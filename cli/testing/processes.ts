/** Runs this program as a process of its own. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import path from 'node:path';

const main = path.resolve(import.meta.dirname, '../main.ts');

/** What a process left. */
export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts `xos` with the words; it is ended after `limitMs`. */
export function startXos(
  words: readonly string[],
  env: Readonly<Record<string, string>>,
  limitMs = 60_000,
): ChildProcessWithoutNullStreams {
  const options = { env: { PATH: process.env.PATH ?? '', ...env }, timeout: limitMs };
  return spawn(process.execPath, [main, ...words], { ...options, stdio: 'pipe' });
}

/** Runs `xos` with the words and waits for its end; ends it after `limitMs`. */
export async function runXos(
  words: readonly string[],
  env: Readonly<Record<string, string>>,
  options: { readonly stdin?: string; readonly limitMs?: number } = {},
): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = startXos(words, env, options.limitMs);
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('error', reject).on('close', (code) => resolve({ code, stdout, stderr }));
    child.stdin.end(options.stdin ?? '');
  });
}

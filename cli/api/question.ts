import { createInterface } from 'node:readline/promises';
import type { Context } from '../frame/context.ts';
import { CommandError } from '../frame/exit.ts';

/**
 * Asks something that is answered by yes or no.
 * @param flag - what answers it without a terminal, for example `--yes`.
 * @throws {CommandError} when there is no terminal to ask at.
 */
export async function confirm(context: Context, question: string, flag: string): Promise<boolean> {
  if (!process.stdin.isTTY) {
    throw new CommandError('usage', `${question} There is no terminal to ask at`, `Answer with ${flag}.`);
  }
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    context.terminal.clear();
    const answer = await lines.question(`${question} [y/N] `, { signal: context.signal });
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    lines.close();
  }
}

import { readFile } from 'node:fs/promises';
import { text as readStream } from 'node:stream/consumers';
import { describeError, InvalidInputError } from '#common/errors.ts';

/** An object of the API is at most 1.5 MiB; a file may hold many. */
const sizeMax = 64 * 1024 * 1024;

/**
 * The text of a file, or of stdin for `-`.
 * @throws {InvalidInputError} naming `flag`, when it can't be read or is too large.
 */
export async function readInput(file: string, flag: string): Promise<string> {
  let text: string;
  try {
    text = file === '-' ? await readStream(process.stdin) : await readFile(file, 'utf8');
  } catch (error) {
    throw new InvalidInputError(flag, `${file} can't be read (${describeError(error)}): check the path and its rights`);
  }
  if (text.length > sizeMax) throw new InvalidInputError(flag, `${file} is larger than 64 MiB: split it`);
  return text;
}

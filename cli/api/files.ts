/** Small files that several processes read and write: replaced whole, never half written. */
import { mkdir, readFile, realpath } from 'node:fs/promises';
import { replaceFile } from '#common/durable-files.ts';
import { systemErrorCode } from '#common/errors.ts';

/** Of files that hold credentials: for the owner alone. */
const privateMode = 0o600;

/** The text of a file; undefined when it isn't there. */
export async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Makes a folder for the owner alone, with its parents. */
export async function makePrivateFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
}

/**
 * Replaces a file by another with mode 0600: a reader sees the old or the new content, also after a power failure. A
 * symbolic link stays, and what it points to is replaced.
 */
export async function replacePrivateFile(file: string, content: string): Promise<void> {
  const target = await realpath(file).catch((error: unknown) => {
    if (systemErrorCode(error) === 'ENOENT') return file;
    throw error;
  });
  await replaceFile(target, content, privateMode);
}

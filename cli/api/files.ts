/** Small files that several processes read and write: replaced whole, never half written. */
import { randomBytes } from 'node:crypto';
import { mkdir, open, readFile, realpath, rename, rm } from 'node:fs/promises';
import path from 'node:path';
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
export async function replaceFile(file: string, content: string): Promise<void> {
  const target = await realpath(file).catch((error: unknown) => {
    if (systemErrorCode(error) === 'ENOENT') return file;
    throw error;
  });
  const folder = path.dirname(target);
  const fresh = path.join(folder, `.${path.basename(target)}.${randomBytes(6).toString('hex')}`);
  try {
    const handle = await open(fresh, 'wx', privateMode);
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(fresh, target);
  } catch (error) {
    await rm(fresh, { force: true });
    throw error;
  }
  const directory = await open(folder, 'r');
  await directory.sync().finally(async () => directory.close());
}

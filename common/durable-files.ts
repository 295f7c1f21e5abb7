/** Files and folders that are still there after a loss of power: fsync of a file does not make its name safe. */
import { randomBytes } from 'node:crypto';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import path from 'node:path';

/** Puts the names in a folder on disk. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Makes a folder with its parents, if it is not there, and puts the names of those it made on disk.
 * @param mode - of what it makes, bits as in chmod(2).
 */
export async function makeFolder(folder: string, mode = 0o777): Promise<void> {
  const target = path.resolve(folder);
  const first = await mkdir(target, { recursive: true, mode });
  if (first === undefined) return;
  for (let at = target; at.startsWith(first); at = path.dirname(at)) await syncFolder(path.dirname(at));
}

/**
 * Replaces a file as a whole: a reader sees the old or the new content, also after a loss of power, and whoever else writes it.
 * @param mode - of the file, bits as in chmod(2).
 */
export async function replaceFile(file: string, content: string, mode: number): Promise<void> {
  const folder = path.dirname(file);
  const fresh = path.join(folder, `.${path.basename(file)}.${randomBytes(6).toString('hex')}`);
  try {
    const handle = await open(fresh, 'wx', mode);
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(fresh, file);
  } catch (error) {
    await rm(fresh, { force: true });
    throw error;
  }
  await syncFolder(folder);
}

/** Files and folders that are still there after a loss of power: fsync of a file does not make its name safe. */
import { mkdir, open, rename } from 'node:fs/promises';
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
 * Writes a file as a whole: a loss of power leaves the old or the new one. One process may write it at a time.
 * @param mode - of the file, bits as in chmod(2).
 */
export async function writeWhole(file: string, content: string, mode: number): Promise<void> {
  const handle = await open(`${file}.new`, 'w', mode);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(`${file}.new`, file);
  await syncFolder(path.dirname(file));
}

import { existsSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { open, type RootDatabase, type RootDatabaseOptions } from 'lmdb';
import { makeFolder, syncFolder } from '#common/durable-files.ts';

/** What can be set of a database; see the documentation of `lmdb`. */
export type LmdbOptions = Omit<RootDatabaseOptions, 'path' | 'overlappingSync'>;

/**
 * Opens the LMDB database in a folder, and makes it when it is not there. A commit is on the disk before it resolves.
 *
 * LMDB writes the first pages of a new file without a sync: power that fails before the first commit may leave a file
 * that can't be opened, or ends the process. So a new database is made aside, synced, and gets its name when it is whole.
 * @param name - of the file.
 */
export async function openLmdb<Value, Key extends string | Uint8Array>(
  folder: string,
  name: string,
  options: LmdbOptions,
): Promise<RootDatabase<Value, Key>> {
  await makeFolder(folder, 0o750);
  const file = path.join(folder, name);
  if (!existsSync(file)) {
    const aside = `${file}.making`;
    await rm(aside, { force: true });
    const fresh = open<Buffer, string>({ path: aside, noSubdir: true, encoding: 'binary', overlappingSync: false });
    // The first commit, without which nothing was synced; it leaves nothing behind.
    await fresh.put('first', Buffer.alloc(1));
    await fresh.remove('first');
    await fresh.close();
    await rename(aside, file);
    await syncFolder(folder);
    await rm(`${aside}-lock`, { force: true });
  }
  return open<Value, Key>({ ...options, path: file, noSubdir: true, overlappingSync: false });
}

import type { Disk, DiskFile } from './disk.ts';

/**
 * Creates a file. One that is there already is left over from a deletion or a checkpoint that a crash cut short: nothing
 * refers to it, and it is replaced.
 */
export async function createFresh(disk: Disk, path: string): Promise<DiskFile> {
  try {
    return await disk.open(path, 'create');
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    await disk.unlink(path);
    return disk.open(path, 'create');
  }
}

/** Replaces a small file as a whole, durably: a crash leaves the old or the new one. */
export async function replaceFile(
  disk: Disk,
  directory: string,
  path: string,
  buffers: readonly Uint8Array[],
): Promise<void> {
  const file = await createFresh(disk, `${path}.new`);
  try {
    await file.write(buffers, 0);
    await file.sync();
  } finally {
    await file.close();
  }
  await disk.rename(`${path}.new`, path);
  await disk.syncDirectory(directory);
}

import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { IssuedIds } from './issued-ids.ts';

/** Names of the files in the folder that node agent and mount holder share. */
export function idFiles(folder: string): { readonly usersPath: string; readonly groupsPath: string } {
  return { usersPath: path.join(folder, 'users'), groupsPath: path.join(folder, 'groups') };
}

/** Writes the ids for the mounts to read, each file at once and only when it changes. */
export function writeIds(folder: string, ids: IssuedIds): void {
  const { usersPath, groupsPath } = idFiles(folder);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  replace(usersPath, ids.users);
  replace(groupsPath, ids.groups);
}

function replace(file: string, text: string): void {
  try {
    if (readFileSync(file, 'utf8') === text) return;
  } catch {
    // Not there yet.
  }
  const next = `${file}.next`;
  writeFileSync(next, text, { mode: 0o600 });
  renameSync(next, file);
}

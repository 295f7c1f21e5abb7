import { randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { InvalidInputError, systemErrorCode } from '#common/errors.ts';
import { replaceFile } from '#common/durable-files.ts';

const fileName = 'uuid';
const suffixBytes = 4;
/** What file systems put into the root of a volume by themselves. */
const notOurs = new Set(['lost+found']);

/**
 * The UUID of an OSD whose folder may be replaced while its name stays: the name, a dot and what the folder was given when it was new.
 * An empty folder in place of one that was lost is another OSD then. Otherwise files that lay on it would be read as empty, and clients with
 * old replica lists would write to it. A folder that was in use before it had such a name keeps the plain one.
 * @throws {InvalidInputError} when the folder belongs to an OSD of another name.
 */
export async function uuidOfFolder(folder: string, name: string): Promise<string> {
  const file = path.join(folder, fileName);
  try {
    const uuid = (await readFile(file, 'utf8')).trim();
    if (uuid === name || uuid.startsWith(`${name}.`)) return uuid;
    throw new InvalidInputError(
      '--object-dir',
      `${folder} belongs to OSD ${uuid}, not to ${name}: give each its own folder`,
    );
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') throw error;
  }
  const isNew = (await readdir(folder)).every((entry) => notOurs.has(entry) || entry.startsWith('.'));
  const uuid = isNew ? `${name}.${randomBytes(suffixBytes).toString('hex')}` : name;
  await replaceFile(file, `${uuid}\n`, 0o600);
  return uuid;
}

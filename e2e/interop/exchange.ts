/** What two mounts of one volume do with each other's files. */
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from '@jest/globals';
import { checkMountPrerequisites } from '../sites/prerequisites.ts';
import { sh } from '../suites/xtreemfs/mounts.ts';

/** Bytes that tell where they come from. */
export function pattern(length: number, seed: number): Buffer {
  return Buffer.from(Array.from({ length }, (_unused, index) => (index * 31 + seed) % 251));
}

/**
 * Makes files, directories, links and attributes through one mount and looks at them through another one (or the same).
 * @param name - of a folder that is not there yet.
 */
export async function exchange(from: string, to: string, name: string): Promise<void> {
  await checkMountPrerequisites(console.error);
  const [here, there] = [join(from, name), join(to, name)];
  await fs.mkdir(here);
  await exchangeData(here, there);
  await exchangeNames(here, there);
  await exchangeAttributes(here, there);
  await fs.rm(there, { recursive: true });
  expect(await fs.readdir(from)).not.toContain(name);
}

async function exchangeData(here: string, there: string): Promise<void> {
  const data = pattern(700_001, 3);
  await fs.writeFile(join(here, 'data'), data);
  expect((await fs.readFile(join(there, 'data'))).equals(data)).toBe(true);
  const file = await fs.open(join(there, 'data'), 'r+');
  await file.write(pattern(1000, 9), 0, 1000, 200_000);
  await file.close();
  pattern(1000, 9).copy(data, 200_000);
  expect((await fs.readFile(join(here, 'data'))).equals(data)).toBe(true);
  await fs.truncate(join(here, 'data'), 150_000);
  await fs.truncate(join(here, 'data'), 400_000);
  const cut = Buffer.concat([data.subarray(0, 150_000), Buffer.alloc(250_000)]);
  expect((await fs.readFile(join(there, 'data'))).equals(cut)).toBe(true);
  await fs.appendFile(join(there, 'data'), 'the end');
  expect((await fs.stat(join(here, 'data'))).size).toBe(400_007);
  const sparse = await fs.open(join(here, 'sparse'), 'w');
  await sparse.write('x', 1_000_000);
  await sparse.close();
  const found = await fs.readFile(join(there, 'sparse'));
  expect([found.length, found.findIndex((byte) => byte !== 0)]).toEqual([1_000_001, 1_000_000]);
}

async function exchangeNames(here: string, there: string): Promise<void> {
  await fs.mkdir(join(here, 'many'));
  const names = Array.from({ length: 1_030 }, (_unused, index) => `entry-${String(index).padStart(4, '0')}`);
  for (const entry of names) await fs.writeFile(join(here, 'many', entry), '');
  expect((await fs.readdir(join(there, 'many'))).sort()).toEqual(names);
  await fs.rename(join(there, 'many', 'entry-0000'), join(there, 'moved'));
  await fs.writeFile(join(here, 'target'), 'old');
  await fs.rename(join(here, 'moved'), join(here, 'target'));
  expect(await fs.readFile(join(there, 'target'), 'utf8')).toBe('');
  await fs.symlink('target', join(here, 'symbolic'));
  expect(await fs.readlink(join(there, 'symbolic'))).toBe('target');
  await fs.link(join(here, 'target'), join(here, 'hard'));
  await fs.writeFile(join(there, 'hard'), 'both');
  expect(await fs.readFile(join(here, 'target'), 'utf8')).toBe('both');
  expect((await fs.stat(join(there, 'target'))).nlink).toBe(2);
  await fs.unlink(join(there, 'hard'));
  expect((await fs.stat(join(here, 'target'))).nlink).toBe(1);
  await expect(fs.rmdir(join(here, 'many'))).rejects.toMatchObject({ code: 'ENOTEMPTY' });
  await expect(fs.open(join(there, 'target'), 'wx')).rejects.toMatchObject({ code: 'EEXIST' });
  await expect(fs.stat(join(there, 'hard'))).rejects.toMatchObject({ code: 'ENOENT' });
}

async function exchangeAttributes(here: string, there: string): Promise<void> {
  const [mine, theirs] = [join(here, 'target'), join(there, 'target')];
  await fs.chmod(mine, 0o640);
  await fs.chown(mine, 0, 1);
  await fs.utimes(mine, 1_600_000_000, 1_600_000_001);
  const { mode, gid, mtimeMs } = await fs.stat(theirs);
  expect([mode & 0o7777, gid, mtimeMs]).toEqual([0o640, 1, 1_600_000_001_000]);
  await sh(`setfattr -n user.color -v green '${mine}'`);
  expect(await sh(`getfattr --only-values -n user.color '${theirs}'`)).toBe('green');
  expect((await fs.statfs(here)).blocks).toBeGreaterThan(0);
}

/** Bytes in a real OSD's folder change behind its back: they are never handed out, and xtfs_scrub names the file. */
import { execFile } from 'node:child_process';
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { canMount, sh, TestInstallation } from './mounts.ts';

const execute = promisify(execFile);
const program = new URL('../../../xtreemfs/main.ts', import.meta.url).pathname;
const marker = 'these bytes are found again on the disk';

/** @returns exit status and output. */
async function scrub(installation: TestInstallation, volume: string): Promise<{ status: number; output: string }> {
  const settings = readFileSync(join(installation.folder, 'installation.json'), 'utf8');
  const { dirPort } = JSON.parse(settings) as { dirPort: number };
  const args = [program, 'xtfs_scrub', '-dir', `127.0.0.1:${dirPort}`, volume];
  try {
    const { stdout } = await execute(process.execPath, args, { timeout: 60_000 });
    return { status: 0, output: stdout };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { status: code, output: stdout + stderr };
  }
}

/** Changes one bit of the marker wherever an OSD stored it. @returns how often it was found. */
function rot(folder: string): number {
  let found = 0;
  for (const osd of ['osd0', 'osd1']) {
    for (const name of readdirSync(join(folder, osd), { recursive: true, encoding: 'utf8' })) {
      const path = join(folder, osd, name);
      if (!statSync(path).isFile()) continue;
      const bytes = readFileSync(path);
      const at = bytes.indexOf(marker);
      if (at < 0) continue;
      bytes[at] = (bytes[at] ?? 0) ^ 1;
      writeFileSync(path, bytes, { flag: 'r+' });
      found++;
    }
  }
  return found;
}

(canMount ? describe : describe.skip)('bytes that change on an OSD', () => {
  let installation: TestInstallation;

  beforeAll(async () => {
    installation = await TestInstallation.start();
    const { mountPoint } = installation;
    await sh(
      `mkdir ${mountPoint}/a && printf '%s' '${marker}' > ${mountPoint}/a/rotten && sync ${mountPoint}/a/rotten`,
    );
    await sh(`head -c 500000 /dev/urandom > ${mountPoint}/whole && ln -s whole ${mountPoint}/link`);
  }, 120_000);

  afterAll(async () => installation.stop(), 60_000);

  test('a volume without damage is found so, by name and with all others', async () => {
    const whole = { status: 0, output: 'demo: 2 files, 5 objects, 0 files with problems\n' };
    expect(await scrub(installation, 'demo')).toEqual(whole);
    expect(await scrub(installation, 'all')).toEqual(whole);
  }, 120_000);

  test('a volume that nobody knows is refused', async () => {
    const { status, output } = await scrub(installation, 'nowhere');
    expect(status).not.toBe(0);
    expect(output).toContain('the DIR knows no volume nowhere');
  }, 120_000);

  test('a changed bit is named with its file, and reading it is EIO', async () => {
    expect(rot(installation.folder)).toBe(1);
    const { status, output } = await scrub(installation, 'demo');
    expect(status).toBe(1);
    expect(output).toMatch(/^demo\/a\/rotten: 1 objects cannot be read, first object 0 at .*: damaged$/m);
    expect(output).toMatch(/^demo: 2 files, 5 objects, 1 files with problems$/m);
    const reading = sh(`dd if=${installation.mountPoint}/a/rotten iflag=direct bs=4096 2>&1`);
    await expect(reading).rejects.toMatchObject({ stdout: expect.stringContaining('Input/output error') });
    await sh(`cat ${installation.mountPoint}/whole > /dev/null`);
  }, 120_000);
});

/** Access control lists and flags in the kernel's form: a mount answers as the file system of this machine does. */
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { checkMountPrerequisites } from '../../sites/prerequisites.ts';
import { aclCases } from './acl-cases.ts';
import { canMount, sh, TestInstallation, type TestMount } from './mounts.ts';

(canMount ? describe : describe.skip)('A mount beside a local directory (needs root and /dev/fuse)', () => {
  let installation: TestInstallation;
  let other: TestMount;
  let local = '';
  const run = async (parent: string, script: string): Promise<string> => {
    const folder = mkdtempSync(join(parent, 'case-'));
    chmodSync(folder, 0o755);
    return await sh(`cd '${folder}' || exit 1\numask 022\n${script}`);
  };

  beforeAll(async () => {
    await checkMountPrerequisites(console.error);
    local = mkdtempSync(join(tmpdir(), 'xtreemfs-acl-'));
    chmodSync(local, 0o755);
    installation = await TestInstallation.start();
    other = await installation.mountAgain(['--consistency=strict']);
  }, 200_000);
  afterAll(async () => {
    await other.stop();
    await installation.stop();
    rmSync(local, { recursive: true, force: true });
  }, 120_000);

  test.each(aclCases.map(({ name, script }) => [name, script] as const))(
    '%s',
    async (_name, script) => {
      const expected = await run(local, script);
      expect(expected).not.toBe('');
      expect(await run(installation.mountPoint, script)).toBe(expected);
    },
    60_000,
  );

  test('shows another mount and xtfsutil the same list', async () => {
    const [mine, theirs] = [join(installation.mountPoint, 'seen'), join(other.mountPoint, 'seen')];
    writeFileSync(mine, 'x');
    await sh(`setfacl -m u:1001:rwx,g:2000:r '${mine}'`);
    const shown = await sh(`getfacl -n -p -c '${mine}'`);
    expect(await sh(`getfacl -n -p -c '${theirs}'`)).toBe(shown);
    const program = new URL('../../../xtreemfs/main.ts', import.meta.url).pathname;
    await sh(`'${process.execPath}' '${program}' xtfsutil --set-acl u:1002:rw '${mine}'`, 60_000);
    expect(await sh(`getfacl -n -p -c '${theirs}'`)).toContain('user:1002:rw-');
    await sh(`setfacl -b '${theirs}'`);
    expect(existsSync(mine)).toBe(true);
  }, 60_000);
});

import { chmodSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, test } from '@jest/globals';
import { canMount, mountMemory, TestInstallation, type TestMount } from './mounts.ts';
import { posixCases } from './posix-cases.ts';

const targets: readonly [name: string, mount: () => Promise<TestMount>][] = [
  ['memory file system', mountMemory],
  ['XtreemFS', async () => await TestInstallation.start()],
  [
    'XtreemFS, striped over two OSDs, exclusive',
    async () => await TestInstallation.start(['--consistency=exclusive'], 2),
  ],
];

(canMount ? describe : describe.skip).each(targets)('A mount of %s (needs root and /dev/fuse)', (_name, start) => {
  let mount: TestMount | undefined;
  beforeAll(async () => {
    mount = await start();
  }, 120_000);
  afterAll(async () => await mount?.stop(), 60_000);

  test.each(posixCases.map((one) => [one.name, one] as const))(
    '%s',
    async (_case, { run }) => {
      const folder = await mkdtemp(join(mount?.mountPoint ?? '', 'case-'));
      chmodSync(folder, 0o777);
      await run(folder);
    },
    60_000,
  );
});

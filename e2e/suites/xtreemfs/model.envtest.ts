/** Random sequences of calls on a mount and on a local directory give the same tree, data and errors. */
import { mkdtempSync, rmSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { canMount, TestInstallation } from './mounts.ts';
import { anyCall, outcome, tree } from './random-calls.ts';

(canMount ? describe : describe.skip).each([
  ['close-to-open', 1],
  ['exclusive', 2],
] as const)('A mount beside a local directory (%s, stripe width %s)', (mode, width) => {
  let installation: TestInstallation | undefined;
  let local = '';
  beforeAll(async () => {
    installation = await TestInstallation.start([`--consistency=${mode}`], width);
    local = mkdtempSync(join(tmpdir(), 'xtreemfs-model-'));
  }, 120_000);
  afterAll(async () => {
    await installation?.stop();
    rmSync(local, { recursive: true, force: true });
  }, 60_000);

  test('gives the same answers and ends with the same tree, whatever is done', async () => {
    let round = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(anyCall, { minLength: 1, maxLength: 40 }), async (steps) => {
        const name = `round-${round++}`;
        const [ours, theirs] = [join(installation?.mountPoint ?? '', name), join(local, name)];
        await Promise.all([fs.mkdir(ours), fs.mkdir(theirs)]);
        for (const step of steps) expect(await outcome(ours, step)).toEqual(await outcome(theirs, step));
        expect(tree(ours)).toEqual(tree(theirs));
      }),
      { numRuns: Number(process.env.XTREEMFS_MODEL_RUNS ?? 60) },
    );
  }, 300_000);
});

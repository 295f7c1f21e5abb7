/** Two mounts of one volume: what one does, the other sees as its consistency mode promises, whichever process dies. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { anyStep, TwoClients } from './close-to-open.ts';
import { canMount, TestInstallation, type TestMount } from './mounts.ts';
import { anyCall, outcome, tree } from './random-calls.ts';

const runs = Number(process.env.XTREEMFS_MODEL_RUNS ?? 25);
/** Long sequences from the first run on; they get short when one fails. */
const long = { minLength: 1, maxLength: 80, size: 'max' } as const;
const everyName = ['a', 'b', 'c'].flatMap((name) => [0, 1].map((client) => ({ kind: 'show' as const, client, name })));
const settleMs = 40_000;

(canMount ? describe : describe.skip)('Two mounts of one volume (needs root and /dev/fuse)', () => {
  let installation: TestInstallation;
  const mounts: TestMount[] = [];
  let local = '';
  let round = 0;

  beforeAll(async () => {
    installation = await TestInstallation.start([], 2);
    mounts.push(installation);
    for (const mode of ['close-to-open', 'strict', 'strict']) {
      mounts.push(await installation.mountAgain([`--consistency=${mode}`]));
    }
    local = mkdtempSync(join(tmpdir(), 'xtreemfs-model-'));
  }, 120_000);
  afterAll(async () => {
    for (const mount of mounts.reverse()) await mount.stop();
    rmSync(local, { recursive: true, force: true });
  }, 120_000);

  test.each([
    ['deleted', async (file: string) => await fs.unlink(file)],
    ['replaced', async (file: string) => await fs.rename(`${file}-new`, file)],
  ])(
    'what one has open keeps its bytes when it is %s through another',
    async (how, end) => {
      const content = randomBytes(300_000);
      const [writer, reader] = mounts.map(({ mountPoint }) => join(mountPoint, how));
      await fs.writeFile(writer ?? '', content);
      await fs.writeFile(`${writer}-new`, 'new');
      const open = await fs.open(reader ?? '', 'r+');
      const third = await installation.mountAgain();
      await end(join(third.mountPoint, how));
      await third.stop(); // it deletes what it deletes before it ends
      await open.write('more', content.length);
      await open.sync();
      const read = Buffer.alloc(content.length + 4);
      expect((await open.read(read, 0, read.length, 0)).bytesRead).toBe(read.length);
      await open.close();
      expect(read.equals(Buffer.concat([content, Buffer.from('more')]))).toBe(true);
      const left = await fs.readFile(join(mounts[3]?.mountPoint ?? '', how), 'utf8').catch(() => 'nothing');
      expect(left).toBe(how === 'deleted' ? 'nothing' : 'new');
    },
    60_000,
  );

  test('in strict mode they are like one directory', async () => {
    const step = fc.record({ call: anyCall, by: fc.integer({ min: 2, max: 3 }) });
    await fc.assert(
      fc.asyncProperty(fc.array(step, long), async (steps) => {
        const name = `round-${round++}`;
        const [theirs, ...ours] = [local, ...mounts.map(({ mountPoint }) => mountPoint)].map((at) => join(at, name));
        await Promise.all([fs.mkdir(theirs ?? ''), fs.mkdir(ours[2] ?? '')]);
        for (const { call, by } of steps) {
          expect(await outcome(ours[by] ?? '', call)).toEqual(await outcome(theirs ?? '', call));
        }
        expect(tree(ours[2] ?? '')).toEqual(tree(theirs ?? ''));
        expect(tree(ours[3] ?? '')).toEqual(tree(theirs ?? ''));
      }),
      { numRuns: runs },
    );
  }, 300_000);

  test.each([
    ['whatever is done', [] as string[], runs],
    ['also when processes die', ['dir', 'mrc', 'osd0', 'osd1', 'worker'], Math.ceil(runs / 5)],
  ])(
    'in close-to-open mode who opens a file sees what was closed: %s',
    async (_when, victims, numRuns) => {
      const wanted = new Map<string, Map<string, Buffer>>();
      let kills = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(anyStep(victims), long), async (steps) => {
          const folder = `round-${round++}`;
          await fs.mkdir(join(installation.mountPoint, folder));
          const roots = mounts.slice(0, 2).map(({ mountPoint }) => join(mountPoint, folder));
          const clients = new TwoClients(roots, (victim) => {
            if (installation.kill(victim) !== 0) kills++;
          });
          try {
            for (const step of steps) expect([step, await clients.run(step)]).toEqual([step, undefined]);
          } finally {
            await clients.finish();
          }
          for (const step of everyName) expect([step, await clients.run(step)]).toEqual([step, undefined]);
          wanted.set(folder, clients.contents());
        }),
        { numRuns, endOnFailure: victims.length > 0 },
      );
      if (victims.length > 0) expect(kills).toBeGreaterThan(numRuns / 2);
      for (const { mountPoint } of mounts.slice(0, 2)) {
        await expect(untilSame(mountPoint, wanted)).resolves.toEqual([]);
      }
    },
    300_000,
  );
});

/** Waits until a mount shows what was left in the end. @returns what is still wrong when the time is over. */
async function untilSame(root: string, wanted: Map<string, Map<string, Buffer>>): Promise<string[]> {
  const end = performance.now() + settleMs;
  for (;;) {
    const wrong: string[] = [];
    for (const [folder, files] of wanted) {
      const found = await fs.readdir(join(root, folder));
      if (found.sort().join() !== [...files.keys()].sort().join()) wrong.push(`${folder} has ${found.join()}`);
      for (const [name, content] of files) {
        const bytes = await fs.readFile(join(root, folder, name)).catch(() => undefined);
        if (bytes?.equals(content) !== true)
          wrong.push(`${folder}/${name} has ${bytes?.length} of ${content.length} bytes`);
      }
    }
    if (wrong.length === 0 || performance.now() > end) return wrong;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';

import { withLock } from './lock.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'lock-test-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** Another process that takes the lock, says so, and keeps it until it is killed. */
async function holder(path: string): Promise<() => Promise<void>> {
  const program = `
    import { withLock } from ${JSON.stringify(join(import.meta.dirname, 'lock.ts'))};
    await withLock(${JSON.stringify(path)}, async () => {
      console.log('held');
      await new Promise((resolve) => setTimeout(resolve, 60_000));
    });`;
  const file = join(import.meta.dirname, `.lock-holder-${process.pid}.ts`);
  writeFileSync(file, program);
  const child = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  rmSync(file);
  return async () => {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  };
}

describe('a lock', () => {
  test('lets one work at a time', async () => {
    const path = join(dir, 'lock');
    let working = 0;
    let most = 0;
    await Promise.all(
      Array.from({ length: 5 }, async () =>
        withLock(path, async () => {
          working += 1;
          most = Math.max(most, working);
          await new Promise((resolve) => setTimeout(resolve, 20));
          working -= 1;
        }),
      ),
    );
    expect(most).toBe(1);
  });

  test('is free again after an error', async () => {
    const path = join(dir, 'lock');
    await expect(withLock(path, async () => Promise.reject(new Error('work failed')))).rejects.toThrow('work failed');
    expect(await withLock(path, async () => Promise.resolve('done'))).toBe('done');
  });

  test('names its holder to those who wait, and to those who waited too long', async () => {
    const path = join(dir, 'lock');
    const kill = await holder(path);
    const seen: string[] = [];
    const waiting = withLock(path, async () => Promise.resolve(), { waitMs: 200, onWait: (pid) => seen.push(pid) });
    await expect(waiting).rejects.toThrow(/is held by process \d+ for more than 0.2 s/);
    expect(seen).toEqual([readFileSync(`${path}.holder`, 'utf8').trim()]);
    await kill();
  });

  test('is taken over at once from a holder that was killed', async () => {
    const path = join(dir, 'lock');
    const kill = await holder(path);
    let isWaiting = false;
    const taken = withLock(path, async () => Promise.resolve('taken'), { onWait: () => (isWaiting = true) });
    while (!isWaiting) await new Promise((resolve) => setTimeout(resolve, 5));
    await kill();
    expect(await taken).toBe('taken');
  });
});

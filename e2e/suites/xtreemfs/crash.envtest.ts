/** Processes are killed at any moment: nothing that was acknowledged is lost, open files stay open, the mount goes on. */
import { existsSync, readFileSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { canMount, sh, TestInstallation } from './mounts.ts';

/** Waits until a condition holds. @throws when it does not in time. */
async function until(condition: () => boolean, limitMs: number): Promise<void> {
  const end = performance.now() + limitMs;
  while (!condition()) {
    await pause(100);
    if (performance.now() > end) throw new Error(`not within ${limitMs} ms: ${String(condition)}`);
  }
}

function isRunning(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
  } catch {
    return false;
  }
}

const pause = async (ms: number): Promise<void> => await new Promise((resolve) => setTimeout(resolve, ms));

/** Writes until fsync says that it is there: a process that dies with unsent bytes makes it say EIO. */
async function writeDurably(path: string, content: string): Promise<void> {
  for (;;) {
    const file = await fs.open(path, 'w');
    try {
      await file.write(content);
      await file.sync();
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EIO') throw error;
    } finally {
      await file.close().catch(() => undefined);
    }
  }
}

/** Writes `count` pieces, piece n full of n + 1, with a kill before piece `killAt`. @returns what fsync and close failed with. */
async function writeAndClose(
  path: string,
  count: number,
  size: number,
  killAt: number,
  kill: () => Promise<void>,
  syncs: boolean,
): Promise<string[]> {
  const failures: string[] = [];
  const note = (error: unknown): void => void failures.push(String((error as NodeJS.ErrnoException).code));
  const file = await fs.open(path, 'w');
  for (let index = 0; index < count; index++) {
    if (index === killAt) await kill();
    await file.write(Buffer.alloc(size, index + 1));
  }
  if (killAt === count) await kill();
  if (syncs) await file.sync().catch(note);
  await file.close().catch(note);
  return failures;
}

(canMount ? describe : describe.skip)('A mount whose processes are killed (needs root and /dev/fuse)', () => {
  let installation: TestInstallation | undefined;
  const at = (name: string): string => join(installation?.mountPoint ?? '', name);

  beforeAll(async () => {
    installation = await TestInstallation.start();
  }, 120_000);
  afterAll(async () => await installation?.stop(), 60_000);

  test.each(['worker', 'osd0', 'osd1', 'mrc', 'dir'])(
    'loses nothing that was synced, and no file, when %s dies again and again',
    async (victim) => {
      const folder = at(`killed-${victim}`);
      await fs.mkdir(folder);
      const held = await fs.open(join(folder, 'held'), 'w+');
      await held.write('held open ');
      await held.sync();
      const abort = new AbortController();
      let kills = 0;
      const killer = (async () => {
        for (let round = 0; round < 3 && !abort.signal.aborted; round++) {
          await pause(300);
          if (installation?.kill(victim) !== 0) kills++;
          await fs.statfs(folder);
          await pause(3000);
        }
      })();
      const wanted = new Map<string, string>();
      const until = performance.now() + 10_000;
      for (let index = 0; index < 400 && (kills < 3 || performance.now() < until); index++) {
        const [name, content] = [`file-${index}`, `content ${index} `.repeat(1 + (index % 7) * 300)];
        await writeDurably(join(folder, name), content);
        if (index % 5 === 0) await fs.rename(join(folder, name), join(folder, `${name}-moved`));
        if (index % 7 === 6) {
          await fs.unlink(join(folder, `file-${index - 1}${(index - 1) % 5 === 0 ? '-moved' : ''}`));
          wanted.delete(`file-${index - 1}${(index - 1) % 5 === 0 ? '-moved' : ''}`);
        }
        wanted.set(`${name}${index % 5 === 0 ? '-moved' : ''}`, content);
      }
      abort.abort();
      await killer;
      await held.write('to the end');
      await held.sync();
      expect((await held.read(Buffer.alloc(30), 0, 30, 0)).buffer.toString('utf8', 0, 20)).toBe('held open to the end');
      await held.close();
      expect(kills).toBeGreaterThan(0);
      const found = (await fs.readdir(folder)).filter((name) => name !== 'held');
      expect(found.sort()).toEqual([...wanted.keys()].sort());
      for (const [name, content] of wanted) expect(await fs.readFile(join(folder, name), 'utf8')).toBe(content);
    },
    180_000,
  );

  test('loses no byte that write(2) has answered, also without a sync', async () => {
    const file = await fs.open(at('lossy'), 'w');
    for (let index = 0; index < 20; index++) await file.write(Buffer.alloc(3000, index));
    installation?.kill('worker');
    const failure = await file.sync().then(
      () => 'none',
      (error: unknown) => (error as NodeJS.ErrnoException).code,
    );
    expect([failure, (await fs.readFile(at('lossy'))).length]).toEqual(['none', 60_000]);
    await file.close().catch(() => undefined);
  }, 60_000);

  test('with --enable-async-writes, has every byte or says EIO at fsync or close, whenever the worker dies', async () => {
    const lossy = await TestInstallation.start(['--enable-async-writes']);
    try {
      const silent: string[] = [];
      let kills = 0;
      for (let round = 0; round < 20; round++) {
        const path = join(lossy.mountPoint, `round-${round}`);
        const [count, size] = [20 + Math.floor(Math.random() * 40), round % 3 === 0 ? 70_000 : 3000];
        const killAt = round % 2 === 0 ? count : Math.floor(Math.random() * count);
        const waitMs = round % 4 < 2 ? 0 : Math.random() * 15;
        const again = round % 5 === 0 ? Math.random() * 400 : undefined;
        const kill = async (): Promise<void> => {
          await pause(waitMs);
          if (lossy.kill('worker') !== 0) kills++;
          // The successor dies too: sometimes before, sometimes after it has told of the loss.
          if (again !== undefined) setTimeout(() => lossy.kill('worker'), again);
        };
        const failures = await writeAndClose(path, count, size, killAt, kill, round % 4 !== 3);
        await pause(again ?? 0);
        const wanted = Buffer.concat(Array.from({ length: count }, (_unused, index) => Buffer.alloc(size, index + 1)));
        const found = await fs.readFile(path);
        expect(failures.filter((code) => code !== 'EIO')).toEqual([]);
        if (!found.equals(wanted) && failures.length === 0) {
          silent.push(
            `round ${round}: ${found.length} of ${wanted.length} bytes, killed at write ${killAt} of ${count}`,
          );
        }
      }
      expect(silent).toEqual([]);
      expect(kills).toBe(20);
    } finally {
      await lossy.stop();
    }
  }, 180_000);

  test('leaves no worker behind when its keeper dies, and is mounted again', async () => {
    const other = await TestInstallation.start();
    try {
      await fs.writeFile(join(other.mountPoint, 'kept'), 'x');
      const orphan = other.pidOf('worker');
      other.kill('mount');
      await until(() => !isRunning(orphan), 20_000);
      await until(() => other.pidOf('worker') !== 0 && existsSync(join(other.mountPoint, 'kept')), 20_000);
    } finally {
      await other.stop();
    }
  }, 120_000);

  test('leaves no worker behind when its keeper dies while the servers are away and a file is open', async () => {
    const other = await TestInstallation.start(['--enable-async-writes']);
    const file = await fs.open(join(other.mountPoint, 'open'), 'w');
    const orphan = other.pidOf('worker');
    other.freeze();
    const writing = file.write('never sent').catch(() => undefined);
    other.kill('mount');
    await until(() => !isRunning(orphan), 90_000);
    await writing;
    await file.close().catch(() => undefined);
    await other.stop();
  }, 180_000);

  test('is cut off by umount -f when nothing serves it, and leaves nobody waiting', async () => {
    const other = await TestInstallation.start();
    await fs.writeFile(join(other.mountPoint, 'f'), 'x');
    await sh(`umount -l '${other.mountPoint}'`);
    await other.stop();
  }, 120_000);
});

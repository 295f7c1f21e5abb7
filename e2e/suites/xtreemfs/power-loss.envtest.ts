/**
 * Power fails under a whole installation: DIR, MRC and OSDs lose every byte and every name that was not synced, and the
 * mount is gone. Everything starts again by itself, and nothing is lost that was acknowledged: what a call changed in the
 * tree once it returned, and the bytes of a file once fsync returned.
 */
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from '@jest/globals';
import { SeededRandom } from '#common/random.ts';
import { waitFor } from '#sites/kube-client.ts';
import { canMount, ForgetfulDisk, TestInstallation } from './mounts.ts';

/** Contents of the files whose last change was acknowledged; `undefined` while one is under way: either is right. */
type Acknowledged = Map<string, Buffer | undefined>;

/** Works in a folder of its own until the disk fails, and keeps book of what was acknowledged. */
class Writer {
  readonly acknowledged: Acknowledged = new Map();
  private readonly folder: string;
  private readonly random: SeededRandom;
  private count = 0;
  steps = 0;

  constructor(folder: string, seed: number) {
    this.folder = folder;
    this.random = new SeededRandom(seed);
  }

  async work(isOver: () => boolean): Promise<void> {
    await fs.mkdir(this.folder, { recursive: true });
    while (!isOver()) {
      try {
        await this.step();
      } catch (error) {
        if (isOver()) return;
        throw error;
      }
      if (!isOver()) this.steps++;
    }
  }

  private async step(): Promise<void> {
    const names = [...this.acknowledged.keys()];
    const name = names.length === 0 ? undefined : names[this.random.int(names.length)];
    const dice = this.random.int(10);
    if (name === undefined || dice < 5) await this.write(`file-${this.count++}`);
    else if (dice < 7) await this.write(name);
    else if (dice < 9) await this.rename(name, `moved-${this.count++}`);
    else await this.remove(name);
  }

  private async write(name: string): Promise<void> {
    const content = Buffer.alloc(1 + this.random.int(300_000), `${name} ${this.count} `);
    this.acknowledged.set(name, undefined);
    const file = await fs.open(join(this.folder, name), 'w');
    try {
      await file.write(content);
      await file.sync();
    } finally {
      await file.close();
    }
    this.acknowledged.set(name, content);
  }

  private async rename(from: string, to: string): Promise<void> {
    const content = this.acknowledged.get(from);
    this.acknowledged.set(from, undefined);
    this.acknowledged.set(to, undefined);
    await fs.rename(join(this.folder, from), join(this.folder, to));
    this.acknowledged.delete(from);
    this.acknowledged.set(to, content);
  }

  private async remove(name: string): Promise<void> {
    this.acknowledged.set(name, undefined);
    await fs.unlink(join(this.folder, name));
    this.acknowledged.delete(name);
  }
}

/** Compares a folder with what was acknowledged. @returns what is wrong, one line for each. */
async function compare(folder: string, acknowledged: Acknowledged): Promise<string[]> {
  const found = new Set(await fs.readdir(folder));
  const wrong = [...found].filter((name) => !acknowledged.has(name)).map((name) => `${name} came back`);
  for (const [name, content] of acknowledged) {
    if (content === undefined) continue;
    if (!found.has(name)) wrong.push(`${name} is gone`);
    else if (!(await fs.readFile(join(folder, name))).equals(content)) wrong.push(`${name} has other bytes`);
  }
  return wrong;
}

(canMount ? describe : describe.skip)('An installation whose disk loses power (needs root and /dev/fuse)', () => {
  const disks: ForgetfulDisk[] = [];
  let installation: TestInstallation | undefined;
  const newDisk = (): ForgetfulDisk => {
    const disk = new ForgetfulDisk();
    disks.push(disk);
    return disk;
  };
  afterEach(async () => {
    await installation?.die().catch(() => undefined);
  });
  afterAll(async () => {
    for (const disk of disks) await disk.stop();
  });

  test.each([1, 2])(
    'starts again with everything that was acknowledged, again and again (seed %d)',
    async (seed) => {
      const random = new SeededRandom(seed);
      const disk = newDisk();
      const folders: [string, Acknowledged][] = [];
      for (let round = 0; round < 3; round++) {
        await disk.start(seed * 100 + round);
        installation = await TestInstallation.start([], 1, join(disk.mountPoint, 'data'));
        for (const [folder, acknowledged] of folders) {
          expect([round, folder, await compare(join(installation.mountPoint, folder), acknowledged)]).toEqual([
            round,
            folder,
            [],
          ]);
        }
        let isOver = false;
        const writers = [0, 1].map((index) => {
          const folder = `round-${round}-${index}`;
          const writer = new Writer(join(installation?.mountPoint ?? '', folder), seed * 1000 + round * 10 + index);
          folders.push([folder, writer.acknowledged]);
          return writer;
        });
        const work = writers.map(async (writer) => await writer.work(() => isOver));
        await waitFor('both write', () => writers.every(({ steps }) => steps > 0), { limitMs: 60_000 });
        await new Promise((resolve) => setTimeout(resolve, random.int(2500)));
        isOver = true;
        await disk.cut();
        await installation.die();
        await Promise.allSettled(work);
        await disk.detach();
      }
    },
    180_000,
  );
});

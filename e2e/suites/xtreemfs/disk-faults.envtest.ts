/**
 * Disks below real servers run full, fail, tear writes and let bits rot. Whoever writes is told, nothing else is lost, servers
 * go on, damage is never handed out, and a replica repairs it where there is one.
 */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { waitFor } from '#sites/kube-client.ts';
import { canMount, ForgetfulDisk, sh, TestInstallation } from './mounts.ts';

const mib = 2 ** 20;
const content = (name: string): Buffer => Buffer.alloc(mib, `${name} `);

/** Writes a file and syncs it. @returns `done`, or the error that the writer was told. */
async function store(path: string, bytes: Buffer): Promise<string> {
  try {
    const file = await fs.open(path, 'w');
    try {
      await file.write(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    return 'done';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

/** Reads a file past the kernel's pages. @returns a hash of its bytes; with the error, if there is one. */
async function readBack(path: string): Promise<string> {
  return await sh(`(dd if='${path}' iflag=direct bs=1M status=none | sha256sum) 2>&1`);
}

(canMount ? describe : describe.skip)('OSDs whose disks fail (needs root and /dev/fuse)', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'xtreemfs-faults-'));
  const disks = [new ForgetfulDisk(), new ForgetfulDisk()];
  const everyDisk = async (command: string): Promise<number[]> =>
    await Promise.all(disks.map(async (disk) => await disk.fault(command)));
  let installation: TestInstallation;
  let folder = '';
  let servers: number[] = [];
  const pids = (): number[] =>
    ['dir', 'mrc', 'osd0', 'osd1', 'mount', 'worker'].map((name) => installation.pidOf(name));
  const at = (name: string): string => join(folder, name);
  const freeBytes = async (): Promise<number> => {
    const { bavail, bsize } = await fs.statfs(folder);
    return bavail * bsize;
  };

  beforeAll(async () => {
    const data = join(scratch, 'data');
    mkdirSync(data);
    for (const [index, disk] of disks.entries()) {
      await disk.start(index);
      symlinkSync(disk.mountPoint, join(data, `osd${index}`));
    }
    installation = await TestInstallation.start([], 1, data);
    folder = join(installation.mountPoint, 'faults');
    await fs.mkdir(folder);
    expect(await store(at('before'), content('before'))).toBe('done');
    servers = pids();
  }, 200_000);
  afterEach(async () => {
    await everyDisk('heal');
    await waitFor('files can be made', async () => (await store(at('after'), content('after'))) === 'done', {
      limitMs: 90_000,
    });
    expect((await fs.readFile(at('before'))).equals(content('before'))).toBe(true);
  }, 100_000);
  afterAll(async () => {
    await installation.stop();
    for (const disk of disks) await disk.stop();
    rmSync(scratch, { recursive: true, force: true });
  }, 120_000);

  test('who writes to a full disk gets ENOSPC, what is there stays, and there is room again once something goes', async () => {
    await everyDisk(`room ${8 * mib}`);
    const file = await fs.open(at('grows'), 'w+');
    let kept = 0;
    const grow = async (): Promise<string> => {
      for (; kept < 20; kept++) {
        try {
          await file.write(content(`part ${kept}`), 0, mib, kept * mib);
          await file.sync();
        } catch (error) {
          return (error as NodeJS.ErrnoException).code ?? String(error);
        }
      }
      return 'done';
    };
    expect([await grow(), kept > 5, kept < 9]).toEqual(['ENOSPC', true, true]);
    const { buffer } = await file.read(Buffer.alloc(kept * mib), 0, kept * mib, 0);
    for (let part = 0; part < kept; part++) {
      expect(buffer.subarray(part * mib, (part + 1) * mib).equals(content(`part ${part}`))).toBe(true);
    }
    await waitFor('the volume says that it is full', async () => (await freeBytes()) < 8 * mib, { limitMs: 60_000 });
    expect(await store(at('refused'), content('refused'))).toBe('ENOSPC');
    await everyDisk('heal');
    expect([await grow(), kept]).toEqual(['done', 20]);
    await file.close();
    await waitFor('the volume has room', async () => (await freeBytes()) > 100 * mib, { limitMs: 60_000 });
    expect(pids()).toEqual(servers);
  }, 300_000);

  test.each(['write', 'read'])(
    'who works on a disk that fails to %s gets EIO, and others go on',
    async (call) => {
      const name = `${call}-fails`;
      expect(await store(at(name), content('old'))).toBe('done');
      await everyDisk(`fail ${call}`);
      if (call === 'read') expect(await readBack(at(name))).toContain('Input/output error');
      else expect(await store(at(`${call}-new`), content('new'))).toBe('EIO');
      await everyDisk('heal');
      expect(await store(at(`${call}-after`), content('after'))).toBe('done');
      expect((await fs.readFile(at(`${call}-after`))).equals(content('after'))).toBe(true);
      expect((await fs.readFile(at(name))).equals(content('old'))).toBe(true);
      expect(pids()).toEqual(servers);
    },
    100_000,
  );

  test('a write that the disk tore without a word is EIO when it is read, and never handed out', async () => {
    await everyDisk('tear 65536');
    expect(await store(at('torn'), content('torn'))).toBe('done');
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await readBack(at('torn'))).toContain('Input/output error');
    expect(await store(at('torn'), content('whole'))).toBe('done');
    expect((await fs.readFile(at('torn'))).equals(content('whole'))).toBe(true);
  }, 60_000);

  test('bits that rot in one replica are repaired by the other one while they are read', async () => {
    await fs.mkdir(at('replicated'));
    const policy = JSON.stringify({ 'update-policy': 'WqRq', 'replication-factor': '2' });
    await sh(`setfattr -n xtreemfs.default_rp -v '${policy}' '${at('replicated')}'`);
    const [path, mark] = [at('replicated/f'), 'these bytes rot'];
    const bytes = Buffer.concat([Buffer.from(mark), Buffer.alloc(100_000, 7)]);
    let repaired = 0;
    for (const disk of disks) {
      expect(await store(path, bytes)).toBe('done');
      const whole = await readBack(path);
      expect(await disk.fault(`rot ${mark}`)).toBeGreaterThan(0);
      expect(await readBack(path)).toBe(whole);
      // The primary reads its own copy: only there damage is seen now, and a whole copy stands again.
      repaired += Math.min(1, await disk.fault(`rot ${mark}`));
      await fs.unlink(path);
    }
    expect(repaired).toBeGreaterThan(0);
    expect(pids()).toEqual(servers);
  }, 60_000);

  test('a file that the disk failed to sync takes no changes until the OSD is restarted, and others do', async () => {
    expect(await store(at('kept'), content('kept'))).toBe('done');
    await everyDisk('fail sync');
    expect(await store(at('unsynced'), content('new'))).toBe('EIO');
    await everyDisk('heal');
    expect(await store(at('unsynced'), content('again'))).toBe('EIO');
    expect(await store(at('kept'), content('other'))).toBe('done');
    expect(pids()).toEqual(servers);
    for (const osd of ['osd0', 'osd1']) installation.kill(osd);
    await waitFor('it takes changes again', async () => (await store(at('unsynced'), content('last'))) === 'done', {
      limitMs: 60_000,
    });
    expect((await fs.readFile(at('unsynced'))).equals(content('last'))).toBe(true);
    expect((await fs.readFile(at('kept'))).equals(content('other'))).toBe(true);
  }, 150_000);
});

(canMount ? describe : describe.skip)(
  'A whole installation on a disk that runs full (needs root and /dev/fuse)',
  () => {
    const disk = new ForgetfulDisk();
    let installation: TestInstallation | undefined;
    afterAll(async () => {
      await installation?.stop();
      await disk.stop();
    }, 120_000);

    test('goes on when there is room again, with everything that was acknowledged', async () => {
      await disk.start(7);
      installation = await TestInstallation.start([], 1, join(disk.mountPoint, 'data'));
      const { mountPoint } = installation;
      const acknowledged: string[] = [];
      const create = async (name: string): Promise<void> => {
        if ((await store(join(mountPoint, name), Buffer.from(name))) === 'done') acknowledged.push(name);
      };
      for (let index = 0; index < 50; index++) await create(`before-${index}`);
      await disk.fault('room 0');
      const during = Array.from({ length: 20 }, async (_unused, index) => await create(`during-${index}`));
      await new Promise((resolve) => setTimeout(resolve, 5_000));
      await disk.fault('heal');
      await Promise.all(during);
      await waitFor(
        'files are made again',
        async () => {
          const count = acknowledged.length;
          await create(`after-${count}`);
          return acknowledged.length > count;
        },
        { limitMs: 60_000 },
      );
      for (const name of acknowledged) expect(await fs.readFile(join(mountPoint, name), 'utf8')).toBe(name);
      expect(acknowledged.length).toBeGreaterThan(50);
    }, 200_000);
  },
);

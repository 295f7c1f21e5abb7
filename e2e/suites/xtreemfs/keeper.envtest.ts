/** What a keeper does when its mount has ended, on the kernel's own FUSE. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { createLogger } from '#common/logger.ts';
import { Keeper } from '#xtreemfs/fuse/keeper.ts';
import { abortConnection, connectionOf, listMounts, unmount } from '#xtreemfs/fuse/mount.ts';
import type { MountConfig } from '#xtreemfs/fuse/mount-config.ts';
import { waitFor } from '#sites/harness.ts';
import { canMount } from './mounts.ts';

/** Agrees to serve (FUSE_INIT is 26, version 7.31), serves nothing, and ends as a worker does when the mount is gone or was aborted. */
const idleWorker = `
const { read, writeSync } = require('node:fs');
const request = Buffer.alloc(1 << 21);
const answer = () => {
  const isInit = request.readUInt32LE(4) === 26;
  const reply = Buffer.alloc(isInit ? 80 : 16);
  reply.writeUInt32LE(reply.length, 0);
  reply.writeInt32LE(isInit ? 0 : -38, 4);
  request.copy(reply, 8, 8, 16);
  if (isInit) [7, 31, 131072, 0, 0, 4096].forEach((value, at) => reply.writeUInt32LE(value, 16 + 4 * at));
  try { writeSync(3, reply); } catch {}
};
const next = () => read(3, request, 0, request.length, null, (error) => {
  if (error === null) answer();
  if (error === null || error.code === 'EAGAIN' || error.code === 'EINTR') setTimeout(next, 5);
  else process.exit(error.code === 'ENODEV' ? 0 : 9);
});
next();`;
/** Longer than a keeper lets open files finish. */
const longMs = 120_000;
/** Other programs of the machine mount too, and take numbers. */
const attemptsMax = 50;

let folder: string;
let clock: VirtualClock;
let lines: string[];
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'xtreemfs-keeper-'));
  clock = new VirtualClock(0);
  lines = [];
});
afterEach(async () => {
  await clear();
  rmSync(folder, { recursive: true, force: true });
});

interface Mounted {
  readonly keeper: Keeper;
  readonly mountPoint: string;
  readonly connection: number;
  readonly end: Promise<string>;
}

async function mount(): Promise<Mounted> {
  const mountPoint = mkdtempSync(path.join(folder, 'm-'));
  const keeper = new Keeper({
    config: { mountPoint } as MountConfig,
    mount: {
      ...{ mountPoint, source: 'test', subtype: 'test', maxReadBytes: 131_072, extra: [] },
      ...{ allowOther: true, defaultPermissions: true, readOnly: false },
    },
    clock,
    logger: createLogger({ level: 'debug', destination: { write: (line) => void lines.push(line) } }),
    workerCommand: [process.execPath, '-e', idleWorker],
  });
  const end = keeper.run().then(
    () => 'ended',
    (error: unknown) => String(error),
  );
  const connection = await waitFor('it is mounted', async () => Promise.resolve(connectionOf(mountPoint)));
  await waitFor('it has a worker', async () => Promise.resolve(keeper.workerPid));
  return { keeper, mountPoint, connection, end };
}

/** Whatever happens, nothing stays mounted that would make others wait. */
async function clear(): Promise<void> {
  for (const { mountPoint, device } of listMounts()) {
    if (!mountPoint.startsWith(`${folder}/`)) continue;
    await abortConnection(Number(device.split(':')[1])).catch(() => undefined);
    await unmount(mountPoint, { lazy: true });
  }
}

(canMount ? describe : describe.skip)('A keeper whose mount has ended (needs root and /dev/fuse)', () => {
  test('never aborts the mount that got its number', async () => {
    for (let attempt = 1; ; attempt++) {
      const first = await mount();
      await first.keeper.stop();
      expect(await first.end).toBe('ended');
      const second = await mount();
      const isReused = second.connection === first.connection;
      if (isReused) {
        clock.advance(longMs);
        expect(lines.join('')).not.toContain('aborting');
        expect(second.keeper.workerPid).toBeDefined();
      }
      await unmount(second.mountPoint);
      expect(await second.end).toBe('ended');
      if (isReused || attempt >= attemptsMax) {
        expect(isReused).toBe(true);
        return;
      }
    }
  }, 60_000);
});

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { RpcClient } from '../rpc/client.ts';
import { ServerList } from '../rpc/retry.ts';
import { createDialer } from '../rpc/transport.ts';
import { DirClient } from '../service/dir-client.ts';
import { spawnDir, type DirProcess } from './testing/spawn-dir.ts';
import { aService } from './testing/store-compliance.ts';

const clock = systemClock;
let folder: string;
let dir: DirProcess | undefined;
const client = new RpcClient({ clock, logger: silentLogger, dialer: createDialer('pbrpc') });

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'dir-crash-'));
});
afterEach(async () => {
  await dir?.kill();
  client.close();
  rmSync(folder, { recursive: true });
});

test('what was acknowledged before each of several kill -9 is there afterwards', async () => {
  const acknowledged = new Map<string, number>();
  for (let round = 0; round < 3; round++) {
    dir = await spawnDir(['--data-dir', folder]);
    const dirs = new ServerList([`127.0.0.1:${dir.port}`]);
    const directory = new DirClient({ client, clock, dirs, retry: { triesMax: 1, retryDelayMs: 0 } });
    for (const [uuid, version] of acknowledged) {
      expect({ uuid, version: (await directory.service(uuid))?.version }).toEqual({ uuid, version });
    }
    const write = async (writer: number): Promise<void> => {
      for (let count = 0; ; count++) {
        const uuid = `osd-${writer}-${count % 5}`;
        const version = (await directory.service(uuid))?.version ?? 0;
        acknowledged.set(uuid, await directory.registerService(aService({ uuid, version })));
      }
    };
    const before = acknowledged.size;
    const writers = Promise.allSettled([0, 1, 2, 3].map(write));
    await clock.sleep(300);
    await dir.kill();
    await writers;
    // A write that was under way may be there without its acknowledgement: take what is stored as the new truth.
    if (round === 0) expect(acknowledged.size).toBeGreaterThan(before);
    dir = await spawnDir(['--data-dir', folder]);
    const after = new DirClient({ client, clock, dirs: new ServerList([`127.0.0.1:${dir.port}`]) });
    for (const [uuid, version] of acknowledged) {
      const stored = (await after.service(uuid))?.version ?? 0;
      expect(stored === version || stored === version + 1).toBe(true);
      acknowledged.set(uuid, stored);
    }
    await dir.kill();
  }
}, 60_000);

/** The etcd store against a real etcd: the compliance suite, and DIRs of which any may die. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { RpcClient } from '../rpc/client.ts';
import { ServerList } from '../rpc/retry.ts';
import { createDialer } from '../rpc/transport.ts';
import { startEtcd, type TestEtcd } from '../testing/etcd.ts';
import { DirClient } from '../service/dir-client.ts';
import { EtcdDirStore } from './etcd-store.ts';
import { spawnDir } from './testing/spawn-dir.ts';
import { aService, describeStore } from './testing/store-compliance.ts';

let etcd: TestEtcd;
let url: string;
beforeAll(async () => {
  etcd = await startEtcd();
  ({ url } = etcd);
}, 600_000);
afterAll(async () => await etcd.stop());

describeStore('etcd', async () => new EtcdDirStore({ endpoints: [url], prefix: '/compliance' }), true);

describe('three DIRs over one etcd', () => {
  test('show each other what was written, and go on when any of them dies', async () => {
    const dirs = await Promise.all([1, 2, 3].map(async () => spawnDir(['--etcd', url, '--etcd-prefix', '/three'])));
    const clock = systemClock;
    const client = new RpcClient({ clock, logger: silentLogger, dialer: createDialer('pbrpc') });
    const clientOf = (list: readonly number[]): DirClient =>
      new DirClient({
        client,
        clock,
        dirs: new ServerList(list.map((index) => `127.0.0.1:${dirs[index]!.port}`)),
        retry: { triesMax: 10, retryDelayMs: 50 },
      });
    const all = clientOf([0, 1, 2]);
    let version = await clientOf([0]).registerService(aService());
    for (const index of [1, 2]) expect(await clientOf([index]).service('osd-1')).toMatchObject({ version });
    for (const [index, dir] of dirs.entries()) {
      if (index === 2) break;
      await dir.kill();
      version = await all.registerService(aService({ version }));
      expect(await all.service('osd-1')).toMatchObject({ version });
    }
    expect(version).toBe(3);
    await dirs[2]!.kill();
    client.close();
  }, 60_000);

  test('of writers at different DIRs exactly one wins a version', async () => {
    const dirs = await Promise.all([1, 2].map(async () => spawnDir(['--etcd', url, '--etcd-prefix', '/race'])));
    const clock = systemClock;
    const client = new RpcClient({ clock, logger: silentLogger, dialer: createDialer('pbrpc') });
    const clients = dirs.map(
      ({ port }) => new DirClient({ client, clock, dirs: new ServerList([`127.0.0.1:${port}`]) }),
    );
    for (let version = 0; version < 10; version++) {
      const writes = await Promise.allSettled(
        Array.from({ length: 8 }, async (_, index) =>
          clients[index % 2]!.registerService(aService({ version, name: `w${index}` })),
        ),
      );
      expect(writes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    }
    await Promise.all(dirs.map(async (dir) => dir.kill()));
    client.close();
  }, 60_000);
});

/**
 * Ours and upstream's together. Upstream's programs come from the variables XTREEMOS_UPSTREAM_BIN (folder of
 * mount.xtreemfs and the tools) and XTREEMOS_UPSTREAM_JAR (xtreemfs.jar; needs java in the path).
 */
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { startEtcd } from '#xtreemfs/testing/etcd.ts';
import { canMount } from '../suites/xtreemfs/mounts.ts';
import { exchange, pattern } from './exchange.ts';
import { hasUpstreamClient, hasUpstreamServers, MixedInstallation, type Maker } from './mixed-installation.ts';

let installation: MixedInstallation | undefined;
afterEach(async () => {
  await installation?.stop();
  installation = undefined;
}, 120_000);

const withClient = canMount && hasUpstreamClient ? describe : describe.skip;
const withServers = canMount && hasUpstreamServers ? describe : describe.skip;
const withBoth = canMount && hasUpstreamClient && hasUpstreamServers ? describe : describe.skip;

withClient("Upstream's client and our servers (needs XTREEMOS_UPSTREAM_BIN, root and /dev/fuse)", () => {
  test.each([1, 2])(
    'share a volume with our client, files striped over %i OSDs',
    async (width) => {
      installation = await MixedInstallation.start('ours', 'ours', ['ours', 'ours']);
      await installation.tool('upstream', 'mkfs.xtreemfs', `-w ${width} -s 64`, 'shared');
      expect(await installation.tool('upstream', 'lsfs.xtreemfs', '')).toContain('shared');
      const [theirs, mine] = [
        await installation.mount('upstream', 'shared'),
        await installation.mount('ours', 'shared'),
      ];
      await exchange(theirs, theirs, 'alone');
      await exchange(theirs, mine, 'given');
      await exchange(mine, theirs, 'taken');
      await fs.writeFile(join(mine, 'told'), 'x');
      expect(await installation.util('upstream', join(theirs, 'told'), '')).toContain('osd-');
    },
    300_000,
  );

  test('go on when the one of several MRCs that leads is killed', async () => {
    const etcd = await startEtcd();
    try {
      const shared = ['--etcd', etcd.url, '--leader-ttl-s', '2'];
      installation = await MixedInstallation.start('ours', 'ours', ['ours'], {
        server: (kind) => (kind === 'mrc' ? shared : []),
      });
      await installation.addMrc('mrc-2');
      await installation.tool('upstream', 'mkfs.xtreemfs', '', 'shared');
      // The leader looks every few seconds who has joined, and tells the DIR.
      await systemClock.sleep(7_000);
      const theirs = await installation.mount('upstream', 'shared');
      await exchange(theirs, theirs, 'before');
      await fs.writeFile(join(theirs, 'kept'), 'kept');
      installation.kill('mrc');
      expect(await fs.readFile(join(theirs, 'kept'), 'utf8')).toBe('kept');
      await exchange(theirs, theirs, 'after');
    } finally {
      await installation?.stop();
      installation = undefined;
      await etcd.stop();
    }
  }, 300_000);
});

withServers("Our client and upstream's servers (needs XTREEMOS_UPSTREAM_JAR, root and /dev/fuse)", () => {
  test.each([
    ['all upstream', 'upstream', 'upstream', ['upstream', 'upstream']],
    ["our OSDs under upstream's DIR and MRC", 'upstream', 'upstream', ['ours', 'ours']],
    ["upstream's OSDs under our DIR and MRC", 'ours', 'ours', ['upstream', 'upstream']],
    ["our DIR, upstream's MRC, one OSD of each", 'ours', 'upstream', ['ours', 'upstream']],
    ["upstream's DIR, our MRC, one OSD of each", 'upstream', 'ours', ['upstream', 'ours']],
  ] as [string, Maker, Maker, Maker[]][])(
    '%s',
    async (_name, dir, mrc, osds) => {
      installation = await MixedInstallation.start(dir, mrc, osds);
      await installation.tool('ours', 'mkfs.xtreemfs', '-w 2 -s 64', 'shared');
      const [one, other] = [await installation.mount('ours', 'shared'), await installation.mount('ours', 'shared')];
      await exchange(one, other, 'given');
      await exchange(other, one, 'taken');
    },
    300_000,
  );
});

withBoth('A replicated file whose OSDs are ours and upstream’s (needs both, root and /dev/fuse)', () => {
  test.each([
    ['ours', 'WqRq', ['ours', 'upstream', 'ours']],
    ['ours', 'WqRq', ['upstream', 'ours', 'upstream']],
    ['upstream', 'WaR1', ['ours', 'upstream', 'ours']],
  ] as [Maker, string, Maker[]][])(
    'agrees on a primary, and has everything after it died (MRC of %s, %s, OSDs %j)',
    async (mrc, policy, osds) => {
      installation = await MixedInstallation.start(mrc, mrc, osds);
      await installation.tool('ours', 'mkfs.xtreemfs', '-s 64', 'replicated');
      const [mine, theirs] = [
        await installation.mount('ours', 'replicated'),
        await installation.mount('upstream', 'replicated'),
      ];
      await installation.util('ours', mine, `--set-drp --replication-policy ${policy} --replication-factor 3`);
      await fs.writeFile(join(mine, 'file'), pattern(300_000, 1));
      expect((await fs.readFile(join(theirs, 'file'))).equals(pattern(300_000, 1))).toBe(true);
      await fs.writeFile(join(theirs, 'other'), pattern(300_000, 2));
      expect((await fs.readFile(join(mine, 'other'))).equals(pattern(300_000, 2))).toBe(true);
      const replicas = (await installation.util('ours', join(mine, 'file'), '')).match(/osd-\d/g) ?? [];
      expect([...replicas].sort()).toEqual(['osd-0', 'osd-1', 'osd-2']);
      // With WaR1 nothing goes on without all of them.
      if (policy === 'WaR1') return;
      // Clients ask the first one first, and whoever is asked first becomes the primary.
      installation.kill(replicas[0] ?? '');
      const killedAt = systemClock.monotonic();
      const file = await fs.open(join(mine, 'file'), 'r+');
      await file.write(pattern(1000, 7), 0, 1000, 50_000);
      await file.close();
      const wanted = pattern(300_000, 1);
      pattern(1000, 7).copy(wanted, 50_000);
      expect((await fs.readFile(join(theirs, 'file'))).equals(wanted)).toBe(true);
      expect((await fs.readFile(join(theirs, 'other'))).equals(pattern(300_000, 2))).toBe(true);
      expect(systemClock.monotonic() - killedAt).toBeLessThan(90_000);
    },
    400_000,
  );
});

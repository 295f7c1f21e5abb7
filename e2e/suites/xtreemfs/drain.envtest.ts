/**
 * An OSD of a real installation is emptied while programs write, read and lock through a mount, and ends for good: nothing acknowledged is lost,
 * no call fails, and handles that were open all the time find their files.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { XtreemfsInstallation } from '#operator/storage/xtreemfs-installation.ts';
import { Services } from '#xtreemfs/client/services.ts';
import { canMount, sh, TestInstallation } from './mounts.ts';

const mib = 2 ** 20;
const { signal } = new AbortController();

/** A program that appends numbered lines, each on disk before the next, and holds its file open. */
const writer = `i=0; while [ ! -e stop ]; do i=$((i + 1)); echo "line $i" >> log.$1 || exit 3; sync log.$1 || exit 4;
  dd if=/dev/zero of=churn.$1 bs=64k count=2 conv=fsync 2> /dev/null || exit 5; done; echo $i > count.$1`;

(canMount ? describe : describe.skip)('an OSD that is to go', () => {
  let installation: TestInstallation;
  let services: Services;
  let port: XtreemfsInstallation;
  let leaving: string;
  let at: (name: string) => string;

  beforeAll(async () => {
    installation = await TestInstallation.start([], 2);
    at = (name) => join(installation.mountPoint, name);
    const settings = JSON.parse(readFileSync(join(installation.folder, 'installation.json'), 'utf8')) as {
      dirPort: number;
      mrc: { port: number };
      osds: { uuid: string }[];
    };
    const dirs = [{ host: '127.0.0.1', port: settings.dirPort }];
    services = new Services({ clock: systemClock, logger: silentLogger, dirs, triesMax: 5 });
    port = new XtreemfsInstallation(services, `127.0.0.1:${settings.mrc.port}`);
    leaving = settings.osds[0]?.uuid ?? '';
  }, 120_000);

  afterAll(async () => {
    services.close();
    await installation.stop();
  }, 60_000);

  test('gives its files to the others while they are used, and can end then', async () => {
    // One stripe each: with the second OSD alone a file still fits.
    await sh(`mkdir ${at('one')}`);
    await port.setLayout('demo', { width: 1, stripeKib: 128, policy: 'None', replicas: 1 }, signal);
    const content = randomBytes(24 * mib);
    for (let index = 0; index < 20; index++) {
      const file = openSync(at(`one/${index}`), 'w');
      writeSync(file, content, index * mib, mib);
      fsyncSync(file);
      closeSync(file);
    }
    const big = openSync(at('one/big'), 'w+');
    writeSync(big, content);
    fsyncSync(big);
    const writers = [1, 2, 3, 4].map(async (number) =>
      sh(`cd ${at('one')}; ${writer.replaceAll('$1', String(number))}`, 100_000),
    );
    for (const each of writers) each.catch(() => undefined);
    const placesBefore = await sh(
      `cd ${at('one')}; for f in *; do getfattr --only-values -n xtreemfs.locations $f | grep -o '"uuid":"[^"]*'; done`,
    );
    expect(placesBefore).toContain(leaving);

    await port.setTakesFiles(leaving, false, signal);
    let report = await port.drain(leaving, 'go', signal);
    installation.kill('mrc');
    for (let asked = 0; !report.isEmpty; asked++) {
      if (asked > 600) throw new Error(`it is not empty in time: ${JSON.stringify(report)}`);
      await systemClock.sleep(100);
      report = await port.drain(leaving, 'go', signal).catch(() => report);
    }
    // "up" would start it again: it is stopped where it is, and never answers again.
    process.kill(installation.pidOf('osd0'), 'SIGSTOP');
    try {
      await sh(`sleep 2; touch ${at('one/stop')}`);
      await Promise.all(writers);
      for (const number of [1, 2, 3, 4]) {
        const count = Number(await sh(`cat ${at(`one/count.${number}`)}`));
        expect(count).toBeGreaterThan(0);
        const lines = Array.from({ length: count }, (_, index) => `line ${index + 1}`).join('\n');
        expect(await sh(`cat ${at(`one/log.${number}`)}`)).toBe(lines);
      }
      const read = Buffer.alloc(content.length);
      expect(readSync(big, read, 0, read.length, 0)).toBe(content.length);
      expect(read.equals(content)).toBe(true);
      for (let index = 0; index < 20; index++) {
        expect(readFileSync(at(`one/${index}`)).equals(content.subarray(index * mib, (index + 1) * mib))).toBe(true);
      }
    } finally {
      process.kill(installation.pidOf('osd0'), 'SIGCONT');
      closeSync(big);
    }
  }, 180_000);

  test('is refused while files need more OSDs than are left, and they stay readable', async () => {
    await port.setTakesFiles(leaving, true, signal);
    await port.setLayout('demo', { width: 2, stripeKib: 128, policy: 'None', replicas: 1 }, signal);
    // The MRC hears of it within ten seconds.
    await systemClock.sleep(11_000);
    await sh(`head -c 3000000 /dev/urandom > ${at('wide')} && sync ${at('wide')}`);
    const sum = await sh(`sha256sum < ${at('wide')}`);
    await port.setTakesFiles(leaving, false, signal);
    let report = await port.drain(leaving, 'wide', signal);
    while (report.problem === '') {
      await systemClock.sleep(50);
      report = await port.drain(leaving, 'wide', signal);
    }
    expect(report).toMatchObject({ isEmpty: false, filesLeft: 1 });
    expect(report.problem).toMatch(/A file of volume demo needs 1 more OSDs with space, and 0 are usable/);
    expect(await sh(`sha256sum < ${at('wide')}`)).toBe(sum);
  }, 60_000);
});

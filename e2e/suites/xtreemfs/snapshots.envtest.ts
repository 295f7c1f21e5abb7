/**
 * Snapshots of a real installation while programs write through a mount, and servers are killed: what was acknowledged before a snapshot was
 * asked for is in it, nothing that began after it was there is, and a copy of it is the same tree.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { XtreemfsInstallation } from '#operator/storage/xtreemfs-installation.ts';
import { Services } from '#xtreemfs/client/services.ts';
import { unmount } from '#xtreemfs/fuse/mount.ts';
import { canMount, sh, TestInstallation } from './mounts.ts';

jest.setTimeout(240_000);

const program = new URL('../../../xtreemfs/main.ts', import.meta.url).pathname;
const { signal } = new AbortController();
/** Over both OSDs, several objects on each. */
const fileBytes = 640 * 1024;
const chunkBytes = 128 * 1024;
const writersMax = 3;

/** What a file may show in a snapshot: rounds of its writer. */
interface Bounds {
  readonly name: string;
  readonly least: readonly number[];
  readonly most: readonly number[];
}

(canMount ? describe : describe.skip)('snapshots', () => {
  let installation: TestInstallation;
  let services: Services;
  let port: XtreemfsInstallation;
  let dirPort: number;

  beforeAll(async () => {
    installation = await TestInstallation.start([], 2);
    const settings = JSON.parse(readFileSync(join(installation.folder, 'installation.json'), 'utf8')) as {
      dirPort: number;
      mrc: { port: number };
    };
    ({ dirPort } = settings);
    const dirs = [{ host: '127.0.0.1', port: dirPort }];
    services = new Services({ clock: systemClock, logger: silentLogger, dirs, triesMax: 40, retryDelayMs: 250 });
    port = new XtreemfsInstallation(services, `127.0.0.1:${settings.mrc.port}`);
  }, 120_000);

  afterAll(async () => {
    services.close();
    await installation.stop();
  }, 60_000);

  /** Runs commands in another mount, of a snapshot or a volume. */
  async function inside(volume: string, script: string): Promise<string> {
    const folder = mkdtempSync(join(tmpdir(), 'xtreemfs-snapshot-'));
    await sh(
      `'${process.execPath}' '${program}' mount 127.0.0.1:${dirPort}/${volume} '${folder}' >/dev/null 2>&1`,
      60_000,
    );
    try {
      return await sh(`cd '${folder}'; ${script}`, 60_000);
    } finally {
      await unmount(folder, { lazy: true });
      rmSync(folder, { recursive: true, force: true });
    }
  }

  test('keep what was acknowledged and show nothing of later, while files are overwritten in place and servers are killed', async () => {
    const acknowledged = Array.from({ length: writersMax }, () => 0);
    const begun = Array.from({ length: writersMax }, () => 0);
    let isOver = false;
    const write = async (writer: number): Promise<void> => {
      const file = await open(join(installation.mountPoint, `w${writer}`), 'w+');
      for (let round = 1; !isOver; round++) {
        begun[writer] = round;
        const bytes = Buffer.from(new Uint32Array(chunkBytes / 4).fill(round).buffer);
        for (let at = 0; at < fileBytes; at += chunkBytes) await file.write(bytes, 0, chunkBytes, at);
        await file.datasync();
        acknowledged[writer] = round;
      }
      await file.close();
    };
    const writing = Array.from({ length: writersMax }, async (_, writer) => write(writer));
    await sh(`cd ${installation.mountPoint}; head -c 300000 /dev/urandom > still; sha256sum still > still.sum; sync`);
    const taken: Bounds[] = [];
    for (const victim of ['', 'osd0', 'osd1', 'mrc', '']) {
      if (victim !== '') installation.kill(victim);
      while (Math.min(...acknowledged) < 2 * (taken.length + 1)) await systemClock.sleep(50);
      const name = `s${taken.length}`;
      const least = [...acknowledged];
      await untilTaken(name);
      taken.push({ name, least, most: [...begun] });
    }
    const roundNow = Math.max(...acknowledged);
    while (Math.min(...acknowledged) < roundNow + 2) await systemClock.sleep(50);
    isOver = true;
    await Promise.all(writing);
    await sh(`cd ${installation.mountPoint}; rm still; : > w0; sync`);
    for (const { name, least, most } of taken) {
      const shown = await inside(
        `demo@${name}`,
        `sha256sum -c still.sum >&2 || exit 3; for f in w*; do od -An -v -tu4 -w4 $f | sort -un | tr -d ' ' | tr '\\n' ' '; wc -c < $f; done`,
      );
      for (const [writer, line] of shown.split('\n').entries()) {
        const numbers = line.trim().split(/\s+/).map(Number);
        expect(numbers.pop()).toBe(fileBytes);
        expect(Math.min(...numbers)).toBeGreaterThanOrEqual(least[writer] ?? Infinity);
        expect(Math.max(...numbers)).toBeLessThanOrEqual(most[writer] ?? 0);
      }
    }
    for (const { name } of taken) await port.removeSnapshot('demo', name, signal);
  });

  /** As the operator does it: asks until it is there. */
  async function untilTaken(name: string): Promise<void> {
    for (let tries = 0; tries < 100; tries++) {
      try {
        await port.takeSnapshot('demo', name, signal);
      } catch (error) {
        if (tries === 99) throw error;
      }
      if ((await port.snapshots('demo', signal)).some((each) => each.name === name)) return;
      await systemClock.sleep(200);
    }
    throw new Error(`snapshot ${name} was not made`);
  }

  test('are copied as the same tree, also when the copy is cut off and servers are killed meanwhile', async () => {
    await sh(
      `cd ${installation.mountPoint}; mkdir -p tree/deep/er; cd tree
      head -c 3000000 /dev/urandom > big; head -c 10 /dev/urandom > deep/er/small; : > empty
      dd if=/dev/urandom of=holes bs=1k count=1 seek=2000 2>/dev/null; truncate -s 5000000 tail
      ln big deep/again; ln -s ../big deep/soft; mkfifo pipe; touch 'with space'
      chmod 640 big; chmod 2750 deep; chown 1234:4321 empty deep/er; chmod 4755 deep/er/small
      setfacl -m u:1234:r big; setfacl -d -m g:4321:rx deep; setfattr -n user.colour -v blue big
      touch -d '2001-02-03 04:05:06.5' big deep/er; for i in $(seq 60); do head -c 4000 /dev/urandom > deep/f$i; done; sync`,
      60_000,
    );
    await untilTaken('tree');
    const terms = { owner: 'root', group: 'root', mode: 0o700, quotaBytes: 0 };
    const layout = { width: 2, stripeKib: 128, policy: 'None', replicas: 1 } as const;
    await port.make({ name: 'copy', ...terms, layout }, signal);
    const source = { name: 'demo', snapshot: 'tree' };
    const cut = new AbortController();
    const cutOff = port.copy(source, 'copy', ({ files }) => files > 20 && cut.abort(), cut.signal);
    await expect(cutOff).rejects.toThrow();
    let isKilled = false;
    for (let tries = 0; ; tries++) {
      try {
        await port.copy(
          source,
          'copy',
          ({ files }) => {
            if (files > 30 && !isKilled) isKilled = installation.kill('osd0') > 0 && installation.kill('mrc') > 0;
          },
          signal,
        );
        break;
      } catch (error) {
        if (tries > 20) throw error;
      }
    }
    expect(isKilled).toBe(true);
    const picture = `find . -mindepth 1 ! -name 'w[0-9]' ! -name 'still*' -printf '%P %y %m %U %G %n %l %T@ ' \\( -type f -printf '%s' -o -true \\) -printf '\\n' | sort
      find . -type f -path '*tree*' -exec sha256sum {} + | sort; getfacl -n -R tree 2>/dev/null; getfattr -R -n user.colour tree 2>/dev/null; stat -c %a .`;
    const [original, copy] = [await inside('demo@tree', picture), await inside('copy', picture)];
    expect(original).toContain('user:1234:r--');
    expect(copy).toBe(original);
    await port.removeSnapshot('demo', 'tree', signal);
  });
});

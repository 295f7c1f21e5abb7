/** A real etcd for tests: one member, in a folder that goes with it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureTools } from '#sites/tools.ts';
import { systemClock } from '#common/clock.ts';

/** An etcd that runs. */
export interface TestEtcd {
  readonly url: string;
  stop(): Promise<void>;
}

/** Starts one on free ports of this machine. @throws when it does not answer within 20 s. */
export async function startEtcd(): Promise<TestEtcd> {
  const tools = await ensureTools(['etcd']);
  const folder = mkdtempSync(join(tmpdir(), 'xtreemfs-etcd-'));
  const [url, peer] = [`http://127.0.0.1:${await freePort()}`, `http://127.0.0.1:${await freePort()}`];
  const args = ['--data-dir', folder, '--listen-client-urls', url, '--advertise-client-urls', url];
  const peers = [
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=default=${peer}`,
  ];
  const etcd = spawn(tools.path('etcd'), [...args, ...peers, '--log-level=error'], { stdio: 'ignore' });
  const stop = async (): Promise<void> => {
    const ended = once(etcd, 'exit');
    etcd.kill('SIGKILL');
    await ended;
    rmSync(folder, { recursive: true });
  };
  for (let tries = 0; ; tries++) {
    const isUp = await fetch(`${url}/health`).then(
      (response) => response.ok,
      () => false,
    );
    if (isUp) return { url, stop };
    if (tries > 100) {
      await stop();
      throw new Error('etcd did not start within 20 s');
    }
    await systemClock.sleep(200);
  }
}

/** A port of this machine that nobody uses. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const bound = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (bound === null || typeof bound === 'string') throw new Error('no port');
  return bound.port;
}

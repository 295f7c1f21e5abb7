import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { SeededRandom } from '#common/random.ts';
import { mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import { RpcClient } from '../rpc/client.ts';
import { RpcError } from '../rpc/errors.ts';
import { createDialer } from '../rpc/transport.ts';

const userCreds = { username: 'root', groups: ['root'] };
const program = new URL('./testing/standalone-main.ts', import.meta.url);

async function start(folder: string): Promise<{ child: ChildProcess; port: number }> {
  const child = fork(program, [folder], { execArgv: ['--disable-warning=ExperimentalWarning'] });
  const port = await new Promise<number>((resolve, reject) => {
    child.once('message', (message) => resolve((message as { port: number }).port));
    child.once('exit', (code) => reject(new Error(`The MRC ended with ${code ?? 'a signal'}`)));
  });
  return { child, port };
}

async function kill(child: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}

const makeClient = (): RpcClient =>
  new RpcClient({ clock: systemClock, logger: silentLogger, dialer: createDialer('pbrpc'), requestTimeoutMs: 5_000 });

/** Names that must be there (or must not) after the crash; calls without an answer are in neither. */
interface Acknowledged {
  readonly present: Set<string>;
  readonly absent: Set<string>;
}

/** Creates, renames and unlinks until the connection dies. */
async function work(port: number, prefix: string, random: SeededRandom, known: Acknowledged): Promise<void> {
  const client = makeClient();
  const address = { host: '127.0.0.1', port };
  const mine: string[] = [];
  try {
    for (let i = 0; ; i++) {
      const name = `${prefix}-${i}`;
      const roll = mine.length < 3 ? 0 : random.int(4);
      const victim = roll < 2 ? undefined : mine.splice(random.int(mine.length), 1)[0];
      if (victim !== undefined) known.present.delete(victim); // open until the answer comes
      if (victim === undefined) {
        await client.call(
          address,
          mrcProcedures.open,
          { volumeName: 'vol', path: name, flags: 0x102, mode: 0o644, attributes: 0 },
          { userCreds },
        );
      } else if (roll === 2) {
        await client.call(
          address,
          mrcProcedures.rename,
          { volumeName: 'vol', sourcePath: victim, targetPath: name },
          { userCreds },
        );
        known.absent.add(victim);
      } else {
        await client.call(address, mrcProcedures.unlink, { volumeName: 'vol', path: victim }, { userCreds });
        known.absent.add(victim);
        continue;
      }
      known.present.add(name);
      mine.push(name);
    }
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
  } finally {
    client.close();
  }
}

async function listNames(port: number): Promise<Set<string>> {
  const client = makeClient();
  try {
    const request = {
      volumeName: 'vol',
      path: '',
      knownEtag: 0,
      limitDirectoryEntriesCount: 0,
      namesOnly: true,
      seenDirectoryEntriesCount: 0,
    };
    const { response } = await client.call({ host: '127.0.0.1', port }, mrcProcedures.readdir, request, { userCreds });
    return new Set(response.entries.map((entry) => entry.name));
  } finally {
    client.close();
  }
}

test('an MRC killed at any moment has everything that it acknowledged, and starts by itself', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'xtreemfs-mrc-crash-'));
  const seed = Date.now() % 1_000_000;
  const random = new SeededRandom(seed);
  const known: Acknowledged = { present: new Set(), absent: new Set() };
  let running: ChildProcess | undefined;
  try {
    for (let round = 0; round < 4; round++) {
      const { child, port } = await start(folder);
      running = child;
      if (round === 0) {
        const client = makeClient();
        const request = {
          accessControlPolicy: 2 as const,
          defaultStripingPolicy: { type: 0 as const, stripeSize: 128, width: 1 },
          id: '',
          mode: 0o777,
          name: 'vol',
          ownerGroupId: '',
          ownerUserId: '',
          attrs: [],
        };
        await client.call({ host: '127.0.0.1', port }, mrcProcedures.mkvol, request, { userCreds });
        client.close();
      } else {
        const names = await listNames(port);
        const lost = [...known.present].filter((name) => !names.has(name));
        const risen = [...known.absent].filter((name) => names.has(name));
        expect({ seed, round, lost, risen }).toEqual({ seed, round, lost: [], risen: [] });
      }
      const workers = [0, 1, 2, 3].map((worker) => work(port, `r${round}w${worker}`, random.fork(), known));
      await systemClock.sleep(50 + random.int(600));
      // A slow machine gets the time to do something that can be lost.
      while (known.present.size <= 6 * (round + 1)) await systemClock.sleep(20);
      await kill(child);
      await Promise.all(workers);
      // A victim whose rename or unlink had no answer may be there or not; it was taken out of `present` before the call.
    }
    expect(known.present.size).toBeGreaterThan(20);
  } finally {
    running?.kill('SIGKILL');
    await rm(folder, { recursive: true, force: true });
  }
}, 60_000);

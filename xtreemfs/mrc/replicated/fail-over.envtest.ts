/** Several MRC processes over a real etcd behind one volume: killed, stopped and started at any time under clients. */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync, closeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { SeededRandom } from '#common/random.ts';
import { mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import { MetadataClient } from '#xtreemfs/client/metadata.ts';
import { Services } from '#xtreemfs/client/services.ts';
import { spawnDir, type DirProcess } from '#xtreemfs/dir/testing/spawn-dir.ts';
import { RpcError } from '#xtreemfs/rpc/errors.ts';
import { ServerList } from '#xtreemfs/rpc/retry.ts';
import { freePort, startEtcd, type TestEtcd } from '#xtreemfs/testing/etcd.ts';
import { makeVolume } from '#xtreemfs/tools/volume-admin.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { EtcdQuorum } from './etcd-quorum.ts';

const program = new URL('../../main.ts', import.meta.url).pathname;
const host = '127.0.0.1';
const user = { username: 'root', groups: ['root'] };
const uuids = ['mrc-0', 'mrc-1', 'mrc-2'];
const folder = mkdtempSync(join(tmpdir(), 'xtreemfs-fail-over-'));
const children = new Map<string, ChildProcess>();
const addresses = new Map<string, string>();
let etcd: TestEtcd;
let dir: DirProcess;
let quorum: EtcdQuorum;
let services: Services;

beforeAll(async () => {
  etcd = await startEtcd();
  dir = await spawnDir(['--data-dir', join(folder, 'dir')]);
  quorum = new EtcdQuorum({ endpoints: [etcd.url], prefix: '/try' });
  services = new Services({
    clock: systemClock,
    logger: silentLogger,
    dirs: [{ host, port: dir.port }],
    triesMax: 0,
    retryDelayMs: 100,
    requestTimeoutMs: 3_000,
  });
  await Promise.all(uuids.map(async (uuid) => await start(uuid)));
  // Any of them may be asked: those that do not lead say who does.
  for (const uuid of uuids) {
    await makeVolume(services, addresses.get(uuid) ?? '', {
      name: `of-${uuid}`,
      mode: 0o777,
      user: 'root',
      group: 'root',
      stripeKib: 128,
      width: 1,
    });
  }
}, 600_000);

afterAll(async () => {
  services.close();
  quorum.close();
  for (const uuid of [...children.keys()]) await kill(uuid);
  await dir.kill();
  await etcd.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Starts an MRC, with its last port when it had one. */
async function start(uuid: string): Promise<void> {
  const port = addresses.get(uuid)?.split(':')[1] ?? String(await freePort());
  const place = ['--port', port, '--listen-host', host, '--host-name', host, '--http-port=-1', '--uuid', uuid];
  const shared = ['--dir', `${host}:${dir.port}`, '--etcd', etcd.url, '--etcd-prefix', '/try', '--leader-ttl-s', '2'];
  const args = [program, 'mrc', ...place, ...shared, '--data-dir', join(folder, uuid)];
  const log = openSync(join(folder, `${uuid}.log`), 'a');
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', log, log, 'ipc'],
    env: { ...process.env, XTREEMOS_CAPABILITY_SECRET: 'a secret for tests only' },
  });
  closeSync(log);
  children.set(uuid, child);
  await new Promise<void>((resolve, reject) => {
    child.once('message', (message) => {
      addresses.set(uuid, `${host}:${(message as { port: number }).port}`);
      resolve();
    });
    child.once('exit', () => reject(new Error(`${uuid} ended: ${logOf(uuid)}`)));
  });
}

const logOf = (uuid: string): string => readFileSync(join(folder, `${uuid}.log`), 'utf8').slice(-2_000);

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once('exit', resolve));
}

async function kill(uuid: string): Promise<void> {
  const child = children.get(uuid);
  children.delete(uuid);
  child?.kill('SIGKILL');
  if (child !== undefined) await ended(child);
}

async function leader(not?: string): Promise<string> {
  const end = systemClock.monotonic() + 30_000;
  for (;;) {
    const uuid = (await quorum.state()).leader?.uuid;
    if (uuid !== undefined && uuid !== not) return uuid;
    if (systemClock.monotonic() > end) throw new Error(`Nobody leads: ${uuids.map(logOf).join('\n')}`);
    await systemClock.sleep(20);
  }
}

/** Makes, renames and removes directories through the client, and knows what was acknowledged when. */
class Worker {
  readonly present = new Set<string>();
  readonly absent = new Set<string>();
  readonly times: number[] = [];
  private readonly metadata: MetadataClient;
  private readonly random: SeededRandom;
  private readonly name: string;

  constructor(name: string, mrcs: ServerList, random: SeededRandom) {
    this.name = name;
    this.metadata = new MetadataClient(services, 'of-mrc-0', mrcs);
    this.random = random;
  }

  async run(signal: AbortSignal): Promise<void> {
    const mode = { mode: 0o755 };
    const names: string[] = [];
    for (let index = 0; !signal.aborted; index++) {
      const name = `${this.name}-${index}`;
      const roll = names.length < 3 ? 0 : this.random.int(4);
      if (roll < 2) {
        await this.metadata.mkdir({ user }, name, mode);
        names.push(name);
        this.present.add(name);
      } else {
        const [victim = ''] = names.splice(this.random.int(names.length), 1);
        this.present.delete(victim);
        if (roll === 2) {
          await this.metadata.rename({ user }, victim, name);
          names.push(name);
          this.present.add(name);
        } else {
          await this.metadata.rmdir({ user }, victim);
        }
        this.absent.add(victim);
      }
      this.times.push(systemClock.monotonic());
    }
  }

  /** The longest time without an answer, milliseconds. */
  longestGap(from: number): number {
    const times = [from, ...this.times.filter((time) => time > from)];
    return Math.max(...times.slice(1).map((time, index) => time - (times[index] ?? time)));
  }
}

async function listed(mrcs: ServerList): Promise<Set<string>> {
  const metadata = new MetadataClient(services, 'of-mrc-0', mrcs);
  return new Set((await metadata.readdir({ user }, '', 0, 0, true)).map(({ name }) => name));
}

test('clients are told all MRCs, and whoever is killed, nothing acknowledged is lost', async () => {
  const seed = Date.now() % 1_000_000;
  const random = new SeededRandom(seed);
  let mrcs = await services.findVolume('of-mrc-0');
  // The leader looks every few seconds who has joined, and tells the DIR.
  for (let tries = 0; mrcs.all.length < uuids.length && tries < 100; tries++) {
    await systemClock.sleep(200);
    mrcs = await services.findVolume('of-mrc-0');
  }
  expect([...mrcs.all].sort()).toEqual(uuids);
  const workers = [0, 1, 2, 3].map((index) => new Worker(`w${index}`, new ServerList(mrcs.all), random.fork()));
  const over = new AbortController();
  const work = Promise.all(workers.map(async (worker) => await worker.run(over.signal)));
  const gaps: number[] = [];
  for (let round = 0; round < 4; round++) {
    await systemClock.sleep(300 + random.int(1_500));
    const victim = await leader();
    const killedAt = systemClock.monotonic();
    await kill(victim);
    await leader(victim);
    const done = workers.map(({ times }) => times.length);
    while (workers.some(({ times }, index) => times.length < (done[index] ?? 0) + 5)) await systemClock.sleep(20);
    gaps.push(Math.round(Math.max(...workers.map((worker) => worker.longestGap(killedAt)))));
    await start(victim);
  }
  over.abort();
  await work;
  process.stdout.write(`No answer for so many ms after kill -9 of the leader (lease 2 s): ${gaps.join(', ')}\n`);
  const names = await listed(new ServerList(mrcs.all));
  const lost = workers.flatMap(({ present }) => [...present].filter((name) => !names.has(name)));
  const risen = workers.flatMap(({ absent }) => [...absent].filter((name) => names.has(name)));
  expect({ seed, lost, risen }).toEqual({ seed, lost: [], risen: [] });
  expect(Math.max(...gaps)).toBeLessThan(15_000);
}, 240_000);

test('a leader that slept through its lease acknowledges nothing, tells nothing old, and ends', async () => {
  const mrcs = (await services.findVolume('of-mrc-0')).all;
  const old = await leader();
  const child = children.get(old)!;
  const address = addresses.get(old)!;
  const metadata = new MetadataClient(services, 'of-mrc-0', new ServerList(mrcs));
  await metadata.mkdir({ user }, 'before', { mode: 0o755 });
  child.kill('SIGSTOP');
  const next = await leader(old);
  await new MetadataClient(services, 'of-mrc-0', new ServerList([next])).mkdir({ user }, 'by-next', { mode: 0o755 });
  const ask = async (path: string): Promise<unknown> =>
    await services.client
      .call(
        { host, port: Number(address.split(':')[1]) },
        mrcProcedures.mkdir,
        { volumeName: 'of-mrc-0', path, mode: 0o755 },
        { userCreds: user },
      )
      .then(
        () => 'acknowledged',
        (error: unknown) => (error instanceof RpcError ? 'refused' : error),
      );
  const asked = ['late-0', 'late-1', 'late-2'].map(ask);
  // It is awake again, and finds requests that came while it slept.
  child.kill('SIGCONT');
  expect(await Promise.all(asked)).toEqual(['refused', 'refused', 'refused']);
  await ended(child);
  children.delete(old);
  const names = await listed(new ServerList(mrcs));
  expect(['before', 'by-next', 'late-0', 'late-1', 'late-2'].filter((name) => names.has(name))).toEqual([
    'before',
    'by-next',
  ]);
  await start(old);
}, 120_000);

test('one that stops in order hands over at once, and one with an empty folder gets everything', async () => {
  const mrcs = (await services.findVolume('of-mrc-0')).all;
  const metadata = new MetadataClient(services, 'of-mrc-0', new ServerList(mrcs));
  const old = await leader();
  const child = children.get(old)!;
  children.delete(old);
  const worker = new Worker('planned', new ServerList(mrcs), new SeededRandom(1));
  const over = new AbortController();
  const work = worker.run(over.signal);
  const before = systemClock.monotonic();
  child.kill('SIGTERM');
  await leader(old);
  await metadata.mkdir({ user }, 'after-stop', { mode: 0o755 });
  await systemClock.sleep(500);
  over.abort();
  await work;
  const plannedMs = Math.round(worker.longestGap(before));
  process.stdout.write(`No answer for ${plannedMs} ms after the leader was asked to stop\n`);
  await ended(child);
  rmSync(join(folder, old), { recursive: true });
  await start(old);
  for (const uuid of uuids.filter((one) => one !== old)) await kill(uuid);
  for (let tries = 0; (await leader()) !== old && tries < 500; tries++) await systemClock.sleep(20);
  expect(await leader()).toBe(old);
  const names = await listed(new ServerList(mrcs));
  expect(['before', 'by-next', 'after-stop'].every((name) => names.has(name))).toBe(true);
  await expect(metadata.mkdir({ user }, 'before/x/y', { mode: 0o755 })).rejects.toMatchObject({
    posixErrno: PosixErrno.ENOENT,
  });
  expect(plannedMs).toBeLessThan(5_000);
}, 120_000);

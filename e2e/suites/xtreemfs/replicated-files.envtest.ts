/**
 * Read/write replicated files of real OSD processes: they are killed and frozen in the middle of reads and writes of
 * several clients. The file must look like one register, and be served again each time.
 */
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { pick, SeededRandom } from '#common/random.ts';
import { SnapConfig, type FileCredentials } from '#proto/generated/xtreemfs/global-types.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { ErrorType } from '#proto/generated/xtreemfs/rpc.ts';
import { isLinearizable, type RegisterOperation } from '#xtreemfs/osd/testing/linearizability.ts';
import { aReplica, openMode, xlocsOf } from '#xtreemfs/osd/testing/osd-cluster.ts';
import { RpcClient } from '#xtreemfs/rpc/client.ts';
import { RpcError } from '#xtreemfs/rpc/errors.ts';
import { createDialer } from '#xtreemfs/rpc/transport.ts';
import { CapabilityKeys } from '#xtreemfs/service/capability.ts';
import { Supervised } from '#xtreemfs/tools/supervisor.ts';
import { freePort } from './mounts.ts';

const program = new URL('../../../xtreemfs/main.ts', import.meta.url).pathname;
const secret = 'a secret for these tests';
const host = '127.0.0.1';
const uuids = ['osd-a', 'osd-b', 'osd-c'];
const rounds = Number(process.env.XTREEMOS_REPLICATION_ROUNDS ?? 6);
/** A crash may cost a lease, a restart's silence and a few tries. */
const recoveryMs = 15_000;

/** A DIR and three OSDs, each a process that is started again when it dies. */
class Processes {
  readonly ports = new Map<string, number>();
  readonly osds = new Map<string, Supervised>();
  private readonly folder = mkdtempSync(join(tmpdir(), 'xtreemfs-replicated-'));
  private readonly all: Supervised[] = [];

  async start(): Promise<void> {
    chmodSync(this.folder, 0o700);
    const dirPort = await freePort();
    const common = ['--listen-host', host, '--host-name', host, '--http-port=-1'];
    const dataDir = join(this.folder, 'dir');
    await this.supervise('dir', ['--port', String(dirPort), '--data-dir', dataDir, '--no-discover', ...common]);
    for (const uuid of uuids) {
      const port = await freePort();
      const place = ['--uuid', uuid, '--port', String(port), '--object-dir', join(this.folder, uuid)];
      this.ports.set(uuid, port);
      this.osds.set(uuid, await this.supervise('osd', [...place, '--dir', `${host}:${dirPort}`, ...common]));
    }
  }

  signal(uuid: string, signal: NodeJS.Signals): void {
    const pid = this.osds.get(uuid)?.pid;
    if (pid !== undefined) process.kill(pid, signal);
  }

  async stop(): Promise<void> {
    for (const uuid of this.osds.keys()) this.signal(uuid, 'SIGCONT');
    await Promise.all(this.all.splice(1).map(async (server) => await server.stop()));
    await this.all[0]?.stop();
    rmSync(this.folder, { recursive: true });
  }

  private async supervise(name: string, args: readonly string[]): Promise<Supervised> {
    mkdirSync(join(this.folder, 'log'), { recursive: true });
    const server = new Supervised({
      name,
      command: [process.execPath, program, name, ...args],
      env: { ...process.env, XTREEMOS_CAPABILITY_SECRET: secret },
      logPath: join(this.folder, 'log', `${this.all.length}-${name}.log`),
      clock: systemClock,
      note: () => undefined,
    });
    this.all.push(server);
    await server.start();
    return server;
  }
}

/** Reads and writes one register in a replicated file until told to stop, and notes what it saw. */
class Client {
  target: string;
  isStopped = false;
  private readonly rpc = new RpcClient({
    clock: systemClock,
    logger: silentLogger,
    dialer: createDialer('pbrpc'),
    connectTimeoutMs: 1_000,
    reconnectDelayMaxMs: 200,
  });
  private readonly init: ClientInit;

  constructor(init: ClientInit) {
    this.init = init;
    this.target = pick(init.random, uuids);
  }

  async run(): Promise<void> {
    const { random, history, values } = this.init;
    while (!this.isStopped) {
      await systemClock.sleep(random.int(60));
      const value = random.next() < 0.5 ? values.next++ : undefined;
      const start = systemClock.monotonic();
      const seen = await this.attempt(value);
      const end = systemClock.monotonic();
      if (value !== undefined) history.push({ kind: 'write', value, start, end: seen === undefined ? Infinity : end });
      else if (seen !== undefined) history.push({ kind: 'read', value: seen, start, end });
    }
    this.rpc.close();
  }

  /** A write whose fate is open is not repeated: if both took effect, the second could undo what came between. */
  private async attempt(value: number | undefined): Promise<number | undefined> {
    const end = systemClock.monotonic() + 5_000;
    while (systemClock.monotonic() < end && !this.isStopped) {
      try {
        return await (value === undefined ? this.read() : this.write(value));
      } catch (error) {
        if (!(error instanceof RpcError)) throw error;
        if (error.errorType === ErrorType.REDIRECT) {
          this.target = error.redirectTo ?? this.target;
          continue;
        }
        this.target = pick(this.init.random, uuids);
        if (value !== undefined) return undefined;
        await systemClock.sleep(20);
      }
    }
    return undefined;
  }

  private async read(): Promise<number> {
    const request = { ...this.init.request(openMode.read), offset: 0, length: 8 };
    const { data } = await this.rpc.call(this.address(), osdProcedures.read, request, { timeoutMs: 2_000 });
    return data.length === 8 ? data.readDoubleLE(0) : 0;
  }

  private async write(value: number): Promise<number> {
    const data = Buffer.alloc(8);
    data.writeDoubleLE(value);
    const objectData = { checksum: 0, invalidChecksumOnOsd: false, zeroPadding: 0 };
    const request = { ...this.init.request(openMode.readWrite), offset: 0, leaseTimeout: 0, objectData };
    await this.rpc.call(this.address(), osdProcedures.write, request, { data, timeoutMs: 2_000 });
    return value;
  }

  private address(): { host: string; port: number } {
    return { host, port: this.init.ports.get(this.target) ?? 0 };
  }
}

interface ClientInit {
  readonly random: SeededRandom;
  readonly history: RegisterOperation[];
  readonly values: { next: number };
  readonly ports: ReadonlyMap<string, number>;
  readonly request: (accessMode: number) => {
    fileCredentials: FileCredentials;
    fileId: string;
    objectNumber: number;
    objectVersion: number;
  };
}

function requestsOf(fileId: string, policy: string): ClientInit['request'] {
  const keys = new CapabilityKeys({ secrets: [secret] });
  const xlocs = xlocsOf(
    uuids.map((uuid) => aReplica([uuid], 128)),
    { replicaUpdatePolicy: policy },
  );
  return (accessMode) => {
    const nowMs = Date.now();
    const xcap = keys.sign({
      fileId,
      accessMode,
      clientIdentity: host,
      expireTimeS: Math.floor(nowMs / 1000) + 600,
      expireTimeoutS: 600,
      replicateOnClose: false,
      truncateEpoch: 0,
      snapConfig: SnapConfig.SNAPS_DISABLED,
      snapTimestamp: 0,
      voucherSize: 0,
      expireTimeMs: nowMs + 600_000,
    });
    return { fileCredentials: { xcap, xlocs }, fileId, objectNumber: 0, objectVersion: 0 };
  };
}

/** Waits until a write that began after `sinceMs` was acknowledged. @returns how long that took. */
async function untilWritten(history: readonly RegisterOperation[], sinceMs: number): Promise<number> {
  for (;;) {
    const first = history.find(({ kind, start, end }) => kind === 'write' && start > sinceMs && end !== Infinity);
    const waitedMs = (first?.end ?? systemClock.monotonic()) - sinceMs;
    if (first !== undefined || waitedMs > recoveryMs) return waitedMs;
    await systemClock.sleep(20);
  }
}

describe('A file whose three replicas are processes that die', () => {
  const processes = new Processes();
  beforeAll(async () => await processes.start(), 60_000);
  afterAll(async () => await processes.stop(), 60_000);

  test.each(['WqRq', 'WaR1'])(
    'is a linearizable register, served again after each kill -9 and each freeze (%s)',
    async (policy) => {
      const history: RegisterOperation[] = [];
      const values = { next: 1 };
      const request = requestsOf(`volume:${policy}`, policy);
      const clients = [1, 2, 3].map(
        (seed) => new Client({ random: new SeededRandom(seed), history, values, ports: processes.ports, request }),
      );
      const loops = Promise.all(clients.map(async (client) => await client.run()));
      const recoveries: number[] = [await untilWritten(history, systemClock.monotonic())];
      for (let round = 0; round < rounds; round++) {
        const primary = clients[0]?.target ?? '';
        const backup = uuids.find((uuid) => uuid !== primary) ?? '';
        if (round % 3 === 0) processes.signal(primary, 'SIGKILL');
        else if (round % 3 === 1) processes.signal(backup, 'SIGKILL');
        else {
          // Longer than a lease: when it wakes up another one is the primary, and it must not answer as if it were.
          processes.signal(primary, 'SIGSTOP');
          await systemClock.sleep(6_000);
          processes.signal(primary, 'SIGCONT');
        }
        recoveries.push(await untilWritten(history, systemClock.monotonic()));
        await systemClock.sleep(1_500);
      }
      for (const client of clients) client.isStopped = true;
      await loops;
      expect({ policy, isLinearizable: isLinearizable(history) }).toEqual({ policy, isLinearizable: true });
      expect(Math.max(...recoveries)).toBeLessThan(recoveryMs);
      expect(history.length).toBeGreaterThan(30 * rounds);
    },
    30_000 * (rounds + 2),
  );
});

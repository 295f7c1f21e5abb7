import { beforeAll, describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { SeededRandom } from '#common/random.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { AuthType, ErrorType, PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import type { Procedure } from '#proto/wire.ts';
import { ioError, RpcError } from '#xtreemfs/rpc/errors.ts';
import { RpcServer } from '#xtreemfs/rpc/server.ts';
import { OsdCore } from '../osd-core.ts';
import type { PeerOsds } from '../peer-osds.ts';
import { FaultDisk } from '../store/testing/fault-disk.ts';
import { isLinearizable, type RegisterOperation } from '../testing/linearizability.ts';
import { aReplica, FakeVolumes, OsdCluster, openMode, TestFile, xlocsOf } from '../testing/osd-cluster.ts';

const uuids = ['a', 'b', 'c'];
const leases = { leaseMs: 4_000, dMaxMs: 300, messageTimeoutMs: 250, retriesMax: 3 };
const context = {
  userCreds: { username: 'srv', groups: [] },
  auth: { authType: AuthType.NONE },
  peer: { address: 'sim', port: 0, certificate: undefined },
  signal: new AbortController().signal,
};

interface Node {
  readonly uuid: string;
  readonly disk: FaultDisk;
  readonly skewMs: number;
  core: OsdCore | undefined;
  server: RpcServer | undefined;
  life: number;
}

/** Three OSDs on a clock, a network and disks that one seed drives. */
class World {
  readonly clock = new VirtualClock();
  readonly random: SeededRandom;
  readonly history: RegisterOperation[] = [];
  /** When operations began that got no answer, milliseconds. */
  readonly unanswered: number[] = [];
  private readonly nodes = new Map<string, Node>();
  private readonly capabilities = new OsdCluster({ clock: this.clock });
  private readonly file: TestFile;
  /** Pairs that can't reach each other, as `from>to`. */
  private readonly cuts = new Set<string>();
  private lossChance = 0;
  private slowChance = 0.05;
  private nextValue = 1;

  constructor(seed: number, policy: string) {
    this.random = new SeededRandom(seed);
    const xlocs = xlocsOf(
      uuids.map((uuid) => aReplica([uuid], 4)),
      { replicaUpdatePolicy: policy },
    );
    this.file = new TestFile(this.capabilities, 'sim:1', xlocs);
    for (const uuid of uuids) {
      const skewMs = this.random.int(leases.dMaxMs) - leases.dMaxMs / 2;
      const disk = new FaultDisk(this.random.fork());
      this.nodes.set(uuid, { uuid, disk, skewMs, core: undefined, server: undefined, life: 0 });
    }
  }

  async start(uuid: string): Promise<void> {
    const node = this.nodes.get(uuid)!;
    const life = ++node.life;
    const core = await OsdCore.open({
      osdUuid: uuid,
      clock: this.clock,
      logger: silentLogger,
      random: this.random.fork(),
      disk: node.disk.mount(),
      keys: this.capabilities.keys,
      globalTimeMs: () => this.clock.now() + node.skewMs,
      peers: this.network(uuid, () => node.life === life),
      volumes: new FakeVolumes(),
      leases,
      self: () => ({ host: uuid, port: 0 }),
      flushIntervalMs: 0,
      scrubIntervalMs: 0,
      shutdown: () => undefined,
    });
    const server = new RpcServer({ clock: this.clock, logger: silentLogger });
    core.register(server);
    node.core = core;
    node.server = server;
  }

  /** kill -9: what was written stays, what was in memory is gone. */
  crash(uuid: string): void {
    const node = this.nodes.get(uuid)!;
    node.life++;
    node.core?.flease.stop();
    node.core = undefined;
    node.server = undefined;
    node.disk.restart('everything');
  }

  isUp(uuid: string): boolean {
    return this.nodes.get(uuid)?.server !== undefined;
  }

  /** Cuts one node off from the others, in one or both directions. */
  partition(uuid: string): void {
    for (const other of uuids) {
      if (other === uuid) continue;
      if (this.random.next() < 0.8) this.cuts.add(`${uuid}>${other}`);
      if (this.random.next() < 0.8) this.cuts.add(`${other}>${uuid}`);
    }
  }

  heal(): void {
    this.cuts.clear();
    this.lossChance = 0;
  }

  /** The faults are over: nothing is lost any more, nor slow. */
  calm(): void {
    this.heal();
    this.slowChance = 0;
  }

  lose(chance: number): void {
    this.lossChance = chance;
  }

  /** One client: reads and writes one register until told to stop, and notes what it saw. */
  async client(name: string, until: () => boolean): Promise<void> {
    const net = this.network(name, () => true);
    let target = uuids[this.random.int(3)]!;
    while (!until()) {
      await this.clock.sleep(this.random.int(400));
      const isWrite = this.random.next() < 0.5;
      const value = this.nextValue++;
      const start = this.clock.monotonic();
      const outcome = await this.attempt(
        net,
        isWrite ? value : undefined,
        () => target,
        (uuid) => (target = uuid),
      );
      const end = this.clock.monotonic();
      if (outcome === undefined) this.unanswered.push(start);
      if (isWrite) this.history.push({ kind: 'write', value, start, end: outcome === undefined ? Infinity : end });
      else if (outcome !== undefined) this.history.push({ kind: 'read', value: outcome, start, end });
    }
  }

  /** Runs the virtual clock until a promise settles. */
  async settle(task: Promise<unknown>): Promise<void> {
    let isSettled = false;
    void task.finally(() => (isSettled = true)).catch(() => undefined);
    while (!isSettled) await this.clock.advanceAsync(20);
    await task;
  }

  /** @returns what was read, or 0 for a write that was acknowledged; undefined when no answer came. */
  private async attempt(
    net: PeerOsds,
    written: number | undefined,
    target: () => string,
    turn: (uuid: string) => void,
  ): Promise<number | undefined> {
    const end = this.clock.monotonic() + 5_000;
    while (this.clock.monotonic() < end) {
      try {
        return await (written === undefined ? this.read(net, target()) : this.write(net, target(), written));
      } catch (error) {
        if (!(error instanceof RpcError)) throw error;
        if (error.errorType === ErrorType.REDIRECT) turn(error.redirectTo ?? 'a');
        else turn(uuids[this.random.int(3)]!);
        // A write whose fate is open is not repeated: if both took effect, the second could undo what came between.
        if (written !== undefined && error.errorType !== ErrorType.REDIRECT) return undefined;
        await this.clock.sleep(1 + this.random.int(50));
      }
    }
    return undefined;
  }

  private async write(net: PeerOsds, uuid: string, value: number): Promise<number> {
    const data = Buffer.alloc(8);
    data.writeDoubleLE(value);
    const request = { ...this.request(openMode.readWrite), offset: 0, leaseTimeout: 0 };
    const objectData = { checksum: 0, invalidChecksumOnOsd: false, zeroPadding: 0 };
    await net.call(uuid, osdProcedures.write, { ...request, objectData }, data, 1_500);
    return 0;
  }

  private async read(net: PeerOsds, uuid: string): Promise<number> {
    const request = { ...this.request(openMode.read), offset: 0, length: 8 };
    const { data } = await net.call(uuid, osdProcedures.read, request, undefined, 1_500);
    return data.length === 8 ? data.readDoubleLE(0) : 0;
  }

  private request(accessMode: number) {
    const { fileId } = this.file;
    return { fileCredentials: this.file.credentials(accessMode), fileId, objectNumber: 0, objectVersion: 0 };
  }

  private network(from: string, isAlive: () => boolean): PeerOsds {
    return {
      call: <Request, Response>(
        to: string,
        procedure: Procedure<Request, Response>,
        request: Request,
        data: Buffer = Buffer.alloc(0),
        timeoutMs = 15_000,
      ) =>
        new Promise<{ response: Response; data: Buffer }>((resolve, reject) => {
          this.clock.after(timeoutMs, () => reject(ioError(`${procedure.name} at ${to}: no answer`)));
          const message = procedure.request.decode(procedure.request.encode(request));
          this.deliver(from, to, isAlive, () => {
            const found = this.nodes.get(to)?.server?.find(procedure.interfaceId, procedure.procId);
            if (found === undefined || typeof found === 'number') return;
            const life = this.nodes.get(to)!.life;
            const answer = (act: () => void): void =>
              this.deliver(to, from, () => this.nodes.get(to)!.life === life, act);
            Promise.resolve()
              .then(() => found.handler(context, message, data))
              .then(
                (reply) => {
                  const body = reply.data === undefined ? Buffer.alloc(0) : Buffer.concat([reply.data].flat());
                  answer(() => resolve({ response: reply.response as Response, data: body }));
                },
                (error: unknown) => answer(() => reject(asRpcError(error))),
              );
          });
        }),
    };
  }

  private deliver(from: string, to: string, isAlive: () => boolean, act: () => void): void {
    const isLost = this.random.next() < this.lossChance || this.cuts.has(`${from}>${to}`);
    const delayMs = this.random.next() < this.slowChance ? this.random.int(600) : 1 + this.random.int(15);
    if (isLost || !isAlive()) return;
    this.clock.after(delayMs, () => {
      if (!this.cuts.has(`${from}>${to}`)) act();
    });
  }
}

function asRpcError(error: unknown): RpcError {
  if (error instanceof RpcError) return error;
  return new RpcError(String(error), { errorType: ErrorType.INTERNAL_SERVER_ERROR, posixErrno: PosixErrno.EIO });
}

async function disturb(world: World, untilMs: number): Promise<void> {
  while (world.clock.monotonic() < untilMs) {
    await world.clock.sleep(300 + world.random.int(2_500));
    const uuid = uuids[world.random.int(3)]!;
    const kind = world.random.int(5);
    if (kind === 0 && world.isUp(uuid)) world.crash(uuid);
    else if (kind <= 1 && !world.isUp(uuid)) await world.start(uuid);
    else if (kind === 2) world.partition(uuid);
    else if (kind === 3) world.lose(world.random.next() * 0.3);
    else world.heal();
    for (const other of uuids) if (other !== uuid && !world.isUp(other)) await world.start(other);
  }
}

const seeds = Number(process.env.XTREEMOS_SIM_SEEDS ?? 6);
const firstSeed = Number(process.env.XTREEMOS_SIM_FIRST_SEED ?? 1);
const disturbedMs = 30_000;
/** After the faults: the silence after a restart, a lease, and what was on its way when they ended. */
const recoveryMs = 12_000;
const calmMs = 20_000;

/** One run: faults, then none, with clients all the time. */
async function run(seed: number, policy: string): Promise<{ world: World; healedAt: number }> {
  const world = new World(seed, policy);
  await world.settle(Promise.all(uuids.map((uuid) => world.start(uuid))));
  let isOver = false;
  const clients = ['c1', 'c2', 'c3'].map((name) => world.client(name, () => isOver));
  await world.settle(disturb(world, disturbedMs));
  world.calm();
  for (const uuid of uuids) if (!world.isUp(uuid)) await world.settle(world.start(uuid));
  const healedAt = world.clock.monotonic();
  await world.clock.advanceAsync(calmMs);
  isOver = true;
  await world.settle(Promise.all(clients));
  return { world, healedAt };
}

describe.each(['WqRq', 'WaR1'])('a %s register', (policy) => {
  const runs = new Map<number, { world: World; healedAt: number }>();

  beforeAll(
    async () => {
      for (let seed = firstSeed; seed < firstSeed + seeds; seed++) runs.set(seed, await run(seed, policy));
    },
    1_000 * seeds + 60_000,
  );

  test('is linearizable through crashes, partitions, loss and delay', () => {
    const wrong = [...runs].filter(([, { world }]) => !isLinearizable(world.history));
    expect(wrong.map(([seed]) => seed)).toEqual([]);
    const operations = [...runs.values()].reduce((sum, { world }) => sum + world.history.length, 0);
    expect(operations).toBeGreaterThan(50 * seeds);
  });

  test('answers every client again when the faults have ended', () => {
    const silent = [...runs].flatMap(([seed, { world, healedAt }]) => {
      const late = world.unanswered.filter((startMs) => startMs > healedAt + recoveryMs);
      const isWritten = world.history.some(({ kind, end }) => kind === 'write' && end !== Infinity && end > healedAt);
      return isWritten && late.length === 0 ? [] : [{ seed, late: late.map((ms) => ms - healedAt), isWritten }];
    });
    expect(silent).toEqual([]);
  });
});

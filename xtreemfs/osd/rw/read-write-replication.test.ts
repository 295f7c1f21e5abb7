import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { SeededRandom } from '#common/random.ts';
import { ErrorType } from '#proto/generated/xtreemfs/rpc.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import type { Procedure } from '#proto/wire.ts';
import { RpcError } from '#xtreemfs/rpc/errors.ts';
import { osdSyncProcedure } from '../extensions.ts';
import { FaultDisk } from '../store/testing/fault-disk.ts';
import { aReplica, OsdCluster, openMode, TestFile, xlocsOf } from '../testing/osd-cluster.ts';

const uuids = ['a', 'b', 'c'];
/** Leases so short that a test can wait for their end. */
const leases = { leaseMs: 1_000, dMaxMs: 40, messageTimeoutMs: 60, retriesMax: 3 };
let disks: Map<string, FaultDisk>;
let cluster: OsdCluster;

beforeEach(async () => {
  disks = new Map(uuids.map((uuid, i) => [uuid, new FaultDisk(new SeededRandom(i))]));
  cluster = new OsdCluster({ osd: { leases } });
  for (const uuid of uuids) await cluster.start(uuid, disks.get(uuid)!.mount());
});

afterEach(async () => cluster.stop());

/** Stops an OSD at once: its network is gone, its leases are not given back. */
async function crash(uuid: string): Promise<void> {
  const core = cluster.core(uuid);
  await cluster.cutOff(uuid);
  core.flease.stop();
  disks.get(uuid)!.restart('everything');
}

async function restart(uuid: string): Promise<void> {
  await cluster.start(uuid, disks.get(uuid)!.mount());
}

/** One client that asks replica after replica and follows redirects, as every client does. */
class ReplicatedClient {
  readonly file: TestFile;
  private current = 'a';

  constructor(policy = 'WqRq', fileId = 'volume:1') {
    const xlocs = xlocsOf(
      uuids.map((uuid) => aReplica([uuid], 4)),
      { replicaUpdatePolicy: policy },
    );
    this.file = new TestFile(cluster, fileId, xlocs);
  }

  get lastAnswered(): string {
    return this.current;
  }

  async call<Request, Response>(
    procedure: Procedure<Request, Response>,
    request: Request,
    options: { data?: Buffer; limitMs?: number } = {},
  ): Promise<{ response: Response; data: Buffer }> {
    const { data, limitMs = 6_000 } = options;
    const end = performance.now() + limitMs;
    for (;;) {
      try {
        return await cluster.call(this.current, procedure, request, { data, timeoutMs: 2_000 });
      } catch (error) {
        if (!(error instanceof RpcError) || performance.now() > end) throw error;
        if (error.errorType === ErrorType.REDIRECT) this.current = error.redirectTo ?? 'a';
        else if (error.errorType === ErrorType.ERRNO) throw error;
        else {
          this.current = uuids[(uuids.indexOf(this.current) + 1) % uuids.length]!;
          await systemClock.sleep(20);
        }
      }
    }
  }

  async write(object: number, offset: number, data: Buffer, limitMs?: number): Promise<void> {
    const request = {
      fileCredentials: this.file.credentials(openMode.readWrite),
      fileId: this.file.fileId,
      objectNumber: object,
      objectVersion: 0,
      offset,
      leaseTimeout: 0,
      objectData: { checksum: 0, invalidChecksumOnOsd: false, zeroPadding: 0 },
    };
    await this.call(osdProcedures.write, request, limitMs === undefined ? { data } : { data, limitMs });
  }

  async read(object: number, length = 4096): Promise<Buffer> {
    const request = {
      fileCredentials: this.file.credentials(openMode.read),
      fileId: this.file.fileId,
      objectNumber: object,
      objectVersion: 0,
      offset: 0,
      length,
    };
    const { response, data } = await this.call(osdProcedures.read, request);
    return Buffer.concat([data, Buffer.alloc(response.zeroPadding)]);
  }

  async truncate(newFileSize: number): Promise<void> {
    this.file.epoch++;
    const fileCredentials = this.file.credentials(openMode.readWrite | openMode.truncate);
    await this.call(osdProcedures.truncate, { fileCredentials, fileId: this.file.fileId, newFileSize });
  }
}

test.each(['WqRq', 'WaR1'])('writes to the replicas, redirects to the primary, and reads back (%s)', async (policy) => {
  const client = new ReplicatedClient(policy);
  await client.write(0, 0, Buffer.alloc(4096, 1));
  await client.write(0, 10, Buffer.from('middle'));
  await client.write(2, 0, Buffer.from('end'));
  const primary = client.lastAnswered;
  const wanted = Buffer.alloc(4096, 1);
  wanted.write('middle', 10);
  expect((await client.read(0)).equals(wanted)).toBe(true);
  expect((await client.read(1)).equals(Buffer.alloc(4096))).toBe(true);
  expect((await client.read(2)).toString()).toBe('end');
  const backup = uuids.find((uuid) => uuid !== primary)!;
  const request = { fileCredentials: client.file.credentials(), fileId: 'volume:1' };
  const error: unknown = await cluster
    .call(backup, osdProcedures.internalGetFileSize, request)
    .catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ errorType: ErrorType.REDIRECT, redirectTo: primary });
});

test.each(['WqRq', 'WaR1'])(
  'repairs damage at the primary from another replica, reading and writing (%s)',
  async (policy) => {
    const client = new ReplicatedClient(policy);
    const wanted = Buffer.alloc(4096, 7);
    for (const object of [0, 1]) await client.write(object, 0, wanted);
    await client.truncate(4096 + 100);
    const primary = client.lastAnswered;
    const damage = async (): Promise<number[]> => {
      for (let i = 0; i < 12; i++) disks.get(primary)!.flipBit(/volume:1\.s1$/);
      const { damaged } = await cluster.core(primary).scrubber.pass();
      return [...(damaged.get('volume:1') ?? [])];
    };
    expect(await damage()).toContain(0);
    await client.write(0, 10, Buffer.from('middle'));
    wanted.write('middle', 10);
    expect((await client.read(0)).equals(wanted)).toBe(true);
    expect(await damage()).toContain(0);
    expect((await client.read(0)).equals(wanted)).toBe(true);
    expect((await client.read(1)).equals(Buffer.alloc(100, 7))).toBe(true);
    expect([client.lastAnswered, (await cluster.core(primary).scrubber.pass()).damaged.size]).toEqual([primary, 0]);
  },
);

test('says EIO for damage that no replica can repair', async () => {
  const client = new ReplicatedClient();
  await client.write(0, 0, Buffer.alloc(4096, 7));
  for (const disk of disks.values()) for (let i = 0; i < 12; i++) disk.flipBit(/volume:1\.s1$/);
  await expect(client.read(0)).rejects.toMatchObject({ code: 'EIO' });
});

test('goes on after the primary died, with everything that was acknowledged', async () => {
  const client = new ReplicatedClient();
  for (let object = 0; object < 5; object++) await client.write(object, 0, Buffer.alloc(4096, object + 1));
  await client.truncate(4 * 4096 - 100);
  const first = client.lastAnswered;
  await crash(first);
  for (let object = 0; object < 3; object++) {
    expect((await client.read(object)).equals(Buffer.alloc(4096, object + 1))).toBe(true);
  }
  expect((await client.read(3)).length).toBe(3996);
  expect(await client.read(4)).toHaveLength(0);
  expect(client.lastAnswered).not.toBe(first);
  await client.write(7, 0, Buffer.from('after'));
  expect((await client.read(7)).toString()).toBe('after');
});

test('takes over in less than a second when the primary stops in order', async () => {
  const client = new ReplicatedClient();
  await client.write(0, 0, Buffer.from('before'));
  const first = client.lastAnswered;
  await cluster.core(first).handOver();
  const core = cluster.core(first);
  await cluster.cutOff(first);
  const started = performance.now();
  expect((await client.read(0)).toString()).toBe('before');
  expect(performance.now() - started).toBeLessThan(1_000);
  await core.stop();
});

test('refuses writes without a quorum, and has none of the acknowledged ones lost when it is back', async () => {
  const client = new ReplicatedClient();
  await client.write(0, 0, Buffer.from('quorum'));
  const others = uuids.filter((uuid) => uuid !== client.lastAnswered);
  for (const uuid of others) await crash(uuid);
  await expect(client.write(0, 0, Buffer.from('alone!'), 300)).rejects.toThrow();
  for (const uuid of others) await restart(uuid);
  const found = (await client.read(0)).toString();
  expect(['quorum', 'alone!']).toContain(found);
  await client.write(0, 0, Buffer.from('normal'));
  expect((await client.read(0)).toString()).toBe('normal');
}, 20_000);

test('brings a replica that was away up to date before it may become primary', async () => {
  const client = new ReplicatedClient();
  await client.write(0, 0, Buffer.from('old'));
  const away = uuids.find((uuid) => uuid !== client.lastAnswered)!;
  await crash(away);
  await client.write(0, 0, Buffer.from('new'));
  await client.write(1, 0, Buffer.from('more'));
  await restart(away);
  // The two that know the newer state die one after the other; one of them is always there.
  await crash(client.lastAnswered);
  expect((await client.read(0)).toString().slice(0, 3)).toBe('new');
  expect((await client.read(1)).toString()).toBe('more');
}, 20_000);

test('keeps what was synced when every replica loses power', async () => {
  const client = new ReplicatedClient();
  await client.write(0, 0, Buffer.from('durable'));
  const request = { fileCredentials: client.file.credentials(), fileId: client.file.fileId };
  await client.call(osdSyncProcedure, request);
  for (const uuid of uuids) {
    cluster.core(uuid).flease.stop();
    await cluster.cutOff(uuid);
    disks.get(uuid)!.restart('nothing');
  }
  for (const uuid of uuids) await restart(uuid);
  expect((await client.read(0)).toString()).toBe('durable');
}, 20_000);

test('never loses or reverts an acknowledged write while OSDs die and come back', async () => {
  const client = new ReplicatedClient();
  const chance = new SeededRandom(4);
  let value = 0;
  let acknowledged = 0;
  let isDone = false;
  const writer = (async () => {
    while (!isDone) {
      const data = Buffer.alloc(8);
      data.writeDoubleLE(++value);
      try {
        await client.write(0, 0, data, 4_000);
        acknowledged = value;
      } catch {
        // Its fate is open: the value may show up later.
      }
    }
  })();
  const reader = new ReplicatedClient();
  const checks = (async () => {
    while (!isDone) {
      const lowest = acknowledged;
      const bytes = await reader.read(0, 8).catch(() => undefined);
      if (bytes === undefined || bytes.length === 0) continue;
      const seen = bytes.readDoubleLE(0);
      expect(seen).toBeGreaterThanOrEqual(lowest);
      expect(seen).toBeLessThanOrEqual(value);
    }
  })();
  for (let round = 0; round < 4; round++) {
    await systemClock.sleep(150);
    const victim = uuids[chance.int(3)]!;
    await crash(victim);
    await systemClock.sleep(200 + chance.int(1_500));
    await restart(victim);
    await systemClock.sleep(1_300);
  }
  isDone = true;
  await Promise.all([writer, checks]);
  expect(acknowledged).toBeGreaterThan(20);
}, 60_000);

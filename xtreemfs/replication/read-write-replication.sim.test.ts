/**
 * Read/write replication on a virtual network and clock: OSDs crash, are cut off and come back, messages are lost and
 * delayed, while clients read, write and truncate. Each object must be a linearizable register; when the faults end,
 * clients are served again and all replicas become the same.
 */
import { describe, expect, test } from '@jest/globals';
import { ErrorType } from '#proto/generated/xtreemfs/rpc.ts';
import { RpcError } from '../rpc/errors.ts';
import { cellOf } from './replica-group.ts';
import { isLinearizable, type RegisterOperation } from './testing/linearizable.ts';
import { ReplicaCluster, type ReplicaNode } from './testing/replica-cluster.ts';

const seeds = Number(process.env.XTREEMOS_SIM_SEEDS ?? 6);
const objectCount = 2;

/** A client that asks the OSD that it last heard of, and follows redirects. */
class Client {
  readonly histories: RegisterOperation[][];
  private readonly cluster: ReplicaCluster;
  private target: ReplicaNode;
  isStopped = false;
  served = 0;

  constructor(cluster: ReplicaCluster, histories: RegisterOperation[][]) {
    this.cluster = cluster;
    this.histories = histories;
    this.target = cluster.nodes[0]!;
  }

  async run(thinkMs: number, values: { next: number; epoch: number }): Promise<void> {
    const { clock, random } = this.cluster;
    while (!this.isStopped) {
      await clock.sleep(random.int(thinkMs));
      const object = random.int(objectCount);
      const choice = random.int(20);
      if (choice < 10) await this.read(object);
      else if (choice < 19) await this.write(object, values.next++);
      else await this.truncate(++values.epoch);
    }
  }

  private async read(object: number): Promise<void> {
    const start = this.cluster.clock.monotonic();
    const bytes = await this.attempt((node) => node.running!.replication.read(this.cluster.file(), object, 0, 4));
    if (bytes === undefined) return;
    const value = bytes.data.length < 4 ? 0 : bytes.data.readUInt32BE();
    this.record(object, { kind: 'read', value, start, end: this.cluster.clock.monotonic() });
  }

  private async write(object: number, value: number): Promise<void> {
    const start = this.cluster.clock.monotonic();
    const data = Buffer.alloc(4);
    data.writeUInt32BE(value);
    const answer = await this.attempt((node) => node.running!.replication.write(this.cluster.file(), object, 0, data));
    this.record(object, {
      kind: 'write',
      value,
      start,
      end: answer === undefined ? Infinity : this.cluster.clock.monotonic(),
    });
  }

  private async truncate(epoch: number): Promise<void> {
    const start = this.cluster.clock.monotonic();
    const answer = await this.attempt((node) => node.running!.replication.truncate(this.cluster.file(epoch), 0));
    const end = answer === undefined ? Infinity : this.cluster.clock.monotonic();
    for (let object = 0; object < objectCount; object++) this.record(object, { kind: 'write', value: 0, start, end });
  }

  private record(object: number, operation: RegisterOperation): void {
    this.histories[object]!.push(operation);
    if (operation.end !== Infinity) this.served++;
  }

  /** One attempt that follows redirects; undefined when it failed, and then it may have happened. */
  private async attempt<T>(task: (node: ReplicaNode) => Promise<T>): Promise<T | undefined> {
    for (let hops = 0; hops < 3; hops++) {
      const node = this.target;
      try {
        return await this.cluster.call(undefined, node, () => task(node));
      } catch (error) {
        if (!(error instanceof RpcError)) throw error;
        if (error.errorType === ErrorType.REDIRECT) {
          this.target = this.cluster.node(error.redirectTo!);
          continue;
        }
        this.target = this.cluster.nodes[this.cluster.random.int(this.cluster.nodes.length)]!;
        return undefined;
      }
    }
    return undefined;
  }
}

function disturb(cluster: ReplicaCluster): void {
  const { random, nodes } = cluster;
  cluster.lossRate = random.int(3) * 0.05;
  cluster.delayMaxMs = 1 + random.int(150);
  const node = nodes[random.int(nodes.length)]!;
  const isPrimary = (candidate: ReplicaNode): boolean =>
    candidate.running?.flease.lease(cellOf('v:1')).role === 'primary';
  switch (random.int(6)) {
    case 0:
      node.running = undefined;
      break;
    case 1:
      (nodes.find(isPrimary) ?? node).running = undefined;
      break;
    case 2:
      for (const any of nodes) any.isCutOff = isPrimary(any);
      break;
    case 3:
      node.isCutOff = !node.isCutOff;
      break;
    case 4:
      heal(cluster);
      break;
    default:
      if (node.running === undefined) cluster.start(node, true);
  }
}

function heal(cluster: ReplicaCluster): void {
  for (const node of cluster.nodes) {
    node.isCutOff = false;
    if (node.running === undefined) cluster.start(node, true);
  }
}

describe.each([
  ['WqRq, three replicas', 'WqRq', 3],
  ['WqRq, five replicas', 'WqRq', 5],
  ['WaR1, three replicas', 'WaR1', 3],
] as const)('%s', (_, policy, count) => {
  test.each(Array.from({ length: seeds }, (__, index) => index + 1))(
    'each object is a linearizable register, and is served again when the faults end (seed %i)',
    async (seed) => {
      const cluster = new ReplicaCluster(seed, count, policy);
      const histories: RegisterOperation[][] = Array.from({ length: objectCount }, () => []);
      const values = { next: 1, epoch: 0 };
      const clients = Array.from({ length: 3 }, () => new Client(cluster, histories));
      const loops = clients.map((client) => client.run(300, values));
      for (let act = 0; act < 25; act++) {
        await cluster.clock.advanceAsync(200 + cluster.random.int(2_500));
        disturb(cluster);
      }
      heal(cluster);
      cluster.lossRate = 0;
      cluster.delayMaxMs = 10;
      await cluster.clock.advanceAsync(20_000);
      const served = clients.map((client) => client.served);
      await cluster.clock.advanceAsync(5_000);
      for (const [index, client] of clients.entries()) {
        expect(client.served).toBeGreaterThan(served[index]!);
        client.isStopped = true;
      }
      await cluster.clock.advanceAsync(5_000);
      await Promise.all(loops);
      for (const history of histories) {
        expect(history.length).toBeGreaterThan(20);
        expect({ seed, isLinearizable: isLinearizable(history) }).toEqual({ seed, isLinearizable: true });
      }
    },
    120_000,
  );
});

test('the primary of a replicated file that stops in order is replaced within a second', async () => {
  const cluster = new ReplicaCluster(1, 3, 'WqRq');
  const [first, second] = [cluster.nodes[0]!, cluster.nodes[1]!];
  const written = first.running!.replication.write(cluster.file(), 0, 0, Buffer.from('kept'));
  await cluster.clock.advanceAsync(1_000);
  expect(await written).toEqual({ sizeInBytes: 4, truncateEpoch: 0 });
  void first.running!.replication.stop();
  const stoppedAt = cluster.clock.monotonic();
  let read: string | undefined;
  while (read === undefined) {
    second.running!.replication.read(cluster.file(), 0, 0, 4).then(
      ({ data }) => (read ??= data.toString()),
      () => undefined,
    );
    await cluster.clock.advanceAsync(50);
    expect(cluster.clock.monotonic() - stoppedAt).toBeLessThan(1_000);
  }
  expect(read).toBe('kept');
});

test('the primary of a replicated file that crashes is replaced within six seconds', async () => {
  const cluster = new ReplicaCluster(2, 3, 'WqRq');
  const [first, second] = [cluster.nodes[0]!, cluster.nodes[1]!];
  const written = first.running!.replication.write(cluster.file(), 0, 0, Buffer.from('kept'));
  await cluster.clock.advanceAsync(3_000);
  await written;
  first.running = undefined;
  const crashedAt = cluster.clock.monotonic();
  let read: string | undefined;
  while (read === undefined) {
    second.running!.replication.read(cluster.file(), 0, 0, 4).then(
      ({ data }) => (read ??= data.toString()),
      () => undefined,
    );
    await cluster.clock.advanceAsync(100);
    expect(cluster.clock.monotonic() - crashedAt).toBeLessThan(6_000);
  }
  expect(read).toBe('kept');
});

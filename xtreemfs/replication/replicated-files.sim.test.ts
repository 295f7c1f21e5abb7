/**
 * Read/write replicated files of whole OSDs on a virtual network and clock: OSDs crash, are cut off and come back, messages are lost and
 * delayed, while clients read, write and truncate. Each object must be a linearizable register; when the faults end,
 * clients are served again and all replicas become the same.
 */
import { describe, expect, test } from '@jest/globals';
import { ErrorType } from '#proto/generated/xtreemfs/rpc.ts';
import { RpcError } from '../rpc/errors.ts';
import { isLinearizable, type RegisterOperation } from '../osd/testing/linearizability.ts';
import { OsdSimulation, type SimulatedOsd } from './testing/osd-simulation.ts';

const seeds = Number(process.env.XTREEMOS_SIM_SEEDS ?? 6);
const objectCount = 2;

/** A client that asks the OSD that it last heard of, and follows redirects. */
class Client {
  readonly histories: RegisterOperation[][];
  private readonly world: OsdSimulation;
  private target: SimulatedOsd;
  isStopped = false;
  served = 0;

  constructor(world: OsdSimulation, histories: RegisterOperation[][]) {
    this.world = world;
    this.histories = histories;
    this.target = world.osds[0]!;
  }

  async run(thinkMs: number, values: { next: number; epoch: number }): Promise<void> {
    const { clock, random } = this.world;
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
    const start = this.world.clock.monotonic();
    const bytes = await this.attempt((osd) => this.world.read(osd, object, 4));
    if (bytes === undefined) return;
    const value = bytes.length < 4 ? 0 : bytes.readUInt32BE();
    this.record(object, { kind: 'read', value, start, end: this.world.clock.monotonic() });
  }

  private async write(object: number, value: number): Promise<void> {
    const start = this.world.clock.monotonic();
    const data = Buffer.alloc(4);
    data.writeUInt32BE(value);
    const answer = await this.attempt(async (osd) => {
      await this.world.write(osd, object, data);
      return true;
    });
    this.record(object, {
      kind: 'write',
      value,
      start,
      end: answer === undefined ? Infinity : this.world.clock.monotonic(),
    });
  }

  private async truncate(epoch: number): Promise<void> {
    const start = this.world.clock.monotonic();
    const answer = await this.attempt(async (osd) => {
      await this.world.truncate(osd, epoch);
      return true;
    });
    const end = answer === undefined ? Infinity : this.world.clock.monotonic();
    for (let object = 0; object < objectCount; object++) this.record(object, { kind: 'write', value: 0, start, end });
  }

  private record(object: number, operation: RegisterOperation): void {
    this.histories[object]!.push(operation);
    if (operation.end !== Infinity) this.served++;
  }

  /** One attempt that follows redirects; undefined when it failed, and then it may have happened. */
  private async attempt<T>(task: (node: SimulatedOsd) => Promise<T>): Promise<T | undefined> {
    for (let hops = 0; hops < 3; hops++) {
      const node = this.target;
      try {
        return await task(node);
      } catch (error) {
        if (!(error instanceof RpcError)) throw error;
        if (error.errorType === ErrorType.REDIRECT) {
          this.target = this.world.osd(error.redirectTo!);
          continue;
        }
        this.target = this.world.osds[this.world.random.int(this.world.osds.length)]!;
        return undefined;
      }
    }
    return undefined;
  }
}

async function disturb(world: OsdSimulation): Promise<void> {
  const { random, osds } = world;
  world.lossRate = random.int(3) * 0.05;
  world.delayMaxMs = 1 + random.int(150);
  const osd = osds[random.int(osds.length)]!;
  switch (random.int(6)) {
    case 0:
      world.crash(osd);
      break;
    case 1:
      world.crash(osds.find((candidate) => world.isPrimary(candidate)) ?? osd);
      break;
    case 2:
      for (const any of osds) any.isCutOff = world.isPrimary(any);
      break;
    case 3:
      osd.isCutOff = !osd.isCutOff;
      break;
    case 4:
      await heal(world);
      break;
    default:
      await world.start(osd);
  }
}

async function heal(world: OsdSimulation): Promise<void> {
  for (const osd of world.osds) {
    osd.isCutOff = false;
    await world.start(osd);
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
      const world = new OsdSimulation(seed, count, policy);
      await heal(world);
      const histories: RegisterOperation[][] = Array.from({ length: objectCount }, () => []);
      const values = { next: 1, epoch: 0 };
      const clients = Array.from({ length: 3 }, () => new Client(world, histories));
      const loops = clients.map((client) => client.run(300, values));
      for (let act = 0; act < 25; act++) {
        await world.clock.advanceAsync(200 + world.random.int(2_500));
        await disturb(world);
      }
      await heal(world);
      world.lossRate = 0;
      world.delayMaxMs = 10;
      await world.clock.advanceAsync(20_000);
      const served = clients.map((client) => client.served);
      await world.clock.advanceAsync(5_000);
      for (const [index, client] of clients.entries()) {
        expect(client.served).toBeGreaterThan(served[index]!);
        client.isStopped = true;
      }
      await world.clock.advanceAsync(5_000);
      await Promise.all(loops);
      for (const history of histories) {
        expect(history.length).toBeGreaterThan(20);
        expect({ seed, isLinearizable: isLinearizable(history) }).toEqual({ seed, isLinearizable: true });
      }
    },
    120_000,
  );
});

describe('a replicated file', () => {
  async function takeoverMs(stop: (world: OsdSimulation, osd: SimulatedOsd) => void): Promise<number> {
    const world = new OsdSimulation(1, 3, 'WqRq');
    await heal(world);
    const [first, second] = [world.osds[0]!, world.osds[1]!];
    let isWritten = false;
    world.write(first, 0, Buffer.from('kept')).then(
      () => (isWritten = true),
      () => undefined,
    );
    await world.clock.advanceAsync(3_000);
    expect(isWritten).toBe(true);
    stop(world, first);
    const began = world.clock.monotonic();
    let found: string | undefined;
    while (found === undefined && world.clock.monotonic() - began < 20_000) {
      world.read(second, 0, 4).then(
        (bytes) => (found ??= bytes.toString()),
        () => undefined,
      );
      await world.clock.advanceAsync(50);
    }
    expect(found).toBe('kept');
    return world.clock.monotonic() - began;
  }

  test('is served again within six seconds after its primary crashed', async () => {
    expect(await takeoverMs((world, osd) => world.crash(osd))).toBeLessThan(6_000);
  });

  test('is served again within a second after its primary gave its leases back', async () => {
    expect(await takeoverMs((_, osd) => void osd.life!.core.readWriteFiles.release())).toBeLessThan(1_000);
  });
});

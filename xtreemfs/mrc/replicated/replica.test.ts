import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { SeededRandom } from '#common/random.ts';
import { DurableStore } from '../store/durable-store.ts';
import type { WriteSet } from '../store/kv.ts';
import { describeKvStore, put, scan } from '../testing/store-compliance.ts';
import { QuorumLog } from './quorum-log.ts';
import { MemoryQuorum, SharedState, type Faults } from './testing/memory-quorum.ts';
import { bucketOf, startMember, until, type TestMember, type TestMemberOptions } from './testing/member.ts';
import { describeQuorum } from './testing/quorum-compliance.ts';

const random = new SeededRandom(1);
let folder: string;
let shared: SharedState;
let members: TestMember[];
const faults = new Map<string, Faults>();
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'xtreemfs-mrc-replica-'));
  shared = new SharedState();
  members = [];
  faults.clear();
});
afterEach(async () => {
  for (const fault of faults.values()) fault.isCutOff = false;
  await Promise.all(members.map(async ({ replica }) => await replica.stop()));
  await rm(folder, { recursive: true, force: true });
});

const way = (uuid: string): MemoryQuorum => {
  const fault = { isCutOff: false, lossOneIn: 0 };
  faults.set(uuid, fault);
  return new MemoryQuorum(shared, systemClock, random.fork(), fault);
};

async function start(uuid: string, options: Partial<TestMemberOptions> = {}): Promise<TestMember> {
  const made = await startMember({ uuid, path: join(folder, uuid), quorum: way(uuid), random, ...options });
  members.push(made);
  return made;
}

async function stop(member: TestMember): Promise<void> {
  members = members.filter((one) => one !== member);
  await member.replica.stop();
}

const leads = async (member: TestMember): Promise<void> =>
  await until(`${member.uuid} leads`, () => member.replica.isLeading);

describeQuorum('MemoryQuorum', () => {
  const made = new SharedState();
  const open = (): MemoryQuorum =>
    new MemoryQuorum(made, systemClock, random.fork(), { isCutOff: false, lossOneIn: 0 });
  return [open(), open()];
});

describeKvStore('The store of a replicated MRC', () => ({
  open: async (limits) => {
    const member = await start('alone', limits);
    await leads(member);
    return member.replica.store;
  },
  close: async (store) => {
    const member = members.find(({ replica }) => replica.store === store);
    if (member !== undefined) await stop(member);
  },
}));

describe('MRCs that share a log', () => {
  test('have what the leader acknowledged, and one takes over at once when it stops', async () => {
    const a = await start('a');
    await leads(a);
    const b = await start('b');
    for (let i = 0; i < 20; i++) await a.replica.store.durable(put(a.replica.store, { [`k${i}`]: String(i) }));
    await until('b follows', () => b.replica.store.durableTicket === a.replica.store.durableTicket);
    expect(scan(b.replica.store, 'k')).toEqual(scan(a.replica.store, 'k'));
    expect(b.replica.leader?.uuid).toBe('a');
    const before = systemClock.monotonic();
    await stop(a);
    await leads(b);
    expect(systemClock.monotonic() - before).toBeLessThan(2_000);
    await b.replica.store.durable(put(b.replica.store, { k99: 'by b' }));
    expect(scan(b.replica.store, 'k')).toHaveLength(21);
  });

  test('a leader that is cut off acknowledges nothing any more, and knows before another one leads', async () => {
    const a = await start('a');
    await leads(a);
    const b = await start('b');
    await a.replica.store.durable(put(a.replica.store, { k1: 'kept' }));
    faults.get('a')!.isCutOff = true;
    const lost = a.replica.store.durable(put(a.replica.store, { k2: 'lost' }));
    let outcome = 'open';
    lost.then(
      () => (outcome = 'acknowledged'),
      () => (outcome = 'refused'),
    );
    while (!b.replica.isLeading) {
      expect(a.replica.isCurrent && b.replica.isCurrent).toBe(false);
      await systemClock.sleep(1);
    }
    expect([a.replica.isCurrent, b.replica.isCurrent, outcome]).toEqual([false, true, 'open']);
    await b.replica.store.durable(put(b.replica.store, { k3: 'new' }));
    faults.get('a')!.isCutOff = false;
    await until('a is deposed', () => a.ended() !== undefined);
    await until('its write is refused', () => outcome !== 'open');
    expect(outcome).toBe('refused');
    expect(scan(b.replica.store, 'k')).toEqual(['k1=kept', 'k3=new']);
    await stop(a);
    const again = await start('a');
    await until('a follows', () => again.replica.store.durableTicket === b.replica.store.durableTicket);
    expect(scan(again.replica.store, 'k')).toEqual(['k1=kept', 'k3=new']);
  });

  test('forget what all have, but keep it for one that is away, up to a bound', async () => {
    const a = await start('a', { memtableBytes: 2_000, replica: { logBytesMax: 60_000 } });
    await leads(a);
    const b = await start('b');
    const write = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) {
        await a.replica.store.durable(put(a.replica.store, { [`k${i % 90}`]: 'x'.repeat(500) }));
      }
      await a.replica.store.checkpoint();
    };
    await write(30);
    await until('b follows', () => b.replica.store.durableTicket === a.replica.store.durableTicket);
    await b.replica.store.checkpoint();
    await until('the log is trimmed', () => shared.log.size === 0);
    await stop(b);
    await write(30);
    await systemClock.sleep(200);
    expect(shared.log.size).toBeGreaterThan(0);
    const back = await start('b');
    await until('b follows', () => back.replica.store.durableTicket === a.replica.store.durableTicket);
    await stop(back);
    await write(150);
    const bytes = (): number => [...shared.log.values()].reduce((sum, record) => sum + record.length, 0);
    await until('the log is within its bound', () => bytes() <= 60_000);
    expect(shared.log.size).toBeGreaterThan(0);
  }, 30_000);

  test('one that lacks what the log begins with takes the whole database', async () => {
    const a = await start('a');
    await leads(a);
    for (let i = 0; i < 30; i++) await a.replica.store.durable(put(a.replica.store, { [`k${10 + i}`]: String(i) }));
    await a.replica.store.checkpoint();
    await until('the log is trimmed', () => shared.log.size === 0);
    const fetch = async (): Promise<{ number: number; entries: WriteSet }> => {
      const view = await a.replica.store.view();
      const entries = new Map(view.scan({ prefix: '', limit: 1_000 }).map(({ key, value }) => [key, value]));
      view.close();
      return { number: view.number, entries };
    };
    const b = await start('b', { fetch });
    await a.replica.store.durable(put(a.replica.store, { k50: 'after' }));
    await until('b follows', () => b.replica.store.durableTicket === a.replica.store.durableTicket);
    expect(scan(b.replica.store, 'k')).toEqual(scan(a.replica.store, 'k'));
    await stop(a);
    await leads(b);
    expect(scan(b.replica.store, 'k')).toHaveLength(31);
  });

  test('the database of an MRC that was alone begins the history; another one is refused', async () => {
    for (const uuid of ['a', 'b']) {
      const alone = await DurableStore.open({
        path: join(folder, uuid),
        clock: systemClock,
        logger: silentLogger,
        bucketOf,
        onFailure: () => undefined,
      });
      await alone.durable(put(alone, { k1: `of ${uuid}` }));
      await alone.close();
    }
    const a = await start('a');
    await leads(a);
    expect(scan(a.replica.store, 'k')).toEqual(['k1=of a']);
    await a.replica.store.durable(put(a.replica.store, { k2: 'more' }));
    await expect(start('b')).rejects.toThrow('not a part of the history');
    await stop(a);
    const alone = { path: join(folder, 'a'), clock: systemClock, logger: silentLogger, bucketOf };
    await expect(DurableStore.open({ ...alone, onFailure: () => undefined })).rejects.toThrow('--etcd: is missing');
  });

  test('refuse to go on when etcd has less than a member', async () => {
    const a = await start('a');
    await leads(a);
    await a.replica.store.durable(put(a.replica.store, { k1: 'x' }));
    await a.replica.store.checkpoint();
    await stop(a);
    const b = await start('b');
    shared.members.set('a', { uuid: 'a', durable: 7 });
    await until('b ends', () => b.ended() !== undefined);
    expect(b.ended()?.message).toContain('etcd lost what was acknowledged');
  });

  test('a log says which records must go', () => {
    const log = new QuorumLog(systemClock);
    for (const number of [1, 2, 3, 4]) log.note(number, 100);
    expect([log.overflow(400), log.overflow(399), log.overflow(150)]).toEqual([0, 1, 3]);
    log.forget(2);
    expect([log.overflow(200), log.overflow(0)]).toEqual([0, 4]);
  });
});

/** Members of a replicated MRC over a quorum that loses messages, and are cut off and started again at any time. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { SeededRandom } from '#common/random.ts';
import { put, scan } from '../testing/store-compliance.ts';
import { MemoryQuorum, SharedState, type Faults } from './testing/memory-quorum.ts';
import { startMember, until, type TestMember } from './testing/member.ts';

const uuids = ['a', 'b', 'c'];
const letters = ['p', 'q', 'r', 's', 't'];
const actMs = 8_000;
/** Keys per letter that a scan of the test returns in one piece. */
const keysMax = 90;

class World {
  readonly shared = new SharedState();
  readonly members = new Map<string, TestMember>();
  readonly faults = new Map<string, Faults>();
  /** Keys that were acknowledged. */
  readonly acknowledged = new Set<string>();
  readonly problems: string[] = [];
  terms = 0;
  isOver = false;
  readonly random: SeededRandom;
  private readonly folder: string;

  constructor(folder: string, random: SeededRandom) {
    this.folder = folder;
    this.random = random;
  }

  async start(uuid: string): Promise<void> {
    const faults: Faults = { isCutOff: false, lossOneIn: 0 };
    const quorum = new MemoryQuorum(this.shared, systemClock, this.random.fork(), faults);
    const path = join(this.folder, uuid);
    const onLead = async (): Promise<void> => {
      this.terms++;
      await Promise.resolve();
    };
    this.faults.set(uuid, faults);
    this.members.set(uuid, await startMember({ uuid, path, quorum, random: this.random.fork(), replica: { onLead } }));
  }

  async restart(uuid: string): Promise<void> {
    const member = this.members.get(uuid);
    this.members.delete(uuid);
    await member?.replica.stop();
    await this.start(uuid);
  }

  /** Nobody may be current beside another one, at any moment. */
  check(): void {
    const current = [...this.members.values()].filter(({ replica }) => replica.isCurrent);
    if (current.length > 1) this.problems.push(`current at once: ${current.map(({ uuid }) => uuid).join(', ')}`);
  }

  /** One write or read at whoever believes to lead, as the engine does it. */
  async use(key: string): Promise<void> {
    const leading = [...this.members.values()].filter(({ replica }) => replica.isLeading);
    const member = leading[this.random.int(Math.max(1, leading.length))];
    if (member === undefined) {
      await systemClock.sleep(5);
      return;
    }
    const { replica } = member;
    const letter = key.charAt(0);
    try {
      const known = [...this.acknowledged].filter((one) => one.startsWith(letter));
      const found = new Set(scan(replica.store, letter).map((entry) => entry.split('=')[0]));
      const seen = replica.store.takeReadTicket();
      if (!replica.isCurrent) {
        await systemClock.sleep(5);
        return;
      }
      const ticket = put(replica.store, { [key]: member.uuid });
      await replica.store.durable(Math.max(seen, ticket));
      this.acknowledged.add(key);
      const missing = known.filter((one) => !found.has(one));
      if (missing.length > 0) this.problems.push(`${member.uuid} did not see ${missing.join(', ')}`);
    } catch {
      // Not acknowledged: it may be there or not.
    }
  }

  async worker(letter: string): Promise<void> {
    for (let index = 0; index < keysMax && !this.isOver; index++) {
      await this.use(`${letter}${String(index).padStart(3, '0')}`);
      await systemClock.sleep(this.random.int(60));
      this.check();
    }
  }

  async watch(): Promise<void> {
    while (!this.isOver) {
      this.check();
      await systemClock.sleep(1);
    }
  }

  /** Cuts the leader off until another one leads. */
  async depose(): Promise<void> {
    await until('one leads', () => this.terms > 0);
    const leader = [...this.members.values()].find(({ replica }) => replica.isLeading)?.uuid ?? '';
    Object.assign(this.faults.get(leader) ?? {}, { isCutOff: true });
    await until('another one leads', () => this.terms > 1);
  }

  /** Cuts members off, has messages lost, starts again who ended or did not. */
  async harm(): Promise<void> {
    await this.depose();
    const end = systemClock.monotonic() + actMs;
    while (systemClock.monotonic() < end) {
      await systemClock.sleep(100 + this.random.int(400));
      const uuid = uuids[this.random.int(uuids.length)] ?? 'a';
      const faults = this.faults.get(uuid);
      const roll = this.random.int(4);
      if (faults === undefined) continue;
      if (roll === 0) faults.isCutOff = !faults.isCutOff;
      else if (roll === 1) faults.lossOneIn = faults.lossOneIn === 0 ? 4 : 0;
      else if (roll === 2 && !faults.isCutOff) await this.restart(uuid);
      for (const member of [...this.members.values()]) {
        if (member.ended() === undefined) continue;
        const cut = this.faults.get(member.uuid);
        if (cut !== undefined) Object.assign(cut, { isCutOff: false, lossOneIn: 0 });
        await this.restart(member.uuid);
      }
    }
  }

  endFaults(): void {
    for (const faults of this.faults.values()) Object.assign(faults, { isCutOff: false, lossOneIn: 0 });
  }

  /** Nothing is in the way any more: whoever ends now is started again, until all agree. */
  async agree(): Promise<void> {
    const end = systemClock.monotonic() + 20_000;
    for (;;) {
      const members = [...this.members.values()];
      const ended = members.filter((member) => member.ended() !== undefined);
      for (const { uuid } of ended) await this.restart(uuid);
      const leader = members.find(({ replica }) => replica.isLeading && replica.isCurrent);
      const isSame = members.every(
        ({ replica: { store } }) => store.durableTicket === leader?.replica.store.durableTicket,
      );
      if (ended.length === 0 && isSame) return;
      if (systemClock.monotonic() > end) throw new Error('The members do not agree within 20 s of peace');
      await systemClock.sleep(20);
    }
  }
}

test('no two are current, no answer is stale, and nothing acknowledged is lost', async () => {
  const seed = Date.now() % 1_000_000;
  const folder = await mkdtemp(join(tmpdir(), 'xtreemfs-mrc-replica-sim-'));
  const world = new World(folder, new SeededRandom(seed));
  try {
    await Promise.all(uuids.map(async (uuid) => await world.start(uuid)));
    const work = Promise.all(letters.map(async (letter) => await world.worker(letter)));
    const watch = world.watch();
    await world.harm();
    world.isOver = true;
    world.endFaults();
    await Promise.all([work, watch]);
    await world.agree();
    const states = [...world.members.values()].map(({ replica }) => letters.flatMap((one) => scan(replica.store, one)));
    const kept = new Set(states[0]?.map((entry) => entry.split('=')[0]));
    const lost = [...world.acknowledged].filter((key) => !kept.has(key));
    expect({ seed, problems: world.problems, lost }).toEqual({ seed, problems: [], lost: [] });
    expect(states[1]).toEqual(states[0]);
    expect(states[2]).toEqual(states[0]);
    expect(world.acknowledged.size).toBeGreaterThan(20);
    expect(world.terms).toBeGreaterThan(1);
  } finally {
    world.isOver = true;
    await Promise.all([...world.members.values()].map(async ({ replica }) => await replica.stop()));
    await rm(folder, { recursive: true, force: true });
  }
}, 60_000);

/** Leaders that overlap, crash and read old caches; organizations and memberships that come again; restored backups. */
import { expect, test } from '@jest/globals';
import { globalId } from '#common/identity/ids.ts';
import { SeededRandom } from '#common/random.ts';
import { IdBitmap } from './id-bitmap.ts';
import { IdIssuer, type Proposals } from './id-issuer.ts';
import { SliceBook } from './slice-book.ts';
import { IdWorld, type SimulatedMembership, type WorldCache } from './testing/id-world.ts';

/** Seven ids per slice, in the same order for everyone: all want the same. */
const wanted: Proposals = { users: () => [1024, 1025, 1026, 1027, 1028, 1029, 1030], groups: () => [1] };

interface Leader {
  readonly id: number;
  readonly issuer: IdIssuer;
  readonly cache: WorldCache;
  readonly busy: Set<string>;
  isDead: boolean;
}

class Simulation {
  readonly world: IdWorld;
  readonly random: SeededRandom;
  /** By id: the membership that it was written into first. */
  readonly everIssued = new Map<number, string>();
  leaders: Leader[] = [];
  private owners = new Map<string, string>();
  private count = 0;

  constructor(seed: number) {
    this.random = new SeededRandom(seed);
    this.world = new IdWorld(this.random);
    for (const name of ['a', 'b']) this.owners.set(name, this.world.newUid());
    this.elect();
    this.elect();
  }

  elect(): void {
    const id = ++this.count;
    const { parts, cache } = this.world.leader(id);
    const isCarried = (owner: { uid: string }, { slice, localId }: { slice: number; localId: number }): boolean =>
      cache.memberships.some(
        ({ owner: its, identity }) =>
          its.uid === owner.uid && identity?.slice === slice && identity.localId === localId,
      );
    const issuer = new IdIssuer(new SliceBook(parts), isCarried, wanted);
    this.leaders.push({ id, issuer, cache, busy: new Set(), isDead: false });
  }

  kill(leader: Leader): void {
    leader.isDead = true;
    this.world.crash(leader.id);
    this.leaders = this.leaders.filter((other) => other !== leader);
  }

  /** One thing that can happen to the objects. */
  disturb(): void {
    const { memberships } = this.world;
    const name = `m${this.random.int(12)}`;
    const dice = this.random.int(20);
    if (dice < 12 && !memberships.has(name)) {
      const owner = this.random.int(2) === 0 ? 'a' : 'b';
      const principal = { issuer: 'i', subject: `s${this.random.int(40)}` };
      memberships.set(name, { name, uid: this.world.newUid(), owner: this.owner(owner), principal });
    } else if (dice === 12) memberships.delete(name);
    else if (dice === 13 && this.random.int(8) === 0) this.recreate(this.random.int(2) === 0 ? 'a' : 'b');
  }

  private owner(name: string): { name: string; uid: string } {
    return { name, uid: this.owners.get(name) ?? '' };
  }

  /** The organization is gone with its members, and another one of the same name comes. */
  private recreate(name: string): void {
    this.owners.set(name, this.world.newUid());
    for (const [key, { owner }] of this.world.memberships) if (owner.name === name) this.world.memberships.delete(key);
  }

  /** A leader looks at one membership of its cache, as the controller does. */
  act(leader: Leader): void {
    const membership = leader.cache.memberships[this.random.int(Math.max(1, leader.cache.memberships.length))];
    if (membership === undefined || leader.busy.has(membership.name)) return;
    leader.busy.add(membership.name);
    const end = (): void => void leader.busy.delete(membership.name);
    this.reconcile(leader, membership).then(end, end);
  }

  private async reconcile({ issuer, id }: Leader, membership: SimulatedMembership): Promise<void> {
    if (membership.identity !== undefined) {
      await issuer.confirmUserId(membership.owner, membership.identity, {});
      return;
    }
    const identity = await issuer.issueUserId(membership.owner, membership.principal, {});
    await this.world.identify(id, membership, identity);
  }

  /** What must hold at every moment. */
  check(): void {
    const now = new Map<number, string>();
    for (const { uid, identity, owner } of this.world.memberships.values()) {
      if (identity === undefined) continue;
      const id = globalId(identity);
      if ((now.get(id) ?? uid) !== uid) throw new Error(`${id} is shared by ${uid} and ${now.get(id) ?? ''}`);
      now.set(id, uid);
      const slice = [...this.world.slices.values()].find(({ spec }) => spec.number === identity.slice);
      if (slice?.spec.virtualOrganization.uid !== owner.uid) throw new Error(`${id} lies in a slice of somebody else`);
    }
  }

  /** Without a restore, no id is ever seen on a second membership. */
  checkHistory(): void {
    for (const { uid, identity } of this.world.memberships.values()) {
      if (identity === undefined) continue;
      const id = globalId(identity);
      const before = this.everIssued.get(id) ?? uid;
      if (before !== uid) throw new Error(`${id} was given to ${before}, and to ${uid}`);
      this.everIssued.set(id, uid);
    }
  }

  async turn(): Promise<void> {
    this.disturb();
    for (const leader of this.leaders) {
      if (this.random.int(4) === 0) leader.cache.refresh();
      this.act(leader);
    }
    if (this.random.int(25) === 0) {
      const [first] = this.leaders;
      if (first !== undefined) this.kill(first);
      this.elect();
    }
    await this.world.step();
    this.check();
  }

  /** Faults end: one leader with a fresh cache has to give everyone an id, as far as there are any. */
  async heal(): Promise<void> {
    for (const leader of [...this.leaders]) this.kill(leader);
    while (this.world.waiting > 0) await this.world.step();
    this.elect();
    const [leader] = this.leaders;
    for (let turn = 0; turn < 500 && leader !== undefined; turn++) {
      leader.cache.refresh();
      this.act(leader);
      await this.world.step();
      this.check();
    }
  }
}

const seeds = Array.from({ length: 12 }, (_, at) => 1000 + at);

test.each(seeds)(
  'no two members ever share an id, whoever leads, crashes and comes again (threats 40, 42, 63), seed %d',
  async (seed) => {
    const simulation = new Simulation(seed);
    for (let turn = 0; turn < 600; turn++) {
      await simulation.turn();
      simulation.checkHistory();
    }
    await simulation.heal();
    simulation.checkHistory();
    // Five slices each at most, seven ids each: some may get none, but then every id is given out.
    for (const { identity, owner } of simulation.world.memberships.values()) {
      if (identity !== undefined) continue;
      const own = [...simulation.world.slices.values()].filter(
        ({ spec }) => spec.virtualOrganization.uid === owner.uid,
      );
      for (const { spec } of own) expect(new IdBitmap(spec.issued).count(1024, 1030)).toBe(7);
    }
  },
);

test.each(seeds)(
  'slices restored from an older backup give nobody the id of a membership that exists, seed %d',
  async (seed) => {
    const simulation = new Simulation(seed);
    const { world } = simulation;
    let backup = new Map(world.slices);
    for (let turn = 0; turn < 600; turn++) {
      await simulation.turn();
      if (turn % 150 === 50) backup = new Map(world.slices);
      if (turn % 150 !== 149) continue;
      // The API server is down meanwhile; leaders start with what is there after the restore.
      world.dropAll();
      const missing = [...world.slices].filter(([name]) => !backup.has(name));
      world.restore(new Map([...backup, ...missing]));
      simulation.leaders = [];
      simulation.elect();
      simulation.elect();
    }
    await simulation.heal();
    for (const { identity } of world.memberships.values()) {
      if (identity === undefined) continue;
      const slice = [...world.slices.values()].find(({ spec }) => spec.number === identity.slice);
      expect(new IdBitmap(slice?.spec.issued).has(identity.localId)).toBe(true);
    }
  },
);

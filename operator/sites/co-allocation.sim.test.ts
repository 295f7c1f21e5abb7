/** Reservations over two sites that both want the same slots: each holds as a whole or not at all, nobody blocks anybody, and nothing is left behind. */
import { describe, expect, jest, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { SeededRandom } from '#common/random.ts';
import type { Reservation } from '#crds/reservation.ts';
import { aReservation } from '#operator/testing/jobs.ts';
import type { Stored } from '#runtime/types.ts';
import { ReservingSite } from './testing/reserving-site.ts';
import { TestLink } from './testing/two-sites.ts';

jest.setTimeout(120_000);
const second = 1_000;
const minute = 60 * second;
const hour = 60 * minute;
const nodes = 2;
/** Of one CPU: as many as both sites have. */
const allSlots = 2 * nodes * 2;

class World {
  readonly clock = new VirtualClock();
  readonly random: SeededRandom;
  readonly links: TestLink[];
  readonly sites: ReservingSite[];
  private count = 0;

  constructor(seed: number) {
    this.random = new SeededRandom(seed);
    const { clock, random } = this;
    const [near, far] = [
      new TestLink(clock, random, { from: 'near', to: 'far' }),
      new TestLink(clock, random, { from: 'far', to: 'near' }),
    ];
    this.links = [near, far];
    this.sites = [
      new ReservingSite('near', nodes, { clock, random, out: near, into: far }),
      new ReservingSite('far', nodes, { clock, random, out: far, into: near }),
    ];
    for (const site of this.sites) site.start();
  }

  /** A member reserves slots at both sites, an hour from now by default. */
  reserve(at: number, slots: number, startsInMs = hour): string {
    const site = this.sites[at]!;
    const name = `r${++this.count}-${site.name}`;
    const start = new Date(Math.ceil((this.clock.now() + startsInMs) / second) * second).toISOString();
    const window = { start, durationSeconds: 3_600 };
    const reservation = aReservation(name, { slots, resources: { cpu: 1 }, window });
    const creationTimestamp = new Date(this.clock.now()).toISOString();
    const uid = `${this.count}${site.name}-0000-0000`.padStart(20, 'x');
    site.reservations.write({ ...reservation, metadata: { ...reservation.metadata, uid, creationTimestamp } });
    return name;
  }

  async pass(durationMs: number): Promise<void> {
    for (let gone = 0; gone < durationMs; gone += 500) await this.clock.advanceAsync(500);
  }

  all(): Stored<Reservation>[] {
    return this.sites.flatMap(({ reservations }) => [...reservations.objects.values()]);
  }

  stateOf(name: string): string | undefined {
    return this.all().find(({ metadata }) => metadata.name === name)?.status?.state;
  }

  /** Slots that nodes of both sites have promised, by reservation, whoever believes what: a Claim of `count` slots counts `count` times. */
  promised(): Record<string, number> {
    const sum: Record<string, number> = {};
    const held = new Set(this.sites.flatMap((site) => site.promises()));
    for (const { claims } of this.sites) {
      for (const { metadata, spec } of claims.objects.values()) {
        // A record of what the other site promised; the promise itself is counted there.
        if (spec.site !== undefined || !held.has(metadata.name)) continue;
        const of = this.all().find(({ metadata: { uid } }) => metadata.name.startsWith(uid.slice(0, 8)));
        const name = of?.metadata.name ?? 'nobody';
        sum[name] = (sum[name] ?? 0) + Number.parseInt(String(spec.resources.cpu), 10) / 1_000;
      }
    }
    return sum;
  }

  /** Everything that is promised belongs to a reservation that is whole, and has its record. */
  expectWhole(): void {
    const whole = this.all().filter(({ status }) => status?.state === 'Held');
    const slots = Object.fromEntries(whole.map(({ metadata, spec }) => [metadata.name, spec.slots]));
    expect(this.promised()).toEqual(slots);
    const ids = this.sites.flatMap((site) => site.promises());
    const records = whole.flatMap(({ status }) => status?.slots?.map(({ claim }) => claim) ?? []);
    expect(ids.sort()).toEqual(records.sort());
  }
}

describe('reservations over two sites', () => {
  test.each(Array.from({ length: 12 }, (_, index) => index + 1))(
    'that can not both be held do not block each other: one is whole within a minute, and nothing is kept for the other (seed %d)',
    async (seed) => {
      const world = new World(seed);
      await world.pass(world.random.int(2 * second));
      const names = [world.reserve(0, allSlots), world.reserve(1, allSlots)];
      await world.pass(minute);
      expect(names.map((name) => world.stateOf(name)).sort()).toEqual(['Held', 'Pending']);
      await world.pass(minute);
      world.expectWhole();
      // And the other gets them when the first is cancelled.
      const first = world.all().find(({ status }) => status?.state === 'Held')!;
      world.sites.find(({ name }) => first.metadata.name.endsWith(name))!.cancel(first);
      await world.pass(2 * minute);
      expect(world.all().map(({ status }) => status?.state)).toEqual(['Held']);
      world.expectWhole();
    },
  );

  test('that both fit are both held', async () => {
    const world = new World(1);
    const names = [world.reserve(0, allSlots - 1), world.reserve(1, 1), world.reserve(1, allSlots, 3 * hour)];
    await world.pass(2 * minute);
    expect(names.map((name) => world.stateOf(name))).toEqual(['Held', 'Held', 'Held']);
    world.expectWhole();
  });

  test.each([1, 2, 3, 4, 5, 6])(
    'are whole or nothing again after links and operators failed (seed %d)',
    async (seed) => {
      const world = new World(seed);
      const { random, links, sites } = world;
      for (let round = 0; round < 12; round++) {
        for (const at of [0, 1])
          if (random.int(2) === 0) world.reserve(at, 1 + random.int(allSlots), (1 + random.int(3)) * hour);
        const link = links[random.int(2)]!;
        const site = sites[random.int(2)]!;
        const trouble = random.int(4);
        await world.pass(random.int(4 * second));
        if (trouble === 0) Object.assign(link, { there: 'lost', back: 'lost' });
        else if (trouble === 1) Object.assign(link, { back: 'stuck' });
        else if (trouble === 2) link.delayMaxMs = 10 * second;
        else site.kill();
        await world.pass(random.int(40 * second));
        if (trouble === 3) site.start();
        link.mend();
        if (random.int(3) === 0) {
          const [gone] = world.all();
          if (gone !== undefined) sites.find(({ name }) => gone.metadata.name.endsWith(name))!.cancel(gone);
        }
      }
      await world.pass(5 * minute);
      world.expectWhole();
      expect(world.all().some(({ status }) => status?.state === 'Held')).toBe(true);
    },
  );
});

import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { Profile } from '#selector/overlay/descriptor.ts';
import { SiteSigner, TrustSet } from '#selector/overlay/trust.ts';
import type { Attributes } from '#proto/selector/attributes.ts';
import { World, type Judged } from './world.ts';

const seed = Number(process.env.SEED ?? 20_261_121);
const everyone = 1_000_000;
const range = [
  { attribute: 'a0', min: 200, max: 700 },
  { attribute: 'a3', min: 100 },
];

/** What holds at any time: no wrong offer, none twice. */
function assertSafe(judged: Judged): void {
  expect({ seed, wrong: judged.wrong }).toEqual({ seed, wrong: 0 });
}

function expectWhole(world: World, withinMs: number): void {
  const end = world.scheduler.monotonic() + withinMs;
  for (;;) {
    const judged = world.ask(range, everyone, 15_000);
    assertSafe(judged);
    if (judged.found === judged.matching && judged.outcome.unreached === 0) return;
    if (world.scheduler.monotonic() > end)
      expect({ seed, found: judged.found }).toEqual({ seed, found: judged.matching });
    world.scheduler.run(5_000);
  }
}

function aNode(world: World, attributes: Attributes): Profile {
  const base = world.newProfile();
  const { site, node, address, incarnation, isOffering } = base;
  return new Profile({ site, node, address, incarnation, attributes, isOffering });
}

describe(`300 nodes, seed ${seed}`, () => {
  test('answers are safe under loss, doubling, reordering and crashes, and whole again once the network heals', () => {
    const world = new World({ seed, nodes: 300, distribution: 'uniform' });
    world.scheduler.run(120_000);
    Object.assign(world.network.faults, { loss: 0.1, duplication: 0.05, reorderMs: 300 });
    for (let i = 0; i < 12; i++) {
      world.kill(4);
      world.spawn();
      assertSafe(world.ask(range, i % 2 === 0 ? 20 : everyone, 15_000));
      world.scheduler.run(10_000);
    }
    Object.assign(world.network.faults, { loss: 0, duplication: 0, reorderMs: 0 });
    expectWhole(world, 200_000);
  });

  test('two halves cut off from each other answer for themselves, and are one overlay again after healing', () => {
    const world = new World({ seed, nodes: 300, distribution: 'skewed' });
    world.scheduler.run(200_000);
    for (const [index, { profile }] of world.alive.entries()) world.network.setSide(profile.address, index % 2);
    world.scheduler.run(300_000);
    const apart = world.ask([], everyone);
    assertSafe(apart);
    expect(apart.outcome.offers.length).toBeGreaterThanOrEqual(145);
    expect(apart.outcome.offers.length).toBeLessThanOrEqual(150);
    for (const { profile } of world.alive) world.network.setSide(profile.address, 0);
    const end = world.scheduler.monotonic() + 400_000;
    let found = 0;
    while (found < 300 && world.scheduler.monotonic() < end) {
      world.scheduler.run(20_000);
      found = world.ask([], everyone).found;
    }
    expect({ seed, found }).toEqual({ seed, found: 300 });
  });

  test('half of the nodes lost at once: whole again within a minute', () => {
    const world = new World({ seed, nodes: 300, distribution: 'uniform' });
    world.scheduler.run(200_000);
    world.kill(150);
    expectWhole(world, 60_000);
  });

  test('a restarted node joins through any peer and is found within two periods', () => {
    const world = new World({ seed, nodes: 300, distribution: 'uniform' });
    world.scheduler.run(200_000);
    const [gone] = world.kill(1);
    world.scheduler.run(60_000);
    const { site, node, address, isOffering } = gone!.profile;
    const incarnation = world.scheduler.now();
    const attributes = { ...gone!.profile.attributes, a0: 5_000 };
    const again = new Profile({ site, node, address, incarnation, attributes, isOffering });
    world.spawn(again, [world.alive[7]!.profile.address]);
    world.scheduler.run(20_000);
    const judged = world.ask([{ attribute: 'a0', min: 4_000 }], 10);
    expect(judged.outcome.offers.map(({ id, incarnation: started }) => [id, started])).toEqual([
      [again.id, incarnation],
    ]);
  });

  test('a node that says goodbye is offered to nobody a moment later', () => {
    const world = new World({ seed, nodes: 300, distribution: 'uniform' });
    world.scheduler.run(200_000);
    const leaving = world.alive.pop()!;
    leaving.node.stop();
    world.network.detach(leaving.profile.address);
    world.scheduler.run(1_000);
    const judged = world.ask([], everyone);
    expect(judged.outcome.offers.map(({ id }) => id)).not.toContain(leaving.profile.id);
    expect(judged.found).toBe(299);
  });
});

test(`while borders change nobody is lost, and an attribute added meanwhile becomes an axis, seed ${seed}`, () => {
  const world = new World({ seed, nodes: 200, distribution: 'uniform', settings: { averagingRestRounds: 20 } });
  world.scheduler.run(150_000);
  const before = world.alive[0]!.node.membership.current.borders.axes.length;
  for (let i = 0; i < 100; i++) {
    world.spawn(aNode(world, { ...world.population.attributes(), gpus: 1 + (i % 8) }));
    world.kill(1);
    world.scheduler.run(2_000);
  }
  world.scheduler.run(100_000);
  const editions = new Set<string>();
  for (let i = 0; i < 60; i++) {
    world.scheduler.run(15_000);
    const judged = world.ask(range, everyone);
    assertSafe(judged);
    // Every one is found while some follow the old borders and some the new.
    expect({ seed, i, found: judged.found }).toEqual({ seed, i, found: judged.matching });
    editions.add(world.alive[0]!.node.keeper.serving.id);
  }
  const axes = world.alive.map(({ node }) =>
    node.membership.current.borders.axes.map(({ attribute }) => attribute).join(),
  );
  expect(new Set(axes).size).toBe(1);
  expect(axes[0]).toContain('gpus');
  expect(axes[0]!.split(',').length).toBeGreaterThan(before);
  expect(editions.size).toBeGreaterThan(1);
});

test(`1,000 nodes with one and the same point: all are found, and none holds more than a few links, seed ${seed}`, () => {
  const world = new World({ seed, nodes: 1, distribution: 'uniform' });
  for (let i = 0; i < 999; i++) world.spawn(aNode(world, { a0: 5, a3: 5, arch: 'amd64' }));
  world.scheduler.run(250_000);
  const judged = world.ask([{ attribute: 'arch', in: ['amd64'] }], everyone);
  expect({ seed, found: judged.found, wrong: judged.wrong }).toEqual({ seed, found: 999, wrong: 0 });
  expect(judged.outcome.hops).toBeLessThan(20);
  for (const { node } of world.alive) expect(node.membership.current.size).toBeLessThan(70);
});

test(`real signatures: a site that makes up members and lies about others gains nothing, seed ${seed}`, () => {
  const sites = ['site-0', 'site-1', 'site-2'];
  const keys = new Map(sites.map((site) => [site, generateKeyPairSync('ed25519')]));
  const world = new World({
    ...{ seed, nodes: 1, distribution: 'uniform', siteCount: 3 },
    security: {
      signer: (site) => new SiteSigner(site, keys.get(site)!.privateKey),
      verifier: () => new TrustSet(sites.slice(0, 2).map((site) => [site, keys.get(site)!.publicKey] as const)),
    },
  });
  const [{ profile: first }] = world.alive as [(typeof world.alive)[0]];
  for (let i = 1; i < 24; i++) world.spawn(world.newProfile(), [first.address]);
  world.scheduler.run(200_000);
  const trusted = world.alive.filter(({ profile }) => profile.site !== 'site-2');
  for (const { node } of trusted) {
    expect(node.membership.pool().every(({ profile }) => profile.site !== 'site-2')).toBe(true);
  }
  const outcome: { ids?: string[] } = {};
  const query = { id: 'q', constraints: [], predicates: [], demand: {}, virtualOrganization: 'vo' };
  trusted[0]!.node.select(
    query,
    { wanted: 100, timeoutMs: 10_000 },
    ({ offers }) => (outcome.ids = offers.map(({ id }) => id)),
  );
  world.scheduler.run(11_000);
  expect(outcome.ids!.sort()).toEqual(trusted.map(({ profile }) => profile.id).sort());
});

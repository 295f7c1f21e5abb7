import { describe, expect, test } from '@jest/globals';
import { Borders, hasBit, sharedBits } from './borders.ts';
import { Profile, type Descriptor } from './descriptor.ts';
import { Topology } from './topology.ts';

const borders = Borders.first;
const exchangeSize = 8;
const shared = 5;

function aDescriptor(index: number): Descriptor {
  const fields = { site: 'lyon', node: `n${index}`, address: `n${index}:1`, incarnation: 1, attributes: {} };
  return {
    profile: new Profile({ ...fields, isOffering: true }),
    stamp: 1,
    isLeaving: false,
    signature: new Uint8Array(64),
  };
}

const everybody = Array.from({ length: 400 }, (_, index) => aDescriptor(index));

/** Two that share the first five bits: about a dozen others do. */
function cellMates(): { asker: Profile; told: Profile } {
  const [first] = everybody;
  const asker = first!.profile;
  const { key } = asker.placement(borders);
  const mate = everybody.find(
    ({ profile }) => sharedBits(key, profile.placement(borders).key, borders.keyBits) === shared,
  );
  return { asker, told: mate!.profile };
}

function topologyOf(own: Profile, links: readonly Descriptor[]): Topology {
  const topology = new Topology(own, borders);
  for (const link of links) topology.offer(link, 0);
  return topology;
}

describe('what a partner is told', () => {
  const { asker, told } = cellMates();
  const partner = topologyOf(told, everybody);
  const { key } = asker.placement(borders);

  test('begins with one node for each slot that it has nobody in', () => {
    const full = topologyOf(asker, everybody);
    const empty = full.filledSlots.filter((slot) => slot < shared).slice(1, 4);
    const known = everybody.filter(({ profile }) => profile !== asker && !empty.includes(full.slotOf(profile)));
    const lacking = topologyOf(asker, known);
    const chosen = partner.helpful(key, exchangeSize, asker, 0, lacking.filledBits());
    expect(chosen.slice(0, 3).map(({ profile }) => lacking.slotOf(profile))).toEqual(empty);
    expect(new Set(chosen.map(({ profile }) => profile.id)).size).toBe(exchangeSize);
  });

  test('leaves room for nodes nearer to it, whatever it says it lacks', () => {
    const nothingFilled = new Uint32Array(key.length);
    const slots = partner
      .helpful(key, exchangeSize, asker, 0, nothingFilled)
      .map(({ profile }) => topologyOf(asker, []).slotOf(profile));
    expect(slots.filter((slot) => slot < shared).length).toBeLessThan(exchangeSize);
    expect(slots.some((slot) => slot >= shared)).toBe(true);
  });

  test('is the same as ever where it lacks nobody', () => {
    const filled = new Uint32Array(key.length).fill(0xffff_ffff);
    expect(partner.helpful(key, exchangeSize, asker, 0, filled)).toEqual(partner.helpful(key, exchangeSize, asker, 0));
  });
});

test('a slot counts as filled exactly while it has a link', () => {
  const [own, ...others] = everybody;
  const topology = topologyOf(own!.profile, others);
  const filled = (): number[] =>
    Array.from({ length: borders.keyBits }, (_, i) => i).filter((i) => hasBit(topology.filledBits(), i));
  expect(filled()).toEqual(topology.filledSlots);
  for (const link of topology.links(topology.filledSlots[1]!).slice()) topology.remove(link.profile);
  expect(filled()).toEqual(topology.filledSlots);
});

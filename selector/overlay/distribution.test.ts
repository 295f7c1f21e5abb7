import { expect, test } from '@jest/globals';
import { pick, SeededRandom } from '#common/random.ts';
import { Borders } from './borders.ts';
import { Profile, type Descriptor } from './descriptor.ts';
import {
  areLopsided,
  Averaging,
  axesFromEstimate,
  axesFromSample,
  planCurves,
  shareAt,
  type Estimate,
} from './distribution.ts';

const random = new SeededRandom(20_100_611);
const values = Array.from({ length: 500 }, () => Math.floor(-Math.log(1 - random.next()) * 1_000) / 10);
const sample: Descriptor[] = values.map((cores, i) => ({
  profile: new Profile({
    site: 's',
    node: `n${i}`,
    address: 'h:1',
    incarnation: 1,
    attributes: { cores },
    isOffering: true,
  }),
  stamp: 1,
  isLeaving: false,
  signature: new Uint8Array(),
}));

/** Runs one instance to its end over all nodes by random exchanges. */
function estimateByGossip(isOverlapping: boolean): Estimate[] {
  const nodes = values.map((cores) => new Averaging({ cores }, 30));
  const curves = planCurves(sample.slice(0, 60), undefined, Borders.first);
  nodes[0]!.start({ stamp: 1, starter: 's/n0', curves });
  const estimates: Estimate[] = [];
  for (let round = 0; round < 60; round++) {
    const open: (() => void)[] = [];
    for (const node of nodes) {
      const sent = node.snapshot();
      const partner = pick(random, nodes);
      if (sent !== undefined && partner !== node) {
        const before = partner.answer(sent);
        const complete = (): void => {
          if (before !== undefined) node.complete(sent, before);
        };
        // An exchange may still be open when the next one begins.
        if (isOverlapping) open.push(complete);
        else complete();
      }
    }
    for (const complete of open) complete();
    for (const node of nodes) {
      const estimate = node.tick();
      if (estimate !== undefined) estimates.push(estimate);
    }
  }
  return estimates;
}

test.each([
  ['one after the other', false],
  ['overlapping', true],
])('every node learns the distribution and the number of nodes from exchanges %s', (_, isOverlapping) => {
  const estimates = estimateByGossip(isOverlapping);
  expect(estimates).toHaveLength(values.length);
  for (const { curves, nodeCount } of [estimates[0]!, estimates.at(-1)!]) {
    expect(Math.abs(nodeCount - values.length)).toBeLessThan(10);
    const { curve, shares } = curves[0]!;
    for (const [i, threshold] of curve.thresholds.entries()) {
      const truth = values.filter((value) => value <= threshold).length / values.length;
      expect(Math.abs(shares[i]! - truth)).toBeLessThan(0.01);
    }
  }
});

test('borders cut at the estimate split a skewed population into even cells', () => {
  const [estimate] = estimateByGossip(false);
  const [axis] = axesFromEstimate(estimate!);
  const counts = new Array<number>(32).fill(0);
  for (const value of values) {
    let cell = 0;
    while (cell < 31 && axis!.cuts[cell]! < value) cell++;
    counts[cell]!++;
  }
  expect(Math.max(...counts)).toBeLessThan(4 * (values.length / 32));
});

test('borders are lopsided for a population they were not made for, and when an attribute is new', () => {
  const [estimate] = estimateByGossip(false);
  const even = new Borders(axesFromEstimate(estimate!), 1, 's');
  expect(areLopsided(even, estimate!)).toBe(false);
  const cuts = Float64Array.from({ length: 31 }, (_, i) => 1e6 + i);
  expect(areLopsided(new Borders([{ attribute: 'cores', cuts }], 1, 's'), estimate!)).toBe(true);
  expect(areLopsided(new Borders([{ attribute: 'other', cuts }], 1, 's'), estimate!)).toBe(true);
});

test('a share between thresholds lies on the line between them', () => {
  expect(shareAt(Float64Array.of(10, 20), Float64Array.of(0.2, 0.6), 15)).toBeCloseTo(0.4);
  expect(shareAt(Float64Array.of(10, 20), Float64Array.of(0.2, 0.6), 30)).toBe(1);
  expect(shareAt(Float64Array.of(10, 20), Float64Array.of(0.2, 0.6), -Infinity)).toBe(0);
});

test('an attribute that all nodes have alike makes no axis, one that some lack does', () => {
  const mixed = sample.map((descriptor, i) => {
    const attributes = { arch: 'amd64', cores: values[i]!, ...(i % 3 === 0 ? { gpus: 1 } : {}) };
    return { ...descriptor, profile: new Profile({ ...plain(descriptor), attributes }) };
  });
  expect(axesFromSample(mixed).map(({ attribute }) => attribute)).toEqual(['cores', 'gpus']);
});

function plain({ profile }: Descriptor): ConstructorParameters<typeof Profile>[0] {
  const { site, node, address, incarnation, attributes, isOffering } = profile;
  return { site, node, address, incarnation, attributes, isOffering };
}

import type { Random } from '#common/random.ts';
import type { Attributes, Constraint } from '#proto/selector/attributes.ts';

/** How attribute values are spread over the nodes. */
export const distributions = ['uniform', 'skewed', 'real'] as const;
export type Distribution = (typeof distributions)[number];

/** Draws nodes and queries of one kind. */
export interface Population {
  readonly distribution: Distribution;
  attributes(): Attributes;
}

/** A query with the share of nodes it aims at. */
export interface QueryPlan {
  readonly name: 'eighth' | 'narrow' | 'whole';
  readonly constraints: readonly Constraint[];
}

const axes = ['a0', 'a1', 'a2', 'a3', 'a4'] as const;

/**
 * Five attributes a node, as RSS was judged with: `uniform` numbers, `skewed` (exponential and power-law numbers that
 * pile up at one end), or `real` (what nodes of clusters look like: few hardware models, words, correlated values).
 */
export function createPopulation(distribution: Distribution, random: Random): Population {
  if (distribution === 'real') return { distribution, attributes: () => realNode(random) };
  const draw =
    distribution === 'uniform'
      ? (): number => Math.floor(random.next() * 1_000_000) / 1_000
      : (k: number): number =>
          k % 2 === 0
            ? Math.floor(-Math.log(1 - random.next()) * 20_000) / 1_000
            : Math.floor((1 - random.next()) ** -1.2);
  return { distribution, attributes: () => Object.fromEntries(axes.map((axis, k) => [axis, draw(k)])) };
}

interface Model {
  readonly weight: number;
  readonly name: string;
  readonly cores: number;
  readonly memory: readonly number[];
  readonly arch: string;
}

const commonModel: Model = { weight: 30, name: 'xeon-4', cores: 4, memory: [16, 32], arch: 'amd64' };

/** Shares and sizes as public clouds and batch farms have them: a few models make up most of the fleet. */
const models: readonly Model[] = [
  commonModel,
  { weight: 24, name: 'xeon-8', cores: 8, memory: [32, 64], arch: 'amd64' },
  { weight: 14, name: 'epyc-16', cores: 16, memory: [64, 128], arch: 'amd64' },
  { weight: 10, name: 'epyc-64', cores: 64, memory: [256, 512], arch: 'amd64' },
  { weight: 8, name: 'graviton-8', cores: 8, memory: [16, 32], arch: 'arm64' },
  { weight: 6, name: 'altra-80', cores: 80, memory: [256], arch: 'arm64' },
  { weight: 5, name: 'xeon-32', cores: 32, memory: [128, 256], arch: 'amd64' },
  { weight: 3, name: 'epyc-128', cores: 128, memory: [512, 1_024, 2_048], arch: 'amd64' },
];

function realNode(random: Random): Attributes {
  let ticket = random.next() * models.reduce((sum, { weight }) => sum + weight, 0);
  const model = models.find(({ weight }) => (ticket -= weight) < 0) ?? commonModel;
  const memory = model.memory[random.int(model.memory.length)] ?? 16;
  const accelerators = model.cores >= 32 && random.next() < 0.15 ? 2 ** random.int(4) : 0;
  return {
    'cpu.model': model.name,
    'cpu.cores': model.cores,
    // The kernel keeps some for itself: no two machines report quite the same.
    memory: Math.round(memory * (0.955 + 0.01 * random.next()) * 1_000) / 1_000,
    disk: Math.round(100 * 2 ** (random.next() * 5)),
    ...(accelerators > 0 ? { accelerators } : {}),
    kernel: `6.${random.int(4) + 8}`,
  };
}

/**
 * A query of the given kind, made from the population itself: `eighth` aims at about 1/8 of the nodes through ranges
 * on three attributes with random ends (RSS's typical query), `narrow` at few nodes through ranges on every attribute,
 * `whole` at all.
 */
export function planQuery(kind: QueryPlan['name'], sample: readonly Attributes[], random: Random): QueryPlan {
  if (kind === 'whole') return { name: kind, constraints: [] };
  const numeric = numericAxes(sample);
  const wanted = kind === 'eighth' ? 1 / 8 : 1 / 2_000;
  const count = kind === 'eighth' ? Math.min(3, numeric.length) : numeric.length;
  let best: QueryPlan = { name: kind, constraints: [] };
  let bestError = Infinity;
  for (let attempt = 0; attempt < 24 && bestError > 0.3; attempt++) {
    const chosen = [...numeric].sort(() => random.next() - 0.5).slice(0, count);
    const constraints = chosen.map((axis) => rangeOn(axis, sample, wanted ** (1 / count), random));
    const share = sample.filter((attributes) => isWithin(attributes, constraints)).length / sample.length;
    const error = share === 0 ? 50 : Math.abs(Math.log(share / wanted));
    if (error < bestError) {
      bestError = error;
      best = { name: kind, constraints };
    }
  }
  return best;
}

function numericAxes(sample: readonly Attributes[]): string[] {
  const names = new Set(sample.flatMap((attributes) => Object.keys(attributes)));
  return [...names]
    .filter((name) => new Set(sample.map((attributes) => attributes[name])).size > 4 || name === 'cpu.cores')
    .filter((name) => sample.some((attributes) => typeof attributes[name] === 'number'));
}

/** A range that about `share` of the sample lie in, at a random place. */
function rangeOn(attribute: string, sample: readonly Attributes[], share: number, random: Random): Constraint {
  const values = sample
    .map((attributes) => attributes[attribute])
    .filter((value) => typeof value === 'number')
    .sort((a, b) => a - b);
  const width = Math.max(1, Math.round(share * values.length));
  const from = random.int(Math.max(1, values.length - width));
  const min = values[from] ?? 0;
  return { attribute, min, max: values[Math.min(values.length - 1, from + width)] ?? min };
}

function isWithin(attributes: Attributes, constraints: readonly Constraint[]): boolean {
  return constraints.every(({ attribute, min, max }) => {
    const value = attributes[attribute];
    return typeof value === 'number' && value >= (min ?? -Infinity) && value <= (max ?? Infinity);
  });
}

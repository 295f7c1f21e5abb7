/**
 * `make bench-jobs`: GridJobs beside plain batch/v1 Jobs, in one run on one API server with nodes of kwok, whose selectors are the real ones, all in
 * one process. Then a long array, gangs, and a restart of the controllers while many jobs run. The controllers of Kubernetes run without throttles.
 * Last, on a site with a kubelet: how long until the first process runs. A part that fails leaves null in the figure; jobs that take longer than the
 * limit are told as far as they came. When the time for all is over, or it is ended, what is known by then is the figure.
 * Kueue is not compared, since no pinned module builds it: `kueue_ratio` is null.
 *
 * usage: node bench/jobs.ts [--only scale,first-process] [--nodes 1000] [--jobs 5000] [--array 10000] [--gangs 100] [--gang-size 50]
 *   [--in-flight 10000] [--samples 25] [--limit-s 360] [--total-s 1260] [--site bench-jobs] [--profile FOLDER]
 */
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { describeError, InvalidInputError } from '#common/errors.ts';
import { measureFirstProcess } from './jobs-first-process.ts';
import { array, clearAll, gangs, grid, plain, restart, round, Witness } from './jobs-measures.ts';
import type { OperatorCost } from './jobs-operator.ts';
import { JobWorld } from './jobs-world.ts';
import { withProduct } from './product.ts';

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: 'scale,first-process' },
    nodes: { type: 'string', default: '1000' },
    jobs: { type: 'string', default: '5000' },
    array: { type: 'string', default: '10000' },
    gangs: { type: 'string', default: '100' },
    'gang-size': { type: 'string', default: '50' },
    'in-flight': { type: 'string', default: '10000' },
    samples: { type: 'string', default: '25' },
    'limit-s': { type: 'string', default: '360' },
    'total-s': { type: 'string', default: '1260' },
    site: { type: 'string', default: 'bench-jobs' },
    profile: { type: 'string' },
  },
});

const startedAt = performance.now();
const report = (line: string): void => {
  const s = ((performance.now() - startedAt) / 1000).toFixed(0).padStart(4);
  console.log(`[${s} s] ${line}`);
};
const say = (what: string, facts: object): void =>
  report(`${what} at load ${loadavg()[0]?.toFixed(1) ?? '?'}: ${JSON.stringify(facts)}`);

/** Measures one part. What fails is told, and the others go on. */
async function measured<T extends object>(
  what: string,
  part: () => Promise<T>,
  mend?: () => Promise<void>,
): Promise<T | undefined> {
  try {
    report(`${what} …`);
    const facts = await part();
    say(what, facts);
    return facts;
  } catch (error) {
    process.exitCode = 1;
    report(`${what} failed: ${describeError(error)}`);
    await mend?.();
    return undefined;
  }
}

const costs = ({ peakRssMb, heapMb, externalMb, cpuMs, queries, queryMs, holds }: OperatorCost): object => ({
  ...{ peakRssMb: round(peakRssMb, 0), heapMb: round(heapMb, 0), externalMb: round(externalMb, 0) },
  ...{ cpuS: round(cpuMs / 1000), queries, queryMs: round(queryMs, 0), holds },
});

/** Jobs of each sort that nothing is measured of. */
const warmUp = 200;

/** What is known so far; each part adds to it. */
let figure: Readonly<Record<string, unknown>> = Object.fromEntries(
  [
    ...['gridjobs_per_s', 'plain_ratio', 'kueue_ratio', 'operator_mb', 'requests_per_job'],
    ...['restart_s', 'array_s', 'gangs_s', 'first_process_added_s'],
  ].map((key) => [key, null]),
);
const know = (facts: object): void => void (figure = { ...figure, ...facts });
const tell = (): void => console.log(`figure: ${JSON.stringify(figure)}`);
const orNull = (value: number | undefined, digits?: number): number | null =>
  value === undefined ? null : round(value, digits);

async function atScale(): Promise<void> {
  report(`a world of ${values.nodes} nodes …`);
  const world = await JobWorld.start(Number(values.nodes), values.profile);
  const limits = { partMs: 1000 * Number(values['limit-s']), endsAt: startedAt + 1000 * Number(values['total-s']) };
  const witness = new Witness(world, limits, report);
  const ended = async (): Promise<void> => {
    await witness.close();
    await world.stop();
  };
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => {
      tell();
      void ended().finally(() => process.exit(1));
    });
  }
  try {
    await witness.synced();
    await world.startOperator();
    say('world', { nodes: Number(values.nodes), selectorsMb: round(world.selectorsMb(), 0) });
    const part = async <T extends object>(what: string, work: () => Promise<T>): Promise<T | undefined> =>
      measured(
        what,
        async () => {
          witness.begin();
          return work();
        },
        async () =>
          clearAll(world, witness).catch((error: unknown) => report(`clearing failed: ${describeError(error)}`)),
      );
    // The API server compiles schemas and rules at first use, and works for a while on each kind that was installed; both programs are cold.
    await part('warming up', async () => ({
      ...(await grid(world, witness, warmUp)),
      plain: await plain(world, witness, warmUp),
    }));
    const [jobs, flight] = [Number(values.jobs), Number(values['in-flight'])];
    const asGrid = await part(`${jobs} GridJobs`, async () => grid(world, witness, jobs));
    know({ gridjobs_per_s: orNull(asGrid?.decidedPerS), requests_per_job: orNull(asGrid?.requestsPerJob, 2) });
    const asPlain = await part(`${jobs} plain Jobs`, async () => plain(world, witness, jobs));
    if (asGrid && asPlain) know({ plain_ratio: round(asGrid.boundPerS / asPlain.boundPerS, 2) });
    const long = await part(`an array of ${values.array}`, async () => ({
      s: await array(world, witness, Number(values.array)),
    }));
    know({ array_s: orNull(long?.s) });
    const [count, size] = [Number(values.gangs), Number(values['gang-size'])];
    const together = await part(`${count} gangs of ${size}`, async () => ({
      s: await gangs(world, witness, count, size),
    }));
    know({ gangs_s: orNull(together?.s) });
    const before = await world.cost();
    know({ operator_mb: round(before.peakRssMb, 0) });
    say('operator', costs(before));
    const again = await part(`a restart with ${flight} jobs`, async () => ({
      s: await restart(world, witness, flight),
    }));
    know({ restart_s: orNull(again?.s) });
    const after = await world.cost();
    know({ operator_mb: round(Math.max(before.peakRssMb, after.peakRssMb), 0) });
    say('operator', { ...costs(after), selectorsMb: round(world.selectorsMb(), 0) });
    report('kueue_ratio is null: Kueue is not compared');
  } finally {
    await ended();
  }
}

async function firstProcess(): Promise<void> {
  await withProduct(values.site, [], async (product) => {
    const facts = await measured('first process', async () =>
      measureFirstProcess(product, Number(values.samples), report),
    );
    know({ first_process_added_s: facts ?? null });
  });
}

const parts: Readonly<Record<string, () => Promise<void>>> = { scale: atScale, 'first-process': firstProcess };
const chosen = values.only.split(',').map((name) => {
  const part = parts[name];
  if (part === undefined) {
    throw new InvalidInputError('--only', `${name} is no part: choose from ${Object.keys(parts).join(', ')}`);
  }
  return part;
});
for (const part of chosen) {
  await part().catch((error: unknown) => {
    process.exitCode = 1;
    report(`failed: ${describeError(error)}`);
  });
}
tell();

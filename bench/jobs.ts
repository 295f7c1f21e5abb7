/**
 * `make bench-jobs`: GridJobs beside plain batch/v1 Jobs, in one run on one API server with nodes of kwok, whose selectors are the real ones, all in
 * one process. Then a long array, gangs, and a restart of the controllers while many jobs run. The controllers of Kubernetes run without throttles.
 * Kueue is not compared (no pinned module builds it), so `kueue_ratio` is null; nor is a first process measured, which needs nodes that run one.
 *
 * usage: node bench/jobs.ts [--nodes 1000] [--jobs 5000] [--array 10000] [--gangs 100] [--gang-size 50] [--in-flight 10000]
 */
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { array, gangs, grid, plain, restart, round, Witness } from './jobs-measures.ts';
import { JobWorld } from './jobs-world.ts';

const { values } = parseArgs({
  options: {
    nodes: { type: 'string', default: '1000' },
    jobs: { type: 'string', default: '5000' },
    array: { type: 'string', default: '10000' },
    gangs: { type: 'string', default: '100' },
    'gang-size': { type: 'string', default: '50' },
    'in-flight': { type: 'string', default: '10000' },
  },
});

const say = (what: string, facts: object): void =>
  console.log(`${what} at load ${loadavg()[0]?.toFixed(1) ?? '?'}: ${JSON.stringify(facts)}`);

const world = await JobWorld.start(Number(values.nodes));
const witness = new Witness(world);
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.once(name, () => void world.stop().then(() => process.exit(1)));
try {
  await witness.synced();
  await world.startOperator();
  say('world', { nodes: Number(values.nodes), selectorsMb: round(world.selectorsMb(), 0) });
  const jobs = Number(values.jobs);
  const asGrid = await grid(world, witness, jobs);
  say('GridJobs', asGrid);
  const asPlain = await plain(world, witness, jobs);
  say('plain Jobs', asPlain);
  const arrayS = await array(world, witness, Number(values.array));
  say('array', { arrayS });
  const gangsS = await gangs(world, witness, Number(values.gangs), Number(values['gang-size']));
  say('gangs', { gangsS });
  const { peakRssMb } = await world.cost();
  say('operator', { peakRssMb });
  const restartS = await restart(world, witness, Number(values['in-flight']));
  const { peakRssMb: afterMb } = await world.cost();
  say('restart', { restartS, peakRssMb: afterMb, selectorsMb: round(world.selectorsMb(), 0) });
  const figure = {
    gridjobs_per_s: round(asGrid.decidedPerS),
    plain_ratio: round(asGrid.boundPerS / asPlain.boundPerS, 2),
    kueue_ratio: null,
    operator_mb: round(Math.max(peakRssMb, afterMb), 0),
    requests_per_job: round(asGrid.requestsPerJob, 2),
    restart_s: round(restartS),
    array_s: round(arrayS),
    gangs_s: round(gangsS),
    first_process_added_s: null,
  };
  console.log(`figure: ${JSON.stringify(figure)}`);
} finally {
  await witness.close();
  await world.stop();
}

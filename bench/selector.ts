/**
 * The resource-selection overlay on a virtual clock and network, with a central index beside it (`make bench-selector`).
 * NODES, DISTRIBUTIONS and SEED choose what is run: sizes and distributions are comma-separated. Every node runs the
 * code of the real process; signatures are not computed, but counted in the bytes. One `figure:` line per size and
 * distribution.
 */
import { SeededRandom } from '#common/random.ts';
import type { Attributes } from '#proto/selector/attributes.ts';
import { shareAt } from '#selector/overlay/distribution.ts';
import { coordinateOf } from '#selector/overlay/coordinates.ts';
import { CentralIndex } from '#selector/sim/central.ts';
import { distributions, planQuery, type Distribution, type QueryPlan } from '#selector/sim/population.ts';
import { World, type Judged } from '#selector/sim/world.ts';

const periodMs = 10_000;
const wanted = 50;
const everyone = 1_000_000_000;

const sizes = (process.env.NODES ?? '1000,10000').split(',').map(Number);
const chosen = (process.env.DISTRIBUTIONS ?? distributions.join(',')).split(',') as Distribution[];
const seed = Number(process.env.SEED ?? 1);
if (sizes.some((size) => !Number.isInteger(size) || size < 10))
  throw new Error('NODES: whole numbers of at least 10, with commas');
if (chosen.some((name) => !distributions.includes(name)))
  throw new Error(`DISTRIBUTIONS: of ${distributions.join(', ')}`);

for (const nodes of sizes) for (const distribution of chosen) runOne(nodes, distribution);

function runOne(nodes: number, distribution: Distribution): void {
  const [began, cpuBefore] = [performance.now(), process.cpuUsage()];
  const world = new World({ seed, nodes, distribution });
  const sample = Array.from({ length: Math.min(nodes, 1_000) }, () => drawAttributes(world));
  const ask = (kind: QueryPlan['name'], count: number, timeoutMs = 60_000): Judged =>
    world.ask(planQuery(kind, sample, world.random).constraints, count, timeoutMs);
  const note = (text: string): void => {
    const at = (world.scheduler.monotonic() / 1_000).toFixed(0).padStart(5);
    console.log(`[${((performance.now() - began) / 1_000).toFixed(0).padStart(4)} s] t=${at} s  ${text}`);
  };
  note(`${nodes} nodes, ${distribution}, seed ${seed}: all start at once, each knowing one other`);

  for (let minute = 0; minute < 2; minute++) {
    world.scheduler.run(30_000);
    note('joining');
  }
  const convergeS = untilWhole(world, () => ask('eighth', everyone), 10_000, 600);
  note(`every matching node found from ${convergeS} s on`);
  while (world.scheduler.monotonic() < 360_000) {
    world.scheduler.run(60_000);
    note('settling');
  }

  const quiet = measureQuiet(world, ask);
  note(
    `quiet: recall ${quiet.recall.toFixed(4)}, ${quiet.falseVisits.toFixed(2)} non-matching visits for ${wanted} of 1/8, ` +
      `${quiet.falseVisitsAll.toFixed(1)} for all of 1/8 (${quiet.matching.toFixed(0)} nodes), ` +
      `${quiet.bytes.toFixed(0)} B and ${quiet.messages.toFixed(2)} messages per node and second`,
  );
  const adam2Error = estimateError(world);
  note(`distribution estimate: mean error ${(100 * adam2Error).toFixed(3)} % of the nodes`);

  const churn = measureChurn(world, ask);
  note(`churn 0.2 % per 10 s: recall ${churn.recall.toFixed(4)}`);
  const central = compareCentral(world, sample);
  note(
    `central index: ${central.ms.toFixed(1)} ms, ${central.mb.toFixed(0)} MB, ${(100 * central.stale).toFixed(2)} % of its answers dead`,
  );

  world.kill(Math.floor(world.alive.length / 2));
  const lostAt = world.scheduler.monotonic();
  const recallAfterLoss = recallOf([ask('eighth', everyone, 15_000)]);
  const healS = untilWhole(world, () => ask('eighth', everyone, 15_000), 2_000, 300, lostAt);
  note(`half the nodes lost at once: recall ${recallAfterLoss.toFixed(4)} at once, right again after ${healS} s`);

  const rounded = (value: number, digits: number): number => Number(value.toFixed(digits));
  const used = process.cpuUsage(cpuBefore);
  const links = world.alive.reduce((sum, { node }) => sum + node.membership.current.size, 0) / world.alive.length;
  const figure = {
    bench: 'selector',
    nodes,
    distribution,
    recall: rounded(quiet.recall, 5),
    recall_churn: rounded(churn.recall, 5),
    false_visits: rounded(quiet.falseVisits, 2),
    false_visits_all: rounded(quiet.falseVisitsAll, 1),
    visits: rounded(quiet.visits, 1),
    hops_p99: quiet.hopsP99,
    bytes_per_node_s: rounded(quiet.bytes, 0),
    messages_per_node_s: rounded(quiet.messages, 3),
    links_per_node: rounded(quiet.links, 1),
    links_after_loss: rounded(links, 1),
    converge_s: convergeS,
    heal_s: healS,
    recall_after_loss: rounded(recallAfterLoss, 4),
    overlay_ms: rounded(quiet.overlayMs, 0),
    central_ms: rounded(central.ms, 1),
    central_mb: rounded(central.mb, 0),
    central_stale: rounded(central.stale, 4),
    adam2_error: rounded(adam2Error, 5),
    seed,
    wall_s: rounded((performance.now() - began) / 1_000, 0),
    cpu_s: rounded((used.user + used.system) / 1e6, 0),
    rss_mb: Math.round(process.memoryUsage().rss / 1e6),
  };
  console.log(`figure: ${JSON.stringify(figure)}`);
}

/** Seconds from `since` until two answers in a row are whole. */
function untilWhole(world: World, ask: () => Judged, stepMs: number, limitS: number, since = 0): number | null {
  let firstWholeAt: number | undefined;
  for (;;) {
    const begin = world.scheduler.monotonic();
    const isWhole = recallOf([ask()]) === 1;
    if (isWhole && firstWholeAt !== undefined) return Math.round((firstWholeAt - since) / 100) / 10;
    firstWholeAt = isWhole ? begin : undefined;
    if (begin - since > limitS * 1_000) return null;
    world.scheduler.run(stepMs);
  }
}

interface Quiet {
  recall: number;
  falseVisits: number;
  falseVisitsAll: number;
  matching: number;
  visits: number;
  hopsP99: number;
  overlayMs: number;
  bytes: number;
  messages: number;
  links: number;
}

function measureQuiet(world: World, ask: (kind: QueryPlan['name'], count: number) => Judged): Quiet {
  const seconds = 60;
  world.network.resetCounters();
  world.scheduler.run(seconds * 1_000);
  const { bytes, messages } = world.network.counters;
  const all = Array.from({ length: 8 }, () => ask('eighth', everyone));
  const narrow = Array.from({ length: 12 }, () => ask('narrow', everyone));
  const some = Array.from({ length: 100 }, () => ask('eighth', wanted));
  const whole = [ask('whole', everyone)];
  const hops = [...all, ...narrow, ...some, ...whole].map(({ outcome }) => outcome.hops).sort((a, b) => a - b);
  const wrong = [...all, ...narrow, ...some, ...whole].reduce((sum, judged) => sum + judged.wrong, 0);
  if (wrong > 0) throw new Error(`${wrong} offers were wrong or named twice`);
  return {
    recall: recallOf([...all, ...narrow, ...whole]),
    falseVisits: mean(some.map(({ outcome }) => outcome.falseVisits)),
    falseVisitsAll: mean(all.map(({ outcome }) => outcome.falseVisits)),
    matching: mean(all.map(({ matching }) => matching)),
    visits: mean(some.map(({ outcome }) => outcome.visited)),
    hopsP99: hops[Math.floor(0.99 * (hops.length - 1))] ?? 0,
    overlayMs: mean(some.map(({ tookMs }) => tookMs)),
    bytes: bytes / world.alive.length / seconds,
    messages: messages / world.alive.length / seconds,
    links: mean(world.alive.map(({ node }) => node.membership.current.size)),
  };
}

/** 200 s in which 0.2 % of the nodes are replaced every 10 s; every node that lives through a query counts. */
function measureChurn(world: World, ask: (kind: QueryPlan['name'], count: number) => Judged): { recall: number } {
  const until = world.scheduler.monotonic() + 200_000;
  world.churn(200_000, 0.002, periodMs);
  world.scheduler.run(60_000);
  const judged: Judged[] = [];
  while (world.scheduler.monotonic() < until) {
    judged.push(ask('eighth', everyone));
    world.scheduler.run(15_000);
  }
  return { recall: recallOf(judged) };
}

/** The same questions to a server that every node reports to once a period. */
function compareCentral(world: World, sample: readonly Attributes[]): { ms: number; mb: number; stale: number } {
  const random = new SeededRandom(seed);
  const now = world.scheduler.monotonic();
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  const index = new CentralIndex(periodMs);
  for (const { profile, startedAt } of world.alive) {
    const heardAt = now - random.next() * periodMs;
    if (heardAt >= startedAt) index.report(profile.id, { ...profile.attributes }, heardAt);
  }
  for (const { profile, at } of world.dead) {
    const heardAt = at - random.next() * periodMs;
    if (now - heardAt <= 3 * periodMs) index.report(profile.id, { ...profile.attributes }, heardAt);
  }
  index.refresh(now);
  globalThis.gc?.();
  const mb = Math.max(0, (process.memoryUsage().heapUsed - before) / 1e6);
  const living = new Set(world.alive.map(({ profile }) => profile.id));
  const server = world.network.placeOf('site-0');
  const took: number[] = [];
  let answers = 0;
  let stale = 0;
  for (let i = 0; i < 200; i++) {
    const { constraints } = planQuery('eighth', sample, random);
    const asker = world.alive[random.int(world.alive.length)];
    const begin = performance.now();
    const ids = index.select(constraints, wanted);
    const computedMs = performance.now() - begin;
    const place = world.network.placeOf(asker?.profile.site ?? 'site-0');
    took.push(2 * world.network.delayBetween(place, server) + computedMs);
    answers += ids.length;
    stale += ids.filter((id) => !living.has(id)).length;
  }
  return { ms: mean(took), mb, stale: answers === 0 ? 0 : stale / answers };
}

/** Mean distance between estimated and true share of nodes at or below a value, over ten nodes and all present values. */
function estimateError(world: World): number {
  const errors: number[] = [];
  for (const { node } of world.alive.slice(0, 10)) {
    for (const { curve, shares } of node.keeper.estimate?.curves ?? []) {
      const truth = world.alive.map(({ profile }) => coordinateOf(profile.attributes[curve.attribute]));
      truth.sort((a, b) => a - b);
      const step = Math.max(1, Math.floor(truth.length / 500));
      for (let i = 0; i < truth.length; i += step) {
        const value = truth[i] ?? -Infinity;
        if (!Number.isFinite(value)) continue;
        let end = i;
        while (end < truth.length && (truth[end] ?? Infinity) <= value) end++;
        errors.push(Math.abs(shareAt(curve.thresholds, shares, value) - end / truth.length));
      }
    }
  }
  return errors.length === 0 ? 1 : mean(errors);
}

function drawAttributes(world: World): Attributes {
  return world.alive[world.random.int(world.alive.length)]?.profile.attributes ?? {};
}

function recallOf(judged: readonly Judged[]): number {
  const matching = judged.reduce((sum, one) => sum + one.matching, 0);
  return matching === 0 ? 1 : judged.reduce((sum, one) => sum + one.found, 0) / matching;
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}

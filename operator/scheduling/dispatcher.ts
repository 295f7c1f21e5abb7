import { remember } from '#common/remember.ts';
import type { Clock, Timer } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { type Random, randomName } from '#common/random.ts';
import type { ClaimOwnerReference, Offer, Refusals, ResourceSelection } from '#proto/selector/contract.ts';
import { queryLimits, SelectorUnavailableError } from '#proto/selector/contract.ts';
import type { Predicates } from '#proto/selector/predicate.ts';
import type { Runnable } from '#runtime/contracts.ts';
import { addRefusals } from './refusals.ts';
import { ask, type Found } from './ask.ts';
import { assign, type Candidate, giveBack, order, orderOffers, type Share } from './assign.ts';
import type { IndexSet } from './index-set.ts';
import type { DispatchMetrics } from './metrics.ts';
import { effectivePriority } from './priority.ts';
import type { ReservedNode } from './reserved.ts';
import { fits, isSiteWanted, mayOverlap, type Shape, times } from './shape.ts';

/** Tasks of one job that look for nodes. */
export interface Want {
  /** `namespace/name` of the job. */
  readonly key: string;
  readonly uid: string;
  readonly shape: Shape;
  readonly tasks: IndexSet;
  /** So many must be promised together, or none is; 0 and 1 take each task for itself. */
  readonly gangMinimum: number;
  readonly priority: number;
  /** When the job was submitted, wall-clock milliseconds: who waits longest goes first among equals. */
  readonly submittedAt: number;
  readonly owner: ClaimOwnerReference;
}

/** Nodes that promised to run tasks. The promise is short: it has to be used at once. */
export interface Grant {
  readonly run: string;
  readonly site: string;
  readonly node: string;
  readonly address: string;
  readonly tasks: IndexSet;
  /** Id of the hold. */
  readonly hold: string;
  /** The Claim of a reservation that the hold draws from. */
  readonly reservation: string | undefined;
  /** Until when the place is promised, wall-clock milliseconds; undefined without end. */
  readonly until: number | undefined;
}

/** What came of a want: grants, or why there are none or too few. */
export interface Answer {
  readonly grants: readonly Grant[];
  readonly refusals: Refusals;
  /** Whether no node at all matches the static requirements. */
  readonly nothingMatches: boolean;
}

/** What the dispatcher works with. */
export interface DispatcherParts {
  readonly selection: ResourceSelection;
  readonly predicates: Predicates;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly metrics: DispatchMetrics;
  /** Name under which nodes know who may release a hold. */
  readonly holder: string;
  /** What the open window of a reservation has on nodes. */
  readonly reserved: (virtualOrganization: string, reservation: string) => readonly ReservedNode[];
}

interface Waiting {
  want: Want;
  failures: number;
  /** Monotonic; not tried before. */
  dueAt: number;
  isBusy: boolean;
  /** Most tasks that had room at once since it keeps others back, and when that last grew (monotonic). */
  room: number;
  roomGrewAt: number | undefined;
  /** It keeps nobody back before (monotonic). */
  barrierFrom: number;
}

/** Wants of one shape, first in line first; at least one. */
type Batch = [Waiting, ...Waiting[]];

/** Wants that come within this time share a query. */
const gatherMs = 5;
/** From here on a query is ended with what it has found. */
const selectTimeoutMs = 5_000;
/** Covers a restart of the operator between the promise and the pod. */
const holdTtlMs = 30_000;
const backoffMinMs = 250;
const backoffMaxMs = 10_000;
/** Holds asked for at the same time. */
const holdsMax = 64;
/** Wants answered from one query. */
const batchMax = 256;
/** Selectors whose addresses are remembered, and the least time between two searches for one that has moved. */
const addressesMax = 4_096;
const seekPauseMs = 5_000;
/** How often a share that was refused is laid over other offers of the same query. */
const retriesPerQuery = 3;
/** A job that waited so long while others found room keeps those back whose nodes it could use. */
const barrierAfterMs = 30_000;
/**
 * It does so only while that helps: when no more room came together for it in this time (shorter when there is none at all, as for a
 * task that is larger than every node), the others go on for ten times as long.
 */
const barrierIdleMs = { withoutRoom: 60_000, withRoom: 600_000 } as const;
const barrierPauseFactor = 10;

/**
 * Finds nodes for the tasks of jobs: asks the overlay, lays tasks over the offers, and has the nodes promise the resources. Each
 * node is the only arbiter of itself, so any number of dispatchers may run anywhere. All state is in memory: after a crash promises
 * that were not used run out by themselves, and jobs ask again.
 *
 * Gangs are promised whole or not at all, and nothing is kept while waiting, so that gangs can't block each other. So that small jobs
 * don't starve a large gang, the job that is first in line and has waited for {@link barrierAfterMs} keeps back the others that could
 * run on its nodes until it has found room (`docs/adr/0097`).
 */
export class Dispatcher implements Runnable {
  readonly name = 'dispatcher';
  private readonly parts: DispatcherParts;
  private readonly waiting = new Map<string, Waiting>();
  private readonly answers = new Map<string, Answer>();
  /** Those of the waiting that had no answer yet. */
  private readonly unanswered = new Set<string>();
  private readonly listeners = new Set<(key: string) => void>();
  private readonly busyShapes = new Set<string>();
  /** Places that became free since those first in line were last tried for them. */
  private freed = 0;
  private wake = Promise.withResolvers<undefined>();
  private timer: Timer | undefined;
  private holds = 0;
  private readonly holdQueue: (() => void)[] = [];
  /** Where selectors were found last, by `site/node`. */
  private readonly addresses = new Map<string, string>();
  private soughtAt = -Infinity;

  constructor(parts: DispatcherParts) {
    this.parts = parts;
  }

  /** Calls back with the key of each job that has an answer. */
  onAnswer(listener: (key: string) => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  /** Jobs that have just come: they have no answer, or did not take it yet. */
  get backlog(): number {
    return this.unanswered.size + this.answers.size;
  }

  /** Looks for nodes until there is an answer with grants. A later want of the same job takes the place of an earlier one. */
  want(want: Want): void {
    const known = this.waiting.get(want.key);
    if (known === undefined) {
      const now = this.parts.clock.monotonic();
      const fresh = { failures: 0, isBusy: false, room: 0, roomGrewAt: undefined, dueAt: now, barrierFrom: now };
      this.waiting.set(want.key, { want, ...fresh });
      this.unanswered.add(want.key);
      this.parts.metrics.waiting.set(this.waiting.size);
    } else known.want = want;
    this.wakeUp();
  }

  /** Stops looking. Promises that were made already run out. */
  forget(key: string): void {
    this.waiting.delete(key);
    this.unanswered.delete(key);
    this.answers.delete(key);
    this.parts.metrics.waiting.set(this.waiting.size);
  }

  /** Takes the answer of a job, if there is one. */
  take(key: string): Answer | undefined {
    const answer = this.answers.get(key);
    this.answers.delete(key);
    return answer;
  }

  /** Resources became free somewhere: those first in line are tried again soon. */
  nudge(count = 1): void {
    if (this.waiting.size === 0) return;
    this.freed += count;
    this.wakeUp();
  }

  /** Gives back a promise that isn't used. Failing to is no harm: it runs out. */
  async release({ address, hold }: Pick<Grant, 'address' | 'hold'>): Promise<void> {
    try {
      await this.parts.selection.release(address, { id: hold, owner: this.parts.holder });
    } catch (error) {
      this.parts.log.debug('Leaving a hold to run out', { hold, problem: describeError(error) });
    }
  }

  async run(signal: AbortSignal): Promise<void> {
    const stop = (): void => this.wakeUp();
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    const rounds = new Set<Promise<void>>();
    for (;;) {
      await this.wake.promise;
      this.wake = Promise.withResolvers();
      if (signal.aborted) break;
      await this.parts.clock.sleep(gatherMs, signal).catch(() => undefined);
      for (const batch of this.dueBatches()) {
        const round = this.serve(batch).finally(() => {
          rounds.delete(round);
          this.wakeUp();
        });
        rounds.add(round);
      }
      this.armTimer();
    }
    this.timer?.cancel();
    await Promise.all(rounds);
  }

  private wakeUp(): void {
    this.wake.resolve(undefined);
  }

  /** Everyone who waits, first in line first. */
  private inLine(): Waiting[] {
    const now = this.parts.clock.now();
    return [...this.waiting.values()]
      .map((waiting) => ({ waiting, priority: effectivePriority(waiting.want, now) }))
      .sort((a, b) => b.priority - a.priority || a.waiting.want.submittedAt - b.waiting.want.submittedAt)
      .map(({ waiting }) => waiting);
  }

  /** Due wants by shape, each batch first in line first; shapes with a query under way wait for it. */
  private dueBatches(): Batch[] {
    const now = this.parts.clock.monotonic();
    const isOpen = ({ isBusy, dueAt, want: { shape } }: Waiting): boolean =>
      !isBusy && dueAt <= now && !this.busyShapes.has(shape.key);
    // Thousands may wait for the query of their shape, and are not sorted anew for each of them.
    if (this.freed === 0 && !isAny(this.waiting.values(), isOpen)) return [];
    const line = this.inLine();
    if (this.freed > 0)
      for (const waiting of line.slice(0, this.freed + 1)) waiting.dueAt = Math.min(waiting.dueAt, now);
    this.freed = 0;
    const elder = this.elder(line);
    const batches = new Map<string, Batch>();
    for (const waiting of line) {
      if (!isOpen(waiting)) continue;
      const { want } = waiting;
      const { key } = want.shape;
      if (elder !== undefined && elder !== waiting && isKeptBack(want, elder.want)) continue;
      const batch = batches.get(key);
      if (batch === undefined) batches.set(key, [waiting]);
      else if (batch.length < batchMax) batch.push(waiting);
    }
    return [...batches.values()];
  }

  /** The job that is first in line, when it has been passed over for too long and keeping others back helps it. */
  private elder(line: readonly Waiting[]): Waiting | undefined {
    const { clock } = this.parts;
    const [wall, now] = [clock.now(), clock.monotonic()];
    for (const waiting of line) {
      const { want, failures, barrierFrom } = waiting;
      // The slots of a reservation are nobody else's.
      if (want.shape.reservation !== undefined) continue;
      if (failures === 0 || wall - want.submittedAt < barrierAfterMs) continue;
      if (barrierFrom > now) continue;
      waiting.roomGrewAt ??= now;
      const limitMs = waiting.room === 0 ? barrierIdleMs.withoutRoom : barrierIdleMs.withRoom;
      if (now - waiting.roomGrewAt < limitMs) return waiting;
      waiting.barrierFrom = now + limitMs * barrierPauseFactor;
      waiting.roomGrewAt = undefined;
      waiting.room = 0;
    }
    return undefined;
  }

  private async serve(batch: Batch): Promise<void> {
    const [{ want: first }] = batch;
    const busyKey = first.shape.key;
    this.busyShapes.add(busyKey);
    for (const waiting of batch) waiting.isBusy = true;
    try {
      const found = await this.find(batch);
      const { candidates } = found;
      await Promise.all(
        batch.map(async (waiting) => {
          // Of those who never failed nobody asks, and they are many.
          if (waiting.failures > 0) this.noteRoom(waiting, candidates);
          const { grants, refusals } = await this.claim(waiting.want, candidates);
          const all = { ...found.refusals };
          addRefusals(all, refusals);
          const nothingMatches = found.visited === 0 && candidates.length === 0;
          this.answer(waiting, { grants, refusals: all, nothingMatches });
        }),
      );
    } catch (error) {
      this.parts.log.warn('Asking for nodes failed', { problem: describeError(error), jobs: batch.length });
      const refusals = { [`The selector could not be asked: ${describeError(error).slice(0, 160)}`]: 1 };
      for (const waiting of batch) this.answer(waiting, { grants: [], refusals, nothingMatches: false });
    } finally {
      this.busyShapes.delete(busyKey);
      for (const waiting of batch) waiting.isBusy = false;
    }
  }

  /** Nodes for a batch, best first: those of its reservation, or whoever offers itself. */
  private async find(batch: Batch): Promise<{ candidates: Candidate[]; refusals: Refusals; visited: number }> {
    const [{ want }] = batch;
    const { shape } = want;
    if (shape.reservation !== undefined) {
      const nodes = this.parts.reserved(shape.virtualOrganization, shape.reservation);
      const candidates = nodes.map((node) => this.candidateOf(node));
      const full = candidates.filter(({ free }) => fits(shape.demand, free) === 0).length;
      const refusals: Refusals = full === 0 ? {} : { 'Not enough left of the reservation': full };
      return { candidates: order(candidates, shape, this.parts.predicates), refusals, visited: candidates.length };
    }
    const { offers, refusals, visited } = await this.ask(batch);
    return { candidates: orderOffers(offers, shape, this.parts.predicates), refusals, visited };
  }

  private candidateOf({ site, node, claim, endMs, free, ...known }: ReservedNode): Candidate {
    const id = `${site}/${node}`;
    const address = this.addresses.get(id) ?? known.address ?? '';
    const offer = { id, site, node, address, incarnation: 0, attributes: {}, free, live: {} };
    return { offer, free: { ...free }, drawn: { claim, endMs } };
  }

  /** Looks for selectors that are not where they were: after a restart they may have another address. */
  private async seek(virtualOrganization: string): Promise<void> {
    const now = this.parts.clock.monotonic();
    if (now - this.soughtAt < seekPauseMs) return;
    this.soughtAt = now;
    const query = {
      id: randomName(this.parts.random, 12),
      constraints: [],
      predicates: [],
      demand: {},
      virtualOrganization,
    };
    const options = { wanted: queryLimits.wanted, timeoutMs: selectTimeoutMs };
    for (const offer of (await ask(this.parts.selection, query, options)).offers) this.learn(offer);
  }

  private learn({ id, address }: Offer): void {
    remember(this.addresses, id, address, addressesMax);
  }

  private noteRoom(waiting: Waiting, candidates: readonly Candidate[]): void {
    const { demand } = waiting.want.shape;
    const room = candidates.reduce((sum, { free }) => sum + fits(demand, free), 0);
    if (room <= waiting.room) return;
    waiting.room = room;
    if (waiting.roomGrewAt !== undefined) waiting.roomGrewAt = this.parts.clock.monotonic();
  }

  private async ask(batch: Batch): Promise<Found> {
    const { shape } = batch[0].want;
    const wanted = batch.reduce((sum, { want }) => sum + want.tasks.size, 0);
    const query = {
      id: randomName(this.parts.random, 12),
      constraints: shape.constraints,
      predicates: shape.predicates,
      demand: shape.demand,
      virtualOrganization: shape.virtualOrganization,
      isPreemptible: shape.isPreemptible,
      sites: shape.sites,
      ...this.spanOf(shape.lastsMs),
    };
    const options = { wanted: Math.min(queryLimits.wanted, wanted), timeoutMs: selectTimeoutMs };
    const startedAt = this.parts.clock.monotonic();
    const found = await ask(this.parts.selection, query, options);
    for (const offer of found.offers) this.learn(offer);
    this.parts.metrics.querySeconds.observe((this.parts.clock.monotonic() - startedAt) / 1000);
    return { ...found, offers: found.offers.filter(({ site }) => isSiteWanted(shape, site)) };
  }

  /** Has nodes promise the tasks of one want; when too few for its gang do, everything is given back. */
  private async claim(
    want: Want,
    candidates: readonly Candidate[],
  ): Promise<{ grants: Grant[]; refusals: Record<string, number> }> {
    const { shape, tasks, gangMinimum } = want;
    const grants: Grant[] = [];
    const refusals: Record<string, number> = {};
    let left = tasks;
    for (let round = 0; round < retriesPerQuery && left.size > 0; round++) {
      const shares = assign(left.size, candidates, shape);
      const room = shares.reduce((sum, { count }) => sum + count, 0);
      if (tasks.size - left.size + room < gangMinimum) {
        for (const share of shares) giveBack(share, shape.demand);
        break;
      }
      if (room === 0) break;
      const asked = shares.map((share) => {
        const part = left.take(share.count);
        left = left.minus(part);
        return { share, part };
      });
      const answers = await Promise.all(asked.map(async ({ share, part }) => this.hold(want, share, part)));
      for (const [index, answer] of answers.entries()) {
        if (typeof answer !== 'string') grants.push(answer);
        else {
          const refused = asked[index];
          refusals[answer] = (refusals[answer] ?? 0) + 1;
          if (refused === undefined) continue;
          left = left.union(refused.part);
          // It knows better than its offer: not asked again before the next query.
          refused.share.candidate.free = {};
        }
      }
    }
    if (tasks.size - left.size >= gangMinimum) return { grants, refusals };
    await Promise.all(grants.map(async (grant) => this.release(grant)));
    return { grants: [], refusals };
  }

  /** From now on, until the work is over at the latest; nothing when that is not known. */
  private spanOf(lastsMs: number | undefined): { span?: { startMs: number; endMs: number } } {
    if (lastsMs === undefined) return {};
    return { span: { startMs: 0, endMs: this.parts.clock.now() + lastsMs } };
  }

  /** @returns the grant, or why the node refused. */
  private async hold(want: Want, { candidate }: Share, tasks: IndexSet): Promise<Grant | string> {
    const { selection, metrics, holder, log } = this.parts;
    const { offer, drawn } = candidate;
    const { address, site, node } = offer;
    const { shape } = want;
    const run = randomName(this.parts.random, 6);
    const hold = `${want.uid.slice(0, 8)}-${run}`;
    const demand = times(shape.demand, tasks.size);
    const { span } = drawn === undefined ? this.spanOf(shape.lastsMs) : { span: { startMs: 0, endMs: drawn.endMs } };
    await this.turn();
    try {
      if (address === '') throw new SelectorUnavailableError('its address is not known');
      const answer = await selection.hold(address, {
        ...{ id: hold, owner: holder, virtualOrganization: shape.virtualOrganization, demand, ttlMs: holdTtlMs },
        ...{ ownerReference: want.owner, isPreemptible: shape.isPreemptible },
        ...(span === undefined ? {} : { span }),
        ...(drawn === undefined ? {} : { reservation: drawn.claim }),
      });
      metrics.holds.inc({ answer: answer.granted ? 'granted' : 'refused' });
      if (!answer.granted) return answer.reason;
      return { run, site, node, address, tasks, hold, reservation: drawn?.claim, until: span?.endMs };
    } catch (error) {
      metrics.holds.inc({ answer: 'failed' });
      log.debug('A node could not be asked', { node, problem: describeError(error) });
      if (drawn !== undefined) await this.seek(shape.virtualOrganization);
      return 'the node could not be reached';
    } finally {
      this.holds--;
      this.holdQueue.shift()?.();
    }
  }

  /** Waits until fewer than {@link holdsMax} nodes are being asked. */
  private async turn(): Promise<void> {
    if (this.holds >= holdsMax) await new Promise<void>((resolve) => this.holdQueue.push(resolve));
    this.holds++;
  }

  private answer(waiting: Waiting, answer: Answer): void {
    const { clock, random, metrics } = this.parts;
    const { key } = waiting.want;
    waiting.isBusy = false;
    this.unanswered.delete(key);
    if (this.waiting.get(key) !== waiting) {
      // Nobody wants it any more.
      for (const grant of answer.grants) void this.release(grant);
      return;
    }
    if (answer.grants.length > 0) {
      this.waiting.delete(key);
      metrics.waiting.set(this.waiting.size);
      metrics.waitSeconds.observe(Math.max(0, clock.now() - waiting.want.submittedAt) / 1000);
    } else {
      waiting.failures++;
      const most = Math.min(backoffMaxMs, backoffMinMs * 2 ** Math.min(10, waiting.failures - 1));
      waiting.dueAt = clock.monotonic() + most * (0.5 + random.next() / 2);
    }
    this.answers.set(key, answer);
    for (const listener of this.listeners) listener(key);
  }

  private armTimer(): void {
    this.timer?.cancel();
    let next = Infinity;
    for (const { dueAt, isBusy } of this.waiting.values()) if (!isBusy) next = Math.min(next, dueAt);
    if (next === Infinity) return;
    const delayMs = Math.max(gatherMs, next - this.parts.clock.monotonic());
    this.timer = this.parts.clock.after(delayMs, () => this.wakeUp());
  }
}

function isAny<T>(items: Iterable<T>, is: (item: T) => boolean): boolean {
  for (const item of items) if (is(item)) return true;
  return false;
}

/** Whether a want has to wait for the elder: both could use the same nodes. */
function isKeptBack(want: Want, elder: Want): boolean {
  return want.shape.reservation === undefined && mayOverlap(want.shape.constraints, elder.shape.constraints);
}

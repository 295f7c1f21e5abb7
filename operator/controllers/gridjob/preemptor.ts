import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { tryAll } from '#common/parallel.ts';
import { type Random, randomName } from '#common/random.ts';
import { remember } from '#common/remember.ts';
import { chosenToGiveWay, podFacts, wasChosenToGiveWay } from '#crds/claim.ts';
import { type Execution, podLabels } from '#crds/execution.ts';
import { type GridJob, jobAccepted, jobMatched } from '#crds/grid-job.ts';
import { podsOf } from '#operator/controllers/execution/controller.ts';
import { keyOfRun, type RunFinding } from '#operator/controllers/execution/observe.ts';
import type { TaskRun } from '#operator/controllers/execution/pod.ts';
import { ask } from '#operator/scheduling/ask.ts';
import type { Want } from '#operator/scheduling/dispatcher.ts';
import { chooseVictims, type GivingWay, withRoom } from '#operator/scheduling/preemption.ts';
import { demandOf } from '#operator/scheduling/shape.ts';
import { queryLimits, type ResourceSelection, SelectorUnavailableError } from '#proto/selector/contract.ts';
import { hasEnded, type Pod, pods as podKind } from '#runtime/builtin.ts';
import { findCondition } from '#runtime/conditions.ts';
import type { Client, EventRecorder, Informer, Lister } from '#runtime/contracts.ts';
import { ignoreNotFound } from '#runtime/errors.ts';
import { formatKey, isDeleting, keyOf, type Stored } from '#runtime/types.ts';
import { jobGaveWay, jobMadeRoom } from './events.ts';
import { stageOf } from './gates.ts';

/** What the preemptor works with. */
export interface PreemptorParts {
  readonly jobs: Informer<GridJob>;
  readonly executions: Lister<Execution>;
  /** Pods of tasks, with the index of their Executions. */
  readonly pods: Lister<Pod>;
  readonly client: Client;
  readonly events: EventRecorder;
  /** The nodes of this site alone. */
  readonly selection: ResourceSelection;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

/** Jobs whose attempts, and whose giving way, is remembered. */
const rememberedMax = 10_000;
/** Besides the time that the pods have to end: until their nodes count them no more and the job has asked again. */
const settleMs = 15_000;
/** Each attempt that brought no node doubles the wait for the next, up to this often. */
const doublingsMax = 6;
const askTimeoutMs = 5_000;
const parallelMax = 16;
/**
 * An operator that has just begun does not know who made room for whom. So long, what was last seen to give way looks for no nodes while a job of
 * higher priority waits for some: the most that pods may take to end (preemptibleGraceSecondsMax in crds/src/grid-job.ts), and their settling.
 */
const unknownMs = 120_000 + settleMs;

interface Victim extends GivingWay {
  readonly pod: Stored<Pod>;
  readonly job: Stored<GridJob>;
  readonly execution: Stored<Execution>;
}

const byGivingWay = 'gives-way';
const byWaiting = 'waits-for-room';
const nameOf = (job: Stored<GridJob>): string => formatKey(keyOf(job));

/**
 * Ends tasks that give way, so that a job of higher priority of the same virtual organization has room at this site (`docs/adr/0137`). The
 * runs that were ended are started again as those that gave way to a reservation.
 *
 * What was begun is seen at the pods: they are marked, then deleted, and their room counts from then on. So an operator that begins in the middle
 * ends no more than is needed. What is in memory alone bounds how often it happens.
 */
export class Preemptor {
  private readonly parts: PreemptorParts;
  private readonly attempts = new Map<string, { readonly count: number; readonly nextAtMs: number }>();
  private readonly gaveWay = new Map<string, { readonly to: string; readonly untilMs: number }>();
  /** Runs that were ended here. */
  private readonly endedRuns = new Map<string, true>();
  private beganAtMs: number | undefined;

  constructor(parts: PreemptorParts) {
    this.parts = parts;
    // Only those with something on nodes: these are as many as nodes have room for, however many wait.
    parts.jobs.addIndex(byGivingWay, ({ metadata, spec, status }) => {
      const { starting = 0, running = 0 } = status?.tasks ?? {};
      return spec.preemptible && starting + running > 0 ? [metadata.namespace ?? ''] : [];
    });
    parts.jobs.addIndex(byWaiting, (job) => (isWaitingForRoom(job) ? [job.metadata.namespace ?? ''] : []));
  }

  /**
   * The job that this one gave way to and that has no nodes yet, by `namespace/name`: it would take back what it gave.
   * @param rows - what became of its placed tasks.
   */
  yieldsTo(job: Stored<GridJob>, rows: readonly Pick<RunFinding, 'reason'>[]): string | undefined {
    const now = this.parts.clock.monotonic();
    this.beganAtMs ??= now;
    const key = nameOf(job);
    const entry = this.gaveWay.get(key);
    if (entry !== undefined && entry.untilMs > now) return entry.to;
    this.gaveWay.delete(key);
    if (now - this.beganAtMs >= unknownMs || !rows.some(({ reason }) => reason === 'Preempted')) return undefined;
    const above = this.parts.jobs
      .byIndex(byWaiting, job.metadata.namespace ?? '')
      .find(({ spec }) => spec.priority > job.spec.priority);
    return above === undefined ? undefined : nameOf(above);
  }

  /** Whether a run was ended here so that another job has room. */
  hasGivenWay({ metadata }: Stored<Execution>, { run, index }: Pick<TaskRun, 'run' | 'index'>): boolean {
    return this.endedRuns.has(`${metadata.uid}/${keyOfRun(run, index)}`);
  }

  /** A job has its nodes, or wants none any more: those that gave way may go on. */
  settled(key: string): void {
    this.attempts.delete(key);
    for (const [victim, { to }] of this.gaveWay) if (to === key) this.gaveWay.delete(victim);
  }

  /** Ends what has to give way to a job that was just refused by every node, if that helps. */
  async makeRoom(
    job: Stored<GridJob>,
    want: Pick<Want, 'key' | 'shape' | 'tasks' | 'gangMinimum'>,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, log } = this.parts;
    const { key, shape, tasks, gangMinimum } = want;
    const before = this.attempts.get(key) ?? { count: 0, nextAtMs: -Infinity };
    // The slots of a reservation are nobody else's.
    if (shape.reservation !== undefined || clock.monotonic() < before.nextAtMs) return;
    const below = this.runningBelow(job);
    const running = below.filter(({ pod }) => !isLeaving(pod));
    const leaving = below.filter(({ pod }) => isLeaving(pod));
    if (below.length === 0) return;
    const pause = (pauseMs: number, count = before.count): void =>
      remember(this.attempts, key, { count, nextAtMs: clock.monotonic() + pauseMs }, rememberedMax);
    pause(settleMs);
    const nodes = await this.roomOf(want, signal).catch((error: unknown) => {
      if (!(error instanceof SelectorUnavailableError)) throw error;
      log.debug('Nodes could not be asked what they have free', { problem: describeError(error) });
      return [];
    });
    const wanted = { demand: shape.demand, tasks: tasks.size, gangMinimum };
    // What was chosen and not deleted yet is from an operator that ended in the middle.
    const begun = leaving.filter(({ pod }) => !isDeleting(pod));
    const victims = [...begun, ...chooseVictims(wanted, withRoom(nodes, leaving), running)];
    if (victims.length === 0) return;
    const endsInMs = 1000 * Math.max(...victims.map(({ pod }) => pod.spec?.terminationGracePeriodSeconds ?? 0));
    pause(endsInMs + settleMs * 2 ** Math.min(doublingsMax, before.count), before.count + 1);
    for (const each of new Set(victims.map(({ job: victim }) => nameOf(victim)))) {
      remember(this.gaveWay, each, { to: key, untilMs: clock.monotonic() + endsInMs + settleMs }, rememberedMax);
    }
    await this.end(job, victims, signal);
  }

  private runningBelow(job: Stored<GridJob>): Victim[] {
    const { jobs, executions, pods } = this.parts;
    const { namespace = '' } = job.metadata;
    return jobs
      .byIndex(byGivingWay, namespace)
      .filter((other) => other.spec.priority < job.spec.priority && !stageOf(other).ended)
      .flatMap((other): Victim[] => {
        const execution = executions.get({ namespace, name: other.metadata.name });
        if (execution?.spec.gridJob.uid !== other.metadata.uid) return [];
        const demand = demandOf(other.spec.template.resources);
        return podsOf(pods, execution)
          .filter(isGivingWay)
          .map((pod) => ({
            ...{ pod, execution, job: other, demand, priority: other.spec.priority, node: pod.spec?.nodeName ?? '' },
            startedAt: Date.parse(pod.metadata.creationTimestamp),
          }));
      });
  }

  /** What the nodes that the job could run on have free. */
  private async roomOf(
    { shape }: Pick<Want, 'shape'>,
    signal: AbortSignal,
  ): Promise<{ node: string; free: Readonly<Record<string, number>> }[]> {
    signal.throwIfAborted();
    const { constraints, predicates, virtualOrganization, sites } = shape;
    const query = {
      id: randomName(this.parts.random, 12),
      constraints,
      predicates,
      demand: {},
      virtualOrganization,
      sites,
    };
    const options = { wanted: queryLimits.wanted, timeoutMs: askTimeoutMs };
    const { offers } = await ask(this.parts.selection, query, options);
    return offers.map(({ node, free }) => ({ node, free }));
  }

  private async end(job: Stored<GridJob>, victims: readonly Victim[], signal: AbortSignal): Promise<void> {
    const { client, events, log } = this.parts;
    log.info('Ending tasks that give way to a job of higher priority', { GridJob: keyOf(job), tasks: victims.length });
    const why = `The job ${job.metadata.name} of priority ${job.spec.priority} needs its place.`;
    await tryAll(victims, parallelMax, async ({ pod, execution }) => {
      const { uid, labels = {} } = pod.metadata;
      const run = keyOfRun(labels[podLabels.run] ?? '', Number(labels[podLabels.index]));
      if (!isLeaving(pod)) await this.mark(pod, why, signal);
      remember(this.endedRuns, `${execution.metadata.uid}/${run}`, true, rememberedMax);
      await ignoreNotFound(client.of(podKind).delete(keyOf(pod), { preconditions: { uid }, signal }));
    });
    events.publish(jobMadeRoom(job, victims.length));
    for (const [name, lost] of Map.groupBy(victims, ({ job: victim }) => nameOf(victim))) {
      const [first] = lost;
      if (first !== undefined) events.publish(jobGaveWay(first.job, lost.length, job));
      log.debug('Tasks give way', { job: name, tasks: lost.length });
    }
  }

  /** A pod that can not be marked is ended all the same; only who begins anew doesn't know why. */
  private async mark(pod: Stored<Pod>, why: string, signal: AbortSignal): Promise<void> {
    const { client, clock, log } = this.parts;
    const body = chosenToGiveWay(pod.metadata.uid, 'priority', why, clock.now());
    try {
      await client.of(podKind).status.patch(keyOf(pod), { type: 'strategic', body }, { signal });
    } catch (error) {
      signal.throwIfAborted();
      log.debug('A pod was not marked before it is ended', { Pod: keyOf(pod), problem: describeError(error) });
    }
  }
}

/** Whether its room is as good as free. */
function isLeaving(pod: Stored<Pod>): boolean {
  return isDeleting(pod) || wasChosenToGiveWay(pod);
}

/** Whether a job looks for nodes: told so, or too new to be told anything. */
function isWaitingForRoom(job: Stored<GridJob>): boolean {
  const { spec, status } = job;
  const matched = findCondition(status?.conditions, jobMatched.type);
  return (
    !stageOf(job).ended &&
    !spec.suspend &&
    (status?.tasks?.waiting ?? spec.tasks.count) > 0 &&
    findCondition(status?.conditions, jobAccepted.type)?.status !== 'False' &&
    (matched === undefined ? spec.dependsOn.length === 0 : matched.reason === jobMatched.reasons.Waiting)
  );
}

/** Whether a pod is ended for others: it says so itself, as nodes read it. */
function isGivingWay(pod: Stored<Pod>): boolean {
  const { metadata, spec } = pod;
  return metadata.annotations?.[podFacts.givesWay] === 'true' && spec?.nodeName !== undefined && !hasEnded(pod);
}

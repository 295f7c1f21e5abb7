import type { Clock } from '#common/clock.ts';
import { InvalidInputError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { type Execution, executions, placementsMax } from '#crds/execution.ts';
import { type GridJob, gridJobs, type GridJobStatus, jobMatched, jobRunning } from '#crds/grid-job.ts';
import { organizationOfNamespace } from '#crds/organization.ts';
import type { Reservation } from '#crds/reservation.ts';
import type { Predicates } from '#proto/selector/predicate.ts';
import type { Dispatcher, Grant } from '#operator/scheduling/dispatcher.ts';
import type { IndexSet } from '#operator/scheduling/index-set.ts';
import { shapeOf } from '#operator/scheduling/shape.ts';
import {
  type Client,
  done,
  type EventRecorder,
  type Lister,
  type Reconciler,
  requeueAfter,
  type Result,
} from '#runtime/contracts.ts';
import { AlreadyExistsError, ignoreNotFound, NotFoundError } from '#runtime/errors.ts';
import { isDeleting, type ObjectKey, type Stored } from '#runtime/types.ts';
import { quietStartMs, startPatienceMs } from '../execution/observe.ts';
import { isSame } from '../status-change.ts';
import { StatusMemory } from '../status-memory.ts';
import { jobEnded, jobPlaced, jobRefused } from './events.ts';
import { ExecutionMemory } from './execution-memory.ts';
import { atSites, lastsMs, needsSignal, newExecution, signalOf } from './execution-of-job.ts';
import { dependencyCycle, dependencyGate, type Gate, inherited, reservationGate, stageOf } from './gates.ts';
import type { Preemptor } from './preemptor.ts';
import { nextTasks, placed, sortTasks, type TaskSets } from './plan.ts';
import { type Decision, earliest, gaveWayTo, patienceMs, waitingFor } from './waiting.ts';
import { computeStatus, type Ending, type JobScope } from './status.ts';

/** What the site says of a job: whether its member may run it now. */
export type Admission = JobScope['refusal'];

/** What the reconciler of GridJobs works with. */
export interface GridJobParts {
  readonly jobs: Lister<GridJob>;
  readonly executions: Lister<Execution>;
  readonly client: Client;
  readonly events: EventRecorder;
  readonly clock: Clock;
  readonly log: Logger;
  readonly dispatcher: Dispatcher;
  readonly predicates: Predicates;
  readonly preemptor: Preemptor;
  /** Statuses of Executions that are newer than the cache. */
  readonly partStatuses: Pick<StatusMemory<Execution>, 'newest'>;
  readonly admission: (job: Stored<GridJob>) => Admission;
  readonly reservations: Lister<Reservation>;
  /** Whether a member may use a reservation. */
  readonly isSharedWith: (reservation: Stored<Reservation>, userName: string | undefined) => boolean;
  /** Names of volumes that are not there or not ready yet, with why. */
  readonly missingVolumes: (job: Stored<GridJob>, signal: AbortSignal) => Promise<readonly string[]>;
  /** Sites that have all of these volumes. */
  readonly sitesWithVolumes: (namespace: string, names: readonly string[]) => readonly string[];
  /** Whether a job below this one, at any depth, has not ended. */
  readonly hasLiveBelow: (job: Stored<GridJob>) => boolean;
  readonly siteName: string;
}

/** A timer is set for this long at most, and then set again. */
const timerMaxMs = 3_600_000;
/** While a job that this one gave way to has no nodes yet. */
const gaveWayPollMs = 1_000;
/** While something outside is missing that can't be watched. */
const pollMs = 5_000;
/** With more jobs than this just come, those that have no nodes yet go before those that have, of which nothing is told for a while. */
const backlogMax = 32;
const hushMs = 15_000;
/** Tasks that start are told of after twice the time that they took lately, but never later than this. Of that time each new one counts a tenth. */
const startPatienceMaxMs = 10_000;
const recentShare = 0.1;

type JobGate = Gate | { readonly is: 'refused'; readonly refusal: NonNullable<Admission> };

/**
 * Moves a job through its life: whether it may run, what it waits for, nodes for its tasks, their Execution, and what became of them. The
 * record of what was placed where is the Execution; a job that is looked at twice, or by another operator, is placed once.
 */
export class GridJobReconciler implements Reconciler {
  private readonly parts: GridJobParts;
  private readonly written = new ExecutionMemory();
  private readonly statuses = new StatusMemory<GridJob>();
  /** How long it took lately until a job that had been placed was seen to run. */
  private startMs = 0;

  constructor(parts: GridJobParts) {
    this.parts = parts;
  }

  async reconcile(key: ObjectKey, signal: AbortSignal): Promise<Result> {
    const { jobs, dispatcher, clock } = this.parts;
    const cached = jobs.get(key);
    if (cached === undefined || isDeleting(cached)) {
      dispatcher.forget(nameOf(key));
      this.parts.preemptor.settled(nameOf(key));
      this.written.forget(nameOf(key));
      this.statuses.forget(key);
      return done;
    }
    const job = this.statuses.written(cached);
    if (stageOf(job).ended) return this.finish(job, signal);
    const execution = this.executionOf(job);
    if (execution === 'foreign') return requeueAfter(1_000);
    const sets = sortTasks(job, execution, clock.now());
    const decision = await this.decide(job, execution, sets, signal);
    if (decision === 'written') return done;
    const scope: JobScope = {
      ...{ job, execution, sets, site: this.parts.siteName, now: clock.now() },
      ...{ refusal: decision.refusal, waiting: decision.waiting, refusals: decision.refusals ?? {} },
      ...{ ending: decision.ending, expectedStart: decision.expectedStart },
    };
    const quietMs = this.quietMs(scope);
    if (quietMs === 0) {
      this.noteStart(scope);
      await this.write(job, computeStatus(scope), signal);
    }
    const requeueAfterMs = earliest(decision.requeueAfterMs, quietMs === 0 ? undefined : quietMs);
    return requeueAfterMs === undefined ? done : requeueAfter(Math.max(1, requeueAfterMs));
  }

  /** How long nothing needs to be told of a job: it has been placed, and its tasks start, or run while many others wait for their nodes. */
  private quietMs(scope: JobScope): number {
    const { job, execution, sets, refusal, waiting, ending, now } = scope;
    const isNews = refusal !== undefined || waiting !== undefined || ending !== undefined || execution === undefined;
    if (isNews) return 0;
    const { rows, succeeded, failed, active } = sets;
    const told = job.status?.tasks;
    const isRoutine =
      active.size > 0 &&
      active.size === rows.length &&
      rows.every(({ reason }) => reason === undefined) &&
      succeeded.size === (told?.succeeded ?? 0) &&
      failed.size === (told?.failed ?? 0);
    const pauseMs = this.statuses.pauseMs(job, job.spec.tasks.count, this.parts.clock.monotonic());
    if (!isRoutine) return pauseMs;
    const startMaxMs = Math.min(startPatienceMaxMs, Math.max(startPatienceMs, 2 * this.startMs));
    const startMs = job.status?.conditions === undefined ? quietStartMs(execution, rows, now, startMaxMs) : 0;
    const isHushed = !job.spec.preemptible && (told?.running ?? 0) === 0 && this.isBusy;
    return Math.max(startMs, pauseMs, isHushed ? Date.parse(execution.metadata.creationTimestamp) + hushMs - now : 0);
  }

  private noteStart({ job, execution, sets, now }: JobScope): void {
    const isFirst = job.status?.startTime === undefined && sets.rows.some(({ state }) => state === 'Running');
    if (execution === undefined || !isFirst || this.isBusy) return;
    const tookMs = Math.max(0, now - Date.parse(execution.metadata.creationTimestamp));
    this.startMs += recentShare * (tookMs - this.startMs);
  }

  /** Whether so many jobs have just come that what is told of others takes the place of what gives these their nodes. */
  private get isBusy(): boolean {
    return this.parts.dispatcher.backlog > backlogMax;
  }

  /** The newest known Execution of the job; `foreign` while one of an earlier job of this name is still there. */
  private executionOf(job: Stored<GridJob>): Stored<Execution> | undefined | 'foreign' {
    const { namespace, name, uid } = job.metadata;
    const cached = this.parts.executions.get({ namespace, name });
    const newest = this.written.newer(nameOf({ namespace, name }), cached);
    if (newest === undefined) return undefined;
    return newest.spec.gridJob.uid === uid ? this.parts.partStatuses.newest(newest) : 'foreign';
  }

  private async decide(
    job: Stored<GridJob>,
    execution: Stored<Execution> | undefined,
    sets: TaskSets,
    signal: AbortSignal,
  ): Promise<Decision | 'written'> {
    const ending = this.endingOf(job, execution, sets);
    if (ending !== undefined) {
      this.parts.dispatcher.forget(nameOf(job.metadata));
      if (execution !== undefined && !execution.spec.isClosed) {
        const parentsSignal = inherited(job, this.finder(job)).signal;
        const last = parentsSignal === undefined ? signalOf(job) : { signal: parentsSignal };
        await this.update(execution, { ...execution.spec, isClosed: true, ...last }, signal);
      }
      return { ending };
    }
    const gate = await this.gateOf(job, signal);
    if (gate.is === 'hopeless') {
      // The kubelets end what still runs when the window of a reservation ends.
      if (gate.reason === 'ReservationOver' && sets.active.size > 0) return { requeueAfterMs: pollMs };
      this.parts.dispatcher.forget(nameOf(job.metadata));
      return { ending: { reason: gate.reason, message: gate.message } };
    }
    if (gate.is === 'refused') {
      this.parts.dispatcher.forget(nameOf(job.metadata));
      return { refusal: gate.refusal, requeueAfterMs: pollMs };
    }
    if (gate.is === 'shut') {
      this.parts.dispatcher.forget(nameOf(job.metadata));
      const { reason, message, until } = gate;
      if (reason === 'Suspended' && execution?.spec.placements.some(({ isEnding }) => isEnding !== true) === true) {
        // What runs at other sites stays written down until they say that it has ended.
        const placements = execution.spec.placements
          .filter(({ site }) => site !== undefined)
          .map((placement) => ({ ...placement, isEnding: true }));
        await this.update(execution, { ...execution.spec, placements }, signal);
      }
      const inMs = until === undefined ? undefined : Math.min(timerMaxMs, until - this.parts.clock.now());
      const requeueAfterMs = reason === 'WaitingForVolumes' ? pollMs : earliest(inMs, this.deadlineInMs(job));
      // What runs in a reservation runs on; only what has no place yet waits.
      if (sets.ready.size === 0) return { requeueAfterMs };
      return { waiting: { reason, message }, requeueAfterMs, expectedStart: until };
    }
    if (execution !== undefined && needsSignal(job, execution)) {
      await this.update(execution, { ...execution.spec, ...signalOf(job) }, signal);
      return 'written';
    }
    return this.place(job, execution, sets, gate, signal);
  }

  private endingOf(job: Stored<GridJob>, execution: Execution | undefined, sets: TaskSets): Ending | undefined {
    const { spec, status } = job;
    const find = this.finder(job);
    if (sets.succeeded.size === spec.tasks.count) return { reason: 'AllTasksSucceeded' };
    if (spec.signal?.name === 'TERM' || spec.signal?.name === 'KILL') {
      return { reason: 'Killed', message: `The job was sent SIG${spec.signal.name}.` };
    }
    const { endedParent } = inherited(job, find);
    if (endedParent !== undefined) return { reason: 'Killed', message: `Its parent ${endedParent} was ended.` };
    const startedAt = Date.parse(status?.startTime ?? execution?.status?.startTime ?? '');
    if (spec.deadlineSeconds !== undefined && this.parts.clock.now() >= startedAt + spec.deadlineSeconds * 1000) {
      return { reason: 'DeadlineExceeded', message: `The job took longer than ${spec.deadlineSeconds} seconds.` };
    }
    const failure = sets.rows.find(({ index }) => sets.failed.has(index));
    const isWhole = spec.tasks.gangMinimum > 0 && sets.failed.size > 0;
    if (sets.fatal === undefined && !isWhole && sets.succeeded.size + sets.failed.size < spec.tasks.count)
      return undefined;
    const culprit = sets.fatal ?? failure;
    const which = spec.tasks.count === 1 ? 'The task' : `Task ${culprit?.index ?? sets.failed.toString().slice(0, 64)}`;
    return { reason: 'TaskFailed', message: `${which} failed. ${culprit?.message ?? ''}`.trim() };
  }

  private async gateOf(job: Stored<GridJob>, signal: AbortSignal): Promise<JobGate> {
    const refusal = this.parts.admission(job);
    if (refusal !== undefined) return { is: 'refused', refusal };
    const find = this.finder(job);
    if (inherited(job, find).isSuspended) {
      const message = job.spec.suspend
        ? 'The job is suspended: set spec.suspend to false to go on.'
        : 'A parent is suspended.';
      return { is: 'shut', reason: jobMatched.reasons.Suspended, message };
    }
    const cycle = job.spec.dependsOn.length === 0 ? undefined : dependencyCycle(job, find);
    if (cycle !== undefined) {
      const message = `Jobs depend on each other in a circle: ${cycle}. Delete one of them.`;
      return { is: 'refused', refusal: { reason: 'DependencyCycle', message } };
    }
    const gate = dependencyGate(job, find);
    if (gate.is !== 'open') return gate;
    const reserved = this.reservedGate(job);
    if (reserved.is !== 'open') return reserved;
    const missing = job.spec.volumes.length === 0 ? [] : await this.parts.missingVolumes(job, signal);
    if (missing.length > 0) {
      const message = `Waits for volumes: ${missing.slice(0, 5).join('; ')}.`;
      return { is: 'shut', reason: jobMatched.reasons.WaitingForVolumes, message };
    }
    return gate;
  }

  /** Whether the reservation of the job, if it names one, is open to it. */
  private reservedGate(job: Stored<GridJob>): JobGate {
    const { reservation: name, owner } = job.spec;
    if (name === undefined) return { is: 'open' };
    const { namespace } = job.metadata;
    const reservation = this.parts.reservations.get({ namespace, name });
    if (reservation !== undefined && !this.parts.isSharedWith(reservation, owner)) {
      const message = `Reservation ${name} is not shared with ${owner ?? 'nobody'}: its owner adds a group or member to spec.sharedWith.`;
      return { is: 'refused', refusal: { reason: 'ReservationNotShared', message } };
    }
    return reservationGate(name, reservation, this.parts.clock.now());
  }

  /** Has tasks that are ready placed: takes what the dispatcher has found, or asks it. */
  private async place(
    job: Stored<GridJob>,
    execution: Stored<Execution> | undefined,
    sets: TaskSets,
    gate: Gate & { readonly is: 'open' },
    signal: AbortSignal,
  ): Promise<Decision | 'written'> {
    const { dispatcher, clock, predicates, preemptor } = this.parts;
    const { namespace = '', name } = job.metadata;
    const key = nameOf(job.metadata);
    const { tasks, gangMinimum } = nextTasks(job, sets, gate.allowed);
    const retryInMs = sets.nextRetryAt === Infinity ? undefined : sets.nextRetryAt - clock.now();
    if (tasks.size === 0) {
      dispatcher.forget(key);
      return { requeueAfterMs: earliest(retryInMs, this.deadlineInMs(job)) };
    }
    const answer = dispatcher.take(key);
    if (answer !== undefined && answer.grants.length > 0) {
      return this.use(job, execution, sets, tasks, answer.grants, signal);
    }
    const first = preemptor.yieldsTo(job, sets.rows);
    if (first !== undefined) {
      dispatcher.forget(key);
      return { waiting: gaveWayTo(first), requeueAfterMs: gaveWayPollMs };
    }
    let wanted;
    try {
      const { requirements, rank, template, preemptible, reservation } = job.spec;
      const sites = this.sitesFor(job);
      const placement =
        sites === undefined ? job.spec.placement : { ...job.spec.placement, sites: atSites(job, sites) };
      const source = {
        ...{ requirements, rank, placement, resources: template.resources, preemptible, reservation },
        lastsMs: lastsMs(job),
      };
      const shape = shapeOf(organizationOfNamespace(namespace) ?? '', source, predicates);
      wanted = { key, shape, tasks: tasks.take(placementsMax), gangMinimum };
      dispatcher.want({
        ...wanted,
        uid: job.metadata.uid,
        priority: job.spec.priority,
        submittedAt: Date.parse(job.metadata.creationTimestamp),
        owner: { apiVersion: 'xtreemos.io/v1alpha1', kind: 'GridJob', name, uid: job.metadata.uid },
      });
    } catch (error) {
      if (!(error instanceof InvalidInputError)) throw error;
      return { refusal: { reason: 'InvalidExpression', message: error.message } };
    }
    if (answer?.nothingMatches === false) await preemptor.makeRoom(job, wanted, signal);
    const requeueAfterMs = earliest(retryInMs, this.deadlineInMs(job));
    return waitingFor(job, answer, { requeueAfterMs, patienceMs: this.patienceMs }, clock.now(), this.parts.siteName);
  }

  /** Where a job may run by what it needs besides nodes; undefined for everywhere. */
  private sitesFor({ metadata: { namespace = '' }, spec }: Stored<GridJob>): readonly string[] | undefined {
    // Children are submitted at the site of their parent.
    if (spec.gridAccess) return [this.parts.siteName];
    const names = spec.volumes.map(({ volume }) => volume);
    return names.length === 0 ? undefined : this.parts.sitesWithVolumes(namespace, names);
  }

  /** Writes granted runs into the Execution. A write that fails gives the grants back. */
  private async use(
    job: Stored<GridJob>,
    execution: Stored<Execution> | undefined,
    sets: TaskSets,
    wanted: IndexSet,
    grants: readonly Grant[],
    signal: AbortSignal,
  ): Promise<'written'> {
    const { client, dispatcher, events } = this.parts;
    const usable = grants.filter(({ tasks }) => tasks.minus(wanted).size === 0);
    const rest = grants.filter((grant) => !usable.includes(grant));
    const key = nameOf(job.metadata);
    try {
      const before = execution?.spec ?? { placements: [], failures: [] };
      const parts = placed(before, sets, usable, this.parts.siteName);
      const stored =
        execution === undefined
          ? await client.of(executions).create(newExecution(job, this.parts.siteName, parts), { signal })
          : await client.of(executions).update({ ...execution, spec: { ...execution.spec, ...parts } }, { signal });
      this.written.keep(key, stored);
      this.parts.preemptor.settled(key);
      const count = usable.reduce((sum, { tasks }) => sum + tasks.size, 0);
      if (!this.isBusy) events.publish(jobPlaced(job, count, [...new Set(usable.map(({ node }) => node))]));
    } catch (error) {
      for (const grant of grants) void dispatcher.release(grant);
      // An Execution that the cache does not have yet: the word of it wakes the job again.
      if (!(error instanceof AlreadyExistsError)) throw error;
      return 'written';
    }
    for (const grant of rest) void dispatcher.release(grant);
    return 'written';
  }

  private async update(execution: Stored<Execution>, spec: Execution['spec'], signal: AbortSignal): Promise<void> {
    const stored = await this.parts.client.of(executions).update({ ...execution, spec }, { signal });
    this.written.keep(nameOf(execution.metadata), stored);
  }

  /** A job that has ended waits for its time to be deleted, if it has one. */
  private async finish(job: Stored<GridJob>, signal: AbortSignal): Promise<Result> {
    const key = nameOf(job.metadata);
    this.parts.dispatcher.forget(key);
    this.written.forget(key);
    const { ttlSecondsAfterFinished } = job.spec;
    const endedAt = Date.parse(job.status?.completionTime ?? '');
    if (ttlSecondsAfterFinished === undefined || Number.isNaN(endedAt)) return done;
    const leftMs = endedAt + ttlSecondsAfterFinished * 1000 - this.parts.clock.now();
    if (leftMs > 0) return requeueAfter(leftMs);
    // They would end with it.
    if (this.parts.hasLiveBelow(job)) return requeueAfter(pollMs);
    const { namespace, name, uid } = job.metadata;
    const options = { preconditions: { uid }, propagationPolicy: 'Background' as const, signal };
    await ignoreNotFound(this.parts.client.of(gridJobs).delete({ namespace, name }, options));
    return done;
  }

  private deadlineInMs({ spec, status }: GridJob): number | undefined {
    const startedAt = Date.parse(status?.startTime ?? '');
    if (spec.deadlineSeconds === undefined || Number.isNaN(startedAt)) return undefined;
    return startedAt + spec.deadlineSeconds * 1000 - this.parts.clock.now();
  }

  private finder(job: Stored<GridJob>): (name: string) => Stored<GridJob> | undefined {
    const { namespace } = job.metadata;
    return (name) => this.parts.jobs.get({ namespace, name });
  }

  /** So long after its submission nothing is told of a job that no node has refused. */
  private get patienceMs(): number {
    return this.isBusy ? hushMs : patienceMs;
  }

  private async write(job: Stored<GridJob>, status: GridJobStatus, signal: AbortSignal): Promise<void> {
    // A job that has just come and has nothing to tell yet costs no write.
    const isSilent =
      job.status?.conditions === undefined &&
      status.state === 'Waiting' &&
      status.conditions?.every(({ status: is, type }) => is !== 'False' || type === jobRunning.type) === true;
    const isNew = this.parts.clock.now() - Date.parse(job.metadata.creationTimestamp) < this.patienceMs;
    if ((isSilent && isNew) || isSame(job.status, status)) return;
    const { namespace, name, uid } = job.metadata;
    try {
      const metadata = { namespace, name, uid };
      const stored = await this.parts.client.of(gridJobs).status.apply({ metadata, status }, { signal });
      this.statuses.wrote(stored, this.parts.clock.monotonic());
    } catch (error) {
      if (error instanceof NotFoundError) return;
      throw error;
    }
    const { events } = this.parts;
    if (stageOf({ ...job, status }).ended) events.publish(jobEnded(job, status));
    const refused = status.conditions?.find(({ type, status: is }) => type === 'Accepted' && is === 'False');
    if (refused !== undefined) events.publish(jobRefused(job, refused));
  }
}

const nameOf = ({ namespace, name }: ObjectKey): string => `${namespace ?? ''}/${name}`;

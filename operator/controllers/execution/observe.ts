/** What the pods of an Execution tell of its tasks. Pure. */
import { wasChosenToGiveWay } from '#crds/claim.ts';
import { type Execution, executionPlaced, placementsMax, podLabels, taskContainerName } from '#crds/execution.ts';
import { type TaskRow, taskRowsMax } from '#crds/grid-job.ts';
import { IndexSet } from '#operator/scheduling/index-set.ts';
import { hasEnded, type Pod } from '#runtime/builtin.ts';
import { findCondition } from '#runtime/conditions.ts';
import { isDeleting, type Stored } from '#runtime/types.ts';
import type { TaskRun } from './pod.ts';

/** Why a run ended that is not the task's own fault: it is started again, and it does not count as a failure. */
export const lostReasons = {
  NodeLost: 'its node is gone',
  Evicted: 'its node had to take the room',
  NodeRefused: 'its node had no more room when it arrived',
  PodDeleted: 'its pod was deleted by someone else',
  Preempted: 'it gave way to a reservation of its node, or to a job of higher priority',
  SiteLost: 'its site was not heard of for longer than it may run without its home',
  SiteRefused: 'its site did not take it',
  TimeOver: 'its node had promised the place no longer',
} as const;
/** A run that ended for one of these is lost, not failed. */
export type LostReason = keyof typeof lostReasons;

/** What is known of one run of a task. */
export interface RunFinding extends TaskRow {
  readonly run: string;
}

/** Where a site's part of a job stands. */
export interface Observation {
  /** Runs with or without a pod, by task index: of each task the run that is placed now. */
  readonly findings: ReadonlyMap<number, RunFinding>;
  /** Every task that ever succeeded here. */
  readonly succeeded: IndexSet;
  /** Runs that are placed and have neither a pod nor an end. */
  readonly missing: readonly TaskRun[];
  /** Pods that belong to no run that should go on. */
  readonly surplus: readonly Stored<Pod>[];
}

/** What is known of a run at another site. @param known - what was known of the task before. */
export type Elsewhere = (execution: Stored<Execution>, task: TaskRun, known: RunFinding | undefined) => RunFinding;

/** What is known besides the pods. */
export interface Knowledge {
  readonly nodeExists: (name: string) => boolean;
  /** Written into the rows. */
  readonly siteName: string;
  readonly elsewhere: Elsewhere;
  /** Whether this process itself has ended the run for a job of higher priority. */
  readonly hasGivenWay: (execution: Stored<Execution>, task: Pick<TaskRun, 'run' | 'index'>) => boolean;
}

/** Looks at an Execution, its last status and its pods. */
export function observe(
  execution: Stored<Execution>,
  pods: readonly Stored<Pod>[],
  { nodeExists, siteName, elsewhere, hasGivenWay }: Knowledge,
): Observation {
  const { spec, status } = execution;
  const before = new Map(
    (status?.tasks?.rows ?? []).filter((row) => row.run !== undefined).map((row) => [row.index, row as RunFinding]),
  );
  let succeeded = IndexSet.parse(status?.tasks?.succeededIndexes);
  const podOf = new Map(
    pods.map((pod) => [keyOfRun(labelOf(pod, podLabels.run), Number(labelOf(pod, podLabels.index))), pod]),
  );
  const findings = new Map<number, RunFinding>();
  const missing: TaskRun[] = [];
  const wanted = new Set<Stored<Pod>>();
  for (const task of runsOf(execution)) {
    const { index, run, node } = task;
    if (succeeded.has(index)) continue;
    const known = before.get(index);
    if (task.site !== undefined) {
      const finding = known?.run === run && isEnded(known) ? known : elsewhere(execution, task, known);
      if (finding.state === 'Succeeded') succeeded = succeeded.union(IndexSet.of([index]));
      else findings.set(index, finding);
      continue;
    }
    const pod = podOf.get(keyOfRun(run, index));
    const place = { index, run, node, site: siteName };
    if (pod !== undefined) {
      // How a run was first seen to end stays: a pod tells less once it is taken away.
      const finding =
        known?.run === run && known.state === 'Failed' ? known : { ...place, ...findingOf(pod, spec.isClosed) };
      if (finding.state === 'Succeeded') succeeded = succeeded.union(IndexSet.of([index]));
      else findings.set(index, finding);
      if (!spec.isClosed || isEnded(finding)) wanted.add(pod);
    } else if (known?.run === run && isEnded(known)) findings.set(index, known);
    else if (!nodeExists(node)) findings.set(index, lost(place, 'NodeLost'));
    else if (known?.run === run && known.state === 'Running') {
      const isPreempted = known.reason === givingWay || hasGivenWay(execution, task);
      findings.set(index, lost(place, isPreempted ? 'Preempted' : 'PodDeleted'));
    } else if (spec.isClosed) findings.set(index, { ...place, ...neverRan });
    else {
      findings.set(index, { ...place, state: 'Starting' });
      missing.push(task);
    }
  }
  const surplus = pods.filter((pod) => !wanted.has(pod) && !isDeleting(pod) && !hasEnded(pod));
  return { findings, succeeded, missing, surplus };
}

/** Before it is told that tasks are starting: most run by then, and it would tell nobody anything. */
export const startPatienceMs = 2_000;

/**
 * How long nothing needs to be written of tasks, since all of them only start, milliseconds; 0 when there is something to tell.
 * @param now - milliseconds since the Unix epoch.
 * @param patienceMs - how long after it was placed nothing is told.
 */
export function quietStartMs(
  { metadata }: Stored<Execution>,
  rows: readonly Pick<TaskRow, 'state' | 'reason'>[],
  now: number,
  patienceMs = startPatienceMs,
): number {
  if (rows.some(({ state, reason }) => state !== 'Starting' || reason !== undefined)) return 0;
  return Math.max(0, Date.parse(metadata.creationTimestamp) + patienceMs - now);
}

/**
 * Whether there is nothing more to tell than that tasks start and run: pods say the same again to whoever looks next. What has ended, what
 * somebody ends, and what is asked for or done by another site has to be written down.
 */
export function isRoutine({ spec, status }: Execution, rows: readonly RunFinding[], succeeded: IndexSet): boolean {
  const placed = findCondition(status?.conditions, executionPlaced.type);
  return (
    !spec.isClosed &&
    spec.part === undefined &&
    placed?.reason !== executionPlaced.reasons.Refused &&
    spec.placements.every(({ site }) => site === undefined) &&
    succeeded.size === (status?.tasks?.succeeded ?? 0) &&
    rows.every(({ state, reason }) => (state === 'Starting' || state === 'Running') && reason === undefined)
  );
}

/** Whether a run is over. */
export function isEnded({ state }: Pick<TaskRow, 'state'>): boolean {
  return state === 'Succeeded' || state === 'Failed' || state === 'Killed';
}

/** Whether a run ended through no fault of the task. */
export function isLost({ state, reason }: Pick<TaskRow, 'state' | 'reason'>): boolean {
  return state === 'Failed' && reason !== undefined && reason in lostReasons;
}

/** The rows that a status has room for: those that failed or run first. */
export function rowsOf(findings: Iterable<RunFinding>): RunFinding[] {
  const rank = ({ state }: RunFinding): number =>
    state === 'Failed' || state === 'Killed' ? 0 : state === 'Running' ? 1 : 2;
  return [...findings].sort((a, b) => rank(a) - rank(b) || a.index - b.index).slice(0, taskRowsMax);
}

/** Every placed run, task by task. Later placements of the same task replace earlier ones. */
export function runsOf({ spec }: Pick<Execution, 'spec'>): Iterable<TaskRun> {
  const runs = new Map<number, TaskRun>();
  for (const { tasks, ...place } of spec.placements.slice(0, placementsMax)) {
    for (const index of IndexSet.parse(tasks)) runs.set(index, { hold: undefined, ...place, index });
  }
  return runs.values();
}

/** A run without a pod whose part was closed: whatever became of it, it is over, and its job must hear so to end. */
const neverRan: Pick<RunFinding, 'state' | 'reason' | 'message'> = {
  ...{ state: 'Killed', reason: 'Closed', message: 'Its job ended before the run was seen to start.' },
};

/** Reason of a run whose pod is there still, and was chosen to give way. */
const givingWay = 'GivingWay';

/** What tells the runs of tasks of an Execution apart. */
export const keyOfRun = (run: string, index: number): string => `${run}/${index}`;
const labelOf = (pod: Pod, label: string): string => pod.metadata.labels?.[label] ?? '';

/** A run that ended for no fault of its task. */
export function lost(place: Omit<RunFinding, 'state'>, reason: LostReason): RunFinding {
  return { ...place, ...lostFinding(reason) };
}

type PodFinding = Omit<TaskRow, 'index' | 'run'>;

/** Reasons of the kubelet for not taking a pod that was bound to it (pkg/kubelet/lifecycle, cm/admission). */
const refusedByNode =
  /^(OutOf|UnexpectedAdmissionError|NodeAffinity|Admission|TopologyAffinityError|PodOSNotSupported)/;
const evictedByNode = /^(Evicted|NodeShutdown|Terminated|Preempting|Shutdown)/;

function findingOf(pod: Stored<Pod>, isClosed: boolean): PodFinding {
  const { status, metadata } = pod;
  const container = status?.containerStatuses?.find(({ name }) => name === taskContainerName);
  const ended = container?.state?.terminated;
  const startTime = container?.state?.running?.startedAt ?? ended?.startedAt;
  const times = {
    pod: metadata.name,
    ...(startTime === undefined ? {} : { startTime }),
    ...(ended?.finishedAt === undefined ? {} : { endTime: ended.finishedAt }),
    ...(ended === undefined ? {} : { exitCode: Math.min(255, Math.max(0, ended.exitCode)) }),
  };
  if (status?.phase === 'Succeeded') return { ...times, state: 'Succeeded' };
  if (status?.phase === 'Failed') {
    const reason = isClosed ? undefined : endedByOthers(pod, ended);
    const lostFor = reason === undefined ? failureOf(pod, ended) : lostFinding(reason);
    return { ...times, ...lostFor };
  }
  if (isDeleting(pod)) {
    const message = 'The pod was asked to end and has not ended yet.';
    return { ...times, state: 'Running', reason: wasChosenToGiveWay(pod) ? givingWay : 'Ending', message };
  }
  if (container?.state?.running !== undefined) return { ...times, state: 'Running' };
  const waiting = container?.state?.waiting;
  const trouble = waiting?.reason !== undefined && waiting.reason !== 'ContainerCreating' ? waiting : undefined;
  return {
    ...times,
    state: 'Starting',
    ...(trouble === undefined
      ? {}
      : { reason: clip(trouble.reason ?? '', 128), message: clip(trouble.message ?? '', 1024) }),
  };
}

/** Who ended a pod that was to go on, when it was not the task itself: it was asked to before it ended, or its time was over. */
function endedByOthers(pod: Stored<Pod>, ended: Ended | undefined): LostReason | undefined {
  const { metadata, status } = pod;
  if (status?.reason === 'DeadlineExceeded') return 'TimeOver';
  const { deletionTimestamp, deletionGracePeriodSeconds: grace = 0 } = metadata;
  if (deletionTimestamp === undefined) return undefined;
  // Times of containers and of deletions are whole seconds. Without a grace it is the kubelet that takes away what has
  // ended, and its time has replaced the one at which the pod was asked to end.
  const askedAt = grace > 0 ? Date.parse(deletionTimestamp) - 1000 * grace : undefined;
  if (askedAt !== undefined && ended?.finishedAt !== undefined && Date.parse(ended.finishedAt) < askedAt) {
    return undefined;
  }
  return wasChosenToGiveWay(pod) ? 'Preempted' : 'PodDeleted';
}

function lostFinding(reason: LostReason): Pick<TaskRow, 'state' | 'reason' | 'message'> {
  return { state: 'Failed', reason, message: `The run is lost: ${lostReasons[reason]}.` };
}

interface Ended {
  readonly exitCode: number;
  readonly finishedAt?: string | undefined;
  readonly reason?: string | undefined;
  readonly message?: string | undefined;
  readonly signal?: number | undefined;
}

function failureOf({ status }: Pod, ended: Ended | undefined): Pick<TaskRow, 'state' | 'reason' | 'message'> {
  const reason = status?.reason ?? '';
  const disruption = status?.conditions?.find(({ type, status: is }) => type === 'DisruptionTarget' && is === 'True');
  const lostFor: LostReason | undefined = refusedByNode.test(reason)
    ? 'NodeRefused'
    : evictedByNode.test(reason) || disruption !== undefined
      ? 'Evicted'
      : reason === 'NodeLost'
        ? 'NodeLost'
        : undefined;
  if (lostFor !== undefined) {
    const words = status?.message ?? disruption?.message ?? '';
    return {
      state: 'Failed',
      reason: lostFor,
      message: clip(`The run is lost: ${lostReasons[lostFor]}. ${words}`, 1024),
    };
  }
  const why = ended?.reason === undefined || ended.reason === 'Error' ? 'ExitCode' : ended.reason;
  const words = ended?.message ?? status?.message ?? '';
  const sentence = ended === undefined ? reason : `It ended with exit status ${ended.exitCode}.`;
  return { state: 'Failed', reason: clip(why, 128), message: clip(`${sentence} ${words}`.trim(), 1024) };
}

function clip(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}

/** What a home knows of parts that other sites carry out. */
import type { Execution } from '#crds/execution.ts';
import { taskSummary } from '#crds/grid-job.ts';
import { isEnded, type RunFinding } from '#operator/controllers/execution/observe.ts';
import type { TaskRun } from '#operator/controllers/execution/pod.ts';
import { IndexSet } from '#operator/scheduling/index-set.ts';
import type { PartState } from '#proto/site/schema.ts';
import type { Stored } from '#runtime/types.ts';

/** Logs are kept a moment after a task has ended. */
export const logTriesMax = 8;

/** What is known of one part. */
export interface Part {
  /** Runs of tasks that were given up here, as `run/index`: they are told no more, whatever the record still says. */
  readonly givenUp: Map<string, RunFinding>;
  /** What was told, as which revision, and the generation of the Execution that still says so. */
  told: string;
  revision: number;
  toldGeneration: number;
  state: PartState | undefined;
  /** Why the site does not take what this generation says, and since when (monotonic). */
  refusal: { readonly message: string; readonly generation: number; readonly at: number } | undefined;
  /** When the site last acknowledged it (monotonic). */
  toldAt: number;
  /** State whose logs were fetched, and how often since. */
  logsOf: string;
  logTries: number;
}

/** What is known of a part; nothing at first. */
export function partIn(parts: Map<string, Part>, uid: string): Part {
  const known = parts.get(uid);
  if (known !== undefined) return known;
  const fresh: Part = {
    ...{
      givenUp: new Map<string, RunFinding>(),
      told: '',
      revision: 0,
      toldGeneration: -1,
      toldAt: Infinity,
      state: undefined,
      refusal: undefined,
      logsOf: '',
      logTries: 0,
    },
  };
  parts.set(uid, fresh);
  return fresh;
}

/** Whether the peer may forget the part: nothing of it runs, its job has ended, and its logs are here. */
export function isOver(part: Part | undefined, execution: Stored<Execution> | undefined): boolean {
  if (execution?.spec.isClosed !== true || part?.state === undefined) return false;
  const { state } = part;
  if (part.toldGeneration !== execution.metadata.generation || state.live.length > 0) return false;
  if (state.isKnown && state.settledRevision < part.revision && !state.isFenced) return false;
  // Pods are gone a moment before it is written down what became of them.
  const tasks = toldBy(state).summary;
  if ((tasks?.running ?? 0) + (tasks?.starting ?? 0) > 0) return false;
  return !state.isKnown || !execution.spec.keepLogs || endedIn(state) === '' || part.logTries >= logTriesMax;
}

/** What a site tells of a run that it has. @param before - what was known of it. */
export function findingThere(
  state: PartState,
  { index, run, node, site = '' }: TaskRun,
  before: RunFinding,
): RunFinding {
  const told = toldBy(state);
  told.succeeded ??= IndexSet.parse(told.summary?.succeededIndexes);
  if (told.succeeded.has(index)) return { index, run, node, site, state: 'Succeeded' };
  const row = told.summary?.rows.find((each) => each.run === run && each.index === index);
  const finding = row === undefined ? before : { ...row, run, site };
  return state.refusal === '' || isEnded(finding)
    ? finding
    : { ...finding, message: `Site ${site}: ${state.refusal}`.slice(0, 1024) };
}

type Summary = ReturnType<typeof taskSummary.parse>;

/** What a peer tells of tasks. */
interface Told {
  /** Undefined when it can not be read. */
  readonly summary: Summary | undefined;
  succeeded?: IndexSet;
}

/** Each message is read once: a part is asked about task by task. */
const read = new WeakMap<PartState, Told>();

function toldBy(state: PartState): Told {
  const known = read.get(state);
  if (known !== undefined) return known;
  const told = { summary: summaryIn(state) };
  read.set(state, told);
  return told;
}

function summaryIn({ tasks }: PartState): Summary | undefined {
  if (tasks === '') return undefined;
  try {
    return taskSummary.safeParse(JSON.parse(tasks)).data;
  } catch {
    return undefined;
  }
}

/** The tasks that have ended, as text. */
export function endedIn(state: PartState | undefined): string {
  const tasks = state === undefined ? undefined : toldBy(state).summary;
  if (tasks === undefined || endedCount(state) === 0) return '';
  return `${tasks.succeededIndexes ?? ''};${tasks.rows
    .filter(isEnded)
    .map(({ index, run }) => `${index}.${run ?? ''}`)
    .join()}`;
}

/** How many tasks have ended there. */
export function endedCount(state: PartState | undefined): number {
  const tasks = state === undefined ? undefined : toldBy(state).summary;
  return (tasks?.succeeded ?? 0) + (tasks?.failed ?? 0);
}

/** Keeps the ends of the logs of tasks beyond their pods, see `#crds/kept-logs.ts`. */
import { inParallel } from '#common/parallel.ts';
import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { type Execution, executions, podLabels, taskContainerName } from '#crds/execution.ts';
import {
  addKeptLogs,
  hasRoomFor,
  isKeptFor,
  type KeptLog,
  keptLogsData,
  keptLogsName,
  keptLogTasksMax,
  type KeptRun,
  readKeptLogs,
} from '#crds/kept-logs.ts';
import { ownerLabel } from '#crds/policies/tenants.ts';
import { type ConfigMap, configMaps, type Pod } from '#runtime/builtin.ts';
import type { Client } from '#runtime/contracts.ts';
import { AlreadyExistsError, ignoreNotFound } from '#runtime/errors.ts';
import { controllerReference } from '#runtime/kind.ts';
import { formatKey, keyOf, type ObjectKey, type Stored } from '#runtime/types.ts';
import { keyOfRun, runsOf } from './observe.ts';
import type { TaskLogs } from './task-logs.ts';

/** What a {@link LogKeeper} works with. */
export interface LogKeeperParts {
  readonly client: Client;
  readonly taskLogs: TaskLogs;
  readonly clock: Clock;
  readonly log: Logger;
}

/** How long pods may be kept waiting for their logs to be read, and how many are read at the same time. */
const readLimitMs = 2_000;
const parallelMax = 8;

/** What is known of the kept logs of one Execution, without their texts. */
interface Known {
  readonly uid: string;
  kept: readonly KeptRun[];
  /** Runs whose log was read when it was whole, and those of which no more will come. */
  readonly final: Set<string>;
  /** Runs whose log was read before they ended. */
  readonly early: Set<string>;
}

/**
 * Reads and keeps logs. What it remembers of each Execution saves requests and may be lost: then it reads once more what is kept. An
 * Execution's logs are written one write after the other; other writers of the same ConfigMap end in a conflict, and a new try.
 */
export class LogKeeper {
  private readonly parts: LogKeeperParts;
  private readonly startedAt: number;
  private readonly known = new Map<string, Known>();
  private readonly busy = new Map<string, Promise<boolean>>();

  constructor(parts: LogKeeperParts) {
    this.parts = parts;
    this.startedAt = parts.clock.now();
  }

  /** The Execution is gone, and what was kept for it with it. */
  forget(key: ObjectKey): void {
    this.known.delete(formatKey(key));
  }

  /**
   * Keeps the logs of those of an Execution's pods that have ended or are about to, as far as they are not kept yet. Takes little more than
   * two seconds.
   * @returns whether something was written.
   * @throws {ConflictError} when somebody else wrote at the same time: try again.
   */
  async keep(execution: Stored<Execution>, pods: readonly Stored<Pod>[], signal: AbortSignal): Promise<boolean> {
    if (!execution.spec.keepLogs) return false;
    const key = formatKey(execution.metadata);
    const before = this.busy.get(key);
    const work = (before ?? Promise.resolve(false))
      .catch(() => false)
      .then(async () => this.work(execution, pods, signal));
    this.busy.set(key, work);
    try {
      return await work;
    } finally {
      if (this.busy.get(key) === work) this.busy.delete(key);
    }
  }

  /** Keeps logs that another site has read. @throws {ConflictError} when somebody else wrote at the same time: try again. */
  async add(execution: Stored<Execution>, logs: readonly KeptLog[], signal: AbortSignal): Promise<void> {
    const known = await this.knownOf(execution, signal);
    known.kept = await this.write(execution, known, logs, signal);
  }

  private async work(
    execution: Stored<Execution>,
    pods: readonly Stored<Pod>[],
    signal: AbortSignal,
  ): Promise<boolean> {
    const candidates = newestFindings(pods);
    if (candidates.length === 0) return false;
    const known = await this.knownOf(execution, signal);
    const placed = new Map([...runsOf(execution)].map(({ index, run }) => [index, run]));
    const wanted = candidates
      .filter((finding) => isWanted(known, placed.get(finding.index), finding))
      .slice(0, keptLogTasksMax);
    if (wanted.length === 0) return false;
    const read = await this.read(wanted, signal);
    const logs = read.flatMap(({ finding, text }) => {
      if (text === undefined) return [];
      const { index, run, isFailed } = finding;
      return [{ index, run, isFailed, text }];
    });
    if (logs.length > 0) known.kept = await this.write(execution, known, logs, signal);
    for (const { index, run, isFinal } of wanted) (isFinal ? known.final : known.early).add(keyOfRun(run, index));
    return logs.length > 0;
  }

  private async knownOf(execution: Stored<Execution>, signal: AbortSignal): Promise<Known> {
    const { namespace, name, uid, creationTimestamp } = execution.metadata;
    const known = this.known.get(formatKey(execution.metadata));
    if (known?.uid === uid) return known;
    // What came to be after this process began has nothing kept that it doesn't know of, but for a change of leader: see `write`.
    const isOurs = known === undefined && Date.parse(creationTimestamp) > this.startedAt;
    const key = { namespace, name: keptLogsName(name) };
    const found = isOurs ? undefined : await this.parts.client.of(configMaps).find(key, { signal });
    const kept = found === undefined ? [] : readKeptLogs(found, uid);
    const final = new Set(kept.map(({ run, index }) => keyOfRun(run, index)));
    const fresh = { uid, kept, final, early: new Set<string>() };
    this.known.set(formatKey(execution.metadata), fresh);
    return fresh;
  }

  /** All of them within the limit; a node that doesn't answer costs no more than that. */
  private async read(
    findings: readonly Finding[],
    signal: AbortSignal,
  ): Promise<{ finding: Finding; text: string | undefined }[]> {
    const stop = new AbortController();
    const timer = this.parts.clock.after(readLimitMs, () => stop.abort(new Error('the log did not come in time')));
    const either = AbortSignal.any([signal, stop.signal]);
    const read = inParallel(findings, parallelMax, async (finding) => ({
      finding,
      text: either.aborted ? undefined : await this.parts.taskLogs.tail(keyOf(finding.pod), either),
    }));
    const texts = await read.finally(() => timer.cancel());
    signal.throwIfAborted();
    return texts;
  }

  /** Writes the logs to those that are kept. @returns what is kept then. */
  private async write(
    execution: Stored<Execution>,
    known: Known,
    logs: readonly KeptLog[],
    signal: AbortSignal,
  ): Promise<readonly KeptRun[]> {
    const client = this.parts.client.of(configMaps);
    const { namespace, name, uid } = execution.metadata;
    const key = { namespace, name: keptLogsName(name) };
    if (known.kept.length === 0) {
      const kept = addKeptLogs([], logs);
      try {
        await client.create(newObject(execution, keptLogsData(kept)), { signal });
        return kept.map(withoutText);
      } catch (error) {
        if (!(error instanceof AlreadyExistsError)) throw error;
      }
    }
    const found = await client.find(key, { signal });
    // It goes with its Execution only, or by its owner's will.
    if (found === undefined) return known.kept;
    if (!isKeptFor(found.metadata, uid)) {
      this.parts.log.warn('Logs are not kept: a ConfigMap of that name belongs to somebody else', { ConfigMap: key });
      return known.kept;
    }
    const kept = addKeptLogs(readKeptLogs(found, uid), logs);
    await ignoreNotFound(client.update({ ...found, data: keptLogsData(kept) }, { signal }));
    return kept.map(withoutText);
  }
}

interface Finding {
  readonly index: number;
  readonly run: string;
  readonly isFailed: boolean;
  /** Whether nothing more will come. */
  readonly isFinal: boolean;
  readonly pod: Stored<Pod>;
}

/** What there is to keep: of each task its newest pod that has started. */
function newestFindings(pods: readonly Stored<Pod>[]): Finding[] {
  const newest = new Map<number, Finding>();
  for (const finding of pods.map(findingOf)) {
    if (finding === undefined) continue;
    const other = newest.get(finding.index);
    if (other === undefined || madeAt(other.pod) <= madeAt(finding.pod)) newest.set(finding.index, finding);
  }
  return [...newest.values()];
}

function findingOf(pod: Stored<Pod>): Finding | undefined {
  const { labels = {} } = pod.metadata;
  const state = pod.status?.containerStatuses?.find(({ name }) => name === taskContainerName)?.state;
  const isFinal = state?.terminated !== undefined;
  if (!isFinal && state?.running === undefined) return undefined;
  return {
    ...{ index: Number(labels[podLabels.index]), run: labels[podLabels.run] ?? '' },
    ...{ isFailed: pod.status?.phase !== 'Succeeded', isFinal, pod },
  };
}

/** @param placed - the run that the task is in now; the log of an earlier one does not take the place of its log. */
function isWanted(
  { kept, final, early }: Known,
  placed: string | undefined,
  { index, run, isFailed, isFinal }: Finding,
): boolean {
  const name = keyOfRun(run, index);
  if (final.has(name) || (!isFinal && early.has(name))) return false;
  if (run !== placed && kept.some((log) => log.index === index && log.run === placed)) return false;
  return hasRoomFor(kept, { index, isFailed });
}

const madeAt = ({ metadata }: Stored<Pod>): number => Date.parse(metadata.creationTimestamp);

function withoutText({ index, run, isFailed }: KeptLog): KeptRun {
  return { index, run, isFailed };
}

function newObject(execution: Stored<Execution>, data: Record<string, string>): ConfigMap {
  const { namespace, name } = execution.metadata;
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: {
      ...{ name: keptLogsName(name), namespace },
      labels: { [ownerLabel]: execution.spec.owner, [podLabels.execution]: name },
      ownerReferences: [controllerReference(executions, execution)],
    },
    data,
  };
}

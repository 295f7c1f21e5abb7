/**
 * Logs of tasks that stay when their pods are gone: one ConfigMap beside each Execution, written by the operator of its site. Each task has
 * the end of the log of its last ended run in it, as far as there is room.
 */
import type { KubeObject } from '#runtime/types.ts';

/** Sizes of what is kept for one Execution, in bytes of its JSON text. */
export const keptLogBounds = {
  /** Of all tasks together. The API server takes 1 MiB in one ConfigMap. */
  totalBytes: 512 * 1024,
  /** Of one task, while few have ended. */
  taskMaxBytes: 64 * 1024,
  /** Of one task, however many have ended: the logs of further tasks are not kept. */
  taskMinBytes: 4 * 1024,
} as const;
/** Tasks whose logs one ConfigMap has room for. */
export const keptLogTasksMax = keptLogBounds.totalBytes / keptLogBounds.taskMinBytes;
/** First line of a log of which only the end was kept. */
export const cutMark = '[only the end of this log was kept]\n';

/** A run of a task whose log is kept. */
export interface KeptRun {
  readonly index: number;
  /** Which run, as `placements` of the Execution call it. */
  readonly run: string;
  /** Whether it ended otherwise than with exit status 0. */
  readonly isFailed: boolean;
}

/** The log of one run of a task. */
export interface KeptLog extends KeptRun {
  /** What the task wrote, standard output and error as they came; it may hold anything, also control characters. */
  readonly text: string;
}

/** As much of a ConfigMap as logs are read from. */
export interface KeptLogsObject extends Pick<KubeObject, 'metadata'> {
  readonly data?: Readonly<Record<string, string>> | undefined;
}

/** Name of the ConfigMap that keeps the logs of an Execution, in the same namespace. */
export function keptLogsName(execution: string): string {
  return `${execution}-logs`;
}

/**
 * Reads the kept logs of an Execution, by task index.
 * @returns nothing when the ConfigMap is not the Execution's own: somebody else may have made one of that name.
 */
export function readKeptLogs({ metadata, data }: KeptLogsObject, executionUid: string): KeptLog[] {
  if (!isKeptFor(metadata, executionUid)) return [];
  const logs = Object.entries(data ?? {}).flatMap(([key, text]) => {
    const [, index, run, outcome] = keyPattern.exec(key) ?? [];
    if (index === undefined || run === undefined) return [];
    return [{ index: Number(index), run, isFailed: outcome === 'failed', text }];
  });
  return logs.sort((a, b) => a.index - b.index);
}

/** Whether a ConfigMap belongs to an Execution. */
export function isKeptFor({ ownerReferences }: KeptLogsObject['metadata'], executionUid: string): boolean {
  return (
    ownerReferences?.some(
      ({ kind, uid, controller }) => kind === 'Execution' && uid === executionUid && controller === true,
    ) === true
  );
}

/** `data` of the ConfigMap. */
export function keptLogsData(logs: readonly KeptLog[]): Record<string, string> {
  return Object.fromEntries(
    logs.map(({ index, run, isFailed, text }) => [`${index}.${run}.${isFailed ? 'failed' : 'succeeded'}`, text]),
  );
}

/**
 * Adds logs to those that are kept, within {@link keptLogBounds}: a later run of a task replaces the one before, each log is cut to its
 * share, and when there are too many tasks, those that failed stay, and then those that were kept first.
 */
export function addKeptLogs(before: readonly KeptLog[], more: readonly KeptLog[]): KeptLog[] {
  const byIndex = new Map([...before, ...more].map((log) => [log.index, log]));
  const chosen = [...byIndex.values()]
    .sort((a, b) => Number(b.isFailed) - Number(a.isFailed))
    .slice(0, keptLogTasksMax);
  const share = Math.floor(keptLogBounds.totalBytes / Math.max(1, chosen.length));
  const limit = Math.min(keptLogBounds.taskMaxBytes, share);
  return chosen.map((log) => ({ ...log, text: tailOf(log.text, limit) }));
}

/** Whether the log of a task that ended would find room among those that are kept. */
export function hasRoomFor(
  kept: readonly KeptRun[],
  { index, isFailed }: Pick<KeptRun, 'index' | 'isFailed'>,
): boolean {
  if (kept.length < keptLogTasksMax || kept.some((log) => log.index === index)) return true;
  return isFailed && kept.some((log) => !log.isFailed);
}

/** The end of a text that takes at most so many bytes of JSON, from the start of a line where there is one, after {@link cutMark}. */
export function tailOf(text: string, bytesMax: number): string {
  if (jsonBytes(text) <= bytesMax) return text;
  const whole = text.startsWith(cutMark) ? text.slice(cutMark.length) : text;
  let room = bytesMax - jsonBytes(cutMark);
  let start = whole.length;
  while (start > 0) {
    // A pair of surrogates is one character and stays together.
    const length = start > 1 && isPair(whole, start - 2) ? 2 : 1;
    room -= jsonBytesAt(whole, start - length);
    if (room < 0) break;
    start -= length;
  }
  const line = whole.indexOf('\n', start);
  const isAtLine = start === 0 || whole[start - 1] === '\n';
  const from = isAtLine || line === -1 || line === whole.length - 1 ? start : line + 1;
  return cutMark + whole.slice(from);
}

const keyPattern = /^(\d{1,5})\.([a-z0-9]{1,8})\.(succeeded|failed)$/;

/** Bytes that a text takes within a JSON string. */
function jsonBytes(text: string): number {
  let bytes = 0;
  for (let at = 0; at < text.length; at += isPair(text, at) ? 2 : 1) bytes += jsonBytesAt(text, at);
  return bytes;
}

/** Bytes of one character in UTF-8, or of its escape (RFC 8259, as `JSON.stringify` writes it). */
function jsonBytesAt(text: string, at: number): number {
  const code = text.codePointAt(at) ?? 0;
  if (code < 0x20) return shortEscapes.has(code) ? 2 : 6;
  if (code < 0x80) return code === quote || code === backslash ? 2 : 1;
  if (code >= 0xd800 && code < 0xe000) return 6;
  return code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
}

const [quote, backslash] = [0x22, 0x5c];
/** Backspace, tabulator, line feed, form feed, carriage return. */
const shortEscapes: ReadonlySet<number> = new Set([0x08, 0x09, 0x0a, 0x0c, 0x0d]);

function isPair(text: string, at: number): boolean {
  return (text.codePointAt(at) ?? 0) > 0xffff;
}

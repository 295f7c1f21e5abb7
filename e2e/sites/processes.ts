/**
 * Processes that outlive the command that started them. Each is known by pid and start time, so that a pid which the
 * kernel gave to somebody else is never signalled.
 */
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';

import { type Clock, systemClock } from '#common/clock.ts';

import { systemErrorCode } from '#common/errors.ts';

/** A process as recorded: `startTicks` is field 22 of /proc/PID/stat, `bootId` tells one uptime from the next. */
export interface ProcessRecord {
  readonly pid: number;
  readonly startTicks: string;
  readonly bootId: string;
}

/** What to start. */
export interface StartOptions {
  /** Absolute path of the program, then its arguments. */
  readonly command: readonly [string, ...string[]];
  /** Both output streams are appended here; the folder is made. */
  readonly logPath: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** Identifies this uptime of the kernel. */
export function currentBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/**
 * Field 22 of /proc/PID/stat: clock ticks after boot at which the process started; undefined when there is none.
 * The name in field 2 may hold spaces and parentheses, so fields are counted from the last one.
 */
export function startTicks(pid: number): string | undefined {
  const fields = statFields(pid);
  return fields?.[19];
}

function statFields(pid: number): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT' || systemErrorCode(error) === 'ESRCH') return undefined;
    throw error;
  }
}

/** Records a running process. @throws when it is already gone. */
export function recordProcess(pid: number): ProcessRecord {
  const ticks = startTicks(pid);
  if (ticks === undefined) throw new Error(`process ${pid} ended before it could be recorded`);
  return { pid, startTicks: ticks, bootId: currentBootId() };
}

/** Whether the recorded process still runs: same pid, same start, same uptime, not a zombie. */
export function isAlive(record: ProcessRecord): boolean {
  if (record.bootId !== currentBootId()) return false;
  const fields = statFields(record.pid);
  if (fields?.[19] !== record.startTicks) return false;
  return fields[0] !== 'Z' || hasThreads(record.pid);
}

/** A process whose main thread has ended is a zombie to look at, but its other threads may still hold its ports. */
function hasThreads(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).length > 1;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT' || systemErrorCode(error) === 'ESRCH') return false;
    throw error;
  }
}

/**
 * Starts a program in a session of its own, with its output in a log file. It runs on when this process ends.
 * @throws when the program can't be started at all; a program that ends early is found by `isAlive`.
 */
export async function startProcess(options: StartOptions): Promise<ProcessRecord> {
  mkdirSync(dirname(options.logPath), { recursive: true });
  const log = openSync(options.logPath, 'a');
  try {
    const [program, ...args] = options.command;
    const child = spawn(program, args, {
      detached: true,
      stdio: ['ignore', log, log],
      cwd: options.cwd ?? '/',
      env: options.env ?? { PATH: process.env.PATH ?? '' },
    });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', (cause) => {
        reject(new Error(`could not start ${program}: ${cause.message}`, { cause }));
      });
    });
    child.unref();
    if (child.pid === undefined) throw new Error(`could not start ${program}`);
    return recordProcess(child.pid);
  } finally {
    closeSync(log);
  }
}

/** Sends a signal to a recorded process. @returns false when it no longer runs. */
export function signalProcess(record: ProcessRecord, signal: NodeJS.Signals): boolean {
  if (!isAlive(record)) return false;
  try {
    return process.kill(record.pid, signal);
  } catch (error) {
    if (systemErrorCode(error) === 'ESRCH') return false;
    throw error;
  }
}

/**
 * Ends a recorded process and waits until it is gone: SIGTERM (or `signal`), and SIGKILL after `graceMs`.
 * @throws when the process survives SIGKILL for ten seconds (uninterruptible sleep).
 */
export async function stopProcess(
  record: ProcessRecord,
  { graceMs = 5000, signal = 'SIGTERM', clock = systemClock }: StopOptions = {},
): Promise<void> {
  if (!signalProcess(record, signal)) return;
  if (await waitGone(record, graceMs, clock)) return;
  signalProcess(record, 'SIGKILL');
  if (await waitGone(record, 10_000, clock)) return;
  throw new Error(`process ${record.pid} didn't end within 10 s of SIGKILL; see /proc/${record.pid}/stack`);
}

/** How `stopProcess` goes about it. */
export interface StopOptions {
  readonly graceMs?: number;
  readonly signal?: NodeJS.Signals;
  readonly clock?: Clock;
}

async function waitGone(record: ProcessRecord, limitMs: number, clock: Clock): Promise<boolean> {
  const end = clock.monotonic() + limitMs;
  for (let pauseMs = 5; isAlive(record); pauseMs = Math.min(100, pauseMs * 2)) {
    if (clock.monotonic() > end) return false;
    await clock.sleep(pauseMs);
  }
  return true;
}

/** The last lines of a log file, for error messages; empty when there is none. */
export function logTail(path: string, lines = 12): string {
  try {
    return readFileSync(path, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  } catch {
    return '';
  }
}

import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';

import { TerminalError } from '#common/errors.ts';

import { writeFileAtomic } from './files.ts';
import { findCommand } from './prerequisites.ts';

/** How `withLock` behaves while somebody else holds the lock. */
export interface LockOptions {
  /** Called once, with the pid of the holder where it is known, when the lock isn't free at once. */
  readonly onWait?: (holder: string) => void;
  /** Longest time to wait, milliseconds; an hour by default. */
  readonly waitMs?: number;
}

/**
 * Runs `work` while holding an exclusive lock on a file, shared by all processes of this machine. The lock is the
 * kernel's (`flock`), held by a child that lives as long as its standard input: when this process dies, however it
 * dies, the lock is free, so there is no stale lock to judge and take over.
 * @throws when the lock wasn't had in time, naming its holder.
 */
export async function withLock<T>(path: string, work: () => Promise<T>, options: LockOptions = {}): Promise<T> {
  mkdirSync(dirname(path), { recursive: true });
  const release = (await tryLock(path, 0)) ?? (await waitLock(path, options));
  try {
    writeFileAtomic(`${path}.holder`, `${process.pid}\n`);
    return await work();
  } finally {
    await release();
  }
}

async function waitLock(path: string, options: LockOptions): Promise<() => Promise<void>> {
  const holder = readHolder(path);
  options.onWait?.(holder);
  const waitMs = options.waitMs ?? 60 * 60 * 1000;
  const release = await tryLock(path, waitMs / 1000);
  if (release !== undefined) return release;
  throw new Error(
    `${path} is held by process ${holder} for more than ${waitMs / 1000} s; end it or wait, then run this again`,
  );
}

function readHolder(path: string): string {
  try {
    return readFileSync(`${path}.holder`, 'utf8').trim();
  } catch {
    return 'unknown';
  }
}

/** @returns a function that gives the lock back; undefined when somebody else kept it. */
async function tryLock(path: string, waitSeconds: number): Promise<(() => Promise<void>) | undefined> {
  const wait = waitSeconds === 0 ? ['--nonblock'] : ['--timeout', String(waitSeconds)];
  const program = findCommand('flock');
  if (program === undefined) throw new TerminalError('flock is missing: apt-get install -y util-linux');
  const child = spawn(
    program,
    [...wait, '--conflict-exit-code', '75', path, '/bin/sh', '-c', 'echo locked; exec cat'],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
      detached: true,
    },
  );
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', resolve);
  });
  const locked = new Promise<'locked'>((resolve) => {
    child.stdout.once('data', () => resolve('locked'));
  });
  const first = await Promise.race([ended, locked]);
  if (first === 'locked') {
    return async () => {
      child.stdin.end();
      await ended;
    };
  }
  if (first === 75) return undefined;
  throw new Error(`flock ${path} ended with status ${String(first)}`);
}

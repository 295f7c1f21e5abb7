/**
 * A lock between processes that the kernel takes away when its holder dies, so that none is ever left behind. Node has
 * no flock; SQLite, which it brings, locks files by fcntl on every system (ADR 0096).
 */
import { chmod } from 'node:fs/promises';
import { TerminalError } from '#common/errors.ts';

const retryMs = 25;

/**
 * Runs `work` while this process alone holds the lock.
 * @param file - made when it isn't there; holds nothing. Its folder exists.
 * @param limitMs - how long to wait for other holders at most.
 * @throws {TerminalError} when others hold it for longer.
 */
export async function withLock<T>(file: string, limitMs: number, work: () => Promise<T>): Promise<T> {
  const { DatabaseSync } = await import('node:sqlite');
  const database = new DatabaseSync(file, { timeout: 0 });
  try {
    await chmod(file, 0o600);
    await begin(database, file, limitMs);
    return await work();
  } finally {
    // Closing rolls back, which frees the lock.
    database.close();
  }
}

async function begin(database: { exec(sql: string): void }, file: string, limitMs: number): Promise<void> {
  const deadline = performance.now() + limitMs;
  for (;;) {
    try {
      database.exec('BEGIN IMMEDIATE');
      return;
    } catch (error) {
      const isBusy = typeof error === 'object' && error !== null && 'errcode' in error && error.errcode === 5;
      if (!isBusy) throw error;
      if (performance.now() > deadline) {
        throw new TerminalError(`${file}: another xos process holds it for ${limitMs / 1000} s; end it and try again`);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, retryMs));
  }
}

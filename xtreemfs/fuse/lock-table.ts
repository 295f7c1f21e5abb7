import { LockType } from './abi.ts';
import { FuseError, refuse } from './errno.ts';
import type { FileLock } from './file-system.ts';

interface HeldLock extends FileLock {
  readonly owner: bigint;
}

interface Waiter {
  readonly owner: bigint;
  readonly lock: FileLock;
  readonly grant: () => void;
}

/**
 * Byte-range locks of one file, as POSIX has them: an owner's new lock replaces its old ones where they overlap,
 * splits or joins them. A flock is the same with the whole file as its range, in a table of its own.
 */
export class LockTable {
  private held: HeldLock[] = [];
  private waiters: Waiter[] = [];
  private readonly detectsDeadlocks: boolean;

  constructor(detectsDeadlocks = true) {
    this.detectsDeadlocks = detectsDeadlocks;
  }

  get isEmpty(): boolean {
    return this.held.length === 0 && this.waiters.length === 0;
  }

  /** Every lock that is held. */
  get locks(): readonly (FileLock & { readonly owner: bigint })[] {
    return this.held;
  }

  /** The first lock (by its place in the file) of another owner that `lock` would collide with. */
  conflict(owner: bigint, lock: FileLock): FileLock | undefined {
    return this.conflicts(owner, lock).reduce<HeldLock | undefined>(
      (first, other) => (first === undefined || other.start < first.start ? other : first),
      undefined,
    );
  }

  private conflicts(owner: bigint, lock: FileLock): HeldLock[] {
    return this.held.filter(
      (other) =>
        other.owner !== owner &&
        other.start <= lock.end &&
        lock.start <= other.end &&
        (other.type === LockType.WRITE || lock.type === LockType.WRITE),
    );
  }

  /** Whether those in the way of `lock` wait, themselves or through others, for `owner`. */
  private isDeadlock(owner: bigint, lock: FileLock): boolean {
    const seen = new Set<bigint>();
    const ahead = this.conflicts(owner, lock).map((other) => other.owner);
    for (let next = ahead.pop(); next !== undefined; next = ahead.pop()) {
      if (next === owner) return true;
      if (seen.has(next)) continue;
      seen.add(next);
      const waiting = this.waiters.filter((waiter) => waiter.owner === next);
      for (const waiter of waiting) ahead.push(...this.conflicts(next, waiter.lock).map((other) => other.owner));
    }
    return false;
  }

  /**
   * Sets or (type `UNLOCK`) clears a lock.
   * @throws {FuseError} EAGAIN when another owner's lock is in the way.
   */
  set(owner: bigint, lock: FileLock): void {
    if (lock.type !== LockType.UNLOCK && this.conflict(owner, lock) !== undefined) refuse('EAGAIN');
    this.replace(owner, lock);
    this.wake();
  }

  /**
   * As `set`, but waits for its turn.
   * @throws the signal's reason when it aborts first; {FuseError} EDEADLK when it would never come, as far as the locks
   * of this file on this mount tell (flock(2) does not look for that).
   */
  async wait(owner: bigint, lock: FileLock, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (lock.type === LockType.UNLOCK || this.conflict(owner, lock) === undefined) {
      this.set(owner, lock);
      return;
    }
    if (this.detectsDeadlocks && this.isDeadlock(owner, lock)) refuse('EDEADLK');
    await new Promise<void>((resolve, reject) => {
      const waiter: Waiter = {
        owner,
        lock,
        grant: () => {
          signal.removeEventListener('abort', onAbort);
          resolve();
        },
      };
      const onAbort = (): void => {
        this.waiters = this.waiters.filter((other) => other !== waiter);
        reject(signal.reason instanceof Error ? signal.reason : new FuseError('EINTR'));
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.waiters.push(waiter);
    });
  }

  /** Drops every lock of an owner. @returns whether it had any. */
  drop(owner: bigint): boolean {
    const before = this.held.length;
    this.held = this.held.filter((lock) => lock.owner !== owner);
    if (this.held.length === before) return false;
    this.wake();
    return true;
  }

  private replace(owner: bigint, lock: FileLock): void {
    const next: HeldLock[] = [];
    let { start, end } = lock;
    for (const old of this.held) {
      const touches = old.owner === owner && old.start <= end + 1n && start <= old.end + 1n;
      if (!touches) {
        next.push(old);
      } else if (old.type === lock.type) {
        if (old.start < start) start = old.start;
        if (old.end > end) end = old.end;
      } else {
        if (old.start < lock.start) next.push({ ...old, end: old.end < lock.start ? old.end : lock.start - 1n });
        if (old.end > lock.end) next.push({ ...old, start: old.start > lock.end ? old.start : lock.end + 1n });
      }
    }
    if (lock.type !== LockType.UNLOCK) next.push({ owner, start, end, type: lock.type, pid: lock.pid });
    this.held = next;
  }

  private wake(): void {
    for (const waiter of [...this.waiters]) {
      if (this.conflict(waiter.owner, waiter.lock) !== undefined) continue;
      this.waiters = this.waiters.filter((other) => other !== waiter);
      this.replace(waiter.owner, waiter.lock);
      waiter.grant();
    }
  }
}

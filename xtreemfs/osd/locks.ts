/** A byte-range lock on a file (protocol reference, 13.7). One per owner and file. */
export interface AdvisoryLock {
  /** Process id at the client. */
  readonly pid: number;
  /** One random UUID a mount. */
  readonly clientUuid: string;
  readonly offset: bigint;
  /** 0 means to the end of the file. */
  readonly length: bigint;
  readonly isExclusive: boolean;
}

interface HeldLock extends AdvisoryLock {
  /** Global time in milliseconds after which the holder counts as gone if it is in somebody's way. */
  readonly staleAtMs: number;
}

/** Locks one file may carry; more are refused. */
const locksPerFileMax = 4096;

/**
 * The locks of one file, in memory as upstream has them. A lock stays until its owner releases it: unlike upstream's,
 * which drop 30 to 90 s after the file was last read or written. Only when another owner wants the range is a lock
 * broken whose holder has not been heard of since its capability ran out and `lockGraceMs` more.
 */
export class FileLocks {
  private readonly held = new Map<string, HeldLock>();

  get size(): number {
    return this.held.size;
  }

  /**
   * Takes or replaces the lock of an owner.
   * @returns the lock in the way, `undefined` when it was taken.
   * @throws {RangeError} when the file carries too many locks.
   */
  acquire(lock: AdvisoryLock, nowMs: number, staleAtMs: number): AdvisoryLock | undefined {
    const conflict = this.check(lock, nowMs);
    if (conflict !== undefined) return conflict;
    const key = ownerOf(lock);
    if (!this.held.has(key) && this.held.size >= locksPerFileMax) {
      throw new RangeError(`the file has ${locksPerFileMax} locks already: release some`);
    }
    this.held.set(key, { ...lock, staleAtMs });
    return undefined;
  }

  /** The lock (the first by its place) that stands in the way of `lock`, if any. Stale ones are removed on the way. */
  check(lock: AdvisoryLock, nowMs: number): AdvisoryLock | undefined {
    const owner = ownerOf(lock);
    let first: HeldLock | undefined;
    for (const [key, other] of this.held) {
      if (key === owner || !isConflict(lock, other)) continue;
      if (other.staleAtMs < nowMs) this.held.delete(key);
      else if (first === undefined || other.offset < first.offset) first = other;
    }
    return first;
  }

  /** Gives up the lock of an owner, whatever its range. */
  release(lock: AdvisoryLock): void {
    this.held.delete(ownerOf(lock));
  }

  /** Notes that a client is alive: all its locks stay at least until `staleAtMs`. */
  refresh(clientUuid: string, staleAtMs: number): void {
    for (const [key, lock] of this.held) {
      if (lock.clientUuid === clientUuid && lock.staleAtMs < staleAtMs) this.held.set(key, { ...lock, staleAtMs });
    }
  }
}

function ownerOf(lock: AdvisoryLock): string {
  return `${lock.pid} ${lock.clientUuid}`;
}

function isConflict(a: AdvisoryLock, b: AdvisoryLock): boolean {
  if (!a.isExclusive && !b.isExclusive) return false;
  const endsBefore = (x: AdvisoryLock, y: AdvisoryLock): boolean => x.length !== 0n && x.offset + x.length <= y.offset;
  return !endsBefore(a, b) && !endsBefore(b, a);
}

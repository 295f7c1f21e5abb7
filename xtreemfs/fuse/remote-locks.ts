import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { osdProcedures, type Lock } from '#proto/generated/xtreemfs/osd.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import type { FileHandle, OpenFile } from '../client/open-file.ts';
import { isErrno } from '../rpc/errors.ts';
import { LockType } from './abi.ts';
import { FuseError, refuse } from './errno.ts';
import type { FileLock, LockRequest } from './file-system.ts';
import type { LockTable } from './lock-table.ts';

interface RemoteLock {
  readonly handle: FileHandle;
  readonly owner: bigint;
  readonly isFlock: boolean;
  readonly start: bigint;
  readonly end: bigint;
  readonly isExclusive: boolean;
  readonly key: number;
}

/** Whose locks change, and where. */
export interface LockChange {
  readonly owner: bigint;
  readonly isFlock: boolean;
  readonly range: { readonly start: bigint; readonly end: bigint };
}

const endOfFile = (1n << 63n) - 1n;
/** flock(2) has a range of its own, where no file has bytes: so it doesn't meet POSIX locks, as on Linux. */
const flockStart = 1n << 62n;
const retryMs = { first: 50, max: 1_000 };
/** A lock of this mount's own that is in the way is being released: that takes a round trip. */
const ownReleaseMs = { poll: 5, longest: 5_000 };

/**
 * Locks at the OSD of a file, which exclude other mounts. The OSD keeps one lock per (mount, number) and file
 * (protocol reference, 13.7), so every range that is held gets a number of its own. Locks among the processes of
 * this mount are settled before (`LockTable`). An OSD forgets locks when it restarts or the file is idle for long: so
 * they are asked for again and again.
 */
export class RemoteLocks {
  private readonly clock: Clock;
  private readonly client: string;
  private readonly logger: Logger;
  private readonly held = new Map<OpenFile, RemoteLock[]>();
  private readonly turns = new WeakMap<OpenFile, Map<string, Promise<void>>>();
  private nextKey = 1;

  /** @param client - names this mount among all; a UUID. */
  constructor(clock: Clock, client: string, logger: Logger) {
    this.clock = clock;
    this.client = client;
    this.logger = logger;
  }

  /** The lock of another mount that is in the way. */
  async check(handle: FileHandle, request: LockRequest, signal?: AbortSignal): Promise<FileLock | undefined> {
    const asked = this.toWire({ ...request.lock, isFlock: request.isFlock, key: 0 });
    const { file } = handle;
    const { response } = await file.atOsd(handle, 0, osdProcedures.lockCheck, undefined, signal, () => ({
      fileCredentials: file.credentials(handle),
      lockRequest: asked,
    }));
    if (response.clientUuid === this.client) return undefined;
    const end = response.length === 0n ? endOfFile : response.offset + response.length - 1n;
    const type = response.exclusive ? LockType.WRITE : LockType.READ;
    return { start: response.offset, end, type, pid: 0 };
  }

  /**
   * Makes the OSD's locks of one owner what `table` says, as far as `range` goes: threads share an owner, and each one
   * sees to the range that it changed. Updates of one owner run one after the other; one that waits lets others run.
   * @throws {FuseError} EAGAIN when another mount's lock is in the way and `wait` is false.
   */
  async update(
    handle: FileHandle,
    table: LockTable,
    change: LockChange,
    wait: boolean,
    signal?: AbortSignal,
  ): Promise<void> {
    for (let delayMs = retryMs.first; ; delayMs = Math.min(retryMs.max, delayMs * 2)) {
      try {
        await this.inTurn(handle.file, change, () => this.updateOnce(handle, table, change, signal));
        return;
      } catch (error) {
        if (!wait || !(error instanceof FuseError) || error.code !== 'EAGAIN') throw error;
        await this.clock.sleep(delayMs, signal);
      }
    }
  }

  private async inTurn(file: OpenFile, { owner, isFlock }: LockChange, task: () => Promise<void>): Promise<void> {
    const turns = this.turns.get(file) ?? new Map<string, Promise<void>>();
    this.turns.set(file, turns);
    const key = `${owner} ${isFlock}`;
    const run = (turns.get(key) ?? Promise.resolve()).then(task);
    const ended = run.catch(() => undefined);
    turns.set(key, ended);
    await run.finally(() => {
      if (turns.get(key) === ended) turns.delete(key);
    });
  }

  private async updateOnce(
    handle: FileHandle,
    table: LockTable,
    { owner, isFlock, range }: LockChange,
    signal?: AbortSignal,
  ): Promise<void> {
    const { file } = handle;
    const mine = (lock: RemoteLock): boolean => lock.owner === owner && lock.isFlock === isFlock;
    const before = (this.held.get(file) ?? []).filter(mine);
    const wanted = table.locks.filter((lock) => lock.owner === owner);
    const spare = before.filter((old) => !wanted.some((lock) => isSame(lock, old)));
    for (const lock of wanted) {
      if (before.some((old) => isSame(lock, old))) continue;
      if (lock.start > range.end + 1n || range.start > lock.end + 1n) continue;
      const sameRange = spare.findIndex((old) => old.start === lock.start && old.end === lock.end);
      const [reused] = sameRange >= 0 ? spare.splice(sameRange, 1) : [];
      for (const old of spare.splice(0)) await this.release(old);
      const isExclusive = lock.type === LockType.WRITE;
      const key = reused?.key ?? this.nextKey++;
      const next = { handle, owner, isFlock, start: lock.start, end: lock.end, isExclusive, key };
      await this.acquire(next, signal);
      if (reused !== undefined) this.remove(reused);
      this.held.set(file, [...(this.held.get(file) ?? []), next]);
    }
    for (const old of spare) await this.release(old);
  }

  /** The file is closed: nothing is kept for it any more. */
  drop(file: OpenFile): void {
    this.held.delete(file);
  }

  /** Asks for every lock again, so that OSDs don't forget them. */
  async keepAlive(): Promise<void> {
    for (const locks of [...this.held.values()]) {
      for (const lock of locks) {
        await this.acquire(lock).catch((error: unknown) =>
          this.logger.warn('Could not keep a lock', { fileId: lock.handle.file.fileId, reason: describeError(error) }),
        );
      }
    }
  }

  private async acquire(lock: RemoteLock, signal?: AbortSignal): Promise<void> {
    const { handle } = lock;
    const wire = this.toWire({ ...lock, type: lock.isExclusive ? LockType.WRITE : LockType.READ });
    for (;;) {
      try {
        await handle.file.atOsd(handle, 0, osdProcedures.lockAcquire, undefined, signal, () => ({
          fileCredentials: handle.file.credentials(handle),
          lockRequest: wire,
        }));
        return;
      } catch (error) {
        if (!isErrno(error, PosixErrno.EAGAIN)) throw error;
        if (!(await this.awaitsOwnRelease(handle, wire, signal))) refuse('EAGAIN');
      }
    }
  }

  /**
   * Among processes of this mount the local table decides, so a lock of another one of them that the OSD still has is
   * on its way out. @returns whether it was such a lock, and is gone now.
   */
  private async awaitsOwnRelease(handle: FileHandle, wire: Lock, signal?: AbortSignal): Promise<boolean> {
    const { file } = handle;
    const end = this.clock.monotonic() + ownReleaseMs.longest;
    for (;;) {
      const { response } = await file.atOsd(handle, 0, osdProcedures.lockCheck, undefined, signal, () => ({
        fileCredentials: file.credentials(handle),
        lockRequest: wire,
      }));
      if (response.clientUuid !== this.client) return false;
      if (response.clientPid === wire.clientPid) return true;
      if (this.clock.monotonic() > end) return false;
      await this.clock.sleep(ownReleaseMs.poll, signal);
    }
  }

  private async release(lock: RemoteLock): Promise<void> {
    const { handle } = lock;
    this.remove(lock);
    await handle.file.atOsd(handle, 0, osdProcedures.lockRelease, undefined, undefined, () => ({
      fileCredentials: handle.file.credentials(handle),
      lockRequest: this.toWire({ ...lock, type: LockType.UNLOCK }),
    }));
  }

  private remove(lock: RemoteLock): void {
    const { file } = lock.handle;
    const rest = (this.held.get(file) ?? []).filter((other) => other !== lock);
    if (rest.length === 0) this.held.delete(file);
    else this.held.set(file, rest);
  }

  private toWire(lock: { start: bigint; end: bigint; type: number; isFlock: boolean; key: number }): Lock {
    const offset = lock.isFlock ? flockStart : lock.start;
    const length = lock.isFlock ? 1n : lock.end >= endOfFile ? 0n : lock.end - lock.start + 1n;
    return { clientPid: lock.key, clientUuid: this.client, length, offset, exclusive: lock.type === LockType.WRITE };
  }
}

const isSame = (lock: FileLock, old: RemoteLock): boolean =>
  lock.start === old.start && lock.end === old.end && (lock.type === LockType.WRITE) === old.isExclusive;

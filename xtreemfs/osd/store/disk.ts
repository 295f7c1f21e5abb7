/** Free and total bytes of the file system under a {@link Disk}. */
export interface DiskSpace {
  readonly totalBytes: number;
  /** Free, whoever may use it. */
  readonly freeBytes: number;
  /** Free for this process (without the share kept for root). */
  readonly usableBytes: number;
}

/**
 * One open file. Reads may run beside each other and beside a write. After a crash only what was written before a
 * completed `sync` is sure to be there; anything later may be there in part, in any order.
 */
export interface DiskFile {
  /**
   * Writes all `buffers` one after the other at `position`.
   * @throws a system error (`ENOSPC`, `EIO`, …); part of the data may have been written then.
   */
  write(buffers: readonly Uint8Array[], position: number): Promise<void>;
  /** Fills `into` from `position`. @returns bytes read, fewer than asked only at the end of the file. */
  read(into: Uint8Array, position: number): Promise<number>;
  /** Makes data and size durable. After a failure nothing may be assumed about what was not durable before. */
  sync(): Promise<void>;
  truncate(sizeBytes: number): Promise<void>;
  sizeBytes(): Promise<number>;
  close(): Promise<void>;
}

/**
 * The disk below the object store. Paths are relative, `/` between parts. A created, renamed or removed name is
 * durable only after `syncDirectory` of its directory. All failures are system errors with a `code`.
 */
export interface Disk {
  /** Opens for reading and writing. @throws `ENOENT` for `existing`, `EEXIST` for `create`. */
  open(path: string, how: 'existing' | 'create'): Promise<DiskFile>;
  /** @throws `ENOENT` when nothing has that name. */
  unlink(path: string): Promise<void>;
  /** Atomic; replaces what `to` named before. */
  rename(from: string, to: string): Promise<void>;
  /** Makes one directory; it is fine if it exists. */
  makeDirectory(path: string): Promise<void>;
  /** Names in a directory, in no order. @throws `ENOENT` when there is no such directory. */
  list(path: string): Promise<string[]>;
  syncDirectory(path: string): Promise<void>;
  space(): Promise<DiskSpace>;
}

/** What the store can't do because of the disk; `code` is the errno that a client gets to see. */
export class DiskFailure extends Error {
  override readonly name = 'DiskFailure';
  readonly code: 'EIO' | 'ENOSPC';

  constructor(code: 'EIO' | 'ENOSPC', message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Stored bytes don't match their checksum, or their place is no longer known. They are never handed out. */
export class CorruptionError extends Error {
  override readonly name = 'CorruptionError';
  readonly code = 'EIO';
}

/** Any failure of the disk as a {@link DiskFailure}: a full disk or quota stays apart, the rest is `EIO`. */
export function diskFailure(thrown: unknown, doing: string): DiskFailure | CorruptionError {
  if (thrown instanceof DiskFailure || thrown instanceof CorruptionError) return thrown;
  const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : 'unknown';
  const isFull = code === 'ENOSPC' || code === 'EDQUOT';
  const remedy = isFull ? 'free space on the OSD or add OSDs' : 'check the disk of the OSD';
  return new DiskFailure(isFull ? 'ENOSPC' : 'EIO', `${doing} failed with ${code}: ${remedy}`, { cause: thrown });
}

/** Whether a failure says that a name does not exist. */
export function isMissing(thrown: unknown): boolean {
  return thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT';
}

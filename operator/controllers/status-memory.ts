import { formatKey, type KubeObject, type ObjectKey, type Stored } from '#runtime/types.ts';

/** The status of an array is written at most once in so many milliseconds for each of its tasks, and once in the last of these. */
const pause = { perTaskMs: 1, maxMs: 1_000 } as const;

/** An object with a status. */
type WithStatus = KubeObject & { status?: object | undefined };

interface Known<T extends WithStatus> {
  readonly uid: string;
  written?: { readonly version: string; readonly at: number; status: T['status'] } | undefined;
  /** `endsWith`: a status is being written over this version, and newer objects have that one. */
  held?: { readonly since: number; readonly status: T['status']; endsWith?: string } | undefined;
}

/**
 * The newest statuses of objects of one kind that the cache does not have: those just written, so that nothing is written twice before the
 * word of it comes, and those held back for a while. Losing the memory does no harm: they are computed again. Moments are monotonic.
 */
export class StatusMemory<T extends WithStatus> {
  private readonly known = new Map<string, Known<T>>();
  private readonly listeners = new Set<(object: Stored<T>) => void>();

  /** Calls back with each object whose status is held back, when that changes. */
  onHeld(listener: (object: Stored<T>) => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  /** The object with the newest status that is known, written or not. */
  newest(object: Stored<T>): Stored<T> {
    const held = this.find(object)?.held;
    const isOver = held?.endsWith !== undefined && isNewer(object.metadata.resourceVersion, held.endsWith);
    return held === undefined || isOver ? this.written(object) : { ...object, status: held.status };
  }

  /** The object with the newest status that was written. */
  written(object: Stored<T>): Stored<T> {
    const written = this.find(object)?.written;
    if (written?.status === undefined) return object;
    if (isNewer(written.version, object.metadata.resourceVersion)) return { ...object, status: written.status };
    written.status = undefined;
    return object;
  }

  /** How long the status of so many tasks has to wait after the one that was written before it. */
  pauseMs(object: Stored<T>, tasks: number, now: number): number {
    const writtenAt = this.find(object)?.written?.at;
    if (tasks <= 1 || writtenAt === undefined) return 0;
    return Math.max(0, writtenAt + Math.min(pause.maxMs, pause.perTaskMs * tasks) - now);
  }

  /** Keeps a status that is not written yet. @returns since when one is held. */
  hold(object: Stored<T>, status: T['status'], now: number): number {
    const known = this.entry(object);
    const since = known.held?.since ?? now;
    known.held = { since, status };
    for (const listener of this.listeners) listener(object);
    return since;
  }

  /** Since when a status is held. */
  heldSince(object: Stored<T>): number | undefined {
    return this.find(object)?.held?.since;
  }

  /** Tells that a status is about to be written over this object: the word of it may come before {@link wrote} is called. */
  writing(object: Stored<T>): void {
    const held = this.find(object)?.held;
    if (held !== undefined) held.endsWith = object.metadata.resourceVersion;
  }

  /** Keeps a status that was written, until the cache has it; nothing is held any more. */
  wrote(object: Stored<T>, now: number): void {
    const known = this.entry(object);
    known.held = undefined;
    known.written = { version: object.metadata.resourceVersion, at: now, status: object.status };
  }

  forget(key: ObjectKey): void {
    this.known.delete(formatKey(key));
  }

  private find({ metadata }: Stored<T>): Known<T> | undefined {
    const known = this.known.get(formatKey(metadata));
    return known?.uid === metadata.uid ? known : undefined;
  }

  private entry(object: Stored<T>): Known<T> {
    const found = this.find(object);
    if (found !== undefined) return found;
    const fresh = { uid: object.metadata.uid };
    this.known.set(formatKey(object.metadata), fresh);
    return fresh;
  }
}

/** Versions of one kind can be compared (KEP-5504). */
function isNewer(version: string, other: string): boolean {
  return BigInt(version) > BigInt(other);
}

/**
 * The public face of the runtime in one page: what controllers are written against. Classes that implement these
 * live in the files beside it; tests may bring their own.
 */
import type { Kind } from './kind.ts';
import type { KubeObject, ObjectKey, Stored } from './types.ts';

/** Which requests go first when the client throttles itself: earlier entries before later ones. */
export const priorities = ['lease', 'read', 'write', 'background'] as const;
export type Priority = (typeof priorities)[number];

/** Options that every request takes. */
export interface RequestOptions {
  /** Aborts the request; the promise fails with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Default: `read` for reads, `write` for writes, `background` for both inside a resync reconcile. */
  readonly priority?: Priority | undefined;
}

/** Options of writes. */
export interface WriteOptions extends RequestOptions {
  /** Who owns the fields written; default: the client's own field manager. */
  readonly fieldManager?: string | undefined;
  /** Everything but the storing: admission and validation run, nothing changes. */
  readonly dryRun?: boolean | undefined;
}

/** Options of server-side apply. */
export interface ApplyOptions extends WriteOptions {
  /** Take fields from other managers instead of failing with ConflictError. Default true: controllers own what they apply. */
  readonly force?: boolean | undefined;
}

/** Options of delete. */
export interface DeleteOptions extends RequestOptions {
  /** Default: the kind's own (Background for nearly all). */
  readonly propagationPolicy?: 'Foreground' | 'Background' | 'Orphan' | undefined;
  readonly gracePeriodSeconds?: number | undefined;
  /** Only when the object still has this uid or version; else ConflictError. */
  readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string } | undefined;
  readonly dryRun?: boolean | undefined;
}

/** What to list or watch. */
export interface ListOptions extends RequestOptions {
  /** One namespace; all when absent. */
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  /** Page size; default 500. */
  readonly limit?: number | undefined;
}

/** One page of a list. */
export interface Page<T extends KubeObject> {
  readonly items: Stored<T>[];
  readonly resourceVersion: string;
  /** Token of the next page; undefined on the last. */
  readonly continueToken: string | undefined;
}

/** How a {@link ObjectClient.patch} is written. Custom resources refuse `strategic`. */
export type Patch =
  | { readonly type: 'merge'; readonly body: object }
  | { readonly type: 'json'; readonly body: readonly JsonPatchOperation[] }
  | { readonly type: 'strategic'; readonly body: object };

/** RFC 6902. `value` is needed by add, replace and test; `from` by move and copy. */
export interface JsonPatchOperation {
  readonly op: 'add' | 'remove' | 'replace' | 'move' | 'copy' | 'test';
  readonly path: string;
  readonly from?: string;
  readonly value?: unknown;
}

/** What is applied: the fields that the caller owns, and no others. Lists inside are whole. */
export type Applied<T extends KubeObject> = DeepPartial<Omit<T, 'metadata'>> & {
  metadata: Partial<T['metadata']> & { name: string };
};

/** Every property optional, all the way down; list items stay whole. */
export type DeepPartial<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { [K in keyof T]?: DeepPartial<T[K]> | undefined }
    : T;

/**
 * Reads and writes the objects of one kind. Every method fails with an `ApiError` subclass (errors.ts) when the
 * server refuses, `ConnectionError` when there is no answer, and `FencedError` when a leader's client writes without
 * the lease.
 */
export interface ObjectClient<T extends KubeObject> {
  readonly kind: Kind<T>;
  /** @throws {NotFoundError} */
  get(key: ObjectKey, options?: RequestOptions): Promise<Stored<T>>;
  /** As get, but undefined when the object isn't there. */
  find(key: ObjectKey, options?: RequestOptions): Promise<Stored<T> | undefined>;
  /** One page; the first when `continueToken` is absent. @throws {GoneError} when the token is too old. */
  listPage(options?: ListOptions & { readonly continueToken?: string | undefined }): Promise<Page<T>>;
  /** Every object, page by page, starting again when a token grows too old. Of one moment. */
  list(options?: ListOptions): Promise<{ readonly items: Stored<T>[]; readonly resourceVersion: string }>;
  create(object: T, options?: WriteOptions): Promise<Stored<T>>;
  /** Replaces the object. Compares `metadata.resourceVersion` when it is set. @throws {ConflictError} */
  update(object: T, options?: WriteOptions): Promise<Stored<T>>;
  patch(key: ObjectKey, patch: Patch, options?: WriteOptions): Promise<Stored<T>>;
  /** Server-side apply; creates what isn't there. Repeating it is a no-op. */
  apply(object: Applied<T>, options?: ApplyOptions): Promise<Stored<T>>;
  /** @throws {NotFoundError} when it is gone already. */
  delete(key: ObjectKey, options?: DeleteOptions): Promise<void>;
  /** The status subresource. */
  readonly status: SubresourceClient<T>;
  /** Another subresource that takes and returns the object itself, for example `approval`. */
  subresource(name: string): SubresourceClient<T>;
}

/** Reads and writes a subresource whose body is the object. */
export interface SubresourceClient<T extends KubeObject> {
  get(key: ObjectKey, options?: RequestOptions): Promise<Stored<T>>;
  update(object: T, options?: WriteOptions): Promise<Stored<T>>;
  patch(key: ObjectKey, patch: Patch, options?: WriteOptions): Promise<Stored<T>>;
  apply(object: Applied<T>, options?: ApplyOptions): Promise<Stored<T>>;
}

/** Makes clients of kinds. */
export interface Client {
  of<T extends KubeObject>(kind: Kind<T>): ObjectClient<T>;
  /**
   * A request outside the object verbs: a review, an eviction, `/version`.
   * @param body - sent as JSON; undefined for none.
   * @returns the JSON of the answer.
   */
  raw(method: string, path: string, body?: unknown, options?: RequestOptions): Promise<unknown>;
  /** Reads what is no JSON, such as a log, as it comes. Sent once; a log that is followed ends with its container. What `onChunk` returns is waited for. */
  download(path: string, onChunk: (chunk: Buffer) => void | Promise<void>, options?: RequestOptions): Promise<void>;
}

/** Reads the shared cache of one kind. Objects are frozen: copy before changing (`structuredClone`). */
export interface Lister<T extends KubeObject> {
  readonly kind: Kind<T>;
  get(key: ObjectKey): Stored<T> | undefined;
  /** All objects, of one namespace when given. A new array each time. */
  list(namespace?: string): Stored<T>[];
  /** Objects for which the index function gave `value`. @throws {TypeError} when there is no such index. */
  byIndex(index: string, value: string): Stored<T>[];
  readonly size: number;
}

/** Gives the values under which an object is found in an index. Pure. */
export type IndexFunction<T extends KubeObject> = (object: Stored<T>) => readonly string[];

/** What happened to an object in the cache. */
export type InformerEvent<T extends KubeObject> =
  | { readonly type: 'added'; readonly object: Stored<T>; readonly initial: boolean }
  | { readonly type: 'updated'; readonly object: Stored<T>; readonly old: Stored<T> }
  /** `object` is the last state seen; with `missed` the deletion itself wasn't seen, so it may be out of date. */
  | { readonly type: 'deleted'; readonly object: Stored<T>; readonly missed: boolean };

/** Runs inside the watch loop, synchronously: only note keys here. Must not throw. */
export type InformerHandler<T extends KubeObject> = (event: InformerEvent<T>) => void;

/** A cache of one kind kept up to date by a watch, shared by everyone who asks the manager for it. */
export interface Informer<T extends KubeObject> extends Lister<T> {
  /** Resolves when the first list is in the cache. @throws the signal's reason when it aborts first. */
  synced(signal?: AbortSignal): Promise<void>;
  readonly isSynced: boolean;
  /** Existing objects are replayed as `added`. @returns a function that removes the handler. */
  onEvent(handler: InformerHandler<T>): () => void;
  /** @throws {TypeError} when the name is taken by another function. */
  addIndex(name: string, values: IndexFunction<T>): void;
}

/** What an informer caches. */
export interface InformerOptions {
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  /** Keep `metadata.managedFields`, which is half of many objects. Default false. */
  readonly keepManagedFields?: boolean | undefined;
}

/** What a reconcile asks for next. */
export interface Result {
  /** Reconcile again after this time (milliseconds, above 0); absent: only when something changes. */
  readonly requeueAfterMs?: number | undefined;
}

/** Nothing more to do until something changes. */
export const done: Result = Object.freeze({});

/** Reconcile again after `ms` milliseconds. */
export function requeueAfter(ms: number): Result {
  return { requeueAfterMs: ms };
}

/**
 * Moves one object towards its spec. Level-based: safe at any time, any number of times; never told which event woke
 * it. One call per key at a time. Throws `TerminalError` when trying again can't help until something changes,
 * `ConflictError` to be run again quietly, anything else to be run again with back-off.
 * @param signal - aborts when the controller stops, leadership is lost or the reconcile takes too long.
 */
export interface Reconciler {
  reconcile(key: ObjectKey, signal: AbortSignal): Promise<Result>;
}

/**
 * Another kind whose changes wake a controller: its informer with a map to keys of the primary kind. Make one with
 * `owned` (dependants of the primary kind) or `mapped` (any function) of sources.ts.
 */
export interface Source {
  /** For logs, for example the resource name. */
  readonly name: string;
  synced(signal?: AbortSignal): Promise<void>;
  /** @param enqueue - `initial` marks objects that were there at the start. @returns a function that detaches. */
  attach(enqueue: (key: ObjectKey, initial: boolean) => void): () => void;
}

/** How a controller is put together. */
export interface ControllerOptions<T extends KubeObject> {
  /** Unique in the process; a label of metrics and logs. */
  readonly name: string;
  /** The one kind that is reconciled. */
  readonly primary: Informer<T>;
  readonly reconciler: Reconciler;
  /** Other kinds, mapped to keys of the primary kind. */
  readonly sources?: readonly Source[] | undefined;
  /** Which changes of primary objects count; default all. Creation and deletion always do. */
  readonly changed?: ((object: Stored<T>, old: Stored<T>) => boolean) | undefined;
  /** Reconciles at the same time, each of another key. Default 4. */
  readonly concurrency?: number | undefined;
  /** How often every object is looked at again, behind changes; spread over the time. 0: never. Default 10 hours. */
  readonly resyncMs?: number | undefined;
  /** After this the signal of a reconcile aborts. Default 5 minutes. */
  readonly reconcileTimeoutMs?: number | undefined;
}

/** An object that an event is about. */
export interface ObjectReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly namespace?: string | undefined;
  readonly uid?: string | undefined;
}

/** One event to tell. Events are history, never the only place a fact is found. */
export interface EventDraft {
  readonly object: ObjectReference;
  readonly type: 'Normal' | 'Warning';
  /** CamelCase word, for example `Placed`. */
  readonly reason: string;
  /** What was done or tried, CamelCase; default: the reason. */
  readonly action?: string | undefined;
  /** One sentence, at most 1024 bytes (cut beyond). */
  readonly note: string;
  readonly related?: ObjectReference | undefined;
  /** Events of one object with the same key are counted as one series. Default: type, reason and note. */
  readonly dedupeKey?: string | undefined;
}

/** Publishes events in the background: deduplicated, rate-limited, never failing the caller. */
export interface EventRecorder {
  publish(event: EventDraft): void;
}

/** Something that runs beside the controllers: a gateway, a collector. */
export interface Runnable {
  readonly name: string;
  /** Default true: starts after the lease is held and stops before it is given up. */
  readonly needsLeader?: boolean | undefined;
  /** Runs until the signal aborts. Ending earlier, or failing, stops the manager. */
  run(signal: AbortSignal): Promise<void>;
}

/** A check of `/readyz` or `/livez`. Throws, with a sentence for a person, when something is wrong. */
export type HealthCheck = () => void | Promise<void>;

/**
 * Everything a controller process runs, in order: servers, caches, lease, controllers; stopped in reverse. Made with
 * `createManager` of manager.ts.
 */
export interface Manager {
  /** With leader election: writes are stopped (`FencedError`) unless this process holds the lease. */
  readonly client: Client;
  readonly events: EventRecorder;
  /** Whether this process may act now; always true without leader election. */
  readonly isLeader: boolean;
  /** The shared cache of a kind; the same one for the same kind and options. May be called at any time. */
  informer<T extends KubeObject>(kind: Kind<T>, options?: InformerOptions): Informer<T>;
  /** Adds a controller; it starts once its caches are filled and the lease is held. Before `run` only. */
  addController<T extends KubeObject>(options: ControllerOptions<T>): void;
  /** Before `run` only. */
  addRunnable(runnable: Runnable): void;
  /** Before `run` only. */
  addCheck(endpoint: 'ready' | 'live', name: string, check: HealthCheck): void;
  /**
   * Runs until the signal aborts, then stops gracefully: running reconciles get the grace period, the lease is given
   * up last.
   * @throws {LeadershipLostError} when the lease was lost: end the process, and let it be started anew.
   */
  run(signal: AbortSignal): Promise<void>;
}

import type { Random } from '#common/random.ts';
import { createClient, selectorQuery, withQuery } from './client.ts';
import type { InformerOptions } from './contracts.ts';
import { apiError } from './errors.ts';
import { apiVersionOf, collectionPath, type Kind, resourceOf } from './kind.ts';
import type { Transport } from './transport.ts';
import type { KubeObject, Status, Stored } from './types.ts';

/** What a watch says. */
export type WatchEvent<T extends KubeObject> =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: Stored<T> }
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string; readonly isInitialEnd: boolean };

/** Where a watch starts. */
export interface WatchStart {
  /** Events after this version; empty with `initialEvents`. */
  readonly resourceVersion: string;
  /** Ask for the present objects as ADDED events, closed by a bookmark (KEP-3157, "watch-list"). */
  readonly initialEvents: boolean;
}

/** All that a reflector needs from an API server. */
export interface ListWatch<T extends KubeObject> {
  /** Every object, of one moment, as new as the store: never older than what was seen before. */
  list(signal: AbortSignal): Promise<{ readonly items: Stored<T>[]; readonly resourceVersion: string }>;
  /**
   * Calls `onEvent` for each event until the server ends the watch. What `onEvent` throws ends it too.
   * @throws GoneError when the version is too old, InvalidError when `initialEvents` isn't served.
   */
  watch(start: WatchStart, onEvent: (event: WatchEvent<T>) => void, signal: AbortSignal): Promise<void>;
}

/** The server ends each watch after a random time in this range, as client-go asks it to (5 to 10 minutes). */
const watchSecondsMin = 300;
const watchSecondsMax = 600;
/** Bookmarks come about every minute; three missed mean that nobody is there (a frozen server, a cut network). */
const idleTimeoutMs = 200_000;
const initialEndAnnotation = 'k8s.io/initial-events-end';

/** The {@link ListWatch} of a real API server. */
export class HttpListWatch<T extends KubeObject> implements ListWatch<T> {
  private readonly transport: Transport;
  private readonly kind: Kind<T>;
  private readonly options: InformerOptions;
  private readonly random: Random;

  constructor(transport: Transport, kind: Kind<T>, options: InformerOptions, random: Random) {
    this.transport = transport;
    this.kind = kind;
    this.options = options;
    this.random = random;
  }

  async list(signal: AbortSignal): Promise<{ readonly items: Stored<T>[]; readonly resourceVersion: string }> {
    const { namespace, labelSelector, fieldSelector } = this.options;
    const client = createClient(this.transport, { fieldManager: 'none' }).of(this.kind);
    return client.list({ namespace, labelSelector, fieldSelector, signal, priority: 'read' });
  }

  async watch(start: WatchStart, onEvent: (event: WatchEvent<T>) => void, signal: AbortSignal): Promise<void> {
    const seconds = watchSecondsMin + this.random.int(watchSecondsMax - watchSecondsMin + 1);
    const path = withQuery(
      collectionPath(this.kind, this.options.namespace),
      'watch=true',
      'allowWatchBookmarks=true',
      `timeoutSeconds=${seconds}`,
      `resourceVersion=${encodeURIComponent(start.resourceVersion)}`,
      start.initialEvents ? 'sendInitialEvents=true&resourceVersionMatch=NotOlderThan' : undefined,
      ...selectorQuery(this.options),
    );
    await this.transport.stream(
      {
        method: 'GET',
        path,
        priority: 'read',
        isIdempotent: true,
        signal,
        idleTimeoutMs,
        verb: 'watch',
        resource: resourceOf(this.kind),
      },
      (line) => onEvent(this.decode(line, path)),
    );
  }

  private decode(line: string, path: string): WatchEvent<T> {
    const raw = JSON.parse(line) as { type: string; object: unknown };
    switch (raw.type) {
      case 'ADDED':
      case 'MODIFIED':
      case 'DELETED':
        return { type: raw.type, object: raw.object as Stored<T> };
      case 'BOOKMARK': {
        const { metadata } = raw.object as Stored<T>;
        const isInitialEnd = metadata.annotations?.[initialEndAnnotation] === 'true';
        return { type: 'BOOKMARK', resourceVersion: metadata.resourceVersion, isInitialEnd };
      }
      case 'ERROR': {
        const status = raw.object as Status;
        throw apiError({ method: 'WATCH', path }, status.code ?? 500, status);
      }
      default:
        throw new TypeError(`Unknown type of watch event from ${path}: ${raw.type}`);
    }
  }
}

/** What every cached object goes through: its type is filled in, managed fields go, and nobody may change it. */
export function toCached<T extends KubeObject>(
  kind: Kind<T>,
  object: Stored<T>,
  keepManagedFields: boolean,
): Stored<T> {
  object.apiVersion = apiVersionOf(kind);
  object.kind = kind.kind;
  if (!keepManagedFields) delete object.metadata.managedFields;
  return deepFreeze(object);
}

function deepFreeze<T extends object>(value: T): T {
  for (const inner of Object.values(value)) {
    if (typeof inner === 'object' && inner !== null) deepFreeze(inner as object);
  }
  return Object.freeze(value);
}

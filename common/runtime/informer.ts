import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import type { Random } from '#common/random.ts';
import type { IndexFunction, Informer, InformerEvent, InformerHandler, InformerOptions } from './contracts.ts';
import { type Kind, resourceOf } from './kind.ts';
import { HttpListWatch, type ListWatch, toCached } from './list-watch.ts';
import type { RuntimeMetrics } from './metrics.ts';
import { Reflector, type ReflectorSink } from './reflector.ts';
import { Store, type StoreChange } from './store.ts';
import type { Transport } from './transport.ts';
import type { KubeObject, ObjectKey, Stored } from './types.ts';

/** What an informer is made of. */
export interface InformerParts {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: RuntimeMetrics;
}

/** The informer of a kind over a real API server. */
export function createInformer<T extends KubeObject>(
  transport: Transport,
  kind: Kind<T>,
  options: InformerOptions,
  parts: InformerParts,
): SharedInformer<T> {
  return new SharedInformer(kind, new HttpListWatch(transport, kind, options, parts.random), options, parts);
}

/**
 * A store fed by a reflector, and the handlers that are told what changed. Handlers run after the store has the
 * change, so that whoever they wake reads it or something newer.
 */
export class SharedInformer<T extends KubeObject> implements Informer<T>, ReflectorSink<T> {
  readonly kind: Kind<T>;
  private readonly store: Store<T>;
  private readonly reflector: Reflector<T>;
  private readonly parts: InformerParts;
  private readonly keepManagedFields: boolean;
  private readonly handlers = new Set<InformerHandler<T>>();
  private readonly firstList = Promise.withResolvers<undefined>();
  private hasList = false;

  constructor(kind: Kind<T>, listWatch: ListWatch<T>, options: InformerOptions, parts: InformerParts) {
    this.kind = kind;
    this.parts = parts;
    this.keepManagedFields = options.keepManagedFields ?? false;
    this.store = new Store(kind);
    const resource = resourceOf(kind);
    this.reflector = new Reflector({ ...parts, resource, listWatch, sink: this });
  }

  /** Lists and watches until the signal aborts. Once. */
  async run(signal: AbortSignal): Promise<void> {
    await this.reflector.run(signal);
  }

  get isSynced(): boolean {
    return this.hasList;
  }

  async synced(signal?: AbortSignal): Promise<void> {
    if (this.hasList) return;
    signal?.throwIfAborted();
    let onAbort: (() => void) | undefined;
    const aborted = new Promise<never>((_, reject) => {
      onAbort = (): void => reject(signal?.reason as Error);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
    try {
      await Promise.race([this.firstList.promise, aborted]);
    } finally {
      if (onAbort !== undefined) signal?.removeEventListener('abort', onAbort);
    }
  }

  get size(): number {
    return this.store.size;
  }

  get(key: ObjectKey): Stored<T> | undefined {
    return this.store.get(key);
  }

  list(namespace?: string): Stored<T>[] {
    return this.store.list(namespace);
  }

  byIndex(index: string, value: string): Stored<T>[] {
    return this.store.byIndex(index, value);
  }

  addIndex(name: string, values: IndexFunction<T>): void {
    this.store.addIndex(name, values);
  }

  onEvent(handler: InformerHandler<T>): () => void {
    this.handlers.add(handler);
    for (const object of this.store.list()) this.tell(handler, { type: 'added', object, initial: true });
    return () => void this.handlers.delete(handler);
  }

  replace(objects: Stored<T>[]): void {
    const initial = !this.hasList;
    const changes = this.store.replace(objects.map((object) => toCached(this.kind, object, this.keepManagedFields)));
    this.hasList = true;
    for (const change of changes) this.publish(change, initial);
    this.firstList.resolve(undefined);
  }

  upsert(object: Stored<T>): void {
    this.publish(this.store.upsert(toCached(this.kind, object, this.keepManagedFields)), false);
  }

  delete(object: Stored<T>): void {
    this.publish(this.store.delete(toCached(this.kind, object, this.keepManagedFields)), false);
  }

  private publish(change: StoreChange<T> | undefined, initial: boolean): void {
    if (change === undefined) return;
    const growth = change.type === 'added' ? 1 : change.type === 'deleted' ? -1 : 0;
    if (growth !== 0) this.parts.metrics.cachedObjects.inc({ resource: resourceOf(this.kind) }, growth);
    const event: InformerEvent<T> = change.type === 'added' ? { ...change, initial } : change;
    for (const handler of this.handlers) this.tell(handler, event);
  }

  /** A handler that throws has a bug; the others and the watch go on. */
  private tell(handler: InformerHandler<T>, event: InformerEvent<T>): void {
    try {
      handler(event);
    } catch (error) {
      this.parts.logger.error('A handler of an informer threw', {
        [this.kind.kind]: event.object.metadata.name,
        err: error,
      });
    }
  }
}

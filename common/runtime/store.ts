import type { IndexFunction, Lister } from './contracts.ts';
import type { Kind } from './kind.ts';
import { formatKey, keyOf, type KubeObject, type ObjectKey, type Stored } from './types.ts';

/** A change of the store, told after it was made. */
export type StoreChange<T extends KubeObject> =
  | { readonly type: 'added'; readonly object: Stored<T> }
  | { readonly type: 'updated'; readonly object: Stored<T>; readonly old: Stored<T> }
  | { readonly type: 'deleted'; readonly object: Stored<T>; readonly missed: boolean };

interface Index<T extends KubeObject> {
  readonly values: IndexFunction<T>;
  readonly keys: Map<string, Set<string>>;
}

/**
 * The last known state of every object of a kind, by key and by indexes. Written by one reflector, read by everyone;
 * the objects in it are frozen. Each write says what changed, so that nobody has to compare.
 */
export class Store<T extends KubeObject> implements Lister<T> {
  readonly kind: Kind<T>;
  private readonly objects = new Map<string, Stored<T>>();
  private readonly indexes = new Map<string, Index<T>>();

  constructor(kind: Kind<T>) {
    this.kind = kind;
  }

  get size(): number {
    return this.objects.size;
  }

  get(key: ObjectKey): Stored<T> | undefined {
    return this.objects.get(formatKey(key));
  }

  list(namespace?: string): Stored<T>[] {
    const all = [...this.objects.values()];
    return namespace === undefined ? all : all.filter((object) => object.metadata.namespace === namespace);
  }

  byIndex(index: string, value: string): Stored<T>[] {
    const found = this.indexes.get(index);
    if (found === undefined) {
      throw new TypeError(`No index ${index} on ${this.kind.kind}: add it with addIndex before the manager runs`);
    }
    const objects: Stored<T>[] = [];
    for (const key of found.keys.get(value) ?? []) {
      const object = this.objects.get(key);
      if (object !== undefined) objects.push(object);
    }
    return objects;
  }

  addIndex(name: string, values: IndexFunction<T>): void {
    const existing = this.indexes.get(name);
    if (existing?.values === values) return;
    if (existing !== undefined) throw new TypeError(`Index ${name} on ${this.kind.kind} exists with another function`);
    const index: Index<T> = { values, keys: new Map() };
    for (const [key, object] of this.objects) insert(index, key, object);
    this.indexes.set(name, index);
  }

  /** @returns undefined when the same version of the object was there already. */
  upsert(object: Stored<T>): StoreChange<T> | undefined {
    const key = formatKey(keyOf(object));
    const old = this.objects.get(key);
    if (isSameVersion(old, object)) return undefined;
    for (const index of this.indexes.values()) {
      if (old !== undefined) remove(index, key, old);
      insert(index, key, object);
    }
    this.objects.set(key, object);
    return old === undefined ? { type: 'added', object } : { type: 'updated', object, old };
  }

  /** @returns undefined when the object wasn't there. */
  delete(object: Stored<T>): StoreChange<T> | undefined {
    const known = this.drop(formatKey(keyOf(object)));
    return known === undefined ? undefined : { type: 'deleted', object, missed: false };
  }

  /**
   * Makes the store equal to a full list and says what that changed, deletions first: an object that was deleted and
   * made again under the same name shows as `updated` with another uid.
   */
  replace(objects: readonly Stored<T>[]): StoreChange<T>[] {
    const changes: StoreChange<T>[] = [];
    const listed = new Set(objects.map((object) => formatKey(keyOf(object))));
    for (const key of [...this.objects.keys()]) {
      if (listed.has(key)) continue;
      const object = this.drop(key);
      if (object !== undefined) changes.push({ type: 'deleted', object, missed: true });
    }
    for (const object of objects) {
      const change = this.upsert(object);
      if (change !== undefined) changes.push(change);
    }
    return changes;
  }

  private drop(key: string): Stored<T> | undefined {
    const known = this.objects.get(key);
    if (known === undefined) return undefined;
    for (const index of this.indexes.values()) remove(index, key, known);
    this.objects.delete(key);
    return known;
  }
}

function isSameVersion(old: KubeObject | undefined, object: KubeObject): boolean {
  return (
    old !== undefined &&
    old.metadata.resourceVersion === object.metadata.resourceVersion &&
    old.metadata.uid === object.metadata.uid
  );
}

function insert<T extends KubeObject>(index: Index<T>, key: string, object: Stored<T>): void {
  for (const value of index.values(object)) {
    const keys = index.keys.get(value);
    if (keys === undefined) index.keys.set(value, new Set([key]));
    else keys.add(key);
  }
}

function remove<T extends KubeObject>(index: Index<T>, key: string, object: Stored<T>): void {
  for (const value of index.values(object)) {
    const keys = index.keys.get(value);
    keys?.delete(key);
    if (keys?.size === 0) index.keys.delete(value);
  }
}

import type { ObjectClient } from './contracts.ts';
import { ignoreNotFound } from './errors.ts';
import { isDeleting, keyOf, type KubeObject, type Stored } from './types.ts';

/** Puts and removes one finalizer on objects of one kind. */
export class Finalizers<T extends KubeObject> {
  private readonly client: ObjectClient<T>;
  readonly name: string;

  /** @param name - qualified, for example `xtreemos.io/executions`. */
  constructor(client: ObjectClient<T>, name: string) {
    if (!/^[a-z0-9.-]+\/[A-Za-z0-9._-]+$/.test(name)) {
      throw new TypeError(`Finalizer ${name} must be qualified, as in xtreemos.io/executions`);
    }
    this.client = client;
    this.name = name;
  }

  has(object: KubeObject): boolean {
    return object.metadata.finalizers?.includes(this.name) === true;
  }

  /**
   * Makes sure that the object can't go before `remove`; call it before anything that would leak. Never on an object
   * that is being deleted, where the server refuses new finalizers.
   * @returns true when it wrote: return from the reconcile, the write wakes it.
   * @throws ConflictError when the object changed meanwhile.
   */
  async ensure(object: Stored<T>, signal?: AbortSignal): Promise<boolean> {
    if (this.has(object) || isDeleting(object)) return false;
    await this.write(object, [...(object.metadata.finalizers ?? []), this.name], signal);
    return true;
  }

  /**
   * Lets the object go, as far as this finalizer is concerned.
   * @returns true when it wrote; false when the finalizer, or the object, was gone already.
   * @throws ConflictError when the object changed meanwhile.
   */
  async remove(object: Stored<T>, signal?: AbortSignal): Promise<boolean> {
    if (!this.has(object)) return false;
    const rest = (object.metadata.finalizers ?? []).filter((name) => name !== this.name);
    return (await ignoreNotFound(this.write(object, rest, signal))) !== undefined;
  }

  /** The list is written whole, so the version (and uid) must be the one it was computed from. */
  private async write(object: Stored<T>, finalizers: string[], signal: AbortSignal | undefined): Promise<Stored<T>> {
    const { resourceVersion, uid } = object.metadata;
    const body = { metadata: { uid, resourceVersion, finalizers } };
    return this.client.patch(keyOf(object), { type: 'merge', body }, { signal });
  }
}

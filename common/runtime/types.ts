/**
 * Objects as the API server sends them: JSON, where every time is a string and every number below 2^53.
 * client-node's generated classes describe the same objects after its own decoding (times as Date, reserved words
 * with an underscore); {@link Wire} turns those types back into what is on the wire.
 */

/** A reference from a dependant to its owner. */
export interface OwnerReference {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  /** True on at most one reference: the owner whose controller manages this object. */
  controller?: boolean | undefined;
  blockOwnerDeletion?: boolean | undefined;
}

/** What every stored object carries. Times are RFC 3339 strings in UTC. */
export interface ObjectMeta {
  name: string;
  /** Absent for cluster-scoped kinds. */
  namespace?: string | undefined;
  uid?: string | undefined;
  resourceVersion?: string | undefined;
  generation?: number | undefined;
  creationTimestamp?: string | undefined;
  deletionTimestamp?: string | undefined;
  deletionGracePeriodSeconds?: number | undefined;
  labels?: Record<string, string> | undefined;
  annotations?: Record<string, string> | undefined;
  finalizers?: string[] | undefined;
  ownerReferences?: OwnerReference[] | undefined;
  /** Dropped from cached objects unless the informer keeps it. */
  managedFields?: unknown[] | undefined;
}

/** The least that every Kubernetes object has. */
export interface KubeObject {
  apiVersion?: string | undefined;
  kind?: string | undefined;
  metadata: ObjectMeta;
}

/** Metadata of an object that has been stored: the server has filled in its identity and version. */
export interface StoredMeta extends ObjectMeta {
  uid: string;
  resourceVersion: string;
  creationTimestamp: string;
}

/** An object as read from the API server. */
export type Stored<T extends KubeObject> = T & { metadata: StoredMeta };

/** Names one object of a kind. `namespace` is absent (or empty) for cluster-scoped kinds. */
export interface ObjectKey {
  readonly namespace?: string | undefined;
  readonly name: string;
}

/** A condition, as the Kubernetes API conventions have it (metav1.Condition). */
export interface Condition {
  type: string;
  status: 'True' | 'False' | 'Unknown';
  /** CamelCase word that programs may compare. */
  reason: string;
  /** One sentence for a person; empty when there is nothing to say. */
  message: string;
  /** When `status` last changed (RFC 3339, seconds). */
  lastTransitionTime: string;
  /** `metadata.generation` of the object that the condition was computed from. */
  observedGeneration?: number | undefined;
}

/** The answer of the API server to a request that failed (metav1.Status). */
export interface Status {
  kind?: string | undefined;
  status?: string | undefined;
  message?: string | undefined;
  reason?: string | undefined;
  code?: number | undefined;
  details?: StatusDetails | undefined;
  metadata?: ListMeta | undefined;
}

/** What a {@link Status} says about the object and fields concerned. */
export interface StatusDetails {
  name?: string | undefined;
  group?: string | undefined;
  kind?: string | undefined;
  uid?: string | undefined;
  retryAfterSeconds?: number | undefined;
  causes?: { reason?: string | undefined; message?: string | undefined; field?: string | undefined }[] | undefined;
}

/** Metadata of a list. */
export interface ListMeta {
  resourceVersion?: string | undefined;
  /** Token of the next page; absent or empty on the last one. */
  continue?: string | undefined;
  remainingItemCount?: number | undefined;
}

/**
 * What a client-node type looks like on the wire: `Date` becomes `string`, `_continue` becomes `continue`, and this
 * all the way down.
 */
export type Wire<T> = T extends Date
  ? string
  : T extends (infer Item)[]
    ? Wire<Item>[]
    : T extends object
      ? { [K in keyof T as K extends `_${infer Plain}` ? Plain : K]: Wire<T[K]> }
      : T;

/** A client-node model as a whole object on the wire, with metadata always there. */
export type WireObject<T extends { metadata?: unknown }> = Omit<Wire<T>, 'metadata' | 'apiVersion' | 'kind'> &
  KubeObject;

/** The key as text: `namespace/name`, or `name` for cluster-scoped objects. It is what queues and caches hold. */
export function formatKey(key: ObjectKey): string {
  return key.namespace === undefined || key.namespace === '' ? key.name : `${key.namespace}/${key.name}`;
}

/** The inverse of {@link formatKey}. */
export function parseKey(text: string): ObjectKey {
  const slash = text.indexOf('/');
  return slash < 0 ? { name: text } : { namespace: text.slice(0, slash), name: text.slice(slash + 1) };
}

/** The key of an object. */
export function keyOf(object: KubeObject): ObjectKey {
  const { namespace, name } = object.metadata;
  return namespace === undefined || namespace === '' ? { name } : { namespace, name };
}

/** True once deletion was asked for: only finalizers keep the object. */
export function isDeleting(object: KubeObject): boolean {
  return object.metadata.deletionTimestamp !== undefined;
}

/** The reference marked as controller, if any. */
export function controllerOf(object: KubeObject): OwnerReference | undefined {
  return object.metadata.ownerReferences?.find((reference) => reference.controller === true);
}

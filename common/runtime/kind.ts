import type { KubeObject, ObjectKey, OwnerReference, Stored } from './types.ts';

/** Carries the object type of a {@link Kind} for the compiler; nothing exists at run time. */
declare const objectType: unique symbol;

/**
 * All that the runtime needs to know about a kind; there is no discovery. `T` is the shape of its objects.
 * Make one with {@link defineKind}.
 */
export interface Kind<T extends KubeObject = KubeObject> {
  /** API group; empty for the core group. */
  readonly group: string;
  /** API version, for example `v1alpha1`. */
  readonly version: string;
  /** Kind as in manifests, for example `GridJob`. */
  readonly kind: string;
  /** Resource name in paths, for example `gridjobs`. */
  readonly plural: string;
  readonly namespaced: boolean;
  readonly [objectType]?: T;
}

/** A kind with its object type: `const configMaps = defineKind<ConfigMap>({ … })`. */
export function defineKind<T extends KubeObject>(kind: Omit<Kind, typeof objectType>): Kind<T> {
  return Object.freeze({ ...kind });
}

/** `group/version`, or just `version` for the core group. */
export function apiVersionOf(kind: Kind): string {
  return kind.group === '' ? kind.version : `${kind.group}/${kind.version}`;
}

/** `plural.group`: names a kind in metrics, logs and maps. */
export function resourceOf(kind: Kind): string {
  return kind.group === '' ? kind.plural : `${kind.plural}.${kind.group}`;
}

/** Path of the collection; of one namespace when `namespace` is given and the kind is namespaced. */
export function collectionPath(kind: Kind, namespace?: string): string {
  const root = kind.group === '' ? `/api/${kind.version}` : `/apis/${kind.group}/${kind.version}`;
  const scope =
    kind.namespaced && namespace !== undefined && namespace !== ''
      ? `/namespaces/${encodeURIComponent(namespace)}`
      : '';
  return `${root}${scope}/${kind.plural}`;
}

/**
 * Path of one object, or of a subresource of it.
 * @throws {TypeError} when the name is empty, or a namespaced kind has no namespace: such a path would name the
 *   collection, and a delete would empty it.
 */
export function objectPath(kind: Kind, key: ObjectKey, subresource?: string): string {
  if (key.name === '') throw new TypeError(`metadata.name of a ${kind.kind} is empty: give the object's name`);
  if (kind.namespaced && (key.namespace === undefined || key.namespace === '')) {
    throw new TypeError(`metadata.namespace of ${kind.kind} ${key.name} is empty: the kind is namespaced`);
  }
  const path = `${collectionPath(kind, key.namespace)}/${encodeURIComponent(key.name)}`;
  return subresource === undefined ? path : `${path}/${subresource}`;
}

/** The owner reference that makes `owner` the controller of a dependant. */
export function controllerReference<T extends KubeObject>(kind: Kind<T>, owner: Stored<T>): OwnerReference {
  return {
    apiVersion: apiVersionOf(kind),
    kind: kind.kind,
    name: owner.metadata.name,
    uid: owner.metadata.uid,
    controller: true,
    blockOwnerDeletion: true,
  };
}

import type { Informer, Source } from './contracts.ts';
import { type Kind, resourceOf } from './kind.ts';
import { controllerOf, type KubeObject, type ObjectKey, type Stored } from './types.ts';

/**
 * Wakes a controller for keys that a function finds in each changed object of another kind. Both the old and the new
 * state are mapped, so that an object that moves from one key to another wakes both.
 * @param map - pure; the keys need not exist.
 */
export function mapped<T extends KubeObject>(
  informer: Informer<T>,
  map: (object: Stored<T>) => readonly ObjectKey[],
): Source {
  return {
    name: resourceOf(informer.kind),
    synced: async (signal) => informer.synced(signal),
    attach: (enqueue) =>
      informer.onEvent((event) => {
        const initial = event.type === 'added' && event.initial;
        if (event.type === 'updated') for (const key of map(event.old)) enqueue(key, false);
        for (const key of map(event.object)) enqueue(key, initial);
      }),
  };
}

/** Wakes a controller for the owner of each changed dependant: the owner marked as controller, of the given kind. */
export function owned<T extends KubeObject>(owner: Kind, informer: Informer<T>): Source {
  return mapped(informer, (object) => {
    const reference = controllerOf(object);
    if (reference?.kind !== owner.kind || groupOf(reference.apiVersion) !== owner.group) return [];
    return [
      owner.namespaced ? { namespace: object.metadata.namespace, name: reference.name } : { name: reference.name },
    ];
  });
}

function groupOf(apiVersion: string): string {
  const slash = apiVersion.indexOf('/');
  return slash < 0 ? '' : apiVersion.slice(0, slash);
}

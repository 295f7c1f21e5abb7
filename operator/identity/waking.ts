import type { Informer, InformerEvent, Source } from '#runtime/contracts.ts';
import type { KubeObject, ObjectKey } from '#runtime/types.ts';

/**
 * Wakes a controller for what an event of another kind concerns. Unlike `mapped` it sees the whole event, so that changes which concern nobody
 * wake nobody. What it wakes goes in the lane of resyncs: an object that was changed itself goes first, however many are woken. What was there
 * at the start wakes nobody, since every object is looked at then anyway.
 */
export function waking<T extends KubeObject>(
  informer: Informer<T>,
  concerned: (event: InformerEvent<T>) => readonly ObjectKey[],
): Source {
  return {
    name: informer.kind.plural,
    synced: async (signal) => informer.synced(signal),
    attach: (enqueue) =>
      informer.onEvent((event) => {
        if (event.type === 'added' && event.initial) return;
        for (const key of concerned(event)) enqueue(key, true);
      }),
  };
}

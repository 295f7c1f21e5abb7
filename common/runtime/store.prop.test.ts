import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { configMaps, type ConfigMap } from './builtin.ts';
import { Store, type StoreChange } from './store.ts';
import { aConfigMap } from './testing/parts.ts';
import type { Stored } from './types.ts';

const object = fc
  .record({ name: fc.integer({ min: 0, max: 8 }), version: fc.nat(5), team: fc.constantFrom('red', 'blue', 'green') })
  .map(({ name, version, team }) => aConfigMap(`cm-${name}`, version, { team }));
const unique = fc.uniqueArray(object, { selector: ({ metadata }) => metadata.name });
const step = fc.oneof(
  object.map((one) => ({ op: 'upsert' as const, objects: [one] })),
  object.map((one) => ({ op: 'delete' as const, objects: [one] })),
  unique.map((objects) => ({ op: 'replace' as const, objects })),
);
const byTeam = (one: Stored<ConfigMap>): string[] => [one.data?.team ?? ''];

/** Plays changes on a copy: what a handler that only hears of changes would know. */
function play(known: Map<string, Stored<ConfigMap>>, change: StoreChange<ConfigMap> | undefined): void {
  if (change === undefined) return;
  const { name } = change.object.metadata;
  expect(known.has(name)).toBe(change.type !== 'added');
  if (change.type === 'deleted') known.delete(name);
  else known.set(name, change.object);
}

test('whoever hears every change knows what the store knows, and indexes agree with the objects', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const store = new Store(configMaps);
      store.addIndex('team', byTeam);
      const known = new Map<string, Stored<ConfigMap>>();
      for (const { op, objects } of steps) {
        if (op === 'replace') {
          for (const change of store.replace(objects)) play(known, change);
          expect(new Set(known.keys())).toEqual(new Set(objects.map(({ metadata }) => metadata.name)));
        } else for (const one of objects) play(known, op === 'upsert' ? store.upsert(one) : store.delete(one));
        const names = (all: Iterable<Stored<ConfigMap>>): string[] => [...all].map((one) => one.metadata.name).sort();
        expect(names(store.list())).toEqual(names(known.values()));
        for (const team of ['red', 'blue', 'green']) {
          const expected = store.list().filter((one) => one.data?.team === team);
          expect(names(store.byIndex('team', team))).toEqual(names(expected));
        }
      }
    }),
  );
});

import { describe, expect, test } from '@jest/globals';
import { configMaps } from './builtin.ts';
import { Store } from './store.ts';
import { aConfigMap } from './testing/parts.ts';

describe('Store', () => {
  test('a list that brings nothing new says that nothing changed', () => {
    const store = new Store(configMaps);
    store.replace([aConfigMap('a', 1), aConfigMap('b', 2)]);
    expect(store.replace([aConfigMap('a', 1), aConfigMap('b', 2)])).toEqual([]);
  });

  test('an object missing from a list was deleted, unseen, and its last state is kept for the handlers', () => {
    const store = new Store(configMaps);
    store.replace([aConfigMap('a', 1, { x: 'last' })]);
    expect(store.replace([])).toEqual([{ type: 'deleted', object: aConfigMap('a', 1, { x: 'last' }), missed: true }]);
  });

  test('an object made again under the same name is an update to another uid, even at the same version', () => {
    const store = new Store(configMaps);
    const again = { ...aConfigMap('a', 1), metadata: { ...aConfigMap('a', 1).metadata, uid: 'other' } };
    store.upsert(aConfigMap('a', 1));
    expect(store.upsert(again)).toMatchObject({ type: 'updated', object: { metadata: { uid: 'other' } } });
  });

  test('an index that is added late knows the objects that are there', () => {
    const store = new Store(configMaps);
    store.upsert(aConfigMap('a', 1, { team: 'red' }));
    store.addIndex('team', (one) => [one.data?.team ?? '']);
    expect(store.byIndex('team', 'red')).toHaveLength(1);
  });

  test('an unknown index, or a second function for one, is refused', () => {
    const store = new Store(configMaps);
    expect(() => store.byIndex('nope', 'x')).toThrow(/No index nope on ConfigMap/);
    store.addIndex('i', () => []);
    expect(() => store.addIndex('i', () => ['other'])).toThrow(/exists with another function/);
  });

  test('lists one namespace when asked', () => {
    const store = new Store(configMaps);
    store.upsert(aConfigMap('a', 1));
    expect(store.list('default')).toHaveLength(1);
    expect(store.list('other')).toHaveLength(0);
  });
});

import { expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { configMaps } from './builtin.ts';
import type { InformerEvent } from './contracts.ts';
import { SharedInformer } from './informer.ts';
import { FakeListWatch } from './testing/fake-list-watch.ts';
import { aConfigMap, testParts } from './testing/parts.ts';

const anInformer = (options = {}) =>
  new SharedInformer(configMaps, new FakeListWatch(), options, testParts(new VirtualClock()));

test('cached objects know their type, are frozen all the way down and carry no managed fields', () => {
  const informer = anInformer();
  const object = aConfigMap('a', 1, { x: 'y' });
  object.metadata.managedFields = [{ manager: 'kubectl' }];
  informer.upsert(object);
  const cached = informer.get({ namespace: 'default', name: 'a' })!;
  expect([cached.apiVersion, cached.kind, cached.metadata.managedFields]).toEqual(['v1', 'ConfigMap', undefined]);
  expect(() => (cached.data!.x = 'changed')).toThrow(TypeError);
  expect(() => cached.metadata.finalizers?.push('x') ?? (cached.metadata.finalizers = [])).toThrow(TypeError);
});

test('managed fields are kept for who asks', () => {
  const informer = anInformer({ keepManagedFields: true });
  const object = aConfigMap('a', 1);
  object.metadata.managedFields = [{ manager: 'kubectl' }];
  informer.upsert(object);
  expect(informer.list()[0]?.metadata.managedFields).toHaveLength(1);
});

test('a handler that comes late hears of what is there, as initial', () => {
  const informer = anInformer();
  informer.replace([aConfigMap('a', 1)]);
  const events: InformerEvent<ReturnType<typeof aConfigMap>>[] = [];
  informer.onEvent((event) => events.push(event));
  informer.upsert(aConfigMap('b', 2));
  expect(events).toMatchObject([
    { type: 'added', initial: true, object: { metadata: { name: 'a' } } },
    { type: 'added', initial: false, object: { metadata: { name: 'b' } } },
  ]);
});

test('a handler finds the change in the store when it is told of it', () => {
  const informer = anInformer();
  let seen: string | undefined;
  informer.onEvent(
    ({ object }) => (seen = informer.get({ namespace: 'default', name: object.metadata.name })?.data?.x),
  );
  informer.upsert(aConfigMap('a', 1, { x: 'y' }));
  expect(seen).toBe('y');
});

test('a handler that throws harms neither the others nor the store', () => {
  const informer = anInformer();
  const heard: string[] = [];
  informer.onEvent(() => {
    throw new Error('a bug');
  });
  const remove = informer.onEvent(({ type }) => heard.push(type));
  informer.upsert(aConfigMap('a', 1));
  remove();
  informer.upsert(aConfigMap('a', 2));
  expect(heard).toEqual(['added']);
  expect(informer.size).toBe(1);
});

test('waiting for the first list ends with the signal', async () => {
  const informer = anInformer();
  const abort = new AbortController();
  const waiting = expect(informer.synced(abort.signal)).rejects.toThrow('enough');
  abort.abort(new Error('enough'));
  await waiting;
  informer.replace([]);
  await informer.synced();
});

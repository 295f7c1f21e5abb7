import { afterEach, describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { configMaps } from './builtin.ts';
import { ConnectionError, ForbiddenError, GoneError, ServerError, TooManyRequestsError } from './errors.ts';
import { SharedInformer } from './informer.ts';
import { FakeListWatch } from './testing/fake-list-watch.ts';
import { settle, testParts } from './testing/parts.ts';

const request = { method: 'WATCH', path: '/' };
const lost = new ConnectionError(request, 'lost', { maySent: true });
const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

async function aReflector(api = new FakeListWatch()) {
  const clock = new VirtualClock();
  const informer = new SharedInformer(configMaps, api, {}, testParts(clock));
  const abort = new AbortController();
  const end = informer.run(abort.signal);
  stops.push(async () => {
    abort.abort(new Error('the test ends'));
    await end;
    // Nothing is left that would wake up later.
    clock.advance(3600_000);
    expect(api.watching).toBe(0);
  });
  await settle();
  const known = (): string[] => informer.list().map(({ metadata }) => `${metadata.name}@${metadata.resourceVersion}`);
  return { api, clock, informer, known };
}

describe('Reflector', () => {
  test('streams the list where the server can, and watches on the same stream', async () => {
    const api = new FakeListWatch();
    api.put('a');
    const { known, informer } = await aReflector(api);
    expect(informer.isSynced).toBe(true);
    api.put('b');
    api.remove('a');
    expect(known()).toEqual(['b@3']);
    expect([api.lists, api.starts]).toEqual([0, [{ resourceVersion: '', initialEvents: true }]]);
  });

  test('lists by pages where the server cannot, and remembers that', async () => {
    const api = new FakeListWatch();
    api.streamsLists = false;
    api.put('a');
    const { clock, known } = await aReflector(api);
    expect(known()).toEqual(['a@2']);
    expect(api.starts.at(-1)).toEqual({ resourceVersion: '2', initialEvents: false });
    api.compact();
    api.put('b');
    api.compact();
    api.endWatches(new GoneError(request, 410, {}));
    await settle();
    await clock.advanceAsync(60_000);
    expect(api.lists).toBe(2);
    expect(api.starts.filter(({ initialEvents }) => initialEvents)).toHaveLength(1);
  });

  test('a server that ignores sendInitialEvents is left for pages after a silence', async () => {
    const api = new FakeListWatch();
    const watch = api.watch.bind(api);
    api.watch = async (start, onEvent, signal) =>
      watch(start.initialEvents ? { resourceVersion: '1', initialEvents: false } : start, onEvent, signal);
    const { clock, informer } = await aReflector(api);
    expect(informer.isSynced).toBe(false);
    await clock.advanceAsync(30_000);
    await settle();
    expect(informer.isSynced).toBe(true);
    expect(api.lists).toBe(1);
  });

  test('resumes from the last version after the server ends the watch, without listing', async () => {
    const { api, known } = await aReflector();
    api.put('a');
    api.endWatches();
    api.put('b');
    await settle();
    expect(known()).toEqual(['a@2', 'b@3']);
    expect(api.starts.at(-1)).toEqual({ resourceVersion: '2', initialEvents: false });
  });

  test('resumes from a bookmark, so that a quiet kind does not grow too old', async () => {
    const { api } = await aReflector();
    api.version = 5_000;
    api.bookmark();
    api.compact();
    api.endWatches();
    await settle();
    expect(api.starts.at(-1)).toEqual({ resourceVersion: '5000', initialEvents: false });
    expect(api.watching).toBe(1);
  });

  test.each([
    ['a lost connection', lost],
    ['an overloaded server', new TooManyRequestsError(request, 429, {}, 1_000)],
    ['a server error', new ServerError(request, 500, {})],
    ['a right that was taken away', new ForbiddenError(request, 403, {})],
    ['something unheard of', new Error('?')],
  ])('%s is outlived, with nothing lost', async (_what, error) => {
    const { api, clock, known } = await aReflector();
    api.put('a');
    api.faults.push(error, error, error);
    api.endWatches(error);
    api.put('a', { x: '1' });
    api.put('b');
    await clock.advanceAsync(300_000);
    await settle();
    expect(known()).toEqual(['a@3', 'b@4']);
  });

  test('waits longer from one failure to the next', async () => {
    const { api, clock } = await aReflector();
    api.faults.push(...Array.from({ length: 200 }, () => lost));
    api.endWatches(lost);
    await clock.advanceAsync(120_000);
    const attempts = 200 - api.faults.length;
    // A fixed second would give 120; full jitter up to 30 s gives about 15.
    expect(attempts).toBeGreaterThan(3);
    expect(attempts).toBeLessThan(40);
  });

  test('waits as long as an overloaded server asks', async () => {
    const { api, clock } = await aReflector();
    api.endWatches(new TooManyRequestsError(request, 429, {}, 20_000));
    await settle();
    const watches = api.starts.length;
    await clock.advanceAsync(19_999);
    expect(api.starts).toHaveLength(watches);
    await clock.advanceAsync(2_000);
    expect(api.starts).toHaveLength(watches + 1);
  });

  test('lists again when the version is too old, and tells what was missed', async () => {
    const { api, informer, known } = await aReflector();
    api.put('a');
    api.put('b');
    const events: string[] = [];
    informer.onEvent((event) => events.push(`${event.type} ${event.object.metadata.name}`));
    events.splice(0);
    api.endWatches(new GoneError(request, 410, {}));
    api.remove('a');
    api.put('b', { x: '1' });
    api.put('c');
    api.compact();
    await settle();
    expect(known().sort()).toEqual(['b@5', 'c@6']);
    expect(events).toEqual(['deleted a', 'updated b', 'added c']);
  });

  test('a server that says 410 over and over is not listed in a hot loop', async () => {
    const { api, clock } = await aReflector();
    const gone = new GoneError(request, 410, {});
    const watch = api.watch.bind(api);
    api.watch = async (start, onEvent, signal) => {
      const watching = watch(start, onEvent, signal);
      api.endWatches(gone);
      return watching;
    };
    const before = api.starts.length;
    api.endWatches(gone);
    await clock.advanceAsync(60_000);
    expect(api.starts.length - before).toBeLessThan(40);
  });

  test('a server that ends each watch at once is not asked in a hot loop', async () => {
    const { api, clock } = await aReflector();
    const watch = api.watch.bind(api);
    api.watch = async (start, onEvent, signal) => {
      const watching = watch(start, onEvent, signal);
      api.endWatches();
      return watching;
    };
    api.endWatches();
    await clock.advanceAsync(60_000);
    expect(api.starts.length).toBeLessThan(40);
  });

  test('a version that is refused over and over is given up for a new list', async () => {
    const { api, clock, known } = await aReflector();
    api.put('a');
    api.faults.push(...Array.from({ length: 6 }, () => new ServerError(request, 500, {})));
    api.endWatches(new ServerError(request, 500, {}));
    await clock.advanceAsync(300_000);
    expect(api.starts.filter(({ initialEvents }) => initialEvents).length).toBeGreaterThan(1);
    expect(known()).toEqual(['a@2']);
  });
});

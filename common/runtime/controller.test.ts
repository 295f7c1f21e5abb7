import { afterEach, describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { TerminalError } from '#common/errors.ts';
import { configMaps, type ConfigMap } from './builtin.ts';
import { inheritedPriority, reconcileFields } from './context.ts';
import { type ControllerOptions, done, requeueAfter, type Result } from './contracts.ts';
import { Controller } from './controller.ts';
import { ConflictError } from './errors.ts';
import { SharedInformer } from './informer.ts';
import { mapped, owned } from './sources.ts';
import { FakeListWatch } from './testing/fake-list-watch.ts';
import { aConfigMap, settle, testParts } from './testing/parts.ts';
import type { ObjectKey } from './types.ts';

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

type Reconcile = (key: ObjectKey, signal: AbortSignal) => Promise<Result>;

async function aController(
  reconcile: Reconcile,
  options: Partial<ControllerOptions<ConfigMap>> = {},
  objects: string[] = [],
) {
  const clock = new VirtualClock();
  const parts = testParts(clock);
  const informer = new SharedInformer(configMaps, new FakeListWatch(), {}, parts);
  const names: string[] = [];
  const controller = new Controller(
    {
      name: 'test',
      primary: informer,
      resyncMs: 0,
      reconciler: {
        reconcile: async (key, signal) => {
          names.push(key.name);
          return reconcile(key, signal);
        },
      },
      ...options,
    },
    parts,
  );
  const abort = new AbortController();
  const end = controller.run(abort.signal);
  informer.replace(objects.map((name) => aConfigMap(name, 1)));
  const stop = async (): Promise<void> => {
    abort.abort(new Error('the test ends'));
    await end;
  };
  stops.push(stop);
  await settle();
  return { clock, controller, informer, metrics: parts.metrics, names, stop };
}

const conflict = new ConflictError({ method: 'PUT', path: '/' }, 409, {});

describe('Controller', () => {
  test('reconciles what is there at the start, and each change after it', async () => {
    const { informer, names } = await aController(async () => done, {}, ['a', 'b']);
    expect(names).toEqual(['a', 'b']);
    informer.upsert(aConfigMap('a', 2));
    informer.delete(aConfigMap('b', 3));
    await settle();
    expect(names).toEqual(['a', 'b', 'a', 'b']);
  });

  test("changes that don't count wake it not, but a deletion or a successor of the same name always does", async () => {
    const { informer, names } = await aController(async () => done, { changed: () => false }, ['a']);
    informer.upsert(aConfigMap('a', 2));
    await settle();
    expect(names).toEqual(['a']);
    const deleting = aConfigMap('a', 3);
    deleting.metadata.deletionTimestamp = '2026-01-01T00:00:00Z';
    informer.upsert(deleting);
    await settle();
    const successor = aConfigMap('a', 4);
    successor.metadata.uid = 'another';
    informer.upsert(successor);
    await settle();
    expect(names).toEqual(['a', 'a', 'a']);
  });

  test('runs again after the time that the reconcile asks for', async () => {
    let runs = 0;
    const { clock, names } = await aController(async () => (++runs === 1 ? requeueAfter(5_000) : done), {}, ['a']);
    await clock.advanceAsync(4_999);
    await settle();
    expect(names).toHaveLength(1);
    await clock.advanceAsync(1);
    await settle();
    expect(names).toHaveLength(2);
    await clock.advanceAsync(60_000);
    expect(names).toHaveLength(2);
  });

  test('an error is tried again with growing waits, and a success ends them', async () => {
    let fails = true;
    const { clock, names } = await aController(
      async () => {
        if (fails) throw new Error('not yet');
        return done;
      },
      {},
      ['a'],
    );
    await clock.advanceAsync(20_000);
    const failures = names.length;
    expect(failures).toBeGreaterThan(5);
    expect(failures).toBeLessThan(15);
    fails = false;
    await clock.advanceAsync(60_000);
    expect(names).toHaveLength(failures + 1);
  });

  test('a terminal error parks the object until it changes', async () => {
    const { clock, controller, informer, names } = await aController(
      async () => {
        throw new TerminalError('no such attribute');
      },
      { resyncMs: 60_000 },
      ['a'],
    );
    await clock.advanceAsync(600_000);
    await settle();
    expect([names, controller.parkedKeys]).toEqual([['a'], ['default/a']]);
    informer.upsert(aConfigMap('a', 2));
    await settle();
    expect(names).toEqual(['a', 'a']);
  });

  test('a conflict is tried again and counted as such, not as a failure', async () => {
    let runs = 0;
    const { clock, metrics } = await aController(
      async () => {
        if (++runs === 1) throw conflict;
        return done;
      },
      {},
      ['a'],
    );
    await clock.advanceAsync(1_000);
    await settle();
    const counts = (await metrics.reconcileSeconds.get()).values.filter((v) => v.metricName?.endsWith('_count'));
    expect(counts.map(({ labels, value }) => [labels.result, value])).toEqual([
      ['conflict', 1],
      ['done', 1],
    ]);
  });

  test('a result that makes no sense is an error, not a hot loop', async () => {
    const { clock, names } = await aController(async () => requeueAfter(NaN), {}, ['a']);
    await clock.advanceAsync(10_000);
    expect(names.length).toBeLessThan(15);
  });

  test('one key is never reconciled twice at the same time, others are', async () => {
    let running = 0;
    let most = 0;
    const runningKeys = new Set<string>();
    const gate = Promise.withResolvers<undefined>();
    const { informer } = await aController(
      async ({ name }) => {
        expect(runningKeys.has(name)).toBe(false);
        runningKeys.add(name);
        most = Math.max(most, ++running);
        await gate.promise;
        running--;
        runningKeys.delete(name);
        return done;
      },
      { concurrency: 3 },
      ['a', 'b', 'c', 'd'],
    );
    for (let version = 2; version < 6; version++) {
      informer.upsert(aConfigMap('a', version));
      await settle();
    }
    expect(most).toBe(3);
    gate.resolve(undefined);
    await settle();
    expect(runningKeys.size).toBe(0);
  });

  test('looks at every object again once per resync, spread over its time', async () => {
    const all = Array.from({ length: 120 }, (_, i) => `cm-${i}`);
    const { clock, names } = await aController(async () => done, { resyncMs: 60_000 }, all);
    names.splice(0);
    await clock.advanceAsync(30_000);
    await settle();
    expect(names.length).toBeGreaterThan(20);
    expect(names.length).toBeLessThan(100);
    await clock.advanceAsync(30_000);
    await settle();
    expect(new Set(names).size).toBe(120);
  });

  test('resync work asks for background priority, changes do not, and both carry their log fields', async () => {
    const seen: unknown[] = [];
    const { informer } = await aController(
      async () => {
        await Promise.resolve();
        seen.push([inheritedPriority(), reconcileFields().ConfigMap]);
        return done;
      },
      {},
      ['a'],
    );
    informer.upsert(aConfigMap('a', 2));
    await settle();
    expect(seen).toEqual([
      ['background', 'default/a'],
      [undefined, 'default/a'],
    ]);
    expect([inheritedPriority(), reconcileFields()]).toEqual([undefined, {}]);
  });

  test('a reconcile that takes too long is aborted and tried again', async () => {
    const reasons: string[] = [];
    const { clock, names } = await aController(
      async (_key, signal) =>
        new Promise((_, reject) =>
          signal.addEventListener('abort', () => {
            reasons.push(String(signal.reason));
            reject(signal.reason as Error);
          }),
        ),
      { reconcileTimeoutMs: 1_000 },
      ['a'],
    );
    await clock.advanceAsync(2_000);
    await settle();
    expect(reasons).toEqual(['Error: The reconcile took longer than 1000 ms']);
    expect(names).toHaveLength(2);
  });

  test('the stop aborts what runs, waits for its end, and starts nothing more', async () => {
    let ended = 0;
    const { clock, informer, names, stop } = await aController(
      async (_key, signal) => {
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        ended++;
        return requeueAfter(1);
      },
      { concurrency: 1 },
      ['a', 'b'],
    );
    await stop();
    expect(ended).toBe(1);
    informer.upsert(aConfigMap('c', 2));
    await clock.advanceAsync(3600_000);
    expect(names).toEqual(['a']);
  });

  test('refuses a concurrency of none', async () => {
    await expect(aController(async () => done, { concurrency: 0 })).rejects.toThrow(/test.concurrency must be above 0/);
  });
});

describe('sources', () => {
  const owner = { apiVersion: 'v1', kind: 'ConfigMap', name: 'parent', uid: 'u', controller: true };

  test('a dependant wakes its controller owner, the old one too when it moves', async () => {
    const children = new SharedInformer(configMaps, new FakeListWatch(), {}, testParts(new VirtualClock()));
    children.replace([]);
    const { names } = await aController(async () => done, { sources: [owned(configMaps, children)] });
    const child = aConfigMap('child', 1);
    child.metadata.ownerReferences = [owner];
    children.upsert(child);
    await settle();
    const moved = aConfigMap('child', 2);
    moved.metadata.ownerReferences = [{ ...owner, name: 'other' }];
    children.upsert(moved);
    await settle();
    expect(names).toEqual(['parent', 'parent', 'other']);
  });

  test.each([
    ['of another kind', { ...owner, kind: 'Secret' }],
    ['of another group', { ...owner, apiVersion: 'apps/v1' }],
    ['that is no controller', { ...owner, controller: false }],
  ])('an owner %s is not woken', async (_what, reference) => {
    const children = new SharedInformer(configMaps, new FakeListWatch(), {}, testParts(new VirtualClock()));
    const { names } = await aController(async () => done, { sources: [owned(configMaps, children)] });
    const child = aConfigMap('child', 1);
    child.metadata.ownerReferences = [reference];
    children.replace([child]);
    await settle();
    expect(names).toEqual([]);
  });

  test('workers wait until the caches of all sources are filled', async () => {
    const others = new SharedInformer(configMaps, new FakeListWatch(), {}, testParts(new VirtualClock()));
    const source = mapped(others, () => [{ name: 'mapped' }]);
    const { names } = await aController(async () => done, { sources: [source] }, ['a']);
    expect(names).toEqual([]);
    others.replace([aConfigMap('x', 1)]);
    await settle();
    expect(names.toSorted()).toEqual(['a', 'mapped']);
  });
});

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { TerminalError } from '#common/errors.ts';
import { SeededRandom } from '#common/random.ts';
import { configMaps } from './builtin.ts';
import type { Client } from './contracts.ts';
import { done, requeueAfter } from './contracts.ts';
import { Controller } from './controller.ts';
import { ConflictError, ConnectionError, GoneError } from './errors.ts';
import { BackgroundRecorder } from './events.ts';
import { SharedInformer } from './informer.ts';
import { FakeListWatch } from './testing/fake-list-watch.ts';
import { settle, testParts } from './testing/parts.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

function heapMb(): number {
  collectGarbage();
  collectGarbage();
  return process.memoryUsage().heapUsed / 1e6;
}

const request = { method: 'WATCH', path: '/' };
const hourMs = 3600_000;
const objects = 500;
/** 50 changes a second, for an hour. */
const changes = 180_000;

/** Takes every event and forgets it. */
const sinkClient = { of: () => ({ create: async () => undefined, patch: async () => undefined }) } as unknown as Client;

test('memory stays flat over an hour of churn with failures, relists, delays and events', async () => {
  const clock = new VirtualClock();
  const random = new SeededRandom(7);
  const parts = testParts(clock);
  const api = new FakeListWatch();
  const informer = new SharedInformer(configMaps, api, {}, parts);
  informer.addIndex('value', (object) => [object.data?.value ?? '']);
  const recorder = new BackgroundRecorder({ ...parts, client: sinkClient, controller: 'x/y', instance: 'z' });
  const controller = new Controller(
    {
      name: 'churned',
      primary: informer,
      reconciler: {
        reconcile: async ({ namespace, name }) => {
          const object = { apiVersion: 'v1', kind: 'ConfigMap', namespace, name };
          recorder.publish({ object, type: 'Normal', reason: 'Seen', note: `Number ${random.int(1e9)}` });
          const roll = random.int(20);
          if (roll === 0) throw new Error('fails');
          if (roll === 1) throw new ConflictError(request, 409, {});
          if (roll === 2) throw new TerminalError('parked');
          return roll < 6 ? requeueAfter(1 + random.int(600_000)) : done;
        },
      },
    },
    parts,
  );
  const abort = new AbortController();
  const ends = [informer.run(abort.signal), controller.run(abort.signal)];
  await settle();
  const heap: number[] = [];
  for (let change = 0; change < changes; change++) {
    const name = `cm-${random.int(objects)}`;
    if (random.int(4) === 0) api.remove(name);
    else api.put(name, { value: String(random.int(1_000_000)) });
    if (change % 100 === 0) await clock.advanceAsync(hourMs / (changes / 100));
    if (change % 5_000 === 0) api.endWatches(random.int(2) === 0 ? undefined : new GoneError(request, 410, {}));
    if (change % 7_000 === 0) api.endWatches(new ConnectionError(request, 'lost', { maySent: true }));
    if (change % 1_000 === 0) api.compact();
    if (change % (changes / 6) === changes / 6 - 1) heap.push(heapMb());
  }
  const grownMb = Math.max(...heap.slice(3)) - Math.max(...heap.slice(0, 3));
  expect(grownMb).toBeLessThan(2);
  await clock.advanceAsync(600_000);
  for (const one of informer.list())
    expect(api.objects.get(one.metadata.name)?.metadata.resourceVersion).toBe(one.metadata.resourceVersion);
  expect(informer.size).toBe(api.objects.size);
  abort.abort(new Error('the test ends'));
  await Promise.all(ends);
  await recorder.stop();
}, 240_000);

import { afterEach, describe, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { configMaps } from './builtin.ts';
import { done } from './contracts.ts';
import { LeadershipLostError } from './lease.ts';
import { createManager, type ManagerOptions } from './manager.ts';
import { json, OddServer, refuse } from './testing/odd-server.ts';
import { aConfigMap, testParts } from './testing/parts.ts';
import { HttpTransport } from './transport.ts';

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of opened.splice(0)) await one.close();
});

/** A server with one ConfigMap and one Lease, which `stolen` gives to another. */
async function aManager(options: Partial<ManagerOptions> = {}) {
  const state = { lease: undefined as Record<string, unknown> | undefined, version: 1, isStolen: false };
  const order: string[] = [];
  const server = await new OddServer(({ method, url, body }, response) => {
    const resource = /(configmaps|leases)/.exec(url)?.[1] ?? url;
    if (!url.includes('watch=')) order.push(`${method} ${resource}`);
    if (url.includes('watch=')) response.writeHead(200).write(watchList());
    else if (resource !== 'leases') json(response, 200, aConfigMap('a', 2));
    else if (method === 'GET' && state.lease === undefined) refuse(response, 404, 'NotFound');
    else if (method === 'GET') json(response, 200, state.lease);
    else if (state.isStolen) {
      state.lease = { ...state.lease, spec: { holderIdentity: 'thief' }, metadata: { resourceVersion: '99' } };
      refuse(response, 409, 'Conflict');
    } else {
      const sent = JSON.parse(body) as { metadata: object };
      state.lease = { ...sent, metadata: { ...sent.metadata, resourceVersion: String(++state.version) } };
      json(response, 200, state.lease);
    }
  }).start();
  const parts = testParts(systemClock);
  const transport = new HttpTransport({ ...parts, credentials: server.credentials() });
  opened.push(transport, { close: async () => server.stop() });
  const lease = { namespace: 'default', name: 'op', durationMs: 3_000, renewDeadlineMs: 1_000, retryMs: 50 };
  const servers = { healthServer: { host: '127.0.0.1', port: 0 }, metricsServer: { host: '127.0.0.1', port: 0 } };
  const manager = createManager({ ...parts, name: 'test', transport, lease, ...servers, graceMs: 500, ...options });
  return { manager, server, state, order, transport };
}

function watchList(): string {
  const added = { type: 'ADDED', object: aConfigMap('a', 1) };
  const annotations = { 'k8s.io/initial-events-end': 'true' };
  const bookmark = { type: 'BOOKMARK', object: { metadata: { resourceVersion: '1', annotations } } };
  return `${JSON.stringify(added)}\n${JSON.stringify(bookmark)}\n`;
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 400 && !condition(); i++) await systemClock.sleep(10);
  expect(condition()).toBe(true);
}

describe('Manager', () => {
  test('takes the lease before controllers write, and gives it up after they have ended', async () => {
    const { manager, order } = await aManager();
    const informer = manager.informer(configMaps);
    let isDone = false;
    manager.addController({
      name: 'c',
      primary: informer,
      reconciler: {
        reconcile: async (key, signal) => {
          expect(manager.isLeader).toBe(true);
          await manager.client.of(configMaps).apply({ metadata: { ...key, namespace: 'default' } }, { signal });
          isDone = true;
          return done;
        },
      },
    });
    const stop = new AbortController();
    const end = manager.run(stop.signal);
    await until(() => isDone);
    const ready = await fetch(`http://127.0.0.1:${manager.ports.health}/readyz`);
    expect(await ready.text()).toBe('ok');
    const metrics = await (await fetch(`http://127.0.0.1:${manager.ports.metrics}/metrics`)).text();
    expect(metrics).toContain('xtreemos_runtime_is_leader 1');
    stop.abort();
    await end;
    // On a slow machine a request is repeated.
    const steps = order.filter((step, index) => step !== order[index - 1]);
    expect(steps.slice(0, 3)).toEqual(['GET leases', 'POST leases', 'PATCH configmaps']);
    expect(order.at(-1)).toBe('PUT leases');
    expect(manager.isLeader).toBe(false);
    await expect(fetch(`http://127.0.0.1:${manager.ports.health}/readyz`)).rejects.toThrow();
  });

  test('ends with LeadershipLostError when another took the lease, and its client writes no more', async () => {
    const { manager, state } = await aManager();
    const stop = new AbortController();
    const end = manager.run(stop.signal);
    await until(() => manager.isLeader);
    state.isStolen = true;
    await expect(end).rejects.toThrow(LeadershipLostError);
    const write = manager.client.of(configMaps).apply({ metadata: { name: 'a', namespace: 'default' } });
    await expect(write).rejects.toThrow(/held by thief/);
  });

  test('what does not stop in its time is left behind the closed fence, and the lease is not given up', async () => {
    const { manager, order } = await aManager();
    const release = Promise.withResolvers<undefined>();
    let late: unknown;
    manager.addRunnable({
      name: 'stubborn',
      run: async () => {
        await release.promise;
        const write = manager.client.of(configMaps).apply({ metadata: { name: 'a', namespace: 'default' } });
        late = await write.catch((error: unknown) => error);
      },
    });
    const stop = new AbortController();
    const end = manager.run(stop.signal);
    await until(() => manager.isLeader);
    stop.abort();
    await end;
    const before = order.length;
    release.resolve(undefined);
    await until(() => late !== undefined);
    expect(String(late)).toMatch(/FencedError: Write stopped: the process stops/);
    expect(order).toHaveLength(before);
  });

  test('a runnable that fails stops everything with its error', async () => {
    const { manager } = await aManager({ lease: undefined });
    const stopped: string[] = [];
    manager.addRunnable({
      name: 'good',
      run: async (signal) =>
        new Promise((resolve) => signal.addEventListener('abort', () => resolve(void stopped.push('good')))),
    });
    manager.addRunnable({
      name: 'bad',
      run: async () => {
        throw new Error('cannot bind');
      },
    });
    await expect(manager.run(new AbortController().signal)).rejects.toThrow('cannot bind');
    expect(stopped).toEqual(['good']);
  });

  test('a runnable that ends too early is an error too', async () => {
    const { manager } = await aManager({ lease: undefined });
    manager.addRunnable({ name: 'short', run: async () => undefined });
    await expect(manager.run(new AbortController().signal)).rejects.toThrow('short ended before the stop');
  });

  test('a stop before the lease is held ends quietly', async () => {
    const { manager, state } = await aManager();
    state.lease = { metadata: { resourceVersion: '5' }, spec: { holderIdentity: 'other', leaseDurationSeconds: 15 } };
    const stop = new AbortController();
    const end = manager.run(stop.signal);
    await systemClock.sleep(200);
    expect(manager.isLeader).toBe(false);
    stop.abort();
    await end;
    expect(state.lease).toMatchObject({ spec: { holderIdentity: 'other' } });
  });

  test('informers are shared by kind and options, and nothing is added while it runs', async () => {
    const { manager } = await aManager({ lease: undefined });
    expect(manager.informer(configMaps)).toBe(manager.informer(configMaps, {}));
    expect(manager.informer(configMaps)).not.toBe(manager.informer(configMaps, { namespace: 'x' }));
    const stop = new AbortController();
    const end = manager.run(stop.signal);
    expect(() => manager.addCheck('ready', 'late', () => undefined)).toThrow(/runs already/);
    const late = manager.informer(configMaps, { namespace: 'late' });
    await late.synced();
    stop.abort();
    await end;
    await expect(manager.run(stop.signal)).rejects.toThrow(/run once/);
  });
});

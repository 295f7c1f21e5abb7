/** The client, finalizers, leases, events and the manager's servers against a real API server. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { type AloneControlPlane, startControlPlane } from '#sites/control-plane.ts';
import { configMaps, events as eventKind, leases, namespaces } from './builtin.ts';
import { createClient } from './client.ts';
import { setCondition } from './conditions.ts';
import { type Client, done } from './contracts.ts';
import { kubeConfigCredentials } from './credentials.ts';
import { AlreadyExistsError, ConflictError, ForbiddenError, InvalidError, NotFoundError } from './errors.ts';
import { referenceTo } from './events.ts';
import { Finalizers } from './finalizers.ts';
import { createInformer } from './informer.ts';
import { createManager } from './manager.ts';
import { testParts } from './testing/parts.ts';
import { HttpTransport } from './transport.ts';
import { isDeleting } from './types.ts';

let plane: AloneControlPlane;
let transport: HttpTransport;
let client: Client;
const namespace = 'default';

beforeAll(async () => {
  const dir = mkdtempSync(path.join(tmpdir(), 'xtreemos-runtime-'));
  plane = await startControlPlane({ dir, name: 'client', users: [{ name: 'alice' }] });
  transport = new HttpTransport({
    ...testParts(systemClock),
    credentials: kubeConfigCredentials({ file: plane.kubeconfigPath }),
  });
  client = createClient(transport, { fieldManager: 'test' });
}, 120_000);

afterAll(async () => {
  await transport.close();
  await plane.stop();
}, 60_000);

describe('objects', () => {
  test('are made, read, changed, applied and deleted, with an error of its own for each refusal', async () => {
    const objects = client.of(configMaps);
    const key = { namespace, name: 'life' };
    expect(await objects.find(key)).toBeUndefined();
    const made = await objects.create({ metadata: key, data: { a: '1' } });
    await expect(objects.create({ metadata: key })).rejects.toThrow(AlreadyExistsError);
    const updated = await objects.update({ ...made, data: { a: '2' } });
    await expect(objects.update({ ...made, data: { a: '3' } })).rejects.toThrow(ConflictError);
    expect((await objects.patch(key, { type: 'merge', body: { data: { b: '1' } } })).data).toEqual({ a: '2', b: '1' });
    const applied = await objects.apply({ metadata: key, data: { b: '2' } }, { fieldManager: 'owner' });
    expect([applied.data, applied.metadata.uid]).toEqual([{ a: '2', b: '2' }, updated.metadata.uid]);
    await expect(objects.apply({ metadata: key, data: { b: '3' } }, { force: false })).rejects.toThrow(ConflictError);
    const again = await objects.apply({ metadata: key, data: { b: '2' } }, { fieldManager: 'owner' });
    expect(again.metadata.resourceVersion).toBe(applied.metadata.resourceVersion);
    await expect(objects.apply({ metadata: { ...key, name: 'Not_Valid' } })).rejects.toThrow(InvalidError);
    await expect(objects.delete(key, { preconditions: { uid: 'another' } })).rejects.toThrow(ConflictError);
    await objects.delete(key);
    await expect(objects.delete(key)).rejects.toThrow(NotFoundError);
  });

  test('a user without rights is told so', async () => {
    const credentials = kubeConfigCredentials({ file: plane.kubeconfigPath, context: 'alice@client' });
    const alice = new HttpTransport({ ...testParts(systemClock), credentials });
    try {
      const list = createClient(alice, { fieldManager: 'alice' }).of(configMaps).list({ namespace });
      await expect(list).rejects.toThrow(ForbiddenError);
    } finally {
      await alice.close();
    }
  });

  test('a list of many pages is of one moment, and a status is written beside the spec', async () => {
    const objects = client.of(configMaps);
    await Promise.all(
      Array.from({ length: 25 }, async (_, i) =>
        objects.apply({ metadata: { namespace, name: `p-${i}`, labels: { page: 'y' } } }),
      ),
    );
    const { items } = await objects.list({ namespace, labelSelector: 'page=y', limit: 4 });
    expect(items).toHaveLength(25);
    const spaces = client.of(namespaces);
    const space = await spaces.apply({ metadata: { name: 'with-status' } });
    const [condition] = setCondition([], { type: 'Ready', status: 'True', reason: 'Tried', message: '' }, Date.now());
    const { status } = await spaces.status.patch(space.metadata, {
      type: 'merge',
      body: { status: { conditions: [condition] } },
    });
    expect(status).toMatchObject({ conditions: [{ type: 'Ready', status: 'True' }] });
  });
});

test('a finalizer keeps an object until it is removed, and neither write overwrites others', async () => {
  const objects = client.of(configMaps);
  const finalizers = new Finalizers(objects, 'xtreemos.io/test');
  const made = await objects.apply({ metadata: { namespace, name: 'kept', finalizers: ['other.io/x'] } });
  expect(await finalizers.ensure(made)).toBe(true);
  await expect(finalizers.ensure(made)).rejects.toThrow(ConflictError);
  await objects.delete({ namespace, name: 'kept' });
  const deleting = await objects.get({ namespace, name: 'kept' });
  expect([isDeleting(deleting), deleting.metadata.finalizers?.toSorted()]).toEqual([
    true,
    ['other.io/x', 'xtreemos.io/test'],
  ]);
  expect(await finalizers.ensure(deleting)).toBe(false);
  expect(await finalizers.remove(deleting)).toBe(true);
  const left = await objects.get({ namespace, name: 'kept' });
  expect(left.metadata.finalizers).toEqual(['other.io/x']);
  await new Finalizers(objects, 'other.io/x').remove(left);
  expect(await objects.find({ namespace, name: 'kept' })).toBeUndefined();
  expect(await new Finalizers(objects, 'other.io/x').remove(left)).toBe(false);
});

test('an informer takes its list as a stream, without one list request', async () => {
  const parts = testParts(systemClock);
  const informer = createInformer(transport, configMaps, { namespace, labelSelector: 'page=y' }, parts);
  const stop = new AbortController();
  const end = informer.run(stop.signal);
  await informer.synced();
  expect(informer.size).toBeGreaterThanOrEqual(25);
  const { values } = await parts.metrics.watchEvents.get();
  expect(values).toEqual([]);
  await client.of(configMaps).apply({ metadata: { namespace, name: 'streamed', labels: { page: 'y' } } });
  for (let i = 0; i < 100 && informer.get({ namespace, name: 'streamed' }) === undefined; i++) await sleep(20);
  expect(informer.get({ namespace, name: 'streamed' })?.metadata.managedFields).toBeUndefined();
  stop.abort(new Error('the test ends'));
  await end;
});

describe('a manager', () => {
  test('leads, publishes events, guards its metrics, stops, and leaves the lease free', async () => {
    const parts = testParts(systemClock);
    const manager = createManager({
      ...parts,
      name: 'xtreemos.io/test',
      transport,
      lease: { namespace, name: 'managed' },
      metricsServer: { host: '127.0.0.1', port: 0, isProtected: true },
      healthServer: { host: '127.0.0.1', port: 0 },
    });
    const informer = manager.informer(configMaps, { namespace });
    const told = Promise.withResolvers<undefined>();
    manager.addController({
      name: 'teller',
      primary: informer,
      changed: () => false,
      reconciler: {
        reconcile: async (key) => {
          const object = informer.get(key);
          if (object !== undefined && key.name === 'told') {
            manager.events.publish({
              object: referenceTo(configMaps, object),
              type: 'Normal',
              reason: 'Told',
              note: 'It was',
            });
            told.resolve(undefined);
          }
          return done;
        },
      },
    });
    const stop = new AbortController();
    const end = manager.run(stop.signal);
    await client.of(configMaps).apply({ metadata: { namespace, name: 'told' } });
    await told.promise;
    expect((await client.of(leases).get({ namespace, name: 'managed' })).spec?.renewTime).toMatch(/\.\d{6}Z$/);
    const metrics = `http://127.0.0.1:${manager.ports.metrics}/metrics`;
    const statuses = [
      await scrape(metrics),
      await scrape(metrics, 'forged'),
      await scrape(metrics, await aToken('visitor')),
    ];
    await mayScrape('scraper');
    expect([...statuses, await scrape(metrics, await aToken('scraper'))]).toEqual([401, 401, 403, 200]);
    stop.abort();
    await end;
    expect((await client.of(leases).get({ namespace, name: 'managed' })).spec?.holderIdentity ?? '').toBe('');
    const { items } = await client.of(eventKind).list({ namespace });
    expect(items.filter(({ reason }) => reason === 'Told')).toMatchObject([
      { note: 'It was', regarding: { kind: 'ConfigMap', name: 'told' }, reportingController: 'xtreemos.io/test' },
    ]);
  }, 60_000);
});

async function scrape(url: string, token?: string): Promise<number> {
  return (await fetch(url, token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } })).status;
}

async function aToken(account: string): Promise<string> {
  const accounts = `/api/v1/namespaces/${namespace}/serviceaccounts`;
  const isThere = await client.raw('GET', `${accounts}/${account}`).catch(() => undefined);
  if (isThere === undefined) await client.raw('POST', accounts, { metadata: { name: account } });
  const answer = await client.raw('POST', `${accounts}/${account}/token`, { spec: {} });
  return (answer as { status: { token: string } }).status.token;
}

async function mayScrape(account: string): Promise<void> {
  const rbac = '/apis/rbac.authorization.k8s.io/v1';
  const rules = [{ nonResourceURLs: ['/metrics'], verbs: ['get'] }];
  await client.raw('POST', `${rbac}/clusterroles`, { metadata: { name: 'scrape' }, rules });
  await client.raw('POST', `${rbac}/clusterrolebindings`, {
    metadata: { name: 'scrape' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'scrape' },
    subjects: [{ kind: 'ServiceAccount', name: account, namespace }],
  });
}

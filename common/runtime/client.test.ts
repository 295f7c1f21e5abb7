import { afterEach, describe, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { configMaps, nodes } from './builtin.ts';
import { createClient } from './client.ts';
import { GoneError } from './errors.ts';
import { defineKind, objectPath } from './kind.ts';
import { type Answerer, json, OddServer, refuse } from './testing/odd-server.ts';
import { aConfigMap, testParts } from './testing/parts.ts';
import { HttpTransport } from './transport.ts';

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of opened.splice(0)) await one.close();
});

async function aClient(answer: Answerer) {
  const server = await new OddServer(answer).start();
  const transport = new HttpTransport({ ...testParts(systemClock), credentials: server.credentials() });
  opened.push(transport, { close: async () => server.stop() });
  return { server, client: createClient(transport, { fieldManager: 'me' }) };
}

/** Serves pages of `limit` objects out of `count`; tokens say where to go on. */
function pages(count: number): Answerer {
  return ({ url }, response) => {
    const query = new URL(url, 'http://x').searchParams;
    const from = Number(query.get('continue') ?? 0);
    const limit = Number(query.get('limit') ?? count);
    const items = Array.from({ length: Math.min(limit, count - from) }, (_, i) => aConfigMap(`cm-${from + i}`, 5));
    const next = from + limit < count ? String(from + limit) : '';
    json(response, 200, { metadata: { resourceVersion: '9', continue: next }, items });
  };
}

describe('lists', () => {
  test('come by pages of 500, whole and typed', async () => {
    const { server, client } = await aClient(pages(1_200));
    const { items, resourceVersion } = await client.of(configMaps).list();
    expect([items.length, resourceVersion, server.received.length]).toEqual([1_200, '9', 3]);
    expect(items[1_199]).toMatchObject({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'cm-1199' } });
  });

  test('start again when a token has expired, and are taken whole at last', async () => {
    const { server, client } = await aClient((request, response, index) => {
      if (request.url.includes('continue=')) refuse(response, 410, 'Expired');
      else void pages(1_200)(request, response, index);
    });
    const { items } = await client.of(configMaps).list();
    expect(items).toHaveLength(1_200);
    expect(server.received.map(({ url }) => url.replace(/^.*configmaps/, ''))).toEqual([
      '?limit=500',
      '?limit=500&continue=500',
      '?limit=500',
      '?limit=500&continue=500',
      '',
    ]);
  });

  test('one page alone fails with GoneError when its token has expired', async () => {
    const { client } = await aClient((_request, response) => refuse(response, 410, 'Expired'));
    await expect(client.of(configMaps).listPage({ continueToken: 'old' })).rejects.toThrow(GoneError);
  });

  test('an empty list may come as null', async () => {
    const { client } = await aClient((_request, response) => json(response, 200, { metadata: {}, items: null }));
    expect((await client.of(configMaps).list()).items).toEqual([]);
  });
});

describe('paths', () => {
  test.each([
    ['an empty name', configMaps, { namespace: 'x', name: '' }, /name of a ConfigMap is empty/],
    ['no namespace', configMaps, { name: 'x' }, /namespace of ConfigMap x is empty/],
  ])('%s is refused before it would name the whole collection', (_what, kind, key, message) => {
    expect(() => objectPath(kind, key)).toThrow(message);
  });

  test('names are escaped', () => {
    expect(objectPath(nodes, { name: '../secrets' })).toBe('/api/v1/nodes/..%2Fsecrets');
  });

  test('a kind of a group lives under /apis', () => {
    const kind = defineKind({
      group: 'xtreemos.io',
      version: 'v1alpha1',
      kind: 'Site',
      plural: 'sites',
      namespaced: false,
    });
    expect(objectPath(kind, { name: 'a' }, 'status')).toBe('/apis/xtreemos.io/v1alpha1/sites/a/status');
  });
});

test('each write says its content type and its field manager', async () => {
  const { server, client } = await aClient((_request, response) => json(response, 200, aConfigMap('a', 1)));
  const key = { namespace: 'default', name: 'a' };
  const objects = client.of(configMaps);
  await objects.apply({ metadata: key, data: {} }, { dryRun: true });
  await objects.patch(key, { type: 'merge', body: { data: {} } }, { fieldManager: 'other' });
  await objects.patch(key, { type: 'json', body: [{ op: 'remove', path: '/data' }] });
  await objects.update(aConfigMap('a', 1));
  expect(
    server.received.map(({ method, url, headers }) => [method, url.split('?')[1], headers['content-type']]),
  ).toEqual([
    ['PATCH', 'fieldManager=me&force=true&dryRun=All', 'application/apply-patch+yaml'],
    ['PATCH', 'fieldManager=other', 'application/merge-patch+json'],
    ['PATCH', 'fieldManager=me', 'application/json-patch+json'],
    ['PUT', 'fieldManager=me', 'application/json'],
  ]);
  expect(JSON.parse(server.received[0]!.body)).toEqual({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: key,
    data: {},
  });
});

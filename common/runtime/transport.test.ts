import { getEventListeners } from 'node:events';
import { afterEach, describe, expect, test } from '@jest/globals';
import { systemClock, VirtualClock } from '#common/clock.ts';
import { configMaps } from './builtin.ts';
import { createClient } from './client.ts';
import type { Client } from './contracts.ts';
import {
  AlreadyExistsError,
  ConflictError,
  ConnectionError,
  FencedError,
  GoneError,
  InvalidError,
  ServerError,
  TooManyRequestsError,
  UnauthorizedError,
} from './errors.ts';
import type { Fence } from './fence.ts';
import { type Answerer, json, OddServer, refuse } from './testing/odd-server.ts';
import { aConfigMap, settle, testParts } from './testing/parts.ts';
import { HttpTransport, type StreamRequest, type TransportOptions } from './transport.ts';

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of opened.splice(0)) await one.close();
});

interface World {
  readonly server: OddServer;
  readonly transport: HttpTransport;
  readonly client: Client;
}

async function aWorld(answer: Answerer, options: Partial<TransportOptions> = {}, fence?: Fence): Promise<World> {
  const server = await new OddServer(answer).start();
  const transport = new HttpTransport({ ...testParts(systemClock), credentials: server.credentials(), ...options });
  opened.push(transport, { close: async () => server.stop() });
  return { server, transport, client: createClient(transport, { fieldManager: 'test', fence }) };
}

const key = { namespace: 'default', name: 'a' };
const ok: Answerer = (_request, response) => json(response, 200, aConfigMap('a', 1));

describe('connections', () => {
  test('twenty requests in a row share their connections', async () => {
    const { server, client } = await aWorld(ok);
    for (let i = 0; i < 20; i++) await client.of(configMaps).get(key);
    // The second request finds the first connection not yet free: it is handed back after the answer is read.
    expect(server.connections).toBeLessThanOrEqual(2);
  });

  test('closing leaves no connection open and refuses what comes after', async () => {
    const { server, transport, client } = await aWorld((request, response) => {
      if (!request.url.endsWith('/hang')) json(response, 200, {});
    });
    const hanging = expect(client.raw('GET', '/hang')).rejects.toThrow(ConnectionError);
    await client.raw('GET', '/x');
    await transport.close();
    await hanging;
    await expect(client.raw('GET', '/x')).rejects.toThrow('The transport is closed');
    for (let i = 0; i < 100 && server.open > 0; i++) await systemClock.sleep(10);
    expect(server.open).toBe(0);
  });

  test('an answer that never comes is given up after the time of an attempt', async () => {
    const { transport } = await aWorld(() => undefined);
    const request = {
      method: 'GET',
      path: '/x',
      priority: 'read',
      isIdempotent: true,
      verb: 'get',
      resource: 'x',
    } as const;
    const startedAt = performance.now();
    await expect(transport.request({ ...request, timeoutMs: 100, retriesMax: 1 })).rejects.toThrow(
      /no answer within 100 ms/,
    );
    expect(performance.now() - startedAt).toBeLessThan(5_000);
  });

  test('a request whose signal aborts fails with the reason', async () => {
    const { client } = await aWorld(() => undefined);
    const abort = new AbortController();
    const request = client.of(configMaps).get(key, { signal: abort.signal });
    const failed = expect(request).rejects.toThrow('enough');
    await settle();
    abort.abort(new Error('enough'));
    await failed;
  });

  test('a request whose signal aborts while credentials are read is not sent', async () => {
    const server = await new OddServer(ok).start();
    const abort = new AbortController();
    const credentials = server.credentials(() => {
      abort.abort(new Error('too late'));
      return {};
    });
    const transport = new HttpTransport({ ...testParts(systemClock), credentials });
    opened.push(transport, { close: async () => server.stop() });
    const objects = createClient(transport, { fieldManager: 'test' }).of(configMaps);
    await expect(objects.get(key, { signal: abort.signal })).rejects.toThrow('too late');
    expect(server.received).toEqual([]);
  });

  test('an answer that is no JSON says so', async () => {
    const { client } = await aWorld((_request, response) => void response.end('<html>proxy</html>'));
    await expect(client.raw('POST', '/x', {})).rejects.toThrow(/no JSON \(<html>proxy/);
  });
});

describe('repeating', () => {
  test('429 is repeated after Retry-After, for every verb', async () => {
    const { server, client } = await aWorld((_request, response, index) => {
      if (index === 0) refuse(response, 429, 'TooManyRequests', { 'retry-after': '1' });
      else json(response, 201, aConfigMap('a', 1));
    });
    const startedAt = performance.now();
    await client.of(configMaps).create(aConfigMap('a', 1));
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(1_000);
    expect(server.received).toHaveLength(2);
  });

  test('a server that stays busy ends in TooManyRequestsError after five attempts', async () => {
    const { server, client } = await aWorld((_request, response) => refuse(response, 429, 'TooManyRequests'));
    await expect(client.of(configMaps).get(key)).rejects.toThrow(TooManyRequestsError);
    expect(server.received).toHaveLength(5);
  });

  test('an eviction that a disruption budget forbids is not repeated', async () => {
    const { server, client } = await aWorld((_request, response) =>
      json(response, 429, { message: 'budget', details: { causes: [{ reason: 'DisruptionBudget' }] } }),
    );
    await expect(client.raw('POST', '/eviction', {})).rejects.toThrow(TooManyRequestsError);
    expect(server.received).toHaveLength(1);
  });

  test('a read whose connection breaks is repeated', async () => {
    const { server, client } = await aWorld((_request, response, index) => {
      if (index === 0) response.destroy();
      else json(response, 200, aConfigMap('a', 1));
    });
    await client.of(configMaps).get(key);
    expect(server.received).toHaveLength(2);
  });

  test('a create whose connection breaks is not repeated: it may have arrived', async () => {
    const { server, client } = await aWorld((_request, response) => void response.destroy());
    const error = await client
      .of(configMaps)
      .create(aConfigMap('a', 1))
      .catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ConnectionError);
    expect((error as ConnectionError).maySent).toBe(true);
    expect(server.received).toHaveLength(1);
  });

  test('a create that nobody heard is repeated until it is known to be in vain', async () => {
    const { server, client, transport } = await aWorld(ok);
    await server.stop();
    const error = await client
      .of(configMaps)
      .create(aConfigMap('a', 1))
      .catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ConnectionError);
    expect((error as ConnectionError).maySent).toBe(false);
    const retries = await transport.metrics.requestRetries.get();
    expect(retries.values).toEqual([
      expect.objectContaining({ value: 4, labels: { verb: 'create', reason: expect.any(String) } }),
    ]);
    opened.splice(1, 1);
  });

  test('server-side apply is repeated after 503, and 500 is not repeated', async () => {
    const { server, client } = await aWorld((request, response, index) => {
      if (request.method === 'GET') refuse(response, 500, 'InternalError');
      else if (index === 0) refuse(response, 503, 'ServiceUnavailable');
      else json(response, 200, aConfigMap('a', 1));
    });
    await client.of(configMaps).apply({ metadata: key, data: { x: 'y' } });
    expect(server.received).toHaveLength(2);
    await expect(client.of(configMaps).get(key)).rejects.toThrow(ServerError);
    expect(server.received).toHaveLength(3);
  });

  test('a stop during the wait between attempts ends it at once', async () => {
    const { client, transport } = await aWorld((_request, response) =>
      refuse(response, 429, 'TooManyRequests', { 'retry-after': '50' }),
    );
    const failed = expect(client.of(configMaps).get(key)).rejects.toThrow('The transport is closed');
    await systemClock.sleep(100);
    await transport.close();
    await failed;
  });
});

describe('errors', () => {
  test.each([
    [409, 'AlreadyExists', AlreadyExistsError],
    [409, 'Conflict', ConflictError],
    [410, 'Expired', GoneError],
    [422, 'Invalid', InvalidError],
    [400, 'BadRequest', InvalidError],
    [500, 'InternalError', ServerError],
  ])('%i %s is a class of its own, with what was attempted', async (code, reason, type) => {
    const { client } = await aWorld((_request, response) => refuse(response, code, reason));
    const error = await client
      .of(configMaps)
      .create(aConfigMap('a', 1))
      .catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(type);
    expect((error as Error).message).toBe(
      `POST /api/v1/namespaces/default/configmaps?fieldManager=test: ${reason} it is`,
    );
  });

  test('an answer of a proxy, which is no Status, keeps its words', async () => {
    const { client } = await aWorld((_request, response) => void response.writeHead(500).end('upstream went away'));
    await expect(client.raw('POST', '/x', {})).rejects.toThrow('POST /x: upstream went away');
  });
});

describe('credentials', () => {
  test('a refused token is read anew once, and the request repeated', async () => {
    const server = await new OddServer((request, response) => {
      if (request.headers.authorization === 'Bearer new') json(response, 200, aConfigMap('a', 1));
      else refuse(response, 401, 'Unauthorized');
    }).start();
    const credentials = server.credentials((_loads, renew) => ({
      headers: { authorization: renew ? 'Bearer new' : 'Bearer old' },
    }));
    const transport = new HttpTransport({ ...testParts(systemClock), credentials });
    opened.push(transport, { close: async () => server.stop() });
    await createClient(transport, { fieldManager: 'test' }).of(configMaps).get(key);
    expect(server.received).toHaveLength(2);
  });

  test('credentials that stay refused end in UnauthorizedError, not in a loop', async () => {
    const { server, client } = await aWorld((_request, response) => refuse(response, 401, 'Unauthorized'));
    await expect(client.of(configMaps).get(key)).rejects.toThrow(UnauthorizedError);
    expect(server.received).toHaveLength(2);
  });

  test('a token file that was rotated is picked up within its age', async () => {
    const server = await new OddServer(ok).start();
    const credentials = server.credentials((loads) => ({ headers: { authorization: `Bearer ${loads}` } }));
    // Time passes when it is told to, however slow the machine is.
    let nowMs = 0;
    const clock = { ...systemClock, monotonic: () => nowMs };
    const transport = new HttpTransport({ ...testParts(clock), credentials, credentialsMaxAgeMs: 20 });
    opened.push(transport, { close: async () => server.stop() });
    const client = createClient(transport, { fieldManager: 'test' }).of(configMaps);
    await client.get(key);
    nowMs += 40;
    await client.get(key);
    await settle();
    await client.get(key);
    const tokens = server.received.map(({ headers }) => headers.authorization);
    expect([tokens.at(0), tokens.at(-1)]).toEqual(['Bearer 0', 'Bearer 1']);
  });

  test('a new certificate gets new connections, and the old ones are closed', async () => {
    const server = await new OddServer(ok).start();
    const credentials = server.credentials((loads) => ({ tls: { rejectUnauthorized: true, cert: `PEM ${loads}` } }));
    const transport = new HttpTransport({ ...testParts(systemClock), credentials, credentialsMaxAgeMs: 20 });
    opened.push(transport, { close: async () => server.stop() });
    const client = createClient(transport, { fieldManager: 'test' }).of(configMaps);
    for (let i = 0; i < 3; i++) {
      await client.get(key);
      await systemClock.sleep(40);
    }
    expect(server.connections).toBeGreaterThan(1);
    for (let i = 0; i < 100 && server.open > 1; i++) await systemClock.sleep(10);
    expect(server.open).toBeLessThanOrEqual(1);
  });
});

describe('the fence', () => {
  const closed: Fence = {
    check: () => {
      throw new FencedError('not the leader');
    },
    track: () => () => undefined,
  };

  test('a write without the lease never reaches the server, a read and a review do', async () => {
    const { server, client } = await aWorld((_request, response) => json(response, 200, { items: [] }), {}, closed);
    const objects = client.of(configMaps);
    const writes = [
      async () => objects.create(aConfigMap('a', 1)),
      async () => objects.update(aConfigMap('a', 1)),
      async () => objects.patch(key, { type: 'merge', body: {} }),
      async () => objects.apply({ metadata: key }),
      async () => objects.delete(key),
      async () => objects.status.update(aConfigMap('a', 1)),
      async () => client.raw('POST', '/api/v1/namespaces/default/pods/a/eviction', {}),
    ];
    for (const write of writes) await expect(write()).rejects.toThrow(FencedError);
    expect(server.received).toEqual([]);
    await objects.list();
    await client.raw('POST', '/apis/authorization.k8s.io/v1/subjectaccessreviews', {});
    expect(server.received.map(({ method }) => method)).toEqual(['GET', 'POST']);
  });

  test('a write that waited for a connection is checked again when it would leave', async () => {
    let checks = 0;
    const late: Fence = {
      check: () => {
        if (++checks > 1) throw new FencedError('lost meanwhile');
      },
      track: () => () => undefined,
    };
    const { server, client } = await aWorld(ok, {}, late);
    await expect(client.of(configMaps).apply({ metadata: key })).rejects.toThrow('lost meanwhile');
    expect(checks).toBe(2);
    expect(server.received).toEqual([]);
  });

  test('a write under way is cut off when the lease is lost', async () => {
    let lose: (reason: FencedError) => void = () => undefined;
    const fence: Fence = { check: () => undefined, track: (onLost) => ((lose = onLost), () => undefined) };
    const { server, client } = await aWorld(() => undefined, {}, fence);
    const failed = expect(client.of(configMaps).apply({ metadata: key })).rejects.toThrow(FencedError);
    for (let i = 0; i < 100 && server.received.length === 0; i++) await systemClock.sleep(5);
    lose(new FencedError('lost'));
    await failed;
    for (let i = 0; i < 100 && server.open > 0; i++) await systemClock.sleep(5);
    expect(server.open).toBe(0);
  });
});

describe('streams', () => {
  const stream: Omit<StreamRequest, 'signal'> = {
    method: 'GET',
    path: '/watch',
    priority: 'read',
    isIdempotent: true,
    verb: 'watch',
    resource: 'x',
    idleTimeoutMs: 60_000,
  };

  test('lines come whole, however the bytes are cut, and a last line without its end is dropped', async () => {
    const text = Buffer.from('{"a":"ü€😀"}\n\n{"b":2}\n{"cut');
    const { transport } = await aWorld(async (_request, response) => {
      response.writeHead(200);
      for (const byte of text) {
        response.write(Buffer.of(byte));
        await new Promise((resolve) => setImmediate(resolve));
      }
      response.end();
    });
    const lines: string[] = [];
    await transport.stream(stream, (line) => lines.push(line));
    expect(lines).toEqual(['{"a":"ü€😀"}', '{"b":2}']);
  });

  test('what the reader throws ends the stream with that error, and no further line is read', async () => {
    const { transport } = await aWorld((_request, response) => void response.writeHead(200).write('1\n2\n3\n'));
    const lines: string[] = [];
    const read = transport.stream(stream, (line) => {
      lines.push(line);
      if (line === '2') throw new GoneError({ method: 'GET', path: '/' }, 410, { message: 'too old' });
    });
    await expect(read).rejects.toThrow(GoneError);
    expect(lines).toEqual(['1', '2']);
  });

  test('a silent stream is given up after its idle time, one that speaks is not', async () => {
    const { transport } = await aWorld(async (_request, response) => {
      response.writeHead(200);
      for (let i = 0; i < 5; i++) {
        response.write(`${i}\n`);
        await systemClock.sleep(60);
      }
    });
    const lines: string[] = [];
    await expect(transport.stream({ ...stream, idleTimeoutMs: 150 }, (line) => lines.push(line))).rejects.toThrow(
      /nothing came for/,
    );
    expect(lines).toHaveLength(5);
  });

  test('a refused watch fails with its Status', async () => {
    const { transport } = await aWorld((_request, response) => refuse(response, 410, 'Expired'));
    await expect(transport.stream(stream, () => undefined)).rejects.toThrow(GoneError);
  });

  test('bytes are not read on while what came is not taken, and what fails there ends the request', async () => {
    const size = 24 * 1024 * 1024;
    let sent = 0;
    const { transport } = await aWorld(async (_request, response) => {
      response.writeHead(200);
      const chunk = Buffer.alloc(65_536, 'x');
      for (; sent < size && !response.destroyed; sent += chunk.length)
        if (!response.write(chunk)) await new Promise<void>((resolve) => void response.once('drain', resolve));
      response.end();
    });
    const hold = Promise.withResolvers<undefined>();
    let taken = 0;
    const read = transport.bytes(stream, async (chunk) => {
      taken += chunk.length;
      await hold.promise;
    });
    for (let before = -1; before !== sent || sent === 0;) {
      before = sent;
      await systemClock.sleep(100);
    }
    expect(sent).toBeLessThan(size / 2);
    hold.resolve(undefined);
    await read;
    expect(taken).toBe(size);
    sent = 0;
    const failing = transport.bytes(stream, async () => Promise.reject(new Error('nobody reads any more')));
    await expect(failing).rejects.toThrow('nobody reads any more');
  });

  test('a line without an end is given up at the size limit', async () => {
    const { transport } = await aWorld(async (_request, response) => {
      response.writeHead(200);
      const chunk = Buffer.alloc(1024 * 1024, 'x');
      for (let i = 0; i < 20 && !response.destroyed; i++) {
        response.write(chunk);
        await new Promise((resolve) => setImmediate(resolve));
      }
    });
    await expect(transport.stream(stream, () => undefined)).rejects.toThrow(/longer than 16777216 bytes/);
  });

  test('a stream that could not start does not follow its signal: nobody would hear that it failed again', async () => {
    const { transport } = await aWorld((_request, response) => json(response, 200, {}));
    const { signal } = new AbortController();
    await transport.close();
    await expect(transport.stream({ ...stream, signal }, () => undefined)).rejects.toThrow('The transport is closed');
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });

  test('a server that breaks off in the middle is a connection error', async () => {
    const { transport } = await aWorld((_request, response) => {
      response.writeHead(200).write('1\n');
      setTimeout(() => response.destroy(), 20);
    });
    await expect(transport.stream(stream, () => undefined)).rejects.toThrow(ConnectionError);
  });
});

test('requests that wait for their turn are measured by lane', async () => {
  const clock = new VirtualClock();
  const { client, transport } = await aWorld(ok, { throttle: { qps: 1, burst: 1 }, clock });
  await client.of(configMaps).get(key);
  const second = client.of(configMaps).get(key);
  await clock.advanceAsync(1_000);
  await second;
  const waits = await transport.metrics.throttledSeconds.get();
  expect(waits.values.find(({ metricName }) => metricName?.endsWith('_count') === true)?.value).toBe(1);
});

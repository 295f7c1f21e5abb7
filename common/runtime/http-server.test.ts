import { connect } from 'node:net';
import { afterEach, describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import type { Client } from './contracts.ts';
import { authorized, type Handler, healthHandler, HttpServer } from './http-server.ts';

const servers: HttpServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop();
});

async function aServer(routes: Record<string, Handler>): Promise<string> {
  const server = new HttpServer({ host: '127.0.0.1', port: 0 }, new Map(Object.entries(routes)), silentLogger);
  servers.push(server);
  return `http://127.0.0.1:${await server.start()}`;
}

const hello: Handler = async () => ({ status: 200, body: 'hello' });

describe('HttpServer', () => {
  test('answers what it knows and says what that is otherwise', async () => {
    const url = await aServer({ '/a': hello });
    expect(await (await fetch(`${url}/a?x=1`)).text()).toBe('hello');
    const missing = await fetch(`${url}/b`);
    expect([missing.status, await missing.text()]).toEqual([404, 'Not here: /a\n']);
    expect((await fetch(`${url}/a`, { method: 'POST', body: 'x' })).status).toBe(405);
    const head = await fetch(`${url}/a`, { method: 'HEAD' });
    expect([head.status, head.headers.get('content-length'), await head.text()]).toEqual([200, '5', '']);
  });

  test('a handler that throws is an answer of 500 that tells nothing', async () => {
    const url = await aServer({
      '/a': async () => {
        throw new Error('secret');
      },
    });
    const answer = await fetch(`${url}/a`);
    expect([answer.status, await answer.text()]).toEqual([500, 'Internal error, see the log\n']);
  });

  test('takes no more connections than its limit', async () => {
    const { port } = new URL(await aServer({ '/a': hello }));
    const sockets = Array.from({ length: 80 }, () => connect(Number(port), '127.0.0.1'));
    const closed = sockets.map(
      async (socket) => new Promise((resolve) => socket.on('close', () => resolve(true)).on('error', () => undefined)),
    );
    const dropped = await Promise.race([
      Promise.all(closed.slice(64)).then((all) => all.length),
      new Promise((resolve) => setTimeout(() => resolve(0), 5_000).unref()),
    ]);
    for (const socket of sockets) socket.destroy();
    expect(dropped).toBe(16);
  });

  test('a taken port is an error at the start', async () => {
    const { port } = new URL(await aServer({}));
    const second = new HttpServer({ host: '127.0.0.1', port: Number(port) }, new Map(), silentLogger);
    await expect(second.start()).rejects.toThrow(/EADDRINUSE/);
    await second.stop();
  });
});

test('health is 200 ok, or 500 with the reasons; each check is listed when asked', async () => {
  let isBroken = false;
  const checks = new Map([
    ['caches', () => undefined],
    [
      'store',
      () => {
        if (isBroken) throw new Error('disk is full');
      },
    ],
  ]);
  const url = await aServer({ '/readyz': healthHandler(checks) });
  expect(await (await fetch(`${url}/readyz`)).text()).toBe('ok');
  expect(await (await fetch(`${url}/readyz?verbose`)).text()).toBe('[+]caches ok\n[+]store ok\n');
  isBroken = true;
  const answer = await fetch(`${url}/readyz`);
  expect([answer.status, await answer.text()]).toEqual([500, '[+]caches ok\n[-]store failed: disk is full\n']);
});

describe('authorized', () => {
  /** An API server that knows two tokens, one of which may get metrics. */
  function reviews() {
    const asked: string[] = [];
    const raw = async (_method: string, path: string, body: unknown): Promise<unknown> => {
      asked.push(path.split('/').at(-1) ?? '');
      const { spec } = body as { spec: { token?: string; user?: string } };
      if (spec.token !== undefined) {
        return { status: { authenticated: spec.token !== 'forged', user: { username: spec.token } } };
      }
      return { status: { allowed: spec.user === 'scraper' } };
    };
    return { asked, client: { raw } as unknown as Client };
  }
  const get = async (url: string, token?: string): Promise<number> =>
    (await fetch(url, token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } })).status;

  test('lets through who may, and says to others whether it is who they are or what they may', async () => {
    const url = await aServer({ '/metrics': authorized(reviews().client, new VirtualClock(), '/metrics', hello) });
    expect(await get(`${url}/metrics`)).toBe(401);
    expect(await get(`${url}/metrics`, 'forged')).toBe(401);
    expect(await get(`${url}/metrics`, 'visitor')).toBe(403);
    expect(await get(`${url}/metrics`, 'scraper')).toBe(200);
  });

  test('believes an answer for a minute, and asks again after it', async () => {
    const { asked, client } = reviews();
    const clock = new VirtualClock();
    const url = await aServer({ '/metrics': authorized(client, clock, '/metrics', hello) });
    for (let i = 0; i < 5; i++) await get(`${url}/metrics`, 'scraper');
    expect(asked).toEqual(['tokenreviews', 'subjectaccessreviews']);
    clock.advance(60_000);
    await get(`${url}/metrics`, 'scraper');
    expect(asked).toHaveLength(4);
  });
});

import { once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { afterEach, describe, expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { createListener, type Expectation, tryToReach, waitForSight } from './probe.ts';

describe('waiting (threat 13)', () => {
  /** What the attempts find, one after another; the last goes on for ever. */
  const see = async (
    expectation: Expectation,
    found: readonly boolean[],
  ): Promise<{ isSeen: boolean; tried: number }> => {
    const clock = new VirtualClock();
    let tried = 0;
    const attempt = async (): Promise<boolean> => {
      await clock.sleep(1);
      return found[Math.min(tried++, found.length - 1)] ?? false;
    };
    const seeing = waitForSight(expectation, attempt, { clock, limitMs: 30_000 });
    await clock.advanceAsync(40_000);
    return { isSeen: await seeing, tried };
  };

  test('for a way to open ends with the first greeting', async () => {
    expect(await see('reached', [false, false, true])).toEqual({ isSeen: true, tried: 3 });
  });

  test('for a way to close takes three failures in a row, so that one lost attempt is no closed way', async () => {
    expect(await see('blocked', [true, false, true, false, false, false])).toEqual({ isSeen: true, tried: 6 });
  });

  test.each(['reached', 'blocked'] as const)('for %s ends when the time is over', async (expectation) => {
    const { isSeen, tried } = await see(expectation, [expectation === 'blocked']);
    expect(isSeen).toBe(false);
    expect(tried).toBeGreaterThan(100);
  });

  test('for a way to close that lets every third attempt through ends when the time is over', async () => {
    const wavering = Array.from({ length: 1000 }, (_, index) => index % 3 === 0);
    expect((await see('blocked', wavering)).isSeen).toBe(false);
  });
});

describe('one attempt', () => {
  const servers: Server[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) server.close();
  });

  const portOf = async (server: Server): Promise<number> => {
    servers.push(server.listen(0, '127.0.0.1'));
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  };

  test('reaches a listener', async () => {
    const port = await portOf(createListener());
    expect(await tryToReach({ host: '127.0.0.1', port })).toBe(true);
  });

  test.each([
    ['takes the connection and says nothing', createServer((socket) => socket.resume())],
    ['closes it', createServer((socket) => socket.destroy())],
    ['says something else', createServer((socket) => socket.end('HTTP/1.1 503 no way\r\n\r\n'.repeat(100)))],
  ])('does not take somebody for a listener who %s', async (_, server) => {
    const port = await portOf(server);
    expect(await tryToReach({ host: '127.0.0.1', port })).toBe(false);
  });

  test('does not reach a port where nobody listens', async () => {
    const server = createListener();
    const port = await portOf(server);
    servers.pop()?.close();
    await once(server, 'close');
    expect(await tryToReach({ host: '127.0.0.1', port })).toBe(false);
  });
});

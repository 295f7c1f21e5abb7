import { setImmediate } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { PeerFinder } from './peers.ts';

const book: Record<string, string[]> = { selectors: ['10.0.0.1', '10.0.0.2', 'fd00::1'] };
const resolve = async (host: string): Promise<string[]> => {
  const addresses = book[host];
  if (addresses === undefined) throw new Error(`getaddrinfo ENOTFOUND ${host}`);
  return addresses;
};
const parts = { clock: new VirtualClock(), logger: silentLogger, resolve };

test('a name stands for all its addresses, an address for itself, an unknown name for nothing', async () => {
  const finder = new PeerFinder(['selectors:7946', '10.0.0.2:7946', 'nobody:7946', '[fd00::2]:7946'], parts);
  expect(await finder.find()).toEqual(['10.0.0.1:7946', '10.0.0.2:7946', '[fd00::1]:7946', '[fd00::2]:7946']);
});

test('names are looked up again, until it is stopped', async () => {
  const clock = new VirtualClock();
  const finder = new PeerFinder(['selectors:7946'], { ...parts, clock });
  const seen: string[][] = [];
  finder.follow((addresses) => seen.push([...addresses]));
  clock.advance(1_000);
  await setImmediate();
  book.selectors = ['10.0.0.9'];
  clock.advance(2_000);
  await setImmediate();
  expect(seen.map((addresses) => addresses[0])).toEqual(['10.0.0.1:7946', '10.0.0.9:7946']);
  finder.stop();
  clock.advance(60_000);
  await setImmediate();
  expect(seen).toHaveLength(2);
});

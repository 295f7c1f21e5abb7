import { expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { SpaceWatch } from './space-watch.ts';

test('tells when much space has gone or come back, and not of little', async () => {
  const clock = new VirtualClock();
  const told: number[] = [];
  let usableBytes = 1000;
  let isReachable = true;
  const watch = new SpaceWatch({
    clock,
    logger: silentLogger,
    space: async () => ({ totalBytes: 10_000, freeBytes: usableBytes, usableBytes }),
    tell: async () => {
      if (!isReachable) throw new Error('no DIR');
      told.push(usableBytes);
    },
  });
  watch.start();
  const later = async (bytes: number): Promise<void> => {
    usableBytes = bytes;
    await clock.advanceAsync(2_000);
  };
  for (const bytes of [1000, 900, 0, 100, 5000]) await later(bytes);
  expect(told).toEqual([0, 5000]);
  isReachable = false;
  await later(10);
  isReachable = true;
  await later(10);
  expect(told).toEqual([0, 5000, 10]);
  watch.stop();
  await later(9000);
  expect(told).toHaveLength(3);
});

import { expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { GlobalTime } from './global-time.ts';

function aTime(ask: (clock: VirtualClock) => Promise<number>): { clock: VirtualClock; time: GlobalTime } {
  const clock = new VirtualClock(1_000_000);
  return { clock, time: new GlobalTime({ clock, logger: silentLogger, ask: async () => ask(clock) }) };
}

test("starts as the machine's own time", () => {
  const { clock, time } = aTime(async () => 0);
  clock.advance(500);
  expect(time.now()).toBe(1_000_500);
  expect(time.isSynchronized).toBe(false);
});

test('takes the time of the DIR with half the round trip added', async () => {
  const { clock, time } = aTime(async (own) => {
    own.advance(200);
    return 5_000_000;
  });
  expect(await time.synchronize()).toBe(true);
  expect(time.now()).toBe(5_000_100);
  clock.advance(1_000);
  expect(time.now()).toBe(5_001_100);
});

test('does not use an answer that took more than a second', async () => {
  const { time } = aTime(async (own) => {
    own.advance(1_001);
    return 5_000_000;
  });
  expect(await time.synchronize()).toBe(false);
  expect(time.now()).toBe(1_001_001);
});

test("a step of the machine's clock does not move it", async () => {
  const { clock, time } = aTime(async () => 5_000_000);
  await time.synchronize();
  clock.step(-3_600_000);
  clock.advance(10);
  expect(time.now()).toBe(5_000_010);
});

test('asks every minute, and every five seconds until a DIR was heard', async () => {
  let asked = 0;
  const { clock, time } = aTime(async () => {
    asked++;
    if (asked < 3) throw new Error('no DIR');
    return 5_000_000;
  });
  await time.start();
  await clock.advanceAsync(10_000);
  expect(asked).toBe(3);
  await clock.advanceAsync(59_000);
  expect(asked).toBe(3);
  await clock.advanceAsync(1_000);
  expect(asked).toBe(4);
  time.stop();
  await clock.advanceAsync(600_000);
  expect(asked).toBe(4);
});

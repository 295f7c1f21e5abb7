import { expect, test } from '@jest/globals';
import { VirtualClock } from '#common/clock.ts';
import { LiveFeed } from './live.ts';

test('subscribers hear the values at once, then noteworthy changes only, until they leave', () => {
  const clock = new VirtualClock();
  let load1 = 1;
  const feed = new LiveFeed(() => ({ load1 }), clock, 1_000);
  feed.start();
  const heard: number[] = [];
  const leave = feed.subscribe((values) => heard.push(values.load1 ?? -1));
  load1 = 1.01;
  clock.advance(1_000);
  load1 = 1.5;
  clock.advance(1_000);
  leave?.();
  load1 = 9;
  clock.advance(1_000);
  feed.stop();
  expect(heard).toEqual([1, 1.5]);
  expect(feed.subscriberCount).toBe(0);
});

test('a subscriber too many is refused', () => {
  const feed = new LiveFeed(() => ({}), new VirtualClock());
  for (let i = 0; i < 256; i++) expect(feed.subscribe(() => undefined)).toBeDefined();
  expect(feed.subscribe(() => undefined)).toBeUndefined();
});

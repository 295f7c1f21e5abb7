import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { SeededRandom } from '#common/random.ts';
import { fullJitterMs, halfJitterMs } from './backoff.ts';

const options = fc.record({
  baseMs: fc.integer({ min: 1, max: 1000 }),
  maxMs: fc.integer({ min: 1000, max: 600_000 }),
});

test('a delay with full jitter is above 0 and never beyond its ceiling', () => {
  fc.assert(
    fc.property(options, fc.nat(2000), fc.integer(), (backoff, attempt, seed) => {
      const delay = fullJitterMs(backoff, attempt, new SeededRandom(seed));
      expect(delay).toBeGreaterThanOrEqual(1);
      expect(delay).toBeLessThanOrEqual(Math.max(1, Math.min(backoff.maxMs, backoff.baseMs * 2 ** attempt)));
    }),
  );
});

test('a delay with half jitter is at least half of its ceiling', () => {
  fc.assert(
    fc.property(options, fc.nat(2000), fc.integer(), (backoff, attempt, seed) => {
      const ceiling = Math.min(backoff.maxMs, backoff.baseMs * 2 ** attempt);
      const delay = halfJitterMs(backoff, attempt, new SeededRandom(seed));
      expect(delay).toBeGreaterThanOrEqual(ceiling / 2);
      expect(delay).toBeLessThanOrEqual(ceiling);
    }),
  );
});

import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { DelayHeap } from './delay-heap.ts';

const step = fc.oneof(
  fc.record({
    op: fc.constant('set' as const),
    key: fc.integer({ min: 0, max: 20 }),
    at: fc.nat(100),
    value: fc.nat(9),
  }),
  fc.record({ op: fc.constant('pop' as const), now: fc.nat(100) }),
);

test('behaves as a map from keys to their earliest time, popped in order of time', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const heap = new DelayHeap<number>();
      const model = new Map<string, { at: number; value: number }>();
      for (const move of steps) {
        if (move.op === 'set') {
          const key = `k${move.key}`;
          const known = model.get(key);
          heap.set(key, move.at, move.value, Math.max);
          model.set(key, {
            at: Math.min(known?.at ?? Infinity, move.at),
            value: Math.max(known?.value ?? 0, move.value),
          });
        } else {
          const popped = heap.popDue(move.now);
          const firstAt = Math.min(...[...model.values()].map(({ at }) => at));
          if (firstAt > move.now) expect(popped).toBeUndefined();
          else {
            expect(popped?.value).toBe(model.get(popped!.key)?.value);
            expect(model.get(popped!.key)?.at).toBe(firstAt);
            model.delete(popped!.key);
          }
        }
        expect(heap.size).toBe(model.size);
        for (const key of model.keys()) expect(heap.has(key)).toBe(true);
      }
    }),
  );
});

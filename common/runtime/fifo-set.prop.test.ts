import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { FifoSet } from './fifo-set.ts';

const step = fc.oneof(
  fc.record({ op: fc.constantFrom('add' as const, 'delete' as const), item: fc.integer({ min: 0, max: 15 }) }),
  fc.record({ op: fc.constant('shift' as const), item: fc.constant(0) }),
);

test('hands out what was added in order, each once, whatever is deleted in between', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const set = new FifoSet();
      const model: string[] = [];
      for (const { op, item } of steps) {
        const name = `i${item}`;
        if (op === 'add') {
          set.add(name);
          if (!model.includes(name)) model.push(name);
        } else if (op === 'delete') {
          const at = model.indexOf(name);
          expect(set.delete(name)).toBe(at >= 0);
          if (at >= 0) model.splice(at, 1);
        } else expect(set.shift()).toBe(model.shift());
        expect(set.size).toBe(model.length);
      }
    }),
  );
});

test('taking from a long queue costs the same at its end as at its start', () => {
  const set = new FifoSet();
  for (let i = 0; i < 200_000; i++) set.add(`key-${i}`);
  const startedAt = performance.now();
  while (set.shift() !== undefined);
  // Walking over what was deleted would take minutes; 5 s leaves room for any machine.
  expect(performance.now() - startedAt).toBeLessThan(5_000);
});

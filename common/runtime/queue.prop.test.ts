import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { VirtualClock } from '#common/clock.ts';
import { WorkQueue } from './queue.ts';
import { testParts } from './testing/parts.ts';

const step = fc.oneof(
  fc.record({
    op: fc.constantFrom('change' as const, 'resync' as const, 'delay' as const, 'fail' as const),
    key: fc.integer({ min: 0, max: 6 }),
  }),
  fc.record({ op: fc.constantFrom('take' as const, 'finish' as const, 'wait' as const), key: fc.nat(6) }),
);

test('every key that was added is handed out after its last addition, by one worker at a time', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 120 }), async (steps) => {
      const clock = new VirtualClock();
      const queue = new WorkQueue({ ...testParts(clock), name: 'p', backoff: { baseMs: 50, maxMs: 400 } });
      const owed = new Set<string>();
      const worked: string[] = [];
      const take = async (): Promise<void> => {
        const item = (await queue.take())!;
        expect(worked).not.toContain(item.key);
        worked.push(item.key);
        owed.delete(item.key);
      };
      for (const { op, key } of steps) {
        const name = `k${key}`;
        if (op === 'take') {
          if (queue.depth > 0) await take();
        } else if (op === 'finish') {
          if (worked.length > 0) queue.finish(worked.splice(key % worked.length, 1)[0]!);
        } else if (op === 'wait') clock.advance(key * 40);
        else {
          if (op === 'delay') queue.addAfter(name, 1 + key * 30, 'resync');
          else if (op === 'fail') queue.addFailed(name, 'change');
          else queue.add(name, op);
          owed.add(name);
        }
      }
      for (const key of worked.splice(0)) queue.finish(key);
      for (let i = 0; i < 20; i++) {
        clock.advance(100);
        while (queue.depth > 0) {
          await take();
          queue.finish(worked.pop()!);
        }
      }
      expect([...owed]).toEqual([]);
      for (let key = 0; key <= 6; key++) queue.forget(`k${key}`);
      expect(queue.size).toBe(0);
    }),
  );
});

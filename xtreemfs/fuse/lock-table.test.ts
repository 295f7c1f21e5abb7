import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { LockType } from './abi.ts';
import { LockTable } from './lock-table.ts';

const range = (start: number, end: number, type: number = LockType.WRITE) => ({
  start: BigInt(start),
  end: BigInt(end),
  type,
  pid: 1,
});
const never = new AbortController().signal;

describe('LockTable', () => {
  test('lets readers share and keeps writers out', () => {
    const table = new LockTable();
    table.set(1n, range(0, 9, LockType.READ));
    table.set(2n, range(0, 9, LockType.READ));
    expect(() => table.set(3n, range(5, 20))).toThrow('EAGAIN');
    table.set(3n, range(10, 20));
  });

  test('splits a lock when its middle is unlocked', () => {
    const table = new LockTable();
    table.set(1n, range(0, 99));
    table.set(1n, range(40, 59, LockType.UNLOCK));
    table.set(2n, range(40, 59));
    expect(() => table.set(2n, range(39, 39))).toThrow('EAGAIN');
    expect(() => table.set(2n, range(60, 60))).toThrow('EAGAIN');
  });

  test('gives a waiter its turn when the lock goes, and not before', async () => {
    const table = new LockTable();
    table.set(1n, range(0, 9));
    let isGranted = false;
    const waiting = table.wait(2n, range(0, 9), never).then(() => (isGranted = true));
    await Promise.resolve();
    expect(isGranted).toBe(false);
    table.drop(1n);
    await waiting;
    expect(table.conflict(3n, range(0, 0))).toMatchObject({ start: 0n, end: 9n });
  });

  test('forgets a waiter that gave up', async () => {
    const table = new LockTable();
    table.set(1n, range(0, 9));
    const abort = new AbortController();
    const waiting = table.wait(2n, range(0, 9), abort.signal);
    abort.abort(new Error('interrupted'));
    await expect(waiting).rejects.toThrow('interrupted');
    table.drop(1n);
    expect(table.isEmpty).toBe(true);
  });

  test('tells of the lock that comes first in the file, whichever was set first', () => {
    const table = new LockTable();
    table.set(1n, range(50, 59));
    table.set(2n, range(10, 19, LockType.READ));
    expect(table.conflict(3n, range(0, 99))).toMatchObject({ start: 10n, end: 19n, type: LockType.READ });
  });

  test('refuses to wait in a ring with EDEADLK, but not where flock(2) would wait', async () => {
    for (const [detects, outcome] of [
      [true, 'EDEADLK'],
      [false, 'given up'],
    ] as const) {
      const table = new LockTable(detects);
      const abort = new AbortController();
      for (const owner of [1n, 2n, 3n]) table.set(owner, range(Number(owner), Number(owner)));
      const waiting = [table.wait(1n, range(2, 2), abort.signal), table.wait(2n, range(3, 3), abort.signal)];
      const last = table.wait(3n, range(1, 1), abort.signal);
      const refused = expect(last).rejects.toThrow(outcome);
      await Promise.resolve();
      abort.abort(new Error('given up'));
      await refused;
      await Promise.allSettled(waiting);
    }
  });

  test('agrees with a table of single bytes on who holds what', () => {
    const bytes = 12;
    const step = fc.record({
      owner: fc.integer({ min: 1, max: 3 }),
      start: fc.nat(bytes - 1),
      length: fc.integer({ min: 1, max: bytes }),
      type: fc.constantFrom(LockType.READ, LockType.WRITE, LockType.UNLOCK),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const table = new LockTable();
        const model = Array.from({ length: bytes }, () => new Map<number, number>());
        for (const { owner, start, length, type } of steps) {
          const covered = model.slice(start, start + length);
          const isFree = covered.every((holders) =>
            [...holders].every(
              ([other, held]) => other === owner || (held !== LockType.WRITE && type !== LockType.WRITE),
            ),
          );
          const isAllowed = type === LockType.UNLOCK || isFree;
          const lock = range(start, Math.min(bytes, start + length) - 1, type);
          if (isAllowed) table.set(BigInt(owner), lock);
          else expect(() => table.set(BigInt(owner), lock)).toThrow('EAGAIN');
          if (!isAllowed) continue;
          for (const holders of covered) {
            if (type === LockType.UNLOCK) holders.delete(owner);
            else holders.set(owner, type);
          }
        }
        model.forEach((holders, at) => {
          const held = table.locks.filter((lock) => lock.start <= BigInt(at) && BigInt(at) <= lock.end);
          expect(held.map((lock) => [Number(lock.owner), lock.type]).sort()).toEqual([...holders].sort());
        });
      }),
    );
  });
});

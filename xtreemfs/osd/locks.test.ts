import { expect, test } from '@jest/globals';
import { FileLocks, type AdvisoryLock } from './locks.ts';

function aLock(changes: Partial<AdvisoryLock> = {}): AdvisoryLock {
  return { pid: 1, clientUuid: 'mount-1', offset: 0n, length: 10n, isExclusive: true, ...changes };
}

const never = Number.MAX_SAFE_INTEGER;

test.each<[string, Partial<AdvisoryLock>, Partial<AdvisoryLock>, boolean]>([
  ['two exclusive locks on the same range', {}, {}, true],
  ['a shared and an exclusive lock', { isExclusive: false }, {}, true],
  ['two shared locks', { isExclusive: false }, { isExclusive: false }, false],
  ['ranges that only touch', {}, { offset: 10n }, false],
  ['ranges that share one byte', {}, { offset: 9n }, true],
  ['a lock to the end of the file', { length: 0n }, { offset: 1n << 60n }, true],
  ['a range before a lock to the end', { offset: 5n, length: 0n }, { length: 5n }, false],
])('decides whether %s conflict', (_name, held, wanted, isConflict) => {
  const locks = new FileLocks();
  locks.acquire(aLock(held), 0, never);
  const other = aLock({ ...wanted, pid: 2 });
  expect(locks.acquire(other, 0, never) !== undefined).toBe(isConflict);
});

test('replaces the range of an owner that locks again, and frees it whatever range is released', () => {
  const locks = new FileLocks();
  locks.acquire(aLock(), 0, never);
  expect(locks.acquire(aLock({ offset: 100n }), 0, never)).toBeUndefined();
  expect(locks.check(aLock({ pid: 2 }), 0)).toBeUndefined();
  expect(locks.check(aLock({ pid: 2, offset: 100n }), 0)).toMatchObject({ pid: 1, offset: 100n });
  locks.release(aLock({ offset: 7n }));
  expect(locks.size).toBe(0);
});

test('tells processes of different mounts apart', () => {
  const locks = new FileLocks();
  locks.acquire(aLock(), 0, never);
  expect(locks.check(aLock({ clientUuid: 'mount-2' }), 0)).toBeDefined();
});

test('breaks the lock of a holder that is silent for too long, but only for somebody who wants the range', () => {
  const locks = new FileLocks();
  locks.acquire(aLock(), 0, 1000);
  expect(locks.acquire(aLock({ pid: 2 }), 1000, never)).toBeDefined();
  expect(locks.size).toBe(1);
  expect(locks.acquire(aLock({ pid: 2 }), 1001, never)).toBeUndefined();
});

test('keeps the locks of a client that is heard of', () => {
  const locks = new FileLocks();
  locks.acquire(aLock(), 0, 1000);
  locks.refresh('mount-1', 5000);
  expect(locks.acquire(aLock({ pid: 2 }), 4000, never)).toBeDefined();
});

test('refuses more locks on one file than it can carry', () => {
  const locks = new FileLocks();
  for (let pid = 0; pid < 4096; pid++) locks.acquire(aLock({ pid, isExclusive: false }), 0, never);
  expect(() => locks.acquire(aLock({ pid: 5000, isExclusive: false }), 0, never)).toThrow(RangeError);
});

import { describe, expect, test } from '@jest/globals';
import { BlockPool } from './blocks.ts';

describe('BlockPool', () => {
  test('gives a block that came back to the next one who needs that size', () => {
    const pool = new BlockPool();
    const first = pool.take(100_000);
    pool.give(first);
    const second = pool.take(98_305);
    expect(second).toHaveLength(98_305);
    expect(second.buffer).toBe(first.buffer);
    expect(pool.take(100_000).buffer).not.toBe(first.buffer);
  });

  test('takes a block back once, however often it is given', () => {
    const pool = new BlockPool();
    const block = pool.take(65_536);
    pool.give(block);
    pool.give(block);
    expect(pool.take(65_536).buffer).not.toBe(pool.take(65_536).buffer);
  });

  test("takes nothing that isn't its own, and nothing beyond its limit", () => {
    const pool = new BlockPool(64 * 1024);
    for (const foreign of [Buffer.alloc(65_536), Buffer.allocUnsafe(100), new BlockPool().take(65_536)]) {
      pool.give(foreign);
      expect(pool.take(65_536).buffer).not.toBe(foreign.buffer);
    }
    const [a, b] = [pool.take(65_536), pool.take(65_536)];
    pool.give(a);
    pool.give(b);
    expect(pool.take(65_536).buffer).toBe(a.buffer);
    expect(pool.take(65_536).buffer).not.toBe(b.buffer);
  });

  test('can overwrite what comes back, so that a late use shows', () => {
    const pool = new BlockPool();
    pool.poisons = true;
    const block = pool.take(40_000).fill(1);
    pool.give(block);
    expect(block.every((byte) => byte === 0xdb)).toBe(true);
  });
});

import { randomBytes } from 'node:crypto';

/** Where chance comes from. Not for secrets: those use node:crypto. */
export interface Random {
  /** Uniform in [0, 1). */
  next(): number;
  /** Uniform integer in [0, below). `below` is a positive integer up to 2^53. */
  int(below: number): number;
}

/**
 * xoshiro128** (Blackman and Vigna, 2018) seeded through splitmix32. The same seed gives the same sequence on every
 * machine: simulations print their seed and can be run again.
 */
export class SeededRandom implements Random {
  private a: number;
  private b: number;
  private c: number;
  private d: number;

  /** @param seed - any integer; only its low 32 bits count. */
  constructor(seed: number) {
    let state = seed | 0;
    const mix = (): number => {
      state = (state + 0x9e3779b9) | 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      return z ^ (z >>> 15);
    };
    this.a = mix();
    this.b = mix();
    this.c = mix();
    this.d = mix();
  }

  next(): number {
    return this.uint32() / 0x1_0000_0000;
  }

  int(below: number): number {
    if (below <= 0x1_0000_0000) return Math.floor(this.next() * below);
    return Math.floor((this.uint32() * 0x20_0000 + (this.uint32() >>> 11)) % below);
  }

  /** A generator of its own, so that one part's draws don't move another's. */
  fork(): SeededRandom {
    return new SeededRandom(this.uint32());
  }

  private uint32(): number {
    const scrambled = Math.imul(this.b, 5);
    const result = Math.imul((scrambled << 7) | (scrambled >>> 25), 9) >>> 0;
    const t = this.b << 9;
    this.c ^= this.a;
    this.d ^= this.b;
    this.b ^= this.c;
    this.a ^= this.d;
    this.c ^= t;
    this.d = (this.d << 11) | (this.d >>> 21);
    return result;
  }
}

/** A generator with a seed from the operating system. */
export function systemRandom(): Random {
  return new SeededRandom(randomBytes(4).readInt32LE());
}

const nameLetters = 'abcdefghijklmnopqrstuvwxyz0123456789';

/** A name of small letters and digits that begins with a letter, as names in Kubernetes may. */
export function randomName(random: Random, length: number): string {
  let name = nameLetters.charAt(random.int(26));
  while (name.length < length) name += nameLetters.charAt(random.int(nameLetters.length));
  return name;
}

/** One element, uniformly. @throws {RangeError} on an empty list. */
export function pick<T>(random: Random, items: readonly T[]): T {
  const item = items[random.int(items.length)];
  if (item === undefined) throw new RangeError('Cannot pick from an empty list');
  return item;
}

/** Shuffles in place (Fisher and Yates) and returns the same array. */
export function shuffle<T>(random: Random, items: T[]): T[] {
  for (let i = items.length - 1; i > 0; i--) {
    const j = random.int(i + 1);
    const swap = items[i] as T;
    items[i] = items[j] as T;
    items[j] = swap;
  }
  return items;
}

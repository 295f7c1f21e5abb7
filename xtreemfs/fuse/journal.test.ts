import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Journal, type JournalFile, type JournalRecord } from './journal.ts';

/** A file that can die: after `budget` bytes nothing is written any more. */
class MemoryFile implements JournalFile {
  text = '';
  private readonly power: { bytes: number };

  constructor(power = { bytes: Infinity }) {
    this.power = power;
  }

  readAll(): Buffer {
    return Buffer.from(this.text);
  }

  append(text: string): void {
    const written = text.slice(0, this.power.bytes);
    this.power.bytes -= written.length;
    this.text += written;
    if (written.length < text.length) throw new Error('the process died');
  }

  clear(): void {
    if (this.power.bytes <= 0) throw new Error('the process died');
    this.text = '';
  }
}

const revived = (...files: readonly MemoryFile[]): MemoryFile[] =>
  files.map((file) => Object.assign(new MemoryFile(), { text: file.text }));

describe('Journal', () => {
  test('gives back what was noted, oldest first', () => {
    const [a, b] = [new MemoryFile(), new MemoryFile()];
    const journal = new Journal(a, b);
    expect(journal.load()).toEqual([]);
    journal.append(['look', 7, 1, 'a\udc80b']);
    journal.append(['forget', 7, 1]);
    journal.flush();
    expect(new Journal(a, b).load()).toEqual([
      ['look', 7, 1, 'a\udc80b'],
      ['forget', 7, 1],
    ]);
  });

  test('asks to be rewritten when it has grown, and is small afterwards', () => {
    const [a, b] = [new MemoryFile(), new MemoryFile()];
    const journal = new Journal(a, b, 1000);
    journal.load();
    for (let index = 0; index < 200; index++) journal.append(['look', index]);
    expect(journal.isDue).toBe(true);
    journal.rewrite([['look', 199]]);
    expect(journal.isDue).toBe(false);
    expect(new Journal(b, a).load()).toEqual([['look', 199]]);
  });

  test('loses no fact whose note had returned, wherever the process dies', () => {
    const step = fc.oneof(fc.constant('rewrite' as const), fc.nat(1000));
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 25 }), fc.nat(600), (steps, bytes) => {
        const power = { bytes };
        const [a, b] = [new MemoryFile(power), new MemoryFile(power)];
        const facts: JournalRecord[] = [];
        let trying: JournalRecord | undefined;
        try {
          const journal = new Journal(a, b);
          journal.load();
          for (const one of steps) {
            if (one === 'rewrite') {
              journal.rewrite([...facts]);
              continue;
            }
            trying = ['fact', one];
            journal.append(trying);
            journal.flush();
            facts.push(trying);
            trying = undefined;
          }
        } catch {
          // The process died.
        }
        const [c, d] = revived(a, b) as [MemoryFile, MemoryFile];
        const found = new Journal(c, d).load();
        const isWhole = JSON.stringify(found) === JSON.stringify(facts);
        const hasLast = trying !== undefined && JSON.stringify(found) === JSON.stringify([...facts, trying]);
        expect(isWhole || hasLast).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});

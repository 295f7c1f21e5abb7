import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { InodeTable } from './inode-table.ts';
import type { JournalRecord } from './journal.ts';

const quiet = (): undefined => undefined;

describe('InodeTable', () => {
  test('finds the path of a file below a directory that was renamed', () => {
    const table = new InodeTable(quiet);
    const directory = table.link(table.root, 'a', 2);
    const file = table.link(directory, 'f', 3);
    const other = table.link(table.root, 'b', 4);
    table.rename(table.root, 'a', other, 'c');
    expect(table.pathOf(file)).toBe('b/c/f');
  });

  test('goes on by another name when one of several links is gone', () => {
    const table = new InodeTable(quiet);
    const file = table.link(table.root, 'a', 2);
    table.link(table.root, 'b', 2);
    table.unlink(table.root, 'b');
    expect(table.pathOf(file)).toBe('a');
    table.unlink(table.root, 'a');
    expect(() => table.pathOf(file)).toThrow('deleted');
  });

  test('keeps a node that is open when the kernel has forgotten it, and its parents', () => {
    const table = new InodeTable(quiet);
    const directory = table.link(table.root, 'a', 2);
    const file = table.link(directory, 'f', 3);
    file.openCount = 1;
    table.forget(2, 1);
    table.forget(3, 1);
    expect(table.pathOf(file)).toBe('a/f');
    file.openCount = 0;
    table.reap(file);
    expect(table.size).toBe(1);
  });

  test('refuses a number that it does not know', () => {
    expect(() => new InodeTable(quiet).node(99)).toThrow('ESTALE');
  });

  test('is rebuilt from its notes, and from its own records, with the same names and counts', () => {
    const names = ['a', 'b', 'c'];
    const step = fc.record({
      kind: fc.constantFrom('link', 'unlink', 'rename', 'forget'),
      parent: fc.nat(3),
      name: fc.constantFrom(...names),
      to: fc.nat(3),
      newName: fc.constantFrom(...names),
      id: fc.integer({ min: 10, max: 14 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const notes: JournalRecord[] = [];
        const table = new InodeTable((record) => notes.push(record));
        const directories = [
          table.root,
          ...['x', 'y', 'z'].map((name, index) => table.link(table.root, name, index + 2)),
        ];
        for (const { kind, parent, name, to, newName, id } of steps) {
          const [from, into] = [directories[parent] ?? table.root, directories[to] ?? table.root];
          if (kind === 'link') table.link(from, name, id);
          else if (kind === 'unlink') table.unlink(from, name);
          else if (kind === 'forget') table.forget(id, 1);
          else if (from !== into || name !== newName) {
            table.unlink(into, newName);
            table.rename(from, name, into, newName);
          }
        }
        const view = (of: InodeTable): unknown =>
          [1, 2, 3, 4, 10, 11, 12, 13, 14].map((id) => {
            const node = of.find(id);
            const links = node?.links.map((link) => `${link.parent.id}/${link.name}`).sort();
            return node === undefined || node.lookups <= 0 ? undefined : [node.lookups, links];
          });
        const fromNotes = new InodeTable(quiet);
        for (const record of notes) fromNotes.replay(record);
        fromNotes.settle();
        const fromRecords = new InodeTable(quiet);
        for (const record of table.records()) fromRecords.replay(record);
        fromRecords.settle();
        expect(view(fromRecords)).toEqual(view(table));
        expect(view(fromNotes)).toEqual(view(table));
      }),
    );
  });
});

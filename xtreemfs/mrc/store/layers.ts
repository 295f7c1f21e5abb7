import type { Key, KvEntry, ScanOptions } from './kv.ts';
import type { Memtable, MemValue } from './memtable.ts';

/** Entries of the lowest layer, in key order. */
export type EntrySource = Iterator<KvEntry>;

interface Cursor {
  readonly table: Memtable;
  readonly keys: readonly Key[];
  position: number;
  readonly end: number;
}

/**
 * Merges memory tables (newest first) over a sorted source: the newest value of each key wins, deleted keys vanish.
 * @param note - told the ticket of each value taken from memory.
 */
export function mergeScan(
  tables: readonly Memtable[],
  below: EntrySource,
  options: ScanOptions,
  note: (ticket: number) => void,
): KvEntry[] {
  const cursors = tables.map((table): Cursor => {
    const range = table.range(options.prefix, options.after);
    return { table, keys: range.keys, position: range.start, end: range.end };
  });
  const entries: KvEntry[] = [];
  let under = below.next();
  while (entries.length < options.limit) {
    let least: Key | undefined = under.done === true ? undefined : under.value.key;
    for (const cursor of cursors) {
      const key = peek(cursor);
      if (key !== undefined && (least === undefined || key < least)) least = key;
    }
    if (least === undefined) break;
    const held = take(cursors, least);
    const fromBelow = under.done !== true && under.value.key === least ? under.value : undefined;
    if (fromBelow !== undefined) under = below.next();
    if (held !== undefined) {
      note(held.ticket);
      if (held.value !== undefined) entries.push({ key: least, value: held.value });
    } else if (fromBelow !== undefined) {
      entries.push(fromBelow);
    }
  }
  below.return?.();
  return entries;
}

function peek(cursor: Cursor): Key | undefined {
  return cursor.position < cursor.end ? cursor.keys[cursor.position] : undefined;
}

/** Moves every cursor past `key`; the value of the first (newest) table that holds it. */
function take(cursors: readonly Cursor[], key: Key): MemValue | undefined {
  let newest: MemValue | undefined;
  for (const cursor of cursors) {
    if (peek(cursor) !== key) continue;
    cursor.position++;
    newest ??= cursor.table.values.get(key);
  }
  return newest;
}

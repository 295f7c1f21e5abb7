import { matchesAll, type Attributes, type Constraint } from '#proto/selector/attributes.ts';

interface Row {
  readonly id: string;
  readonly attributes: Attributes;
  heardAt: number;
}

/**
 * What the overlay is compared with: one server that every node reports to once a period and that answers from memory,
 * through a sorted column per numeric attribute. A node silent for three periods is dropped. (SWORD, HPDC 2005, found
 * that a few such servers beat a DHT.)
 */
export class CentralIndex {
  private readonly rows = new Map<string, Row>();
  private readonly columns = new Map<string, { values: Float64Array; rows: Row[] }>();
  private readonly periodMs: number;
  private isSorted = false;

  constructor(periodMs: number) {
    this.periodMs = periodMs;
  }

  /** Nodes on record. */
  get size(): number {
    return this.rows.size;
  }

  /** A node reports itself at `nowMs`. */
  report(id: string, attributes: Attributes, nowMs: number): void {
    const row = this.rows.get(id);
    if (row !== undefined) {
      row.heardAt = nowMs;
      return;
    }
    this.rows.set(id, { id, attributes, heardAt: nowMs });
    this.isSorted = false;
  }

  /** Drops the silent and sorts what changed; a server does this between queries. */
  refresh(nowMs: number): void {
    for (const [id, row] of this.rows) {
      if (nowMs - row.heardAt <= 3 * this.periodMs) continue;
      this.rows.delete(id);
      this.isSorted = false;
    }
    if (this.isSorted) return;
    this.columns.clear();
    const names = new Set<string>();
    for (const { attributes } of this.rows.values()) for (const name of Object.keys(attributes)) names.add(name);
    for (const name of names) {
      const rows = [...this.rows.values()].filter(({ attributes }) => typeof attributes[name] === 'number');
      rows.sort((a, b) => Number(a.attributes[name]) - Number(b.attributes[name]));
      this.columns.set(name, { values: Float64Array.from(rows, ({ attributes }) => Number(attributes[name])), rows });
    }
    this.isSorted = true;
  }

  /** Up to `wanted` ids on record that match, by way of the most selective range. */
  select(constraints: readonly Constraint[], wanted: number): string[] {
    let candidates: Iterable<Row> = this.rows.values();
    let fewest = this.rows.size;
    for (const { attribute, min, max } of constraints) {
      const column = this.columns.get(attribute);
      if (column === undefined || (min === undefined && max === undefined)) continue;
      const from = lowerBound(column.values, min ?? -Infinity);
      let to = lowerBound(column.values, max ?? Infinity);
      while (to < column.values.length && (column.values[to] ?? Infinity) <= (max ?? Infinity)) to++;
      if (to - from >= fewest) continue;
      fewest = to - from;
      candidates = slice(column.rows, from, to);
    }
    const ids: string[] = [];
    for (const row of candidates) {
      if (ids.length >= wanted) break;
      if (matchesAll(row.attributes, constraints)) ids.push(row.id);
    }
    return ids;
  }
}

function* slice(rows: readonly Row[], from: number, to: number): Generator<Row> {
  for (let i = from; i < to; i++) {
    const row = rows[i];
    if (row !== undefined) yield row;
  }
}

function lowerBound(values: Float64Array, wanted: number): number {
  let from = 0;
  let to = values.length;
  while (from < to) {
    const middle = (from + to) >> 1;
    if ((values[middle] ?? Infinity) < wanted) from = middle + 1;
    else to = middle;
  }
  return from;
}

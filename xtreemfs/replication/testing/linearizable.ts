/** One operation on a register, as its client saw it. */
export interface RegisterOperation {
  readonly kind: 'read' | 'write';
  readonly value: number;
  /** When it was called. */
  readonly start: number;
  /** When it was answered; Infinity for a write whose fate nobody told. */
  readonly end: number;
}

const statesMax = 500_000;

/**
 * Whether there is an order of the operations, each at one instant between call and answer, in which every read gives
 * the last value written (Wing and Gong's search, with the states remembered that led nowhere). A write without an
 * answer may have happened at any later time, or never. The register begins as 0.
 */
export function isLinearizable(operations: readonly RegisterOperation[]): boolean {
  // A write that may never have happened and that nobody saw can be left out: that keeps the search short.
  const seen = new Set(operations.filter(({ kind }) => kind === 'read').map(({ value }) => value));
  const sorted = operations
    .filter(({ end, value }) => end !== Infinity || seen.has(value))
    .sort((a, b) => a.start - b.start);
  const visited = new Set<string>();
  /** Operations done beyond the first `from`, all of which are done. */
  const search = (from: number, done: ReadonlySet<number>, value: number): boolean => {
    let first = from;
    while (done.has(first)) first++;
    const open = [...done].filter((index) => index >= first).sort((a, b) => a - b);
    const key = `${first}|${open.join(',')}|${value}`;
    if (visited.has(key)) return false;
    visited.add(key);
    if (visited.size > statesMax) throw new Error('The history is too tangled to be checked: make it shorter');
    let earliestEnd = Infinity;
    let isOver = true;
    for (let index = first; index < sorted.length; index++) {
      const operation = sorted[index];
      if (operation === undefined || open.includes(index)) continue;
      if (operation.start > earliestEnd) break;
      earliestEnd = Math.min(earliestEnd, operation.end);
      if (operation.end !== Infinity) isOver = false;
    }
    if (isOver && sorted.slice(first).every((operation, at) => operation.end === Infinity || open.includes(first + at)))
      return true;
    for (let index = first; index < sorted.length; index++) {
      const operation = sorted[index];
      if (operation === undefined || open.includes(index)) continue;
      if (operation.start > earliestEnd) break;
      if (operation.kind === 'read' && operation.value !== value) continue;
      const next = operation.kind === 'write' ? operation.value : value;
      if (search(first, new Set([...open, index]), next)) return true;
    }
    return false;
  };
  return search(0, new Set(), 0);
}

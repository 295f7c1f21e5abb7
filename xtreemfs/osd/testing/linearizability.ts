/** One operation on a register as a client saw it. Times are of one clock. */
export interface RegisterOperation {
  readonly kind: 'read' | 'write';
  /** What was written, or read. */
  readonly value: number;
  readonly start: number;
  /** Infinity for a write whose answer never came: it may take effect at any later time, or never. */
  readonly end: number;
}

/** A point of the search: every operation before `first` is done, and those of `beyond` (ascending) after it. */
interface Point {
  readonly first: number;
  readonly beyond: readonly number[];
  readonly value: number;
}

const pointsMax = 2_000_000;

/**
 * Whether there is an order of all operations, each taking effect between its start and its end, in which every read
 * gives the value of the last write before it. Wing and Gong's search with memory (Lowe's improvement), as Jepsen's
 * checkers do it.
 * @param initial - the value before the first write.
 * @throws when so many operations overlap that the search would not end.
 */
export function isLinearizable(operations: readonly RegisterOperation[], initial = 0): boolean {
  // A write without an answer that nobody saw may be taken as never done: that keeps the search short.
  const read = new Set(operations.filter(({ kind }) => kind === 'read').map(({ value }) => value));
  const sorted = operations
    .filter(({ end, value }) => end !== Infinity || read.has(value))
    .sort((a, b) => a.start - b.start);
  const lastAnswered = sorted.findLastIndex(({ end }) => end !== Infinity);
  const seen = new Set<string>();
  const stack: Point[] = [{ first: 0, beyond: [], value: initial }];
  for (let point = stack.pop(); point !== undefined; point = stack.pop()) {
    if (isComplete(sorted, point, lastAnswered)) return true;
    const key = `${point.first} ${point.beyond.join()} ${point.value}`;
    if (seen.has(key)) continue;
    if (seen.add(key).size > pointsMax) throw new Error('The history is too tangled to be judged: make it shorter');
    stack.push(...nextPoints(sorted, point));
  }
  return false;
}

function isComplete(sorted: readonly RegisterOperation[], { first, beyond }: Point, lastAnswered: number): boolean {
  for (let index = first; index <= lastAnswered; index++) {
    if (sorted[index]?.end !== Infinity && !beyond.includes(index)) return false;
  }
  return true;
}

/** Every operation that may take effect next: none that is still to come may have ended before it began. */
function nextPoints(sorted: readonly RegisterOperation[], { first, beyond, value }: Point): Point[] {
  const points: Point[] = [];
  const done = new Set(beyond);
  let earliestEnd = Infinity;
  for (let index = first; index < sorted.length; index++) {
    const operation = sorted[index];
    if (operation === undefined || operation.start > earliestEnd) break;
    if (done.has(index)) continue;
    earliestEnd = Math.min(earliestEnd, operation.end);
    if (operation.kind === 'read' && operation.value !== value) continue;
    const after = [...beyond, index].sort((a, b) => a - b);
    let start = first;
    while (after[0] === start) {
      after.shift();
      start++;
    }
    points.push({ first: start, beyond: after, value: operation.value });
  }
  return points;
}

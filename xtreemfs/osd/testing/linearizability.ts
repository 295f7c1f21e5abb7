/** One operation on a register as a client saw it. Times are of one clock. */
export interface RegisterOperation {
  readonly kind: 'read' | 'write';
  /** What was written, or read; every write has a value of its own. */
  readonly value: number;
  readonly start: number;
  /** Infinity for a write whose answer never came: it may take effect at any later time, or never. */
  readonly end: number;
}

/**
 * Whether there is an order of all operations, each taking effect between its start and its end, in which every read
 * gives the value of the last write before it. Wing and Gong's search with memory (Lowe's improvement), as Jepsen's
 * checkers do it.
 * @param initial - the value before the first write.
 */
export function isLinearizable(operations: readonly RegisterOperation[], initial: number): boolean {
  const byStart = [...operations].sort((a, b) => a.start - b.start);
  const answered = byStart.reduce((mask, { end }, i) => (end === Infinity ? mask : mask | (1n << BigInt(i))), 0n);
  const seen = new Set<string>();
  const stack: { done: bigint; value: number }[] = [{ done: 0n, value: initial }];
  for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
    const { done, value } = at;
    if ((done & answered) === answered) return true;
    const key = `${done.toString(36)} ${value}`;
    if (seen.has(key)) continue;
    seen.add(key);
    let firstEnd = Infinity;
    byStart.forEach(({ end }, i) => {
      if ((done & (1n << BigInt(i))) === 0n) firstEnd = Math.min(firstEnd, end);
    });
    for (const [i, operation] of byStart.entries()) {
      if (operation.start > firstEnd) break;
      if ((done & (1n << BigInt(i))) !== 0n) continue;
      if (operation.kind === 'read' && operation.value !== value) continue;
      stack.push({ done: done | (1n << BigInt(i)), value: operation.value });
    }
  }
  return false;
}

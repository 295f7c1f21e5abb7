/** So much waiting is worth one point of priority: after an hour a job has overtaken those 60 points above it. */
const msPerPoint = 60_000;

/**
 * Priority with waiting added, so that none waits for ever: of two jobs the one that waits longer overtakes the other sooner or later,
 * whatever their priorities.
 */
export function effectivePriority(
  { priority, submittedAt }: { readonly priority: number; readonly submittedAt: number },
  now: number,
): number {
  return priority + Math.max(0, now - submittedAt) / msPerPoint;
}

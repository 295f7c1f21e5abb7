/** Upper bounds of the latency buckets, milliseconds; a last bucket holds the rest. */
export const latencyBoundsMs = [0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000] as const;

/** Counts calls of one procedure and how long they took. Cheap enough for every call. */
export class CallStatistics {
  calls = 0;
  failures = 0;
  running = 0;
  totalMs = 0;
  /** One count for each of {@link latencyBoundsMs} and one for longer calls. */
  readonly buckets: number[] = new Array<number>(latencyBoundsMs.length + 1).fill(0);

  /** Counts a call that ended. */
  record(durationMs: number, isFailure: boolean): void {
    this.calls++;
    if (isFailure) this.failures++;
    this.totalMs += durationMs;
    let index = 0;
    for (const bound of latencyBoundsMs) {
      if (durationMs <= bound) break;
      index++;
    }
    this.buckets[index] = (this.buckets[index] ?? 0) + 1;
  }
}

/** Lets at most `limit` tasks run at a time; the others wait in order of arrival. */
export class Gate {
  private readonly limit: number;
  private running = 0;
  private readonly waiting: (() => void)[] = [];

  /** @throws {RangeError} when `limit` is not a positive integer: nothing would ever run. */
  constructor(limit: number) {
    if (!Number.isInteger(limit) || limit < 1) throw new RangeError(`limit: must be a positive integer, not ${limit}`);
    this.limit = limit;
  }

  /** Runs `task` when there is room. Its failure is the caller's. */
  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.running >= this.limit) await new Promise<void>((resolve) => this.waiting.push(resolve));
    else this.running++;
    try {
      return await task();
    } finally {
      const next = this.waiting.shift();
      if (next === undefined) this.running--;
      else next();
    }
  }
}

/** Runs tasks of one file one after the other, those of different objects at the same time. First come, first served. */
export class FileLock {
  private readonly objects = new Map<number, Promise<void>>();
  private whole: Promise<void> = Promise.resolve();
  private running = 0;

  /** Tasks that wait or run. */
  get load(): number {
    return this.running;
  }

  /** Runs alone for this object, and not during a task for the whole file. */
  object<T>(object: number, task: () => Promise<T>): Promise<T> {
    const before = this.objects.get(object) ?? this.whole;
    const { result, settled } = this.after(before, task);
    this.objects.set(object, settled);
    void settled.then(() => {
      if (this.objects.get(object) === settled) this.objects.delete(object);
    });
    return result;
  }

  /** Runs alone for the whole file. */
  all<T>(task: () => Promise<T>): Promise<T> {
    const before = Promise.all([this.whole, ...this.objects.values()]).then(() => undefined);
    const { result, settled } = this.after(before, task);
    this.whole = settled;
    // Later tasks of any object wait for this one.
    this.objects.clear();
    return result;
  }

  private after<T>(before: Promise<void>, task: () => Promise<T>): { result: Promise<T>; settled: Promise<void> } {
    this.running++;
    const result = before.then(task);
    const settled = result
      .then(
        () => undefined,
        () => undefined,
      )
      .finally(() => this.running--);
    return { result, settled };
  }
}

/**
 * Orders the changes of one replicated file: changes of one object one after the other, changes of different objects side
 * by side, and a change of the whole file (truncate, reset) alone.
 */
export class WriteOrder {
  private readonly objects = new Map<number, Promise<void>>();
  private whole: Promise<void> = Promise.resolve();
  private waiting = 0;

  /** Changes that run or wait. */
  get pending(): number {
    return this.waiting;
  }

  /** Runs a change of one object. */
  async onObject<T>(object: number, task: () => Promise<T>): Promise<T> {
    const before = Promise.all([this.whole, this.objects.get(object)]);
    return this.after(before, task, (ended) => {
      this.objects.set(object, ended);
      void ended.then(() => {
        if (this.objects.get(object) === ended) this.objects.delete(object);
      });
    });
  }

  /** Runs a change of the whole file. */
  async onFile<T>(task: () => Promise<T>): Promise<T> {
    const before = Promise.all([this.whole, ...this.objects.values()]);
    return this.after(before, task, (ended) => {
      this.whole = ended;
    });
  }

  private async after<T>(
    before: Promise<unknown>,
    task: () => Promise<T>,
    enter: (ended: Promise<void>) => void,
  ): Promise<T> {
    this.waiting++;
    const running = before.then(task);
    const settle = (): void => {
      this.waiting--;
    };
    enter(running.then(settle, settle));
    return running;
  }
}

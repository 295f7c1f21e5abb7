/** Hands things from who has them to who takes them one by one; who brings waits while too much is under way. */
export class WaitingQueue<T extends object> implements AsyncIterable<T> {
  private readonly sizeOf: (item: T) => number;
  private readonly sizeMax: number;
  private readonly items: T[] = [];
  private size = 0;
  private isEnded = false;
  private failure: Error | undefined;
  private arrived = Promise.withResolvers<undefined>();
  private taken: PromiseWithResolvers<undefined> | undefined;

  /**
   * @param sizeMax - how much may be under way.
   * @param sizeOf - how much of that a thing is, for example its bytes.
   */
  constructor(sizeMax: number, sizeOf: (item: T) => number) {
    this.sizeMax = sizeMax;
    this.sizeOf = sizeOf;
  }

  /** Brings one. @returns when more may come; at once, without a promise, while there is room. What comes after the end is dropped. */
  push(item: T): Promise<void> | undefined {
    if (this.isEnded) return undefined;
    this.items.push(item);
    this.size += this.sizeOf(item);
    this.arrived.resolve(undefined);
    return this.size <= this.sizeMax ? undefined : this.room();
  }

  /** Nothing more comes. @param failure - thrown to who takes, after what came before; undefined for none. */
  end(failure?: Error): void {
    if (this.isEnded) return;
    this.isEnded = true;
    this.failure = failure;
    this.arrived.resolve(undefined);
    this.release();
  }

  /** For one who takes. Leaving the loop ends the queue. */
  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    try {
      for (;;) {
        const item = this.items.shift();
        if (item !== undefined) {
          this.size -= this.sizeOf(item);
          yield item;
          if (this.size <= this.sizeMax) this.release();
        } else if (this.isEnded) {
          if (this.failure !== undefined) throw this.failure;
          return;
        } else {
          this.arrived = Promise.withResolvers();
          await this.arrived.promise;
        }
      }
    } finally {
      this.items.length = 0;
      this.end();
    }
  }

  private async room(): Promise<void> {
    while (!this.isEnded && this.size > this.sizeMax) {
      this.taken ??= Promise.withResolvers();
      await this.taken.promise;
    }
  }

  private release(): void {
    this.taken?.resolve(undefined);
    this.taken = undefined;
  }
}

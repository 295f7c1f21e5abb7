/** Bytes that all files of a mount may have taken and not yet sent. */
export class DirtyBudget {
  private readonly limitBytes: number;
  private used = 0;
  private readonly waiting: (() => void)[] = [];

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  get usedBytes(): number {
    return this.used;
  }

  /** Waits for room. One request larger than the whole budget gets through alone. */
  async take(bytes: number): Promise<void> {
    while (this.used > 0 && this.used + bytes > this.limitBytes) {
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
    this.used += bytes;
  }

  /** @returns whether there was room at once. */
  tryTake(bytes: number): boolean {
    if (this.used > 0 && this.used + bytes > this.limitBytes) return false;
    this.used += bytes;
    return true;
  }

  give(bytes: number): void {
    this.used -= bytes;
    for (const resolve of this.waiting.splice(0)) resolve();
  }
}

interface Sending {
  readonly start: number;
  readonly end: number;
  readonly done: Promise<void>;
}

/** Requests of one file that are under way. */
const sendingMax = 64;

/** Sends bytes to where they belong; the promise ends when they are there. */
export type Send = (offset: number, data: Buffer) => Promise<void>;

/**
 * Takes a file's writes and sends them on its own: adjoining small ones together, several at a time, overlapping ones
 * in order. Failures are kept until somebody asks (`takeError`), as the kernel keeps those of its page cache.
 */
export class WriteBehind {
  private readonly budget: DirtyBudget;
  private readonly pieceBytes: number;
  private tail: { readonly offset: number; readonly buffer: Buffer; length: number; send: Send } | undefined;
  private sending: Sending[] = [];
  private failures = 0;
  private lastError: Error | undefined;
  private readonly onFirst: () => void;
  private readonly onClean: () => void;

  /**
   * @param pieceBytes - small writes are joined up to a multiple of this (the size of an object).
   * @param marks - told when the file gets its first unsent byte, and when all is sent and nothing of it ever failed.
   */
  constructor(budget: DirtyBudget, pieceBytes: number, marks: { onFirst: () => void; onClean: () => void }) {
    this.budget = budget;
    this.pieceBytes = pieceBytes;
    this.onFirst = marks.onFirst;
    this.onClean = marks.onClean;
  }

  get isDirty(): boolean {
    return this.tail !== undefined || this.sending.length > 0;
  }

  /**
   * Whether a death of this process now would have to be told to whoever has the file open. It stays so after a
   * failure until the file is closed: this process can't know that an answer which told of it has arrived.
   */
  get mayHaveLost(): boolean {
    return this.isDirty || this.failures > 0;
  }

  /** How many failures there were; a handle remembers the number it has reported. */
  get failureCount(): number {
    return this.failures;
  }

  get error(): Error | undefined {
    return this.lastError;
  }

  /** Takes a copy of `data`. Waits only for room in the budget. */
  write(offset: number, data: Buffer, send: Send): undefined | Promise<undefined> {
    const oldest = this.sending.length >= sendingMax ? this.sending[0] : undefined;
    if (oldest !== undefined) return oldest.done.then(() => this.write(offset, data, send));
    if (this.budget.tryTake(data.length)) {
      this.accept(offset, data, send);
      return undefined;
    }
    this.push();
    return this.budget.take(data.length).then(() => {
      this.accept(offset, data, send);
      return undefined;
    });
  }

  /** Sends what waits for more to join it. */
  pushTail(): void {
    this.push();
  }

  /** Waits until everything that was taken has been sent (or has failed). */
  async drain(): Promise<void> {
    this.push();
    while (this.sending.length > 0) await Promise.all(this.sending.map((one) => one.done));
  }

  /** Notes a failure that happened elsewhere, for example in a predecessor of this process. */
  fail(error: Error): void {
    this.failures++;
    this.lastError = error;
  }

  private accept(offset: number, data: Buffer, send: Send): void {
    if (!this.isDirty) this.onFirst();
    if (data.length >= this.pieceBytes) {
      this.push();
      this.send(offset, Buffer.from(data), send);
      return;
    }
    const { tail } = this;
    if (tail !== undefined && tail.offset + tail.length === offset && tail.length + data.length <= tail.buffer.length) {
      tail.length += data.copy(tail.buffer, tail.length);
    } else {
      this.push();
      const room = this.pieceBytes - (offset % this.pieceBytes);
      const buffer = Buffer.allocUnsafe(
        data.length > room ? data.length : Math.min(room, Math.max(data.length * 8, 32_768)),
      );
      this.tail = { offset, buffer, length: data.copy(buffer), send };
    }
    if (this.tail !== undefined && this.tail.length === this.tail.buffer.length) this.push();
  }

  private push(): void {
    const { tail } = this;
    if (tail === undefined) return;
    this.tail = undefined;
    this.send(tail.offset, tail.buffer.subarray(0, tail.length), tail.send);
  }

  private send(start: number, data: Buffer, send: Send): void {
    const end = start + data.length;
    const before = this.sending.filter((one) => one.start < end && start < one.end).map((one) => one.done);
    const done = (
      before.length === 0 ? send(start, data) : Promise.all(before).then(async () => await send(start, data))
    )
      .catch((error: unknown) => this.fail(error instanceof Error ? error : new Error(String(error))))
      .then(() => {
        this.sending = this.sending.filter((one) => one !== entry);
        this.budget.give(data.length);
        if (!this.isDirty && this.failures === 0) this.onClean();
      });
    const entry: Sending = { start, end, done };
    this.sending.push(entry);
  }
}

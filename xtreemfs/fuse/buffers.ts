/** Hands out buffers of one size; keeps a few that came back, and never has more than `countMax` out. */
export class BufferPool {
  private readonly sizeBytes: number;
  private readonly countMax: number;
  private readonly keepMax: number;
  private readonly idle: Buffer[] = [];
  private lent = 0;

  /** @param keepMax - how many unused buffers are kept for the next request. */
  constructor(sizeBytes: number, countMax: number, keepMax = 8) {
    this.sizeBytes = sizeBytes;
    this.countMax = countMax;
    this.keepMax = keepMax;
  }

  /** @returns undefined when all are out. */
  take(): Buffer | undefined {
    if (this.lent >= this.countMax) return undefined;
    this.lent++;
    return this.idle.pop() ?? Buffer.allocUnsafeSlow(this.sizeBytes);
  }

  give(buffer: Buffer): void {
    this.lent--;
    if (this.idle.length < this.keepMax) this.idle.push(buffer);
  }
}

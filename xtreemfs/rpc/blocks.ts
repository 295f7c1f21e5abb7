/** Blocks are multiples of this, so that one that came back fits the next use. */
const stepBytes = 32 * 1024;
/** Larger buffers are made for each use. */
const blockBytesMax = 1024 * 1024 + stepBytes;

/**
 * Large buffers that are used again. Each new one costs its pages and, by its weight outside of the heap, brings the
 * next full garbage collection nearer; with objects of 128 KiB that was a fifth of an OSD's time.
 *
 * Only who knows that nobody reads or writes a block any more may give it back. One that isn't given back is collected
 * like any other buffer: in doubt, don't.
 */
export class BlockPool {
  /** Overwrites what comes back, so that tests see a use that was too late. */
  poisons = false;
  private readonly idleBytesMax: number;
  private readonly idle = new Map<number, Buffer[]>();
  private idleBytes = 0;
  /** Memory of blocks, and whether it is lent: what anyone else made, or gave back before, is not taken. */
  private readonly made = new WeakMap<ArrayBufferLike, { isLent: boolean }>();

  constructor(idleBytesMax = 16 * 1024 * 1024) {
    this.idleBytesMax = idleBytesMax;
  }

  /** A buffer of exactly `bytes` bytes with any content; give back the same object. */
  take(bytes: number): Buffer {
    if (bytes < stepBytes / 2 || bytes > blockBytesMax) return Buffer.allocUnsafe(bytes);
    const size = Math.ceil(bytes / stepBytes) * stepBytes;
    const block = this.idle.get(size)?.pop();
    if (block === undefined) {
      const fresh = Buffer.allocUnsafeSlow(size);
      this.made.set(fresh.buffer, { isLent: true });
      return fresh.subarray(0, bytes);
    }
    this.idleBytes -= size;
    const mark = this.made.get(block.buffer);
    if (mark !== undefined) mark.isLent = true;
    return block.subarray(0, bytes);
  }

  /** Takes back what `take` gave; does nothing with any other buffer. */
  give(buffer: Buffer): void {
    const mark = this.made.get(buffer.buffer);
    if (mark?.isLent !== true) return;
    mark.isLent = false;
    const size = buffer.buffer.byteLength;
    if (this.idleBytes + size > this.idleBytesMax) return;
    const block = Buffer.from(buffer.buffer);
    if (this.poisons) block.fill(0xdb);
    const blocks = this.idle.get(size) ?? [];
    this.idle.set(size, blocks);
    blocks.push(block);
    this.idleBytes += size;
  }
}

/** The blocks of this process. */
export const blocks = new BlockPool();

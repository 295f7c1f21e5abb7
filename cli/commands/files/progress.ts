import type { Context } from '../../frame/context.ts';
import { formatBytes } from '../volume/printing.ts';
import type { Item } from './transfer.ts';

const barWidth = 20;
const everyMs = 100;

/** A bar over the bytes of all files, on a terminal only. */
export class Progress {
  private readonly context: Context;
  private count = 0;
  private totalBytes = 0;
  private bytes = 0;
  private files = 0;
  private shownAt = -everyMs;

  constructor(context: Context) {
    this.context = context;
  }

  /** While files are read to be compared. */
  prepare(index: number, count: number): void {
    this.show(() => `Comparing file ${index + 1} of ${count}`);
  }

  /** From here on these are copied. */
  begin(items: readonly Item[]): void {
    this.count = items.length;
    this.totalBytes = items.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    this.shownAt = -everyMs;
    this.show(() => this.line());
  }

  /** Bytes that went over. */
  add(count: number): void {
    this.bytes += count;
    this.show(() => this.line());
  }

  /** A file is copied, or was there. */
  done(): void {
    this.files++;
    this.show(() => this.line());
  }

  /** What is shown. */
  line(): string {
    const share = this.totalBytes === 0 ? 1 : Math.min(1, this.bytes / this.totalBytes);
    const full = Math.round(share * barWidth);
    const bar = '█'.repeat(full) + '░'.repeat(barWidth - full);
    const sizes = `${formatBytes(this.bytes)} of ${formatBytes(this.totalBytes)}`;
    return `${bar} ${Math.floor(share * 100)} %  ${sizes}, ${this.files} of ${this.count} files`;
  }

  private show(text: () => string): void {
    const now = this.context.clock.monotonic();
    if (now - this.shownAt < everyMs) return;
    this.shownAt = now;
    this.context.terminal.progress(text());
  }
}

/**
 * A set in order of insertion whose first element can be taken in constant time. (Asking a Set for a new iterator
 * each time walks over everything deleted before; one iterator kept alive doesn't, and it sees later additions.)
 */
export class FifoSet {
  private readonly items = new Set<string>();
  private cursor: Iterator<string> | undefined;

  get size(): number {
    return this.items.size;
  }

  /** Adds at the end; nothing when it is there already. */
  add(item: string): void {
    this.items.add(item);
  }

  delete(item: string): boolean {
    return this.items.delete(item);
  }

  clear(): void {
    this.items.clear();
    this.cursor = undefined;
  }

  /** Takes the first element. */
  shift(): string | undefined {
    if (this.items.size === 0) return undefined;
    for (;;) {
      this.cursor ??= this.items.values();
      const next = this.cursor.next();
      if (next.done !== true) {
        this.items.delete(next.value);
        return next.value;
      }
      this.cursor = undefined;
    }
  }
}

import type { Execution } from '#crds/execution.ts';
import type { Stored } from '#runtime/types.ts';

/**
 * Executions as this process wrote them last, until the cache has caught up, so that a job is not placed again between the write and
 * the word of it. Losing the memory does no harm: the write that follows then fails on its version or name.
 */
export class ExecutionMemory {
  private readonly written = new Map<string, Stored<Execution>>();

  /** Keeps what was just written. */
  keep(key: string, execution: Stored<Execution>): void {
    this.written.set(key, execution);
  }

  forget(key: string): void {
    this.written.delete(key);
  }

  /** The newer of what the cache has and what was written. Versions of one kind can be compared (KEP-5504). */
  newer(key: string, cached: Stored<Execution> | undefined): Stored<Execution> | undefined {
    const own = this.written.get(key);
    if (own === undefined) return cached;
    if (cached !== undefined && BigInt(cached.metadata.resourceVersion) >= BigInt(own.metadata.resourceVersion)) {
      this.written.delete(key);
      return cached;
    }
    return own;
  }
}

import { createHash } from 'node:crypto';
import type { Clock } from '#common/clock.ts';
import type { Applied, Client } from '#runtime/contracts.ts';
import { type Kind, objectPath } from '#runtime/kind.ts';
import type { KubeObject } from '#runtime/types.ts';

/** After this time an object is written again even if it should be the same: somebody else may have changed it. */
const ageMaxMs = 5 * 60_000;
const entriesMax = 20_000;

/** Writes objects by server-side apply, and not again while they are to be the same. What it remembers may be lost at any time. */
export class ChildWriter {
  private readonly client: Client;
  private readonly clock: Clock;
  private readonly written = new Map<string, { readonly hash: string; readonly at: number }>();

  constructor(client: Client, clock: Clock) {
    this.client = client;
    this.clock = clock;
  }

  /** @param isMissing - the object is known not to be there, whatever was written before. */
  async apply<T extends KubeObject>(
    kind: Kind<T>,
    object: Applied<T>,
    options: { readonly signal: AbortSignal; readonly isMissing?: boolean },
  ): Promise<void> {
    const { name, namespace } = object.metadata as { name: string; namespace?: string };
    const path = objectPath(kind, { name, ...(namespace === undefined ? {} : { namespace }) });
    const hash = createHash('sha256').update(JSON.stringify(object)).digest('base64');
    const before = this.written.get(path);
    const now = this.clock.monotonic();
    if (options.isMissing !== true && before?.hash === hash && now - before.at < ageMaxMs) return;
    await this.client.of(kind).apply(object, { signal: options.signal });
    if (this.written.size >= entriesMax) this.written.clear();
    this.written.set(path, { hash, at: now });
  }
}

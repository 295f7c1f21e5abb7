import type { Clock } from '#common/clock.ts';
import { leases } from '#runtime/builtin.ts';
import { formatMicroTime } from '#runtime/conditions.ts';
import type { Client } from '#runtime/contracts.ts';

/** What is not written does not count: it makes the word of a home end sooner, and never later. */
const writeEveryMs = 60_000;

/**
 * When homes of virtual organizations were last heard of, one Lease each in the namespace of the operator. It outlives every process of this site: an
 * operator that is started anew again and again does not take a home that is away for one that was just heard of (threat 39).
 */
export class Heard {
  private readonly client: Client;
  private readonly clock: Clock;
  private readonly namespace: string;
  /** Moments that were written from here (monotonic). */
  private readonly written = new Map<string, number>();

  /** @param namespace - of the operator. */
  constructor(client: Client, clock: Clock, namespace: string) {
    this.client = client;
    this.clock = clock;
    this.namespace = namespace;
  }

  /** Milliseconds since the home of a virtual organization was heard of; endless when the clock tells nothing of it, undefined when it never was. */
  async ageMs(name: string, signal: AbortSignal): Promise<number | undefined> {
    const lease = await this.client.of(leases).find(followKey(this.namespace, name), { signal });
    if (lease === undefined) return undefined;
    const ageMs = this.clock.now() - Date.parse(lease.spec?.renewTime ?? '');
    return ageMs >= 0 ? ageMs : Infinity;
  }

  /** The home is heard of now. Written now and then. */
  async note(name: string, home: string, signal: AbortSignal): Promise<void> {
    const now = this.clock.monotonic();
    if (now - (this.written.get(name) ?? -Infinity) < writeEveryMs) return;
    const spec = { holderIdentity: home, renewTime: formatMicroTime(this.clock.now()) };
    await this.client.of(leases).apply({ metadata: followKey(this.namespace, name), spec }, { signal });
    this.written.set(name, now);
  }
}

/** Where this site keeps what it knows of a virtual organization that it follows. @param namespace - of the operator. */
export function followKey(namespace: string, name: string): { readonly namespace: string; readonly name: string } {
  return { namespace, name: `xtreemos-follow-${name}` };
}

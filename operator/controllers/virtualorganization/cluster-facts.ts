import type { Clock } from '#common/clock.ts';
import { endpointSlices } from '#runtime/builtin.ts';
import type { Client } from '#runtime/contracts.ts';
import { ignoreNotFound } from '#runtime/errors.ts';

/** Addresses of an API server seldom change; milliseconds. */
const addressesAgeMaxMs = 60_000;

/** What has to be asked of the cluster, since it is not worth a watch. */
export class ClusterFacts {
  private readonly client: Client;
  private readonly clock: Clock;
  private addresses: { readonly list: readonly string[]; readonly at: number } | undefined;

  constructor(client: Client, clock: Clock) {
    this.client = client;
    this.clock = clock;
  }

  /** Addresses of the API server, as it publishes them itself. */
  async apiServerAddresses(signal: AbortSignal): Promise<readonly string[]> {
    const at = this.clock.monotonic();
    if (this.addresses === undefined || at - this.addresses.at > addressesAgeMaxMs) {
      const slice = await this.client.of(endpointSlices).find({ namespace: 'default', name: 'kubernetes' }, { signal });
      this.addresses = { list: (slice?.endpoints ?? []).flatMap(({ addresses }) => addresses), at };
    }
    return this.addresses.list;
  }

  /** Whether a RuntimeClass exists; one without a name doesn't. */
  async hasRuntimeClass(name: string | undefined, signal: AbortSignal): Promise<boolean> {
    if (name === undefined) return false;
    const path = `/apis/node.k8s.io/v1/runtimeclasses/${encodeURIComponent(name)}`;
    return (await ignoreNotFound(this.client.raw('GET', path, undefined, { signal }))) !== undefined;
  }
}

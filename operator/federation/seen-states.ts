import { configMaps } from '#runtime/builtin.ts';
import type { Client } from '#runtime/contracts.ts';
import { followKey } from './heard.ts';

/**
 * The newest signed state of each virtual organization that is followed here, one ConfigMap each in the namespace of the operator. A home that lost its
 * own, since a backup was restored there, is shown it (threat 64).
 */
export class SeenStates {
  private readonly client: Client;
  private readonly namespace: string;
  /** By organization: what lies there. */
  private readonly kept = new Map<string, string>();

  /** @param namespace - of the operator. */
  constructor(client: Client, namespace: string) {
    this.client = client;
    this.namespace = namespace;
  }

  /** Keeps a state that was verified. @param state - JWS. */
  async keep(name: string, state: string, signal: AbortSignal): Promise<void> {
    if (this.kept.get(name) === state) return;
    await this.client.of(configMaps).apply({ metadata: followKey(this.namespace, name), data: { state } }, { signal });
    this.kept.set(name, state);
  }

  /** The newest state that was kept, a JWS. */
  async read(name: string, signal: AbortSignal): Promise<string | undefined> {
    return (await this.client.of(configMaps).find(followKey(this.namespace, name), { signal }))?.data?.state;
  }
}

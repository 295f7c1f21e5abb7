import { MemoryPeers } from '#operator/gateway/peers/testing/memory.ts';
import type { SitesSetup } from '../setup.ts';

/** A site without peers. */
export function alone(site: string): Pick<SitesSetup, 'channels' | 'services' | 'namespace' | 'shared' | 'members'> {
  const peers = new MemoryPeers().site(site);
  return {
    ...{ channels: peers, services: peers, namespace: 'xtreemos-system' },
    shared: { has: () => false },
    members: { principalOf: () => undefined, userNameOf: () => undefined },
  };
}

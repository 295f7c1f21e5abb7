import { MemoryPeers } from '#operator/gateway/peers/testing/memory.ts';
import type { JobSetup } from '#operator/controllers/gridjob/setup.ts';
import { nobody } from './access.ts';

/** A site without peers. */
export function alone(site: string): JobSetup['peers'] {
  const peers = new MemoryPeers().site(site);
  return {
    ...{ channels: peers, services: peers, namespace: 'xtreemos-system' },
    shared: { has: () => false },
    ...{ access: nobody, audit: { record: () => undefined } },
    members: { principalOf: () => undefined, userNameOf: () => undefined },
    volumes: { identityOf: () => undefined, sitesWith: () => [site] },
  };
}

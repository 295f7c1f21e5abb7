import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import type { Registry } from '#common/metrics.ts';
import { sites } from '#crds/site.ts';
import { mapped, nodes } from '#runtime/index.ts';
import type { Manager, Source } from '#runtime/contracts.ts';
import type { PeerStates } from '#operator/gateway/peers/peer-states.ts';
import { type LocalSite, SiteReconciler } from './controller.ts';
import { SiteMetrics } from './metrics.ts';

/** What the Site controller takes from the process it runs in. */
export interface SiteSetup {
  readonly clock: Clock;
  readonly log: Logger;
  readonly registry: Registry;
  readonly local: LocalSite;
  /** What is heard of peers. */
  readonly peers: PeerStates;
  readonly xtreemosVersion: string;
}

/** Adds the controller of Sites to a manager. It also wakes for changes of nodes and of what is heard of peers, and once at the start for the local Site. */
export function addSiteController(manager: Manager, { registry, ...setup }: SiteSetup): void {
  const siteInformer = manager.informer(sites);
  const nodeInformer = manager.informer(nodes);
  const localKey = { name: setup.local.name };
  // Wakes for the local Site even when there is none yet.
  const bootstrap: Source = {
    name: 'local-site',
    synced: async () => Promise.resolve(),
    attach: (enqueue) => {
      enqueue(localKey, true);
      return () => undefined;
    },
  };
  const greetings: Source = {
    name: 'peers',
    synced: async () => Promise.resolve(),
    attach: (enqueue) => setup.peers.onChange((name) => enqueue({ name }, false)),
  };
  manager.addController({
    name: 'site',
    primary: siteInformer,
    reconciler: new SiteReconciler({
      ...setup,
      sites: siteInformer,
      nodes: nodeInformer,
      client: manager.client,
      events: manager.events,
      metrics: new SiteMetrics(registry),
    }),
    sources: [mapped(nodeInformer, () => [localKey]), bootstrap, greetings],
  });
}

import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import type { Registry } from '#common/metrics.ts';
import { sites } from '#crds/site.ts';
import { mapped, nodes } from '#runtime/index.ts';
import type { Manager, Source } from '#runtime/contracts.ts';
import type { PeerStates } from '#operator/gateway/peers/peer-states.ts';
import { type LocalSite, SiteReconciler } from './controller.ts';
import { SiteMetrics } from './metrics.ts';
import { NetworkTest } from './network/network-test.ts';
import { NetworkFindings, NetworkWatch } from './network/network-watch.ts';

/** What the Site controller takes from the process it runs in. */
export interface SiteSetup {
  readonly clock: Clock;
  readonly log: Logger;
  readonly registry: Registry;
  readonly local: LocalSite;
  /** What is heard of peers. */
  readonly peers: PeerStates;
  /** What the test of the network needs to make pods. */
  readonly probes: {
    /** Image of the product; empty: nothing is tested. */
    readonly image: string;
    /** Namespace of the operator. */
    readonly namespace: string;
    /** Name of its pod. */
    readonly identity: string;
  };
  readonly xtreemosVersion: string;
}

/** Adds the controller of Sites to a manager. It also wakes for changes of nodes and of what is heard of peers, and once at the start for the local Site. */
export function addSiteController(manager: Manager, { registry, probes, ...setup }: SiteSetup): void {
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
  const network = addNetworkWatch(manager, setup, probes);
  const tests: Source = {
    name: 'network-test',
    synced: async () => Promise.resolve(),
    attach: (enqueue) => network.onChange(() => enqueue(localKey, false)),
  };
  manager.addController({
    name: 'site',
    primary: siteInformer,
    reconciler: new SiteReconciler({
      ...setup,
      network,
      sites: siteInformer,
      nodes: nodeInformer,
      client: manager.client,
      events: manager.events,
      metrics: new SiteMetrics(registry),
    }),
    sources: [mapped(nodeInformer, () => [localKey]), bootstrap, greetings, tests],
  });
}

/** Adds the test of the network. @returns what it finds out. */
function addNetworkWatch(
  manager: Manager,
  { clock, local, log }: Omit<SiteSetup, 'registry' | 'probes'>,
  probes: SiteSetup['probes'],
): NetworkFindings {
  const findings = new NetworkFindings();
  if (probes.image === '') {
    const message = 'The operator makes no pods for it without an image: give it --image.';
    findings.set({ kind: 'Inconclusive', message });
    return findings;
  }
  const test = new NetworkTest({ client: manager.client, clock, ...probes });
  const watched = { test, findings, sites: manager.informer(sites), localSite: local.name, clock, log };
  manager.addRunnable(new NetworkWatch(watched));
  return findings;
}

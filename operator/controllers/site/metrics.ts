import { Gauge, type Registry } from '#common/metrics.ts';
import type { Condition } from '#runtime/types.ts';
import type { NodeSummary } from './phases.ts';

const statuses: readonly Condition['status'][] = ['True', 'False', 'Unknown'];

/** Metrics of the local Site. Peers get theirs with peering. */
export class SiteMetrics {
  private readonly nodes: Gauge<'state'>;
  private readonly ready: Gauge;
  private readonly network: Gauge<'status'>;

  constructor(registry: Registry) {
    this.nodes = new Gauge({
      name: 'xtreemos_site_nodes',
      help: 'Nodes of the local site by state: ready (and schedulable) or unavailable',
      labelNames: ['state'],
      registers: [registry],
    });
    this.ready = new Gauge({
      name: 'xtreemos_site_ready',
      help: 'Whether the local site can run work: 1 or 0',
      registers: [registry],
    });
    this.network = new Gauge({
      name: 'xtreemos_site_network_isolated',
      help: 'Whether NetworkPolicy is enforced at the local site: 1 for the status that the condition NetworkIsolated has, 0 for the others',
      labelNames: ['status'],
      registers: [registry],
    });
  }

  /** Takes what was observed of the local site. @param network - status of the condition NetworkIsolated. */
  observe(nodes: NodeSummary, network: Condition['status']): void {
    for (const status of statuses) this.network.set({ status }, status === network ? 1 : 0);
    this.nodes.set({ state: 'ready' }, nodes.ready);
    this.nodes.set({ state: 'unavailable' }, nodes.unavailable.length);
    this.ready.set(nodes.ready > 0 ? 1 : 0);
  }
}

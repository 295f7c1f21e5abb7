import { Gauge, type Registry } from '#common/metrics.ts';
import type { NodeSummary } from './phases.ts';

/** Metrics of the local Site. Peers get theirs with peering. */
export class SiteMetrics {
  private readonly nodes: Gauge<'state'>;
  private readonly ready: Gauge;

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
  }

  /** Takes what was observed of the local site. */
  observe(nodes: NodeSummary): void {
    this.nodes.set({ state: 'ready' }, nodes.ready);
    this.nodes.set({ state: 'unavailable' }, nodes.unavailable.length);
    this.ready.set(nodes.ready > 0 ? 1 : 0);
  }
}

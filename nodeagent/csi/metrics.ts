import { Histogram, type Registry } from '#common/metrics.ts';

/** What is counted of CSI calls. */
export interface CsiMetrics {
  /** Duration of each call, by method and gRPC code. */
  readonly calls: Histogram<'method' | 'code'>;
}

/** Makes them in a registry. */
export function createCsiMetrics(registry: Registry): CsiMetrics {
  return {
    calls: new Histogram({
      name: 'xtreemos_csi_call_seconds',
      help: 'Duration of CSI calls, by method and gRPC code (OK or its number)',
      labelNames: ['method', 'code'],
      buckets: [0.005, 0.02, 0.1, 0.5, 1, 3, 10, 30, 120],
      registers: [registry],
    }),
  };
}

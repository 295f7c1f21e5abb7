import { Counter, Gauge, Histogram, type Registry } from '#common/metrics.ts';

const requestBuckets = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const workBuckets = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300];

/**
 * What the runtime tells about itself. Labels are bounded: verbs, status codes, resources, controller names and
 * results; never names of objects.
 */
export interface RuntimeMetrics {
  readonly requestSeconds: Histogram<'verb' | 'resource' | 'code'>;
  readonly requestRetries: Counter<'verb' | 'reason'>;
  readonly throttledSeconds: Histogram<'priority'>;
  readonly fencedWrites: Counter;
  readonly cachedObjects: Gauge<'resource'>;
  readonly watchEvents: Counter<'resource' | 'type'>;
  readonly lists: Counter<'resource' | 'reason'>;
  readonly watches: Counter<'resource' | 'result'>;
  readonly queueDepth: Gauge<'controller' | 'lane'>;
  readonly queueAdds: Counter<'controller' | 'lane'>;
  readonly queueSeconds: Histogram<'controller' | 'lane'>;
  readonly reconcileSeconds: Histogram<'controller' | 'result'>;
  readonly reconcilesRunning: Gauge<'controller'>;
  readonly parkedObjects: Gauge<'controller'>;
  readonly isLeader: Gauge;
  readonly events: Counter<'result'>;
}

/** Registers the runtime's metrics. Once per registry. */
export function createRuntimeMetrics(registry: Registry): RuntimeMetrics {
  const registers = [registry];
  const name = (what: string): string => `xtreemos_runtime_${what}`;
  const counter = <L extends string>(what: string, help: string, labelNames: readonly L[]) =>
    new Counter({ name: name(what), help, labelNames, registers });
  const gauge = <L extends string>(what: string, help: string, labelNames: readonly L[]) =>
    new Gauge({ name: name(what), help, labelNames, registers });
  const histogram = <L extends string>(what: string, help: string, labelNames: readonly L[], buckets: number[]) =>
    new Histogram({ name: name(what), help, labelNames, buckets, registers });
  return {
    requestSeconds: histogram(
      'request_duration_seconds',
      'Time from writing a request to its whole answer; code 0: no answer',
      ['verb', 'resource', 'code'],
      requestBuckets,
    ),
    requestRetries: counter('request_retries_total', 'Requests sent again', ['verb', 'reason']),
    throttledSeconds: histogram(
      'request_throttled_seconds',
      'Time requests waited for their turn (only those that waited)',
      ['priority'],
      requestBuckets,
    ),
    fencedWrites: counter('fenced_writes_total', 'Writes stopped because the lease was not held', []),
    cachedObjects: gauge('cached_objects', 'Objects in the caches', ['resource']),
    watchEvents: counter('watch_events_total', 'Events received by watches', ['resource', 'type']),
    lists: counter('lists_total', 'Full lists made by caches', ['resource', 'reason']),
    watches: counter('watches_total', 'Watches ended, by how', ['resource', 'result']),
    queueDepth: gauge('queue_depth', 'Keys waiting to be reconciled', ['controller', 'lane']),
    queueAdds: counter('queue_adds_total', 'Keys added to the queue', ['controller', 'lane']),
    queueSeconds: histogram(
      'queue_wait_seconds',
      'Time a key waited in the queue',
      ['controller', 'lane'],
      workBuckets,
    ),
    reconcileSeconds: histogram(
      'reconcile_duration_seconds',
      'Time of reconciles',
      ['controller', 'result'],
      workBuckets,
    ),
    reconcilesRunning: gauge('reconciles_running', 'Reconciles running now', ['controller']),
    parkedObjects: gauge('parked_objects', 'Objects whose last reconcile failed for good', ['controller']),
    isLeader: gauge('is_leader', '1 while this process holds the lease', []),
    events: counter('events_total', 'Events by what became of them', ['result']),
  };
}

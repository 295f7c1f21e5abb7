import { Counter, Gauge, Histogram, type Registry } from '#common/metrics.ts';

/** Metrics of finding nodes. */
export class DispatchMetrics {
  readonly waiting: Gauge;
  readonly holds: Counter<'answer'>;
  readonly querySeconds: Histogram;
  readonly waitSeconds: Histogram;

  constructor(registry: Registry) {
    const registers = [registry];
    this.waiting = new Gauge({ name: 'xtreemos_jobs_waiting', help: 'Jobs that look for nodes', registers });
    this.holds = new Counter({
      name: 'xtreemos_jobs_holds_total',
      help: 'Nodes asked to hold resources, by answer: granted, refused or failed',
      labelNames: ['answer'],
      registers,
    });
    this.querySeconds = new Histogram({
      name: 'xtreemos_jobs_query_seconds',
      help: 'Time that the overlay took to answer a query',
      buckets: [0.01, 0.03, 0.1, 0.3, 1, 3, 10],
      registers,
    });
    this.waitSeconds = new Histogram({
      name: 'xtreemos_jobs_wait_seconds',
      help: 'Time from the submission of a job to the promise of its nodes',
      buckets: [0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3600],
      registers,
    });
  }
}

import { collectDefaultMetrics, Registry } from 'prom-client';

export { Counter, Gauge, Histogram, Registry } from 'prom-client';

/**
 * A registry for one process. Names are `xtreemos_<area>_<what>_<unit>`; labels must be bounded (kinds, results,
 * never names of users' objects).
 * @param options.process - adds memory, CPU and event-loop metrics of this process.
 */
export function createRegistry(options: { process?: boolean } = {}): Registry {
  const registry = new Registry();
  if (options.process === true) collectDefaultMetrics({ register: registry });
  return registry;
}

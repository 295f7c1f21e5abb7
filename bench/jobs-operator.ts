/**
 * The controllers of jobs in a process of their own, for `make bench-jobs`: the product's own code, with everything else of the operator left
 * out (members, volumes, gateway). It says `ready` to its parent, and what it has cost so far whenever it is asked.
 */
import { parseArgs } from 'node:util';
import { systemClock } from '#common/clock.ts';
import { createLogger } from '#common/logger.ts';
import { createRegistry } from '#common/metrics.ts';
import { systemRandom } from '#common/random.ts';
import { openSurroundings } from '#operator/testing/surroundings.ts';
import { alone } from '#operator/sites/testing/alone.ts';
import { addJobControllers } from '#operator/controllers/gridjob/setup.ts';
import { FakeTaskLogs } from '#operator/testing/task-logs.ts';
import { GrpcResourceSelection } from '#proto/selector/client.ts';
import { createManager, createRuntimeMetrics, HttpTransport, kubeConfigCredentials, nodes } from '#runtime/index.ts';
import { clientCredentials } from '#selector/testing/hosted.ts';
import type { SiteFiles } from '#selector/testing/credentials.ts';

/** What the process has cost since its start. */
export interface OperatorCost {
  /** By `verb resource`; watches are not counted. */
  readonly requests: Readonly<Record<string, number>>;
  readonly cpuMs: number;
  /** The most that it ever had resident. */
  readonly peakRssMb: number;
  /** What of it is in use by JavaScript at the moment, and outside of its heap. */
  readonly heapMb: number;
  readonly externalMb: number;
  /** Queries to the selectors, and how long they took on average. */
  readonly queries: number;
  readonly queryMs: number;
  /** Nodes asked to hold resources, by answer. */
  readonly holds: Readonly<Record<string, number>>;
}

const { values } = parseArgs({
  options: {
    kubeconfig: { type: 'string', default: '' },
    selector: { type: 'string', default: '' },
    files: { type: 'string', default: '{}' },
  },
});
const log = createLogger({ name: 'bench-operator', level: 'error' });
const registry = createRegistry();
const metrics = createRuntimeMetrics(registry);
const transport = new HttpTransport({
  credentials: kubeConfigCredentials({ file: values.kubeconfig }),
  throttle: { qps: Infinity },
  metrics,
  logger: log,
});
const manager = createManager({ name: 'xtreemos-operator', transport, logger: log, registry, metrics });
const nodeInformer = manager.informer(nodes);
const taskLogs = new FakeTaskLogs();
addJobControllers(manager, {
  ...{ transport, peers: alone('bench') },
  ...{ clock: systemClock, random: systemRandom(), log, registry, taskLogs, siteName: 'bench' },
  selection: new GrpcResourceSelection(values.selector, clientCredentials(JSON.parse(values.files) as SiteFiles)),
  admission: () => undefined,
  reservationAdmission: () => undefined,
  isInGroup: () => false,
  surroundings: openSurroundings('bench', (name) => nodeInformer.get({ name }) !== undefined),
});

async function cost(): Promise<OperatorCost> {
  const requests: Record<string, number> = {};
  for (const { metricName, labels, value } of (await metrics.requestSeconds.get()).values) {
    if (metricName?.endsWith('_count') !== true || labels.verb === 'watch') continue;
    const name = `${String(labels.verb)} ${String(labels.resource)}`;
    requests[name] = (requests[name] ?? 0) + value;
  }
  // Logs are made up here, where no kubelet is; on real nodes each costs one request.
  requests['get pods/log'] = taskLogs.read.length;
  const { user, system } = process.cpuUsage();
  const { heapUsed, external } = process.memoryUsage();
  return {
    ...{ requests, cpuMs: (user + system) / 1000, peakRssMb: process.resourceUsage().maxRSS / 1024 },
    ...{ heapMb: heapUsed / 2 ** 20, externalMb: external / 2 ** 20, ...(await dispatched()) },
  };
}

async function dispatched(): Promise<Pick<OperatorCost, 'queries' | 'queryMs' | 'holds'>> {
  const valuesOf = async (name: string): Promise<{ metricName?: string; labels: object; value: number }[]> =>
    (await registry.getSingleMetric(name)?.get())?.values ?? [];
  const seconds = await valuesOf('xtreemos_jobs_query_seconds');
  const at = (end: string): number => seconds.find(({ metricName }) => metricName?.endsWith(end))?.value ?? 0;
  const holds = await valuesOf('xtreemos_jobs_holds_total');
  return {
    queries: at('_count'),
    queryMs: (1000 * at('_sum')) / Math.max(1, at('_count')),
    holds: Object.fromEntries(holds.map(({ labels, value }) => [Object.values(labels).join(), value])),
  };
}

process.on('message', () => {
  void cost().then((answer) => process.send?.(answer));
});
// Its parent is gone.
process.on('disconnect', () => process.exit(0));
void manager.run(new AbortController().signal);
process.send?.('ready');

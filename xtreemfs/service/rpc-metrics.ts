import type { RpcServer } from '../rpc/server.ts';
import { latencyBoundsMs } from '../rpc/statistics.ts';

/**
 * Calls of a server by procedure, in Prometheus's text format. Written here and not with prom-client: the server counts
 * in plain numbers, so that counting costs a call next to nothing.
 */
export function rpcMetrics(kind: string, server: RpcServer): string {
  const called = [...server.statistics].filter(([, statistics]) => statistics.calls + statistics.running > 0);
  const lines = [
    '# HELP xtreemos_xtreemfs_connections Connections that stand.',
    '# TYPE xtreemos_xtreemfs_connections gauge',
    `xtreemos_xtreemfs_connections{server="${kind}"} ${server.connectionCount}`,
    '# HELP xtreemos_xtreemfs_calls_running Calls that are being carried out.',
    '# TYPE xtreemos_xtreemfs_calls_running gauge',
    ...called.map(([name, { running }]) => `xtreemos_xtreemfs_calls_running{${labels(kind, name)}} ${running}`),
    '# HELP xtreemos_xtreemfs_call_failures_total Calls that were answered with an error.',
    '# TYPE xtreemos_xtreemfs_call_failures_total counter',
    ...called.map(([name, { failures }]) => `xtreemos_xtreemfs_call_failures_total{${labels(kind, name)}} ${failures}`),
    '# HELP xtreemos_xtreemfs_call_duration_seconds From the arrival of a request to its answer.',
    '# TYPE xtreemos_xtreemfs_call_duration_seconds histogram',
  ];
  for (const [name, { buckets, calls, totalMs }] of called) {
    const metric = 'xtreemos_xtreemfs_call_duration_seconds';
    let sum = 0;
    latencyBoundsMs.forEach((bound, index) => {
      sum += buckets[index] ?? 0;
      lines.push(`${metric}_bucket{${labels(kind, name)},le="${bound / 1000}"} ${sum}`);
    });
    lines.push(`${metric}_bucket{${labels(kind, name)},le="+Inf"} ${calls}`);
    lines.push(
      `${metric}_sum{${labels(kind, name)}} ${totalMs / 1000}`,
      `${metric}_count{${labels(kind, name)}} ${calls}`,
    );
  }
  return `${lines.join('\n')}\n`;
}

function labels(kind: string, name: string): string {
  return `server="${kind}",procedure="${name}"`;
}

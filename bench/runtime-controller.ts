/**
 * The trivial controller of `make bench-runtime`, on our runtime: the twin of bench/go/runtime/main.go. It writes
 * status.observed[run] of each Widget once, notes how long each change took to reach it, and prints what it
 * measured as one line of JSON when it is asked to stop (SIGTERM).
 */

import path from 'node:path';
import { parseArgs } from 'node:util';
import { createLogger } from '#common/logger.ts';
import {
  createManager,
  defineKind,
  done,
  HttpTransport,
  ignoreNotFound,
  inClusterCredentials,
  type KubeObject,
  terminationSignal,
} from '#runtime/index.ts';

interface Widget extends KubeObject {
  spec: { stampUs: number };
  status?: { observed?: Record<string, number> };
}

const widgets = defineKind<Widget>({
  group: 'bench.xtreemos.io',
  version: 'v1',
  kind: 'Widget',
  plural: 'widgets',
  namespaced: true,
});

const { values } = parseArgs({
  options: {
    host: { type: 'string', default: '' },
    'token-file': { type: 'string', default: '' },
    'ca-file': { type: 'string', default: '' },
    namespace: { type: 'string', default: '' },
    concurrency: { type: 'string', default: '16' },
    expect: { type: 'string', default: '' },
    run: { type: 'string', default: '' },
  },
});
const url = new URL(values.host);
const logger = createLogger({ level: 'warn', destination: process.stderr });
const transport = new HttpTransport({
  logger,
  credentials: inClusterCredentials({ folder: path.dirname(values['token-file']), host: url.hostname, port: url.port }),
  // No limit, as on the other side.
  throttle: { qps: Infinity },
});
const manager = createManager({ name: 'bench.xtreemos.io/ours', transport, logger });
const informer = manager.informer(widgets, { namespace: values.namespace });
const client = manager.client.of(widgets);
const seen = new Set<string>();
const expected = new Set(values.expect.split(',').map(Number));
const latenciesMs: number[] = [];
let firstMs = 0;
let lastMs = 0;
const nowMs = (): number => performance.timeOrigin + performance.now();

manager.addController({
  name: 'widgets',
  primary: informer,
  concurrency: Number(values.concurrency),
  reconciler: {
    reconcile: async (key, signal) => {
      const widget = informer.get(key);
      if (widget === undefined) return done;
      const generation = widget.metadata.generation ?? 0;
      if (widget.status?.observed?.[values.run] === generation) return done;
      const body = { status: { observed: { [values.run]: generation } } };
      const startedMs = nowMs();
      await ignoreNotFound(client.status.patch(key, { type: 'merge', body }, { signal }));
      const id = `${key.name}/${generation}`;
      if (seen.has(id)) return done;
      seen.add(id);
      if (firstMs === 0) firstMs = startedMs;
      lastMs = nowMs();
      latenciesMs.push(startedMs - widget.spec.stampUs / 1000);
      if (expected.has(seen.size)) console.log(`reached ${seen.size} ${lastMs}`);
      return done;
    },
  },
});

const { signal } = terminationSignal();
await manager.run(signal);
await transport.close();
console.log(JSON.stringify({ reconciles: seen.size, firstMs, lastMs, latenciesMs }));

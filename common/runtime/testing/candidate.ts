/**
 * One candidate of a leader election as a process of its own: `node candidate.ts KUBECONFIG IDENTITY`. While it leads it
 * writes as fast as it can. It says `leading` when it starts to, and exits with 3 when it lost the lease.
 */
import { configMaps, createManager, HttpTransport, kubeConfigCredentials, LeadershipLostError } from '../index.ts';

const [file = '', identity = ''] = process.argv.slice(2);
const transport = new HttpTransport({
  credentials: kubeConfigCredentials({ file }),
  throttle: { qps: Infinity },
  userAgent: identity,
});
const lease = {
  namespace: 'default',
  name: 'fenced',
  identity,
  durationMs: 3_000,
  renewDeadlineMs: 2_000,
  retryMs: 300,
};
const manager = createManager({ name: identity, transport, lease, graceMs: 1_000 });
manager.addRunnable({
  name: 'writer',
  run: async (signal) => {
    process.stdout.write('leading\n');
    for (let turn = 0; !signal.aborted; turn++) {
      // Several at once, so that some are always on their way when the process is frozen.
      const writes = Array.from({ length: 8 }, async (_, i) => {
        const metadata = { namespace: 'default', name: `fenced-${i}` };
        await manager.client.of(configMaps).apply({ metadata, data: { identity, turn: String(turn) } }, { signal });
      });
      await Promise.allSettled(writes);
    }
  },
});
try {
  await manager.run(new AbortController().signal);
} catch (error) {
  process.exitCode = error instanceof LeadershipLostError ? 3 : 1;
}
await transport.close();

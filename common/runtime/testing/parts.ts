import type { Clock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { createRegistry } from '#common/metrics.ts';
import { SeededRandom } from '#common/random.ts';
import { createRuntimeMetrics } from '../metrics.ts';
import type { Stored } from '../types.ts';
import type { ConfigMap } from '../builtin.ts';

/** What most classes of the runtime are made of, for tests: the given clock, a seed, no log. */
export function testParts(clock: Clock, seed = 1) {
  const registry = createRegistry();
  return {
    clock,
    registry,
    random: new SeededRandom(seed),
    logger: silentLogger,
    metrics: createRuntimeMetrics(registry),
  };
}

/** A stored ConfigMap in namespace `default`. */
export function aConfigMap(
  name: string,
  version: number | string,
  data: Record<string, string> = {},
): Stored<ConfigMap> {
  return {
    metadata: {
      name,
      namespace: 'default',
      uid: `uid-${name}`,
      resourceVersion: String(version),
      creationTimestamp: '2026-01-01T00:00:00Z',
    },
    data,
  };
}

/** Lets every promise that can go on do so, without time passing. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
}

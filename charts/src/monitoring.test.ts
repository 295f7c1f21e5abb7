/** What dashboards and alerts name is what programs export: servers are started, and asked. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { createRegistry } from '#common/metrics.ts';
import { parseOptions } from '#common/options.ts';
import { createCsiMetrics } from '#nodeagent/csi/metrics.ts';
import { addHolderMetrics } from '#nodeagent/programs.ts';
import { FileSystemMetrics } from '#operator/controllers/filesystem/metrics.ts';
import { dirProcedures, ServiceType } from '#proto/generated/xtreemfs/dir.ts';
import { dirOptionSpecs, startDir } from '#xtreemfs/dir/dir-server.ts';
import { osdOptionSpecs, startOsd } from '#xtreemfs/osd/osd-server.ts';
import { RpcClient } from '#xtreemfs/rpc/client.ts';
import { latencyBoundsMs } from '#xtreemfs/rpc/statistics.ts';
import { createDialer } from '#xtreemfs/rpc/transport.ts';
import { alertRules } from './alerts.ts';
import { fileSystemDashboard } from './dashboard.ts';

const deps = { clock: systemClock, logger: silentLogger };
const stops: (() => Promise<void>)[] = [];
/** Every series name that programs export. */
const exported = new Set<string>();

/** Series of a text in Prometheus's format, those of histograms too. */
function seriesOf(text: string): string[] {
  return [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].flatMap(([, name = '', type]) =>
    type === 'histogram' ? ['_bucket', '_sum', '_count'].map((ending) => name + ending) : [name],
  );
}

beforeAll(async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'xtreemos-monitoring-'));
  stops.push(async () => rm(folder, { recursive: true, force: true }));
  const local = ['--listen-host=127.0.0.1', '--port=0', '--http-port=0'];
  const dirFlags = [...local, `--data-dir=${folder}/dir`, '--no-discover'];
  const dir = await startDir(parseOptions(dirOptionSpecs, dirFlags, {}).values, deps);
  stops.unshift(() => dir.stop());
  const member = ['--uuid=osd-0', `--dir=127.0.0.1:${dir.port}`, '--capability-secret=a secret for these tests'];
  const osdFlags = [...local, ...member, `--object-dir=${folder}/osd`];
  const osd = await startOsd(parseOptions(osdOptionSpecs, osdFlags, {}).values, deps);
  stops.unshift(() => osd.stop());
  const client = new RpcClient({ ...deps, dialer: createDialer('pbrpc') });
  stops.unshift(async () => {
    client.close();
    return Promise.resolve();
  });
  const at = { host: '127.0.0.1', port: dir.port };
  await client.call(at, dirProcedures.serviceGetByType, { type: ServiceType.OSD });
  for (const { httpPort } of [dir, osd]) {
    const text = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();
    for (const name of seriesOf(text)) exported.add(name);
  }
  const registry = createRegistry({ process: false });
  new FileSystemMetrics(registry);
  createCsiMetrics(registry);
  addHolderMetrics(registry, { list: () => [] });
  for (const name of seriesOf(await registry.metrics())) exported.add(name);
}, 30_000);

afterAll(async () => {
  for (const stop of stops) await stop();
});

const rules = alertRules().flatMap((group) => group.rules);
const queries = JSON.stringify(fileSystemDashboard('')).match(/"expr":"(?:[^"\\]|\\.)*"/g) ?? [];
const expressions = [
  ...rules.map(({ alert, expr }): [string, string] => [alert, expr]),
  ...queries.map((query): [string, string] => ['the dashboard', (JSON.parse(`{${query}}`) as { expr: string }).expr]),
];

describe('what programs export', () => {
  test.each(expressions)('%s: %s', (_, expression) => {
    const names = expression.match(/xtreemos_\w+/g) ?? [];
    expect(names.length).toBeGreaterThan(0);
    expect(names.filter((name) => !exported.has(name))).toEqual([]);
    const bounds = [...expression.matchAll(/le="([^"]+)"/g)].map(([, bound]) => Number(bound) * 1_000);
    for (const bound of bounds) expect(latencyBoundsMs).toContain(bound);
  });
});

test('every alert has its own name, a remedy and a severity', () => {
  expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
  for (const { labels, annotations } of rules) {
    expect(['warning', 'critical']).toContain(labels.severity);
    expect(annotations.description).toMatch(/\.$/);
  }
});

test('every panel has a place of its own', () => {
  const { panels } = fileSystemDashboard('') as { panels: { gridPos: { x: number; y: number } }[] };
  expect(new Set(panels.map(({ gridPos }) => JSON.stringify(gridPos))).size).toBe(panels.length);
});

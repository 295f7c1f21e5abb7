import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { parseOptions } from '#common/options.ts';
import { ServiceType } from '#proto/generated/xtreemfs/dir.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { ServiceHost } from '../service/host.ts';
import { dirOptionSpecs, startDir, type RunningDir } from './dir-server.ts';
import { discoverDir } from './discovery.ts';

let folder: string;
let dir: RunningDir;
const deps = { clock: systemClock, logger: silentLogger };

function options(more: readonly string[] = []): ReturnType<typeof parseOptions<typeof dirOptionSpecs>>['values'] {
  const argv = ['--data-dir', path.join(folder, 'dir'), '--listen-host', '127.0.0.1', '--http-host', '127.0.0.1'];
  return parseOptions(dirOptionSpecs, [...argv, '--port', '0', '--http-port', '0', ...more], {}).values;
}

function aMember(port: number, host = '127.0.0.1'): ServiceHost {
  return new ServiceHost({
    ...deps,
    kind: 'osd',
    uuid: 'osd-1',
    scheme: 'pbrpc',
    port: 0,
    listenHost: '127.0.0.1',
    advertisedHost: '127.0.0.1',
    httpPort: -1,
    dirs: [{ host, port }],
    unknownProcedureErrno: PosixErrno.EINVAL,
    waitForDirMs: 300,
  });
}

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'dir-server-'));
  dir = await startDir(options(), deps);
});

afterEach(async () => {
  await dir.stop();
  rmSync(folder, { recursive: true });
});

test('a server registers, is found by UUID, takes the time of the DIR and goes offline when it stops', async () => {
  const member = aMember(dir.port);
  const watcher = aMember(dir.port);
  await member.start({
    describe: () => [
      { type: ServiceType.OSD, uuid: 'osd-1', name: 'OSD @ osd-1', data: [{ key: 'free', value: '1' }] },
    ],
    configuration: [{ key: 'dataDir', value: '/data' }],
  });
  expect(member.time.isSynchronized).toBe(true);
  expect(Math.abs(member.time.now() - Date.now())).toBeLessThan(1_000);
  expect(await watcher.resolver.resolve('osd-1')).toEqual({ host: '127.0.0.1', port: member.port });
  const [service] = await watcher.dir.servicesByType(ServiceType.OSD);
  expect(service?.data.data).toEqual(
    expect.arrayContaining([
      { key: 'free', value: '1' },
      { key: 'static.status', value: '0' },
      { key: 'seconds_since_last_update', value: '0' },
    ]),
  );
  expect((await watcher.dir.configuration('osd-1')).parameter).toEqual([{ key: 'dataDir', value: '/data' }]);
  await member.stop();
  expect((await watcher.dir.service('osd-1'))?.lastUpdatedS).toBe(0);
  await watcher.stop();
});

test('what administrators set under static. survives the next heartbeat', async () => {
  const member = aMember(dir.port);
  await member.start({
    describe: () => [
      { type: ServiceType.OSD, uuid: 'osd-1', name: 'OSD @ osd-1', data: [{ key: 'free', value: '2' }] },
    ],
  });
  const stored = await member.dir.service('osd-1');
  const data = stored!.data.data.map((pair) => (pair.key === 'static.status' ? { ...pair, value: '1' } : pair));
  await member.dir.registerService({ ...stored!, data: { data } });
  await member.beat();
  const after = (await member.dir.service('osd-1'))!.data.data;
  expect(after).toContainEqual({ key: 'static.status', value: '1' });
  expect(after.filter((pair) => pair.key === 'static.status')).toHaveLength(1);
  await member.stop();
});

test('records are there again after a restart', async () => {
  const member = aMember(dir.port);
  await member.dir.registerService({
    type: ServiceType.VOLUME,
    uuid: 'vol-uuid',
    name: 'vol',
    version: 0,
    lastUpdatedS: 0,
    data: { data: [{ key: 'mrc', value: 'mrc-1' }] },
  });
  await member.stop();
  await dir.stop();
  dir = await startDir(options(), deps);
  const again = aMember(dir.port);
  expect(await again.dir.servicesByName('vol')).toMatchObject([{ uuid: 'vol-uuid', version: 1 }]);
  await again.stop();
});

test('a member whose DIR never answers says how to mend it', async () => {
  const member = aMember(1);
  await expect(member.start({})).rejects.toThrow(
    'No DIR answered at 127.0.0.1:1 within 300 ms; start one or name another',
  );
  await member.stop();
});

test('status is served as a page, as JSON and as metrics, and pages ask for the password', async () => {
  await dir.stop();
  dir = await startDir(options(['--admin-password', 'open sesame']), deps);
  const base = `http://127.0.0.1:${dir.httpPort}`;
  const authorization = `Basic ${Buffer.from('admin:open sesame').toString('base64')}`;
  expect((await fetch(base)).status).toBe(401);
  const page = await (await fetch(base, { headers: { authorization } })).text();
  expect(page).toContain('<h2>Services</h2>');
  const json: unknown = await (await fetch(`${base}/status.json`, { headers: { authorization } })).json();
  expect(json).toMatchObject({ title: 'DIR dir' });
  const member = aMember(dir.port);
  await member.dir.globalTime();
  expect(await (await fetch(`${base}/metrics`)).text()).toContain(
    'xtreemos_xtreemfs_call_duration_seconds_count{server="dir",procedure="global_time_s_get"} 1',
  );
  expect((await fetch(`${base}/readyz`)).status).toBe(200);
  await member.stop();
});

test('a DIR is found by broadcast', async () => {
  const found = await discoverDir({ ...deps, port: dir.port, targets: ['127.0.0.1'], timeoutMs: 3_000 });
  expect(found).toEqual({ address: '127.0.0.1', port: dir.port, protocol: 'pbrpc', interfaceVersion: 10_001 });
});

test('a member that is told to search finds a DIR that listens on all addresses', async () => {
  await dir.stop();
  dir = await startDir(options(['--listen-host', '', '--host-name', '127.0.0.1']), deps);
  const member = aMember(dir.port, '.autodiscover');
  await member.start({});
  expect(member.time.isSynchronized).toBe(true);
  await member.stop();
});

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { parseOptions } from '#common/options.ts';
import { dirProcedures, ServiceType } from '#proto/generated/xtreemfs/dir.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { AuthType } from '#proto/generated/xtreemfs/rpc.ts';
import { RpcClient } from '#xtreemfs/rpc/client.ts';
import { createDialer } from '#xtreemfs/rpc/transport.ts';
import { dirOptionSpecs, startDir, type RunningDir } from '#xtreemfs/dir/dir-server.ts';
import { osdOptionSpecs, startOsd, type RunningOsd } from './osd-server.ts';

const deps = { clock: systemClock, logger: silentLogger };
const local = ['--listen-host=127.0.0.1', '--port=0', '--http-port=0'];
const running: { stop(): Promise<void> }[] = [];
let folder: string;
let dir: RunningDir;
let client: RpcClient;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'xtreemfs-osd-'));
  client = new RpcClient({ clock: systemClock, logger: silentLogger, dialer: createDialer('pbrpc') });
  const flags = [...local, `--data-dir=${join(folder, 'dir')}`, '--no-discover'];
  dir = await startDir(parseOptions(dirOptionSpecs, flags, {}).values, deps);
  running.push(dir);
});

afterEach(async () => {
  client.close();
  for (const server of running.splice(0).reverse()) await server.stop();
  await rm(folder, { recursive: true, force: true });
});

async function anOsd(uuid: string, onShutdown?: () => void, ...more: string[]): Promise<RunningOsd> {
  const flags = [
    ...local,
    `--uuid=${uuid}`,
    `--dir=127.0.0.1:${dir.port}`,
    `--object-dir=${join(folder, uuid)}`,
    '--capability-secret=a secret for these tests',
    '--admin-password=admin',
    ...more,
  ];
  const { values } = parseOptions(osdOptionSpecs, flags, {});
  const osd = await startOsd(values, { ...deps, ...(onShutdown === undefined ? {} : { onShutdown }) });
  running.push(osd);
  return osd;
}

test('registers at the DIR with its space and addresses, and as offline when it stops', async () => {
  const osd = await anOsd('osd-1');
  const at = { host: '127.0.0.1', port: dir.port };
  const find = async () => {
    const { response } = await client.call(at, dirProcedures.serviceGetByType, { type: ServiceType.OSD });
    return response.services[0]!;
  };
  const service = await find();
  const data = new Map(service.data.data.map(({ key, value }) => [key, value]));
  expect(service).toMatchObject({ uuid: 'osd-1', name: 'OSD @ osd-1' });
  expect(Number(data.get('free'))).toBeGreaterThan(0);
  expect(Number(data.get('total'))).toBeGreaterThanOrEqual(Number(data.get('free')));
  expect(data.get('proto_version')).toBe('30001');
  const { response } = await client.call(at, dirProcedures.addressMappingsGet, { uuid: 'osd-1' });
  expect(response.mappings.map(({ protocol, port }) => [protocol, port])).toEqual([
    ['pbrpc', osd.port],
    ['pbrpcu', osd.port],
  ]);
  await osd.stop();
  expect((await find()).lastUpdatedS).toBe(0);
});

test('shows its state over HTTP to people and machines', async () => {
  const osd = await anOsd('osd-2');
  const base = `http://127.0.0.1:${osd.httpPort}`;
  const metrics = await (await fetch(`${base}/metrics`)).text();
  expect(metrics).toMatch(/^xtreemos_osd_disk_free_bytes \d+/m);
  expect((await fetch(`${base}/readyz`)).status).toBe(200);
  const authorization = `Basic ${Buffer.from('admin:admin').toString('base64')}`;
  const page = await (await fetch(base, { headers: { authorization } })).text();
  expect(page).toContain('OSD osd-2');
  expect(page).toContain('Damaged objects');
});

test('ends when an administrator asks, and only then', async () => {
  let asked = 0;
  const osd = await anOsd('osd-3', () => asked++);
  const at = { host: '127.0.0.1', port: osd.port };
  await expect(client.call(at, osdProcedures.shutdown, {})).rejects.toMatchObject({ code: 'EACCES' });
  expect(asked).toBe(0);
  const auth = { authType: AuthType.PASSWORD, authPasswd: { password: 'admin' } };
  await client.call(at, osdProcedures.shutdown, {}, { auth });
  expect(asked).toBe(1);
});

describe('with a UUID for each folder', () => {
  const registered = async (): Promise<string[]> => {
    const at = { host: '127.0.0.1', port: dir.port };
    const { response } = await client.call(at, dirProcedures.serviceGetByType, { type: ServiceType.OSD });
    return response.services.map(({ uuid }) => uuid);
  };
  const startAndStop = async (): Promise<void> => (await anOsd('osd-4', undefined, '--uuid-per-folder')).stop();

  test('stays the same over starts, and is another one when the folder was replaced', async () => {
    await startAndStop();
    await startAndStop();
    expect(await registered()).toEqual([expect.stringMatching(/^osd-4\.[0-9a-f]{8}$/)]);
    await rm(join(folder, 'osd-4'), { recursive: true });
    await startAndStop();
    expect(await registered()).toHaveLength(2);
  });

  test('keeps the plain name of a folder that was in use before', async () => {
    await (await anOsd('osd-4')).stop();
    await startAndStop();
    expect(await registered()).toEqual(['osd-4']);
  });

  test('refuses the folder of another OSD', async () => {
    await startAndStop();
    const flags = [`--object-dir=${join(folder, 'osd-4')}`, '--uuid-per-folder'];
    await expect(anOsd('osd-44', undefined, ...flags)).rejects.toThrow(/belongs to OSD osd-4/);
  });
});

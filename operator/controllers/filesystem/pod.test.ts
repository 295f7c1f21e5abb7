/** Servers start with the flags that their pods get, over TLS, and tell the directory of themselves; nobody else tells of them. */
import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import type { FileSystem } from '#crds/file-system.ts';
import { administratorUnit, nodeServiceName, type ServerKind } from '#operator/storage/names.ts';
import { XtreemfsInstallation } from '#operator/storage/xtreemfs-installation.ts';
import { SystemVFcntl } from '#proto/generated/xtreemfs/global-types.ts';
import type { Stored } from '#runtime/types.ts';
import { MetadataClient } from '#xtreemfs/client/metadata.ts';
import { FileHandle, OpenFile } from '#xtreemfs/client/open-file.ts';
import { Services } from '#xtreemfs/client/services.ts';
import { ServerList } from '#xtreemfs/rpc/retry.ts';
import { createAuthority, type TestAuthority } from '#xtreemfs/rpc/testing/certificates.ts';
import { TlsMaterial, type TlsFiles } from '#xtreemfs/rpc/tls.ts';
import { serverPod, serviceName } from './pod.ts';

jest.setTimeout(60_000);

const program = fileURLToPath(new URL('../../../xtreemfs/main.ts', import.meta.url));
const resources = { requests: {} };
const spec = { tls: 'Required', engine: {}, dir: { resources }, mrc: { resources }, osds: { resources } };
const metadata = { name: 'main', namespace: 'xtreemos-system', uid: 'u' };
const fileSystem = { metadata, spec } as unknown as Stored<FileSystem>;
const host = '127.0.0.1';
const { signal } = new AbortController();
const stops: (() => Promise<void>)[] = [];
let folder: string;
let authority: TestAuthority;
let dirPort: number;
let mrcPort: number;

/** Starts the server of a pod as its arguments say, but for the places that only a pod has. @returns its port. */
async function start(kind: ServerKind, ordinal = 0): Promise<number> {
  const files = await authority.issue('', ['localhost', host, serviceName('main', kind)]);
  const here: Record<string, string | undefined> = {
    'host-name': host,
    uuid: `main-${kind}-${ordinal}`,
    dir: `${host}:${dirPort}`,
    'data-dir': path.join(folder, kind),
    'object-dir': path.join(folder, `${kind}-${ordinal}`),
    'tls-certificate': files.certificatePath,
    'tls-private-key': files.privateKeyPath,
    'tls-trusted': files.trustedPath,
  };
  const given = serverPod(fileSystem, kind, 'image').spec?.containers[0]?.args?.slice(2) ?? [];
  const args = given.flatMap((argument) => {
    const [, name = '', value] = /^--([^=]+)(?:=(.*))?$/.exec(argument) ?? [];
    if (name.startsWith('capability-')) return [];
    return value === undefined ? [argument] : [`--${name}=${here[name] ?? value}`];
  });
  const more = [`--listen-host=${host}`, '--port=0', '--http-port=-1', '--log-level=error'];
  const env = { ...process.env, XTREEMOS_CAPABILITY_SECRET: 'a secret for these tests' };
  const child = fork(program, [kind, ...args, ...more], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'], env });
  stops.unshift(async () => {
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  });
  const [message] = (await once(child, 'message')) as [{ port: number }];
  return message.port;
}

/** The installation as the holder of a certificate reaches it. */
function reachedBy(files: TlsFiles): XtreemfsInstallation {
  return new XtreemfsInstallation(servicesFor(files), `${host}:${mrcPort}`);
}

function servicesFor(files: TlsFiles): Services {
  const deps = { clock: systemClock, logger: silentLogger };
  const tls = new TlsMaterial(files, deps);
  const services = new Services({ ...deps, dirs: [{ host, port: dirPort }], scheme: 'pbrpcs', tls, triesMax: 1 });
  stops.unshift(async () => {
    services.close();
    return Promise.resolve();
  });
  return services;
}

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'xtreemos-pods-'));
  authority = await createAuthority('site');
  dirPort = await start('dir');
  await start('osd');
  mrcPort = await start('mrc');
});

afterAll(async () => {
  for (const stop of stops) await stop();
  await rm(folder, { recursive: true, force: true });
});

test('servers register by their certificates; the operator makes volumes and has an OSD emptied under who has its files open', async () => {
  const operator = reachedBy(await authority.issue(`CN=operator.xtreemos.io,O=xtreemos,OU=${administratorUnit}`));
  const [osd] = await operator.osds(signal);
  expect(osd?.uuid).toMatch(/^main-osd-0\.[0-9a-f]{8}$/);
  const layout = { width: 1, stripeKib: 128, policy: 'None', replicas: 1 } as const;
  await operator.make({ name: 'vol-1', owner: 'u', group: 'g', mode: 0o770, quotaBytes: 1e9, layout }, signal);

  const services = servicesFor(await authority.issue(`CN=${nodeServiceName},O=xtreemos`));
  const client = new MetadataClient(services, 'vol-1', new ServerList([`${host}:${mrcPort}`]));
  const caller = { user: { username: 'u', groups: ['g'] } };
  const flags = SystemVFcntl.O_CREAT | SystemVFcntl.O_RDWR;
  const { creds } = await client.open(caller, 'file', flags, { mode: 0o600 });
  const handle = new FileHandle(client, new OpenFile(client, { cap: creds.xcap, xlocs: creds.xlocs }), creds.xcap);
  const content = randomBytes(500_000);
  await handle.file.write(handle, 0, content);
  expect(handle.file.locations.replicas[0]?.osdUuids).toEqual([osd?.uuid]);

  await start('osd', 1);
  await operator.setTakesFiles(osd?.uuid ?? '', false, signal);
  expect((await operator.osds(signal))[0]?.takesFiles).toBe(false);
  while (!(await operator.drain(osd?.uuid ?? '', 'go', signal)).isEmpty) await systemClock.sleep(20);
  const { parts } = await handle.file.read(handle, 0, content.length);
  expect(Buffer.concat(parts).equals(content)).toBe(true);
  expect(handle.file.locations.replicas[0]?.osdUuids).toEqual([expect.stringMatching(/^main-osd-1\./)]);
});

test('threat 26: the certificate of a node agent changes nothing that the directory says of servers', async () => {
  const agent = reachedBy(await authority.issue(`CN=${nodeServiceName},O=xtreemos`));
  const [osd] = await agent.osds(signal);
  await expect(agent.setTakesFiles(osd?.uuid ?? '', true, signal)).rejects.toThrow(
    /may not write what the DIR says of/,
  );
  await expect(agent.forgetOsd(osd?.uuid ?? '', signal)).rejects.toThrow(/may not write what the DIR says of/);
});

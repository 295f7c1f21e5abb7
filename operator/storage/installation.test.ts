import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { jest } from '@jest/globals';
import { systemClock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { SystemVFcntl } from '#proto/generated/xtreemfs/global-types.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { MetadataClient, serviceUser } from '#xtreemfs/client/metadata.ts';
import { Services } from '#xtreemfs/client/services.ts';
import { ServerList } from '#xtreemfs/rpc/retry.ts';
import { complies, type InstallationBench } from './testing/installation-compliance.ts';
import { MemoryInstallation } from './testing/memory-installation.ts';
import { XtreemfsInstallation } from './xtreemfs-installation.ts';

jest.setTimeout(30_000);

complies('the installation of tests', async () => {
  const installation = new MemoryInstallation();
  installation.osdReports = [{ uuid: 'osd-0', lastSeenS: 1, freeBytes: 10, totalBytes: 20, takesFiles: true }];
  return Promise.resolve({
    installation,
    writeFile: async (volume, path, bytes) => {
      installation.volumes.get(volume)?.files.set(path, bytes);
      return Promise.resolve();
    },
    close: async () => Promise.resolve(),
  });
});

const deps = { clock: systemClock, logger: silentLogger };
const program = fileURLToPath(new URL('../../xtreemfs/main.ts', import.meta.url));
const local = ['--listen-host=127.0.0.1', '--port=0', '--http-port=-1', '--log-level=error'];
const secret = '--capability-secret=a secret for these tests';

interface Server {
  readonly port: number;
  stop(): Promise<void>;
}

/** Starts a server in a process of its own. */
async function serve(kind: 'dir' | 'mrc' | 'osd', flags: readonly string[]): Promise<Server> {
  const child = fork(program, [kind, ...local, ...flags], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const [message] = (await once(child, 'message')) as [{ port: number }];
  return {
    port: message.port,
    stop: async () => {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
  };
}

complies('real servers', async (): Promise<InstallationBench> => {
  const folder = await mkdtemp(join(tmpdir(), 'xtreemos-installation-'));
  const dir = await serve('dir', [`--data-dir=${join(folder, 'dir')}`, '--no-discover']);
  const member = [secret, `--dir=127.0.0.1:${dir.port}`];
  const osd = await serve('osd', [...member, '--uuid=osd-0', `--object-dir=${join(folder, 'osd')}`]);
  const mrc = await serve('mrc', [...member, '--uuid=mrc-0', `--data-dir=${join(folder, 'mrc')}`]);
  const services = new Services({ ...deps, dirs: [{ host: '127.0.0.1', port: dir.port }], triesMax: 2 });
  const address = `127.0.0.1:${mrc.port}`;
  return {
    installation: new XtreemfsInstallation(services, address),
    writeFile: async (volume, path, bytes) => writeFile(services, new ServerList([address]), volume, path, bytes),
    close: async () => {
      services.close();
      for (const server of [mrc, osd, dir]) await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
});

/** One object, as a client writes it. */
async function writeFile(
  services: Services,
  mrc: ServerList,
  volume: string,
  path: string,
  bytes: number,
): Promise<void> {
  const metadata = new MetadataClient(services, volume, mrc);
  const caller = { user: { username: 'root', groups: ['root'] } };
  const flags = SystemVFcntl.O_CREAT | SystemVFcntl.O_RDWR;
  const { creds } = await metadata.open(caller, path, flags, { mode: 0o600 });
  const head = creds.xlocs.replicas[0]?.osdUuids[0] ?? '';
  const request = {
    fileCredentials: creds,
    fileId: creds.xcap.fileId,
    ...{ objectNumber: 0, objectVersion: 0, offset: 0, leaseTimeout: 0 },
    objectData: { checksum: 0, invalidChecksumOnOsd: false, zeroPadding: 0 },
  };
  const options = { user: serviceUser, data: Buffer.alloc(bytes) };
  const { response } = await services.call(new ServerList([head]), osdProcedures.write, request, options);
  await metadata.updateFileSize(creds.xcap, response, true);
}

import { join } from 'node:path';
import { z } from 'zod';
import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { option, type OptionValues } from '#common/options.ts';
import { systemRandom } from '#common/random.ts';
import { ServiceType } from '#proto/generated/xtreemfs/dir.ts';
import { Ports } from '#proto/generated/xtreemfs/global-types.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { dirDirectory } from '../mrc/service/dir-directory.ts';
import { MrcServer } from '../mrc/service/mrc-server.ts';
import { CapabilityKeys } from '../service/capability.ts';
import { ServiceHost } from '../service/host.ts';
import {
  advertisedHost,
  loadTls,
  memberOptionSpecs,
  publicConfiguration,
  serverOptionSpecs,
} from '../service/options.ts';

const text = z.string().max(4096);

/** Options of an MRC. */
export const mrcOptionSpecs = {
  ...serverOptionSpecs({ rpc: Ports.MRC_PBRPC_PORT_DEFAULT, http: Ports.MRC_HTTP_PORT_DEFAULT }),
  ...memberOptionSpecs(),
  dataDir: option({ schema: text, about: 'Folder of the database', default: '/var/lib/xtreemfs/mrc', value: 'PATH' }),
};

/** Starts an MRC: opens its database, registers at the DIR and serves. */
export async function startMrc(
  values: OptionValues<typeof mrcOptionSpecs>,
  deps: { readonly clock: Clock; readonly logger: Logger; readonly onShutdown: () => void },
): Promise<{ port: number; httpPort: number; stop(): Promise<void> }> {
  const { clock, logger } = deps;
  const host = new ServiceHost({
    kind: 'mrc',
    uuid: values.uuid,
    clock,
    logger,
    scheme: values.scheme,
    tls: loadTls(values.scheme, values, deps),
    port: values.port,
    listenHost: values.listenHost === '' ? undefined : values.listenHost,
    advertisedHost: advertisedHost(values),
    httpPort: values.httpPort,
    httpHost: values.httpHost === '' ? undefined : values.httpHost,
    adminPassword: values.adminPassword,
    dirs: values.dir,
    unknownProcedureErrno: PosixErrno.NONE,
  });
  const mrc = await MrcServer.start({
    uuid: values.uuid,
    path: join(values.dataDir),
    url: `${values.scheme}://${advertisedHost(values)}:${values.port}`,
    clock,
    random: systemRandom(),
    logger,
    directory: dirDirectory(host.dir, host.resolver),
    client: host.client,
    resolver: host.resolver,
    capabilities: new CapabilityKeys({
      secrets: values.capabilitySecret,
      useUpstreamForm: values.upstreamCapabilities,
    }),
    identity: { provider: 'request', superUsers: ['root'], adminGroups: [], serviceNames: [] },
    globalNowMs: () => host.time.now(),
    adminPassword: values.adminPassword === '' ? undefined : values.adminPassword,
    onEnd: (error) => {
      if (error !== undefined) logger.error('The database failed', { err: error });
      deps.onShutdown();
    },
  });
  Object.assign(host, { rpc: mrc.server });
  await host.start({
    describe: () => [
      { type: ServiceType.MRC, uuid: values.uuid, name: `MRC @ ${values.uuid}`, data: [] },
      ...mrc.describeVolumes(),
    ],
    configuration: publicConfiguration(mrcOptionSpecs, values),
  });
  const stop = async (): Promise<void> => {
    await host.stop();
    await mrc.stop();
  };
  return { port: host.port, httpPort: host.httpPort, stop };
}

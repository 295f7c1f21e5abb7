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
import { ServiceHost } from '../service/host.ts';
import type { StatusSection } from '../service/status-page.ts';
import {
  advertisedHost,
  capabilityKeys,
  hostOptions,
  memberOptionSpecs,
  publicConfiguration,
  serverOptionSpecs,
} from '../service/options.ts';

const text = z.string().max(4096);
const list = text.transform((value) => value.split(',').filter((name) => name !== ''));

/** Options of an MRC. */
export const mrcOptionSpecs = {
  ...serverOptionSpecs({ rpc: Ports.MRC_PBRPC_PORT_DEFAULT, http: Ports.MRC_HTTP_PORT_DEFAULT }),
  ...memberOptionSpecs(),
  capabilitySigningKey: option({
    schema: z.string().max(4096),
    about: 'Ed25519 private key, PEM, that signs capabilities; then no OSD is able to make one',
    default: '',
    value: 'PATH',
  }),
  dataDir: option({ schema: text, about: 'Folder of the database', default: '/var/lib/xtreemfs/mrc', value: 'PATH' }),
  authenticationProvider: option({
    schema: z.enum(['request', 'simple-x509', 'federation-x509']),
    about: 'Who a caller is: as the request says, or as its certificate says (subject and OU, or CN and O)',
    default: 'request',
    value: 'PROVIDER',
  }),
  superUsers: option({
    schema: list,
    about: 'Users who may do everything, separated by commas',
    default: 'root',
    value: 'NAMES',
  }),
  adminGroups: option({
    schema: list,
    about: 'OUs of certificates whose holders may do everything, separated by commas',
    default: '',
    value: 'NAMES',
  }),
  serviceNames: option({
    schema: list,
    about: 'Names in certificates of services that may speak for any user, separated by commas',
    default: '',
    value: 'NAMES',
  }),
  capabilityTimeoutS: option({
    schema: z.coerce.number().int('use a whole number').min(60),
    about: 'How long a capability lasts, seconds',
    default: '600',
    value: 'S',
  }),
  noAtime: option({
    schema: z.boolean(),
    about: 'Do not record when files are read',
    default: 'true',
    isBoolean: true,
  }),
};

/** Starts an MRC: opens its database, registers at the DIR and serves. */
export async function startMrc(
  values: OptionValues<typeof mrcOptionSpecs>,
  deps: { readonly clock: Clock; readonly logger: Logger; readonly onShutdown: () => void },
): Promise<{ port: number; httpPort: number; stop(): Promise<void> }> {
  const { clock, logger } = deps;
  const host = new ServiceHost({
    ...hostOptions(values, deps),
    kind: 'mrc',
    uuid: values.uuid,
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
    rpc: host.rpc,
    directory: dirDirectory(host.dir, host.resolver),
    client: host.client,
    resolver: host.resolver,
    capabilities: capabilityKeys(values, values.capabilitySigningKey),
    identity: {
      provider: values.authenticationProvider,
      superUsers: values.superUsers,
      adminGroups: values.adminGroups,
      serviceNames: values.serviceNames,
    },
    capabilityTimeoutS: values.capabilityTimeoutS,
    noAtime: values.noAtime,
    globalNowMs: () => host.time.now(),
    adminPassword: values.adminPassword === '' ? undefined : values.adminPassword,
    onEnd: (error) => {
      if (error !== undefined) logger.error('The database failed', { err: error });
      deps.onShutdown();
    },
  });
  await host.start({
    describe: () => [
      { type: ServiceType.MRC, uuid: values.uuid, name: `MRC @ ${values.uuid}`, data: [] },
      ...mrc.describeVolumes(),
    ],
    configuration: publicConfiguration(mrcOptionSpecs, values),
    sections: () => statusSections(mrc),
  });
  const stop = async (): Promise<void> => {
    await host.stop();
    await mrc.stop();
  };
  return { port: host.port, httpPort: host.httpPort, stop };
}

function statusSections(mrc: MrcServer): StatusSection[] {
  const { volumes, osds } = mrc.status();
  return [
    {
      title: 'Volumes',
      columns: ['Name', 'Id', 'Files', 'Directories', 'Used (bytes)', 'Quota (bytes)', 'Snapshots'],
      rows: volumes.map((one) => [
        one.name,
        one.id,
        one.files,
        one.directories,
        one.usedBytes,
        one.quotaBytes === 0 ? 'none' : one.quotaBytes,
        one.snapshots,
      ]),
    },
    {
      title: 'OSDs',
      columns: ['UUID', 'Address', 'Usable (bytes)'],
      rows: osds.map((one) => [one.uuid, one.address, one.usableBytes]),
    },
  ];
}

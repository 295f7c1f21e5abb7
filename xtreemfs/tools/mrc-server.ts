import { z } from 'zod';
import type { Clock } from '#common/clock.ts';
import { describeError, InvalidInputError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { option, type OptionValues } from '#common/options.ts';
import { systemRandom } from '#common/random.ts';
import { ServiceType } from '#proto/generated/xtreemfs/dir.ts';
import { Ports } from '#proto/generated/xtreemfs/global-types.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { dirDirectory } from '../mrc/service/dir-directory.ts';
import { MrcServer, type MrcServerOptions } from '../mrc/service/mrc-server.ts';
import { formatAddress } from '../rpc/address.ts';
import { etcdOptions, etcdOptionSpecs } from '../service/etcd-options.ts';
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
  ...etcdOptionSpecs(
    'then several MRCs, each with a folder of its own, stand behind the same volumes, and any may die',
    '/xtreemfs/mrc',
  ),
  leaderTtlS: option({
    schema: z.coerce.number().int('use a whole number').min(2).max(60),
    about: 'With --etcd: how long the other MRCs wait for one that is silent, seconds',
    default: '4',
    value: 'S',
  }),
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
  const serverOptions: MrcServerOptions = {
    uuid: values.uuid,
    path: values.dataDir,
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
  };
  const member =
    values.etcd.length === 0 ? await startAlone(serverOptions) : await startMember(values, host, serverOptions);
  await host.start({
    describe: () => [
      { type: ServiceType.MRC, uuid: values.uuid, name: `MRC @ ${values.uuid}`, data: [] },
      ...(member.mrc()?.describeVolumes() ?? []),
    ],
    configuration: publicConfiguration(mrcOptionSpecs, values),
    sections: () => [...member.sections(), ...statusSections(member.mrc())],
  });
  const stop = async (): Promise<void> => {
    await member.handOver();
    await host.stop();
    await member.stop();
  };
  return { port: host.port, httpPort: host.httpPort, stop };
}

/** An MRC, alone or one of several. */
interface RunningMrc {
  /** What serves; undefined while another process does. */
  mrc(): MrcServer | undefined;
  sections(): StatusSection[];
  /** Lets another process go on at once. */
  handOver(): Promise<void>;
  stop(): Promise<void>;
}

async function startAlone(options: MrcServerOptions): Promise<RunningMrc> {
  const mrc = await MrcServer.start(options);
  const handOver = async (): Promise<void> => await Promise.resolve();
  return { mrc: () => mrc, sections: () => [], handOver, stop: async () => await mrc.stop() };
}

/** One of several MRCs over one etcd; see docs/adr/0200-several-mrcs-share-a-log-in-etcd.md. */
async function startMember(
  values: OptionValues<typeof mrcOptionSpecs>,
  host: ServiceHost,
  options: MrcServerOptions,
): Promise<RunningMrc> {
  if (values.port === 0) throw new InvalidInputError('--port', 'must be named with --etcd: the other MRCs are told it');
  // Its client of etcd reads files when it is loaded, which an MRC that is alone does not need.
  const { startReplica } = await import('../mrc/replicated/start.ts');
  let mrc: MrcServer | undefined;
  // Clients that look volumes up from now on ask the leader first, and know whom else to ask.
  const tellDir = (): void =>
    void host
      .beat()
      .catch((error: unknown) =>
        options.logger.warn('Cannot tell the DIR which MRCs serve its volumes', { problem: describeError(error) }),
      );
  const replica = await startReplica({
    ...options,
    etcd: { ...etcdOptions(values), prefix: values.etcdPrefix },
    address: formatAddress({ host: advertisedHost(values), port: values.port }),
    termMs: values.leaderTtlS * 1000,
    onMembers: tellDir,
    onLead: async (replicated) => {
      mrc = await MrcServer.start({ ...options, replicated });
      tellDir();
    },
  });
  return {
    mrc: () => mrc,
    sections: () => [
      {
        title: 'Replication',
        columns: ['What', 'Value'],
        rows: [
          ['Leader', replica.leader?.uuid ?? 'none'],
          ['Last record', replica.store.durableTicket],
          ['In the database', replica.store.movedTicket],
          ['Other MRCs', replica.others.join(', ')],
        ],
      },
    ],
    handOver: async () => await replica.handOver(),
    stop: async () => {
      await mrc?.stop();
      await replica.stop();
    },
  };
}

function statusSections(mrc: MrcServer | undefined): StatusSection[] {
  if (mrc === undefined) return [];
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

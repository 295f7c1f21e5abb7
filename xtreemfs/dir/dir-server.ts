import { z } from 'zod';
import type { Clock } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { option, type OptionValues } from '#common/options.ts';
import { ServiceType } from '#proto/generated/xtreemfs/dir.ts';
import { Ports } from '#proto/generated/xtreemfs/global-types.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import type { UdpEndpoint } from '../rpc/udp.ts';
import { etcdOptions, etcdOptionSpecs } from '../service/etcd-options.ts';
import { ServiceHost } from '../service/host.ts';
import { advertisedHost, hostOptions, serverOptionSpecs } from '../service/options.ts';
import type { StatusSection } from '../service/status-page.ts';
import { Directory, serveDirectory } from './directory.ts';
import { answerDiscovery } from './discovery.ts';
import { LmdbDirStore } from './lmdb-store.ts';
import type { DirStore } from './store.ts';
import { parseWriterRules, Writers } from './writers.ts';

const text = z.string().max(4096);

/** Options of a DIR. */
export const dirOptionSpecs = {
  ...serverOptionSpecs({ rpc: Ports.DIR_PBRPC_PORT_DEFAULT, http: Ports.DIR_HTTP_PORT_DEFAULT }),
  dataDir: option({ schema: text, about: 'Folder of the database', default: '/var/lib/xtreemfs/dir', value: 'PATH' }),
  ...etcdOptionSpecs('then records are there and several DIRs may run', '/xtreemfs/dir'),
  writers: option({
    schema: text.transform((value) => parseWriterRules('--writers', value)),
    about:
      'Which certificates may write of which services: KIND/UUID-PREFIX/NAME, separated by commas; without it everybody may write everything',
    default: '',
    value: 'RULES',
  }),
  adminGroups: option({
    schema: text.transform((value) => value.split(',').filter((unit) => unit !== '')),
    about: 'Organizational units of certificates whose holders may write everything then',
    default: '',
    value: 'OU,OU',
  }),
  discover: option({
    schema: z.boolean(),
    about: 'Answer servers that search for a DIR by broadcast',
    default: 'true',
    isBoolean: true,
  }),
};

/** Values of {@link dirOptionSpecs}. */
export type DirOptionValues = OptionValues<typeof dirOptionSpecs>;

/** A running DIR. */
export interface RunningDir {
  readonly port: number;
  readonly httpPort: number;
  stop(): Promise<void>;
}

/**
 * Starts a DIR.
 * @throws when an option is wrong, a port is taken, or the store cannot be opened.
 */
export async function startDir(
  values: DirOptionValues,
  deps: { readonly clock: Clock; readonly logger: Logger },
): Promise<RunningDir> {
  const { clock, logger } = deps;
  const store = await openStore(values);
  const directory = new Directory(store, clock);
  const host = new ServiceHost({
    ...hostOptions(values, deps),
    kind: 'dir',
    uuid: 'dir',
    dirs: [],
    unknownProcedureErrno: PosixErrno.EIO,
  });
  const { writers: rules, adminGroups } = values;
  serveDirectory(host.rpc, directory, new Writers({ rules, adminGroups }));
  let discovery: UdpEndpoint | undefined;
  try {
    // Fails now, not at the first call, when the store cannot be read.
    await store.get('services', 'dir');
    await host.start({ sections: async () => statusSections(directory) });
    if (values.discover) discovery = await startDiscovery(values, host.port, logger);
  } catch (error) {
    await host.stop(0);
    await store.close();
    throw error;
  }
  return {
    port: host.port,
    httpPort: host.httpPort,
    stop: async () => {
      await discovery?.close();
      await host.stop();
      await store.close();
    },
  };
}

/** Discovery is a help, not a duty: when its port is taken the DIR runs without it. */
async function startDiscovery(values: DirOptionValues, port: number, logger: Logger): Promise<UdpEndpoint | undefined> {
  const service = { address: advertisedHost(values), port, protocol: values.scheme };
  try {
    return await answerDiscovery({
      port,
      service,
      logger,
      ...(values.listenHost === '' ? {} : { host: values.listenHost }),
    });
  } catch (error) {
    logger.warn('Not answering searches for a DIR', { port, problem: describeError(error) });
    return undefined;
  }
}

async function openStore(values: DirOptionValues): Promise<DirStore> {
  if (values.etcd.length === 0) return await LmdbDirStore.open(values.dataDir);
  // Its client reads files when it is loaded, which not every DIR needs.
  const { EtcdDirStore } = await import('./etcd-store.ts');
  return new EtcdDirStore({ ...etcdOptions(values), prefix: values.etcdPrefix });
}

const typeNames = new Map<number, string>(Object.entries(ServiceType).map(([name, value]) => [value, name]));
const hiddenKeys: readonly string[] = ['osd_health_check_output'];
/** Upstream's servers upload their secrets with the rest of their configuration. */
const secretKeys = /secret|passw|passphrase|\.pw$/i;

async function statusSections(directory: Directory): Promise<StatusSection[]> {
  const [services, { mappings }, configurations] = await Promise.all([
    directory.servicesByType(ServiceType.MIXED),
    directory.addressMappings(''),
    directory.configurations(),
  ]);
  return [
    {
      title: 'Services',
      columns: ['Type', 'UUID', 'Name', 'Version', 'Last heartbeat', 'Data'],
      rows: services.map(({ type, uuid, name, version, lastUpdatedS, data }) => [
        typeNames.get(type) ?? type,
        uuid,
        name,
        version,
        lastUpdatedS === 0 ? 'offline' : new Date(lastUpdatedS * 1000).toISOString(),
        data.data
          .filter((pair) => !hiddenKeys.includes(pair.key))
          .map((pair) => `${pair.key}=${pair.value}`)
          .join(', '),
      ]),
    },
    {
      title: 'Address mappings',
      columns: ['UUID', 'URI', 'Network', 'TTL (s)', 'Version'],
      rows: mappings.map(({ uuid, uri, matchNetwork, ttlS, version }) => [uuid, uri, matchNetwork, ttlS, version]),
    },
    {
      title: 'Configurations',
      columns: ['UUID', 'Version', 'Parameters'],
      rows: configurations.map(({ uuid, version, parameter }) => [
        uuid,
        version,
        parameter.map(({ key, value }) => `${key}=${secretKeys.test(key) ? '(hidden)' : value}`).join(', '),
      ]),
    },
    {
      title: 'Vivaldi coordinates of clients',
      columns: ['Address', 'x', 'y', 'Error'],
      rows: directory
        .vivaldiClients()
        .map(({ address, coordinates }) => [
          address,
          coordinates.xCoordinate,
          coordinates.yCoordinate,
          coordinates.localError,
        ]),
    },
  ];
}

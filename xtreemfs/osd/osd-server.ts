import { cpus, freemem, loadavg, totalmem } from 'node:os';
import { z } from 'zod';
import type { Clock } from '#common/clock.ts';
import { makeFolder } from '#common/durable-files.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import { Gauge } from '#common/metrics.ts';
import { option, type OptionValues } from '#common/options.ts';
import { systemRandom } from '#common/random.ts';
import { ServiceType } from '#proto/generated/xtreemfs/dir.ts';
import { Ports } from '#proto/generated/xtreemfs/global-types.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { AuthType, PosixErrno, type Auth } from '#proto/generated/xtreemfs/rpc.ts';
import { UdpEndpoint } from '#xtreemfs/rpc/udp.ts';
import type { ServiceDescription } from '#xtreemfs/service/heartbeat.ts';
import type { TlsMaterial } from '#xtreemfs/rpc/tls.ts';
import type { CapabilityKeys } from '#xtreemfs/service/capability.ts';
import { ServiceHost } from '#xtreemfs/service/host.ts';
import {
  advertisedHost,
  capabilityKeys,
  hostOptions,
  memberOptionSpecs,
  publicConfiguration,
  serverOptionSpecs,
} from '#xtreemfs/service/options.ts';
import type { StatusSection } from '#xtreemfs/service/status-page.ts';
import { Cluster } from './cluster.ts';
import { OsdCore, ownTimers } from './osd-core.ts';
import { uuidOfFolder } from './folder-uuid.ts';
import { SpaceWatch } from './space-watch.ts';
import { NodeDisk } from './store/node-disk.ts';

const text = z.string().max(4096);
const whole = z.coerce.number().int('use a whole number').min(0);
const flag = z.boolean();

/** Options of an OSD. */
export const osdOptionSpecs = {
  ...serverOptionSpecs({ rpc: Ports.OSD_PBRPC_PORT_DEFAULT, http: Ports.OSD_HTTP_PORT_DEFAULT }),
  ...memberOptionSpecs(),
  objectDir: option({ schema: text, about: 'Folder of the objects', default: '/var/lib/xtreemfs/osd', value: 'PATH' }),
  uuidPerFolder: option({
    schema: flag,
    about: 'Add what names the folder to the UUID: a new folder in place of a lost one is another OSD then',
    default: 'false',
    isBoolean: true,
  }),
  reportFreeSpace: option({
    schema: flag,
    about: 'Tell the DIR how much space is free; without it the OSD is never chosen by space',
    default: 'true',
    isBoolean: true,
  }),
  ignoreCapabilities: option({
    schema: flag,
    about: 'Serve anybody, whatever their capability says; for tests only',
    default: 'false',
    isBoolean: true,
  }),
  syncWrites: option({
    schema: flag,
    about: 'Put every write on disk before it is answered, as if all files were opened with O_SYNC',
    default: 'false',
    isBoolean: true,
  }),
  syncOnClose: option({
    schema: flag,
    about: 'Put a file on disk when a client closes it; our own client asks for that by itself on fsync',
    default: 'false',
    isBoolean: true,
  }),
  flushIntervalMs: option({
    schema: whole,
    about: 'How often written data is put on disk without being asked, milliseconds; 0 leaves it to the kernel',
    default: '5000',
    value: 'MS',
  }),
  leaseMs: option({
    schema: whole.min(1_000),
    about: 'How long the lease of a primary lasts, milliseconds; the same at all OSDs, 14000 with upstream OSDs',
    default: String(ownTimers.leaseMs),
    value: 'MS',
  }),
  clockSkewMaxMs: option({
    schema: whole.min(10),
    about: 'How far clocks of OSDs may be apart, milliseconds; the same at all OSDs, 1000 with upstream OSDs',
    default: String(ownTimers.dMaxMs),
    value: 'MS',
  }),
  scrubIntervalHours: option({
    schema: whole,
    about: 'Pause between two passes that read and verify everything, hours; 0 switches them off',
    default: '168',
    value: 'HOURS',
  }),
  scrubMibPerSecond: option({
    schema: whole.min(1),
    about: 'How fast such a pass reads, MiB a second',
    default: '10',
    value: 'MIB',
  }),
};

/** Values of {@link osdOptionSpecs}. */
export type OsdOptionValues = OptionValues<typeof osdOptionSpecs>;

/** A running OSD. */
export interface RunningOsd {
  readonly port: number;
  readonly httpPort: number;
  readonly core: OsdCore;
  /** Ends running calls, makes everything durable and tells the DIR. Calling it again waits for the same. */
  stop(): Promise<void>;
}

/** What an OSD gets from its program. */
export interface OsdDependencies {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called when an administrator asks the OSD to end. */
  readonly onShutdown?: () => void;
}

/**
 * Starts an OSD: opens its objects, registers at the DIR and serves.
 * @throws when an option is wrong, a port is taken, no DIR answers or the folder can't be used.
 */
export async function startOsd(given: OsdOptionValues, deps: OsdDependencies): Promise<RunningOsd> {
  const { logger } = deps;
  await makeFolder(given.objectDir, 0o700);
  const uuid = given.uuidPerFolder ? await uuidOfFolder(given.objectDir, given.uuid) : given.uuid;
  const values = { ...given, uuid };
  const host = makeHost(values, deps);
  const core = await openCore(values, deps, host);
  core.register(host.rpc);
  const { clock } = deps;
  const spaceWatch = new SpaceWatch({ clock, logger, space: () => core.store.space(), tell: () => host.beat() });
  let udp: UdpEndpoint | undefined;
  try {
    await host.start({
      describe: async () => [await describe(values, core, host)],
      configuration: publicConfiguration(osdOptionSpecs, values),
      sections: async () => statusSections(core),
      problem: () => core.problem,
      endpoints: [{ protocol: 'pbrpcu', address: advertisedHost(values), port: 0, matchNetwork: '*' }],
    });
    core.start();
    spaceWatch.start();
    registerMetrics(core, host);
    udp = await startUdp(values, host, logger);
  } catch (error) {
    spaceWatch.stop();
    await host.stop(0);
    await core.stop();
    throw error;
  }
  const stop = async (): Promise<void> => {
    spaceWatch.stop();
    await udp?.close();
    await core.handOver();
    await host.stop();
    await core.stop();
  };
  let stopping: Promise<void> | undefined;
  return { port: host.port, httpPort: host.httpPort, core, stop: () => (stopping ??= stop()) };
}

function makeHost(values: OsdOptionValues, deps: OsdDependencies): ServiceHost {
  return new ServiceHost({
    ...hostOptions(values, deps),
    kind: 'osd',
    uuid: values.uuid,
    dirs: values.dir,
    unknownProcedureErrno: PosixErrno.EINVAL,
  });
}

async function openCore(values: OsdOptionValues, deps: OsdDependencies, host: ServiceHost): Promise<OsdCore> {
  const { clock, logger } = deps;
  const { client, resolver, dir } = host;
  const auth: Auth | undefined =
    values.adminPassword === ''
      ? undefined
      : { authType: AuthType.PASSWORD, authPasswd: { password: values.adminPassword } };
  const keys = capabilityKeys(values);
  const relayProof = relayProofs(keys, host.tls);
  const cluster = new Cluster({ osdUuid: values.uuid, client, clock, resolver, dir, auth, relayProof });
  return OsdCore.open({
    osdUuid: values.uuid,
    clock,
    logger,
    random: systemRandom(),
    disk: new NodeDisk(values.objectDir),
    keys,
    globalTimeMs: () => host.time.now(),
    peers: cluster,
    volumes: cluster,
    adminPassword: values.adminPassword,
    ignoreCapabilities: values.ignoreCapabilities,
    syncWrites: values.syncWrites,
    syncOnClose: values.syncOnClose,
    flushIntervalMs: values.flushIntervalMs,
    scrubIntervalMs: values.scrubIntervalHours * 3_600_000,
    scrubBytesPerSecond: values.scrubMibPerSecond * 1024 * 1024,
    leases: {
      ...ownTimers,
      leaseMs: values.leaseMs,
      dMaxMs: values.clockSkewMaxMs,
      messageTimeoutMs: Math.min(500, Math.floor(values.leaseMs / 16)),
    },
    self: () => ({ host: advertisedHost(values), port: host.port }),
    shutdown: () => deps.onShutdown?.(),
  });
}

/** The proof for the certificate in use, which is renewed now and then; none on plain connections. */
function relayProofs(keys: CapabilityKeys, tls: TlsMaterial | undefined): () => Buffer | undefined {
  let known: { holder: string; proof: Buffer | undefined } | undefined;
  return () => {
    if (tls === undefined) return undefined;
    const { holder } = tls;
    if (known?.holder !== holder) known = { holder, proof: keys.relayProof(holder) };
    return known.proof;
  };
}

/** What the DIR gets to know with each heartbeat (protocol reference, section 6). */
async function describe(values: OsdOptionValues, core: OsdCore, host: ServiceHost): Promise<ServiceDescription> {
  const space = await core.store.space();
  const free = values.reportFreeSpace ? space.freeBytes : 0;
  const usable = values.reportFreeSpace ? space.usableBytes : 0;
  const load = Math.round(((loadavg()[0] ?? 0) * 100) / Math.max(1, cpus().length));
  const isHealthy = core.problem === undefined;
  const data = {
    load,
    total: space.totalBytes,
    free,
    usable,
    totalRAM: totalmem(),
    usedRAM: totalmem() - freemem(),
    proto_version: 30001,
    osd_health_check: isHealthy ? 0 : 2,
    osd_health_check_output: core.problem ?? '',
    vivaldi_coordinates: '0'.repeat(48),
    status_page_url: host.httpPort < 0 ? '' : `http://${advertisedHost(values)}:${host.httpPort}`,
  };
  return {
    type: ServiceType.OSD,
    uuid: values.uuid,
    name: `OSD @ ${values.uuid}`,
    data: Object.entries(data).map(([key, value]) => ({ key, value: String(value) })),
  };
}

/**
 * Answers Vivaldi pings. GMAX datagrams are not taken: upstream does not send them, nothing proves who did, and a made-up
 * file size would show up in reads. OSDs ask each other by RPC instead.
 */
async function startUdp(values: OsdOptionValues, host: ServiceHost, logger: Logger): Promise<UdpEndpoint | undefined> {
  let udp: UdpEndpoint;
  try {
    const bindHost = values.listenHost === '' ? undefined : values.listenHost;
    udp = await UdpEndpoint.bind({ port: host.port, host: bindHost, logger });
  } catch (error) {
    logger.warn('Not taking datagrams', { port: host.port, problem: describeError(error) });
    return undefined;
  }
  udp.handle(osdProcedures.ping, (ping, from) => {
    if (!ping.requestResponse) return;
    const coordinates = { xCoordinate: 0, yCoordinate: 0, localError: 0 };
    udp.send(from, osdProcedures.ping, { coordinates, requestResponse: false });
  });
  return udp;
}

async function statusSections(core: OsdCore): Promise<StatusSection[]> {
  const { totalBytes, freeBytes } = await core.store.space();
  const gib = (bytes: number): number => Number((bytes / 1024 ** 3).toFixed(2));
  const { files, objects, bytes, damaged } = core.scrubber.current;
  const damagedRows = [...damaged].map(([fileId, numbers]) => [fileId, numbers.slice(0, 100).join(', ')]);
  return [
    {
      title: 'Objects',
      columns: ['What', 'Value'],
      rows: [
        ['Space (GiB)', gib(totalBytes)],
        ['Free (GiB)', gib(freeBytes)],
        ['Files in memory', core.store.openFiles],
        ['Files in use', core.openFiles.size],
        ['Files with data not on disk yet', core.store.dirtyFiles.length],
        ['Clean-up', core.cleanup.status],
        ['Scrubbed in this pass', `${files} files, ${objects} objects, ${gib(bytes)} GiB`],
      ],
    },
    { title: 'Damaged objects', columns: ['File', 'Objects'], rows: damagedRows },
  ];
}

function registerMetrics(core: OsdCore, host: ServiceHost): void {
  const gauge = (name: string, help: string, read: () => number | Promise<number>): void => {
    const made: Gauge = new Gauge({
      name: `xtreemos_osd_${name}`,
      help,
      registers: [host.registry],
      collect: async () => made.set(await read()),
    });
  };
  gauge('disk_free_bytes', 'Free space of the disk.', async () => (await core.store.space()).freeBytes);
  gauge('disk_size_bytes', 'Size of the disk.', async () => (await core.store.space()).totalBytes);
  gauge('files_open', 'Files whose state is in memory.', () => core.store.openFiles);
  gauge('files_dirty', 'Files with acknowledged data that is not on disk yet.', () => core.store.dirtyFiles.length);
  gauge('damaged_files', 'Files with damage found in this scrub pass.', () => core.scrubber.current.damaged.size);
}

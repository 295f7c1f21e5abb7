import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { createRegistry, type Registry } from '#common/metrics.ts';
import type { KeyValuePair } from '#proto/generated/xtreemfs/global-types.ts';
import type { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { discoverDir, discoveryHost } from '../dir/discovery.ts';
import { formatAddress, type Address, type Scheme } from '../rpc/address.ts';
import { RpcClient } from '../rpc/client.ts';
import { ioError } from '../rpc/errors.ts';
import { UuidResolver } from '../rpc/resolver.ts';
import { ServerList } from '../rpc/retry.ts';
import { RpcServer, type RpcServerOptions } from '../rpc/server.ts';
import { createDialer, listen, type Listening } from '../rpc/transport.ts';
import type { TlsMaterial } from '../rpc/tls.ts';
import { DirClient } from './dir-client.ts';
import { GlobalTime } from './global-time.ts';
import { Heartbeat, type Endpoint, type ServiceDescription } from './heartbeat.ts';
import { rpcMetrics } from './rpc-metrics.ts';
import type { StatusSection } from './status-page.ts';
import { StatusServer, type HttpAnswer } from './status-server.ts';

/** What every server needs to stand on the network. */
export interface ServiceHostOptions {
  readonly kind: 'dir' | 'mrc' | 'osd';
  readonly uuid: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly scheme: Scheme;
  readonly tls?: TlsMaterial | undefined;
  /** 0 for any. */
  readonly port: number;
  readonly listenHost?: string | undefined;
  /** Under which others reach this server. */
  readonly advertisedHost: string;
  /** −1 for no status page, 0 for any port. */
  readonly httpPort: number;
  readonly httpHost?: string | undefined;
  readonly adminPassword?: string | undefined;
  /** Empty at a DIR. The host `.autodiscover` searches for one by broadcast on its port. */
  readonly dirs: readonly Address[];
  readonly unknownProcedureErrno: PosixErrno;
  readonly rpc?: Partial<RpcServerOptions>;
  /** How long the start waits for a DIR. Default 30,000 ms. */
  readonly waitForDirMs?: number;
  /** Default 60,000 ms. */
  readonly heartbeatMs?: number;
}

/** What a server says of itself when it starts. */
export interface ServiceFace {
  /** The server and its volumes, for the DIR; not asked at a DIR. */
  readonly describe?: () => Promise<readonly ServiceDescription[]> | readonly ServiceDescription[];
  /** Uploaded to the DIR; no secrets. */
  readonly configuration?: readonly KeyValuePair[];
  /** Tables of the status page. */
  readonly sections?: () => Promise<readonly StatusSection[]> | readonly StatusSection[];
  /** More pages, by path. */
  readonly routes?: Readonly<Record<string, () => HttpAnswer | Promise<HttpAnswer>>>;
  /** Why the server is not ready; undefined when it is. */
  readonly problem?: () => string | undefined;
  /** Mappings beside the one of RPC, for example `pbrpcu` of an OSD; `port` 0 means the port of RPC. */
  readonly endpoints?: readonly Endpoint[];
}

const dirPollMs = 500;

/**
 * The frame in which a DIR, MRC or OSD lives: its RPC server, its client to others, the global time, the heartbeat and
 * the status page. A server registers its procedures at `rpc` and then starts the host.
 */
export class ServiceHost {
  readonly rpc: RpcServer;
  readonly client: RpcClient;
  readonly dir: DirClient;
  readonly resolver: UuidResolver;
  readonly time: GlobalTime;
  /** Metrics of the server's own. */
  readonly registry: Registry;
  private readonly options: ServiceHostOptions;
  private readonly dirs: ServerList;
  private listening: Listening | undefined;
  private heartbeat: Heartbeat | undefined;
  private status: StatusServer | undefined;
  private boundHttpPort = -1;
  private readonly startedAt: number;
  private isStopping = false;

  constructor(options: ServiceHostOptions) {
    const { clock, logger, scheme, unknownProcedureErrno } = options;
    this.options = options;
    this.startedAt = clock.monotonic();
    this.rpc = new RpcServer({ clock, logger, unknownProcedureErrno, ...options.rpc });
    this.client = new RpcClient({ clock, logger, dialer: createDialer(scheme, options.tls) });
    const dirs = new ServerList(options.dirs.map(formatAddress));
    this.dirs = dirs;
    this.dir = new DirClient({ client: this.client, clock, dirs });
    this.resolver = new UuidResolver({ clock, client: this.client, dirs, scheme });
    this.time = new GlobalTime({ clock, logger, ask: async (signal) => this.dir.globalTime(signal) });
    this.registry = createRegistry({ process: true });
  }

  /** Keys and certificates; none on plain connections. */
  get tls(): TlsMaterial | undefined {
    return this.options.tls;
  }

  /** Port of RPC once started. */
  get port(): number {
    return this.listening?.port ?? this.options.port;
  }

  /** Port of the status page once started; −1 when there is none. */
  get httpPort(): number {
    return this.boundHttpPort;
  }

  /**
   * Waits for a DIR, listens, registers and opens the status page.
   * @throws when no DIR answers in time, or a port is taken.
   */
  async start(face: ServiceFace): Promise<void> {
    const { kind, uuid, logger, scheme, tls, listenHost, port } = this.options;
    const isMember = this.options.dirs.length > 0;
    if (isMember) await this.waitForDir();
    this.listening = await listen(this.rpc, { scheme, port, host: listenHost, tls, logger });
    await this.startStatus(face);
    if (isMember) await this.startHeartbeat(face);
    logger.info('Started', { server: kind, uuid, port: this.port, httpPort: this.boundHttpPort, scheme });
  }

  /** Tells the DIR now what `describe` says, for example after a volume was made. */
  async beat(): Promise<void> {
    await this.heartbeat?.beat();
  }

  /** Stops in order: the DIR is told, running calls end within `graceMs`, connections close. */
  async stop(graceMs = 5_000): Promise<void> {
    if (this.isStopping) return;
    this.isStopping = true;
    await this.heartbeat?.stop();
    this.listening?.close();
    await this.rpc.stop(graceMs);
    this.time.stop();
    await this.status?.stop();
    this.client.close();
    this.options.tls?.close();
    this.options.logger.info('Stopped', { server: this.options.kind, uuid: this.options.uuid });
  }

  private async waitForDir(): Promise<void> {
    const { clock, logger, waitForDirMs = 30_000, dirs } = this.options;
    const search = dirs.find(({ host }) => host === discoveryHost);
    if (search !== undefined) {
      const found = await discoverDir({ clock, logger, port: search.port, timeoutMs: waitForDirMs });
      this.dirs.replace([formatAddress({ host: found.address, port: found.port })]);
    }
    const end = clock.monotonic() + waitForDirMs;
    while (!(await this.time.synchronize())) {
      if (clock.monotonic() >= end) {
        const names = dirs.map(formatAddress).join(', ');
        throw ioError(`No DIR answered at ${names} within ${waitForDirMs} ms; start one or name another with --dir`);
      }
      await clock.sleep(dirPollMs);
    }
    await this.time.start();
  }

  private async startHeartbeat(face: ServiceFace): Promise<void> {
    const { clock, logger, uuid, scheme, advertisedHost, heartbeatMs } = this.options;
    const own = { protocol: scheme, address: advertisedHost, port: this.port, matchNetwork: '*' };
    const more = (face.endpoints ?? []).map((endpoint) => ({
      ...endpoint,
      port: endpoint.port === 0 ? this.port : endpoint.port,
    }));
    this.heartbeat = new Heartbeat({
      dir: this.dir,
      clock,
      logger,
      uuid,
      describe: face.describe ?? (() => []),
      endpoints: [own, ...more],
      configuration: face.configuration ?? [],
      ...(heartbeatMs === undefined ? {} : { intervalMs: heartbeatMs }),
    });
    await this.heartbeat.start();
  }

  private async startStatus(face: ServiceFace): Promise<void> {
    const { kind, uuid, logger, httpPort, httpHost, adminPassword } = this.options;
    if (httpPort < 0) return;
    this.status = new StatusServer({
      logger,
      port: httpPort,
      host: httpHost,
      adminPassword,
      page: async () => ({
        title: `${kind.toUpperCase()} ${uuid}`,
        sections: [this.overview(), ...((await face.sections?.()) ?? []), this.calls()],
      }),
      metrics: async () => `${await this.registry.metrics()}\n${rpcMetrics(kind, this.rpc)}`,
      problem: () => (this.isStopping ? 'The server stops' : face.problem?.()),
      ...(face.routes === undefined ? {} : { routes: face.routes }),
    });
    this.boundHttpPort = await this.status.start();
  }

  private overview(): StatusSection {
    const { clock, scheme, advertisedHost, dirs } = this.options;
    const { rss, heapUsed } = process.memoryUsage();
    const beat = this.heartbeat?.lastBeatAt;
    const rows: (string | number)[][] = [
      ['Address', `${scheme}://${formatAddress({ host: advertisedHost, port: this.port })}`],
      ['Up for (s)', Math.floor((clock.monotonic() - this.startedAt) / 1000)],
      ['Global time', new Date(this.time.now()).toISOString()],
      ['Connections', this.rpc.connectionCount],
      ['Memory (MiB)', Math.round(rss / 1_048_576)],
      ['Heap (MiB)', Math.round(heapUsed / 1_048_576)],
    ];
    if (dirs.length > 0) {
      rows.push(['DIRs', dirs.map(formatAddress).join(', ')]);
      rows.push([
        'Last heartbeat (s ago)',
        beat === undefined ? 'none yet' : Math.floor((clock.monotonic() - beat) / 1000),
      ]);
    }
    return { title: 'Overview', columns: ['What', 'Value'], rows };
  }

  private calls(): StatusSection {
    const rows = [...this.rpc.statistics]
      .filter(([, { calls, running }]) => calls + running > 0)
      .map(([name, { calls, failures, running, totalMs }]) => [
        name,
        calls,
        failures,
        running,
        calls === 0 ? 0 : Number((totalMs / calls).toFixed(3)),
      ]);
    return { title: 'Calls', columns: ['Procedure', 'Calls', 'Failures', 'Running', 'Mean (ms)'], rows };
  }
}

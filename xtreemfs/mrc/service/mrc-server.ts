import { join } from 'node:path';
import type { Clock, Timer } from '#common/clock.ts';
import { describeError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import type { Random } from '#common/random.ts';
import { ServiceType } from '#proto/generated/xtreemfs/dir.ts';
import type { RpcClient } from '../../rpc/client.ts';
import type { AddressResolver } from '../../rpc/retry.ts';
import type { RpcServer } from '../../rpc/server.ts';
import type { CapabilityKeys } from '../../service/capability.ts';
import type { ServiceDescription } from '../../service/heartbeat.ts';
import { bucketOf } from '../core/keys.ts';
import { Engine } from '../engine.ts';
import type { IdentityOptions } from '../identity.ts';
import { Identities } from '../identity.ts';
import { Maintenance } from '../maintenance/maintenance.ts';
import { DatacenterMap } from '../placement/datacenter-map.ts';
import { OsdCatalogue } from '../placement/osd-catalogue.ts';
import { ChainPlacement } from '../placement/placement.ts';
import { Coordinator } from '../replication/coordinator.ts';
import { Drains } from '../replication/drain.ts';
import { rpcOsdCalls } from '../replication/osd-calls.ts';
import { DurableStore } from '../store/durable-store.ts';
import type { Mrc } from './context.ts';
import type { Directory } from './directory.ts';
import { registerFiles } from './file-handlers.ts';
import { registerNamespace } from './namespace-handlers.ts';
import { registerReplicas } from './replica-handlers.ts';
import { registerVolumes, volumeService } from './volume-handlers.ts';

/** What an MRC needs. Defaults are upstream's (protocol reference, section 18) unless they say otherwise. */
export interface MrcServerOptions {
  readonly uuid: string;
  /** Folder of the database, its log and dumps. */
  readonly path: string;
  /** `pbrpc://host:port` under which clients reach this MRC. */
  readonly url: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Gets the procedures. */
  readonly rpc: RpcServer;
  readonly directory: Directory;
  /** Calls OSDs while replicas are changed. */
  readonly client: RpcClient;
  readonly resolver: AddressResolver;
  readonly capabilities: CapabilityKeys;
  readonly identity: IdentityOptions;
  /** Global time, milliseconds. */
  readonly globalNowMs: () => number;
  readonly adminPassword?: string | undefined;
  readonly datacenters?: DatacenterMap;
  /** Default 600. */
  readonly capabilityTimeoutS?: number;
  /** Default false. */
  readonly renewsExpired?: boolean;
  /** Default true. */
  readonly noAtime?: boolean;
  /** Default 10,000. */
  readonly osdCheckIntervalMs?: number;
  /** Lease of read/write replicated files at the OSDs. Default 14,000. */
  readonly leaseTimeoutMs?: number;
  /** Takes the place of a store of its own in `path`: it is one of several processes, and the one that leads. */
  readonly replicated?: {
    readonly store: DurableStore;
    /** See `EngineOptions`. */
    readonly isCurrent: () => boolean;
    /** UUIDs of the other processes: clients are told all of them. */
    readonly others: () => readonly string[];
  };
  /** The store failed, or shutdown was asked for: the process should end (and, after a failure, start again). */
  readonly onEnd: (error: Error | undefined) => void;
}

/**
 * A metadata and replica catalogue: store, operations, background work and the procedures of a server. Listening, heartbeats and
 * status pages are joined to it by the program (`main.ts`).
 */
export class MrcServer {
  readonly engine: Engine;
  readonly osds: OsdCatalogue;
  readonly coordinator: Coordinator;
  private readonly options: MrcServerOptions;
  private readonly store: DurableStore;
  private readonly maintenance: Maintenance;
  private readonly drains: Drains;
  private readonly mrc: Mrc;
  private readonly abort = new AbortController();
  private osdTimer: Timer | undefined;

  private constructor(options: MrcServerOptions, store: DurableStore) {
    const { clock, random, logger } = options;
    this.options = options;
    this.store = store;
    this.osds = new OsdCatalogue();
    const placement = new ChainPlacement({
      catalogue: this.osds,
      random,
      nowMs: options.globalNowMs,
      datacenters: options.datacenters ?? DatacenterMap.empty,
    });
    this.engine = new Engine({
      store,
      clock,
      random,
      placement,
      globalNowMs: options.globalNowMs,
      signer: options.capabilities,
      url: options.url,
      capabilityTimeoutS: options.capabilityTimeoutS ?? 600,
      renewsExpired: options.renewsExpired ?? false,
      noAtime: options.noAtime ?? true,
      ...(options.replicated === undefined ? {} : { isCurrent: options.replicated.isCurrent }),
    });
    const osds = rpcOsdCalls(options.client, options.resolver);
    this.coordinator = new Coordinator({
      engine: this.engine,
      osds,
      clock,
      logger,
      leaseTimeoutMs: options.leaseTimeoutMs ?? 14_000,
      pollMs: 500,
      triesMax: 30,
    });
    this.drains = new Drains({
      engine: this.engine,
      coordinator: this.coordinator,
      catalogue: this.osds,
      refresh: () => this.readOsds(),
      logger,
    });
    const dumpFolder = join(options.path, 'dumps');
    this.maintenance = new Maintenance({
      engine: this.engine,
      osds,
      osdUuids: () => this.osds.all().map(({ uuid }) => uuid),
      clock,
      logger,
      dumpFolder,
      orphanIntervalMs: 30_000,
    });
    this.mrc = {
      engine: this.engine,
      identities: new Identities(options.identity),
      directory: options.directory,
      coordinator: this.coordinator,
      drains: this.drains,
      maintenance: this.maintenance,
      clock,
      logger,
      uuid: options.uuid,
      others: options.replicated?.others ?? ((): readonly string[] => []),
      adminPassword: options.adminPassword,
      requestShutdown: () => options.onEnd(undefined),
    };
    registerNamespace(options.rpc, this.mrc);
    registerFiles(options.rpc, this.mrc);
    registerVolumes(options.rpc, this.mrc);
    registerReplicas(options.rpc, this.mrc);
  }

  /** Opens the store, recovers what the log has, and starts background work. @throws as `DurableStore.open`. */
  static async start(options: MrcServerOptions): Promise<MrcServer> {
    const store =
      options.replicated?.store ??
      (await DurableStore.open({
        path: options.path,
        clock: options.clock,
        logger: options.logger,
        bucketOf,
        onFailure: options.onEnd,
      }));
    const server = new MrcServer(options, store);
    await server.maintenance.start();
    await server.refreshOsds();
    server.scheduleOsds();
    return server;
  }

  /** What the heartbeat tells the DIR of the volumes (the MRC's own record is the program's). */
  describeVolumes(): ServiceDescription[] {
    return this.engine.listVolumes().map((volume) => {
      const { type, uuid, name, data } = volumeService(this.mrc, volume);
      return { type, uuid, name, data: data.data };
    });
  }

  /** Asks the DIR for the OSDs now; a DIR that does not answer leaves the last list standing. */
  async refreshOsds(): Promise<void> {
    try {
      await this.readOsds();
    } catch (error) {
      if (!this.abort.signal.aborted)
        this.options.logger.warn('OSD list not refreshed', { problem: describeError(error) });
    }
  }

  private async readOsds(): Promise<void> {
    this.osds.replace(await this.options.directory.listOsds(this.abort.signal));
  }

  /** Facts for the status page and metrics. */
  status(): MrcStatus {
    const { engine } = this;
    return {
      uuid: this.options.uuid,
      type: ServiceType.MRC,
      store: this.store.stats(),
      changesRunning: this.coordinator.runningCount,
      osds: this.osds.all().map(({ uuid, address, usableBytes, status, lastUpdatedS }) => ({
        uuid,
        address,
        usableBytes,
        status,
        lastUpdatedS,
      })),
      volumes: engine.listVolumes().map((volume) => {
        const counters = engine.runNow({ user: '', groups: [], isSuper: true, client: '' }, (op) =>
          op.tx.readCounters(volume.number),
        );
        return {
          name: volume.name,
          id: volume.id,
          files: counters.files,
          directories: counters.directories,
          usedBytes: counters.usedBytes,
          quotaBytes: volume.quotaBytes,
          snapshots: engine.snapshotsOf(volume).length,
        };
      }),
    };
  }

  /** Ends background work, then the store unless it was given; the next start has nothing to replay. Calls must have ended. */
  async stop(): Promise<void> {
    this.abort.abort(new Error('The MRC stops'));
    this.osdTimer?.cancel();
    await this.drains.stop();
    await this.maintenance.stop();
    if (this.options.replicated === undefined) await this.store.close();
  }

  private scheduleOsds(): void {
    if (this.abort.signal.aborted) return;
    const again = (): void => void this.refreshOsds().then(() => this.scheduleOsds());
    this.osdTimer = this.options.clock.after(this.options.osdCheckIntervalMs ?? 10_000, again, { unref: true });
  }
}

/** See `MrcServer.status`. */
export interface MrcStatus {
  readonly uuid: string;
  readonly type: number;
  readonly store: ReturnType<DurableStore['stats']>;
  readonly changesRunning: number;
  readonly osds: readonly {
    uuid: string;
    address: string;
    usableBytes: number;
    status: number;
    lastUpdatedS: number;
  }[];
  readonly volumes: readonly {
    name: string;
    id: string;
    files: number;
    directories: number;
    usedBytes: number;
    quotaBytes: number;
    snapshots: number;
  }[];
}

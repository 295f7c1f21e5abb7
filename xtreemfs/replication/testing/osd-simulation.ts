import { VirtualClock, type Clock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { SeededRandom } from '#common/random.ts';
import { SnapConfig, StripingPolicyType, type FileCredentials } from '#proto/generated/xtreemfs/global-types.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { AuthType } from '#proto/generated/xtreemfs/rpc.ts';
import type { Procedure } from '#proto/wire.ts';
import { OsdCore } from '#xtreemfs/osd/osd-core.ts';
import { FaultDisk } from '#xtreemfs/osd/store/testing/fault-disk.ts';
import { FakeVolumes, openMode } from '#xtreemfs/osd/testing/osd-cluster.ts';
import { ioError } from '../../rpc/errors.ts';
import { RpcServer } from '../../rpc/server.ts';
import { CapabilityKeys } from '../../service/capability.ts';

/** One life of an OSD. */
interface Life {
  readonly core: OsdCore;
  readonly server: RpcServer;
}

/** One OSD of the simulation; its disk survives crashes, everything else does not. */
export interface SimulatedOsd {
  readonly uuid: string;
  readonly disk: FaultDisk;
  /** By how much its clock is ahead, milliseconds. */
  readonly offsetMs: number;
  isCutOff: boolean;
  life: Life | undefined;
}

const fileId = 'volume:1';
const callTimeoutMs = 1_000;

/**
 * Whole OSDs (object store, access checks, replication, leases) that hold the replicas of one file, on a virtual network
 * and clock with one seed. Calls go from handler to handler without sockets.
 */
export class OsdSimulation {
  readonly clock = new VirtualClock(1_700_000_000_000);
  readonly random: SeededRandom;
  readonly osds: SimulatedOsd[];
  lossRate = 0;
  delayMaxMs = 10;
  private readonly policy: 'WqRq' | 'WaR1';
  private readonly keys = new CapabilityKeys({ secrets: ['a secret for these tests'] });

  constructor(seed: number, count: number, policy: 'WqRq' | 'WaR1') {
    this.random = new SeededRandom(seed);
    this.policy = policy;
    this.osds = Array.from({ length: count }, (_, index) => ({
      uuid: `osd-${index}`,
      disk: new FaultDisk(this.random.fork()),
      offsetMs: this.random.int(250),
      isCutOff: false,
      life: undefined,
    }));
  }

  /** Starts an OSD over what its disk holds. */
  async start(osd: SimulatedOsd): Promise<void> {
    if (osd.life !== undefined) return;
    const isAlive = (): boolean => osd.life?.core === core;
    const clock = mortal(this.clock, osd.offsetMs, isAlive);
    const core: OsdCore = await OsdCore.open({
      osdUuid: osd.uuid,
      clock,
      logger: silentLogger,
      random: this.random.fork(),
      disk: osd.disk.mount(),
      keys: this.keys,
      globalTimeMs: () => clock.now(),
      peers: {
        call: async (to, procedure, request, data) =>
          this.call(osd, this.osd(to.replace(/:\d+$/, '')), procedure, request, data ?? Buffer.alloc(0)),
      },
      volumes: new FakeVolumes(),
      scrubIntervalMs: 0,
      flushIntervalMs: 0,
      self: () => ({ host: osd.uuid, port: 0 }),
      shutdown: () => undefined,
    });
    const server = new RpcServer({ clock, logger: silentLogger });
    core.register(server);
    osd.life = { core, server };
  }

  /** Ends an OSD as kill -9 does. */
  crash(osd: SimulatedOsd): void {
    osd.life?.core.flease.stop();
    osd.life = undefined;
    osd.disk.restart('everything');
  }

  osd(uuid: string): SimulatedOsd {
    const osd = this.osds.find((candidate) => candidate.uuid === uuid);
    if (osd === undefined) throw new TypeError(`There is no OSD ${uuid}`);
    return osd;
  }

  isPrimary(osd: SimulatedOsd): boolean {
    return osd.life?.core.flease.lease(`/file/${fileId}`).role === 'primary';
  }

  async read(osd: SimulatedOsd, object: number, length: number): Promise<Buffer> {
    const about = {
      fileCredentials: this.credentials(openMode.read, 0),
      fileId,
      objectNumber: object,
      objectVersion: 0,
    };
    const { response, data } = await this.call(
      undefined,
      osd,
      osdProcedures.read,
      { ...about, offset: 0, length },
      Buffer.alloc(0),
    );
    return Buffer.concat([data, Buffer.alloc(response.zeroPadding)]);
  }

  async write(osd: SimulatedOsd, object: number, data: Buffer): Promise<void> {
    const objectData = { checksum: 0, invalidChecksumOnOsd: false, zeroPadding: 0 };
    const about = {
      fileCredentials: this.credentials(openMode.readWrite, 0),
      fileId,
      objectNumber: object,
      objectVersion: 0,
    };
    await this.call(undefined, osd, osdProcedures.write, { ...about, offset: 0, leaseTimeout: 0, objectData }, data);
  }

  /** Cuts the file to nothing. @param epoch - each truncate has a higher one. */
  async truncate(osd: SimulatedOsd, epoch: number): Promise<void> {
    const fileCredentials = this.credentials(openMode.readWrite | openMode.truncate, epoch);
    await this.call(
      undefined,
      osd,
      osdProcedures.truncate,
      { fileCredentials, fileId, newFileSize: 0 },
      Buffer.alloc(0),
    );
  }

  private credentials(accessMode: number, truncateEpoch: number): FileCredentials {
    const nowMs = this.clock.now();
    const xcap = this.keys.sign({
      fileId,
      accessMode,
      truncateEpoch,
      clientIdentity: 'client',
      expireTimeS: Math.floor(nowMs / 1000) + 600,
      expireTimeoutS: 600,
      replicateOnClose: false,
      snapConfig: SnapConfig.SNAPS_DISABLED,
      snapTimestamp: 0,
      voucherSize: 0,
      expireTimeMs: nowMs + 600_000,
    });
    const stripingPolicy = { type: StripingPolicyType.RAID0, stripeSize: 4, width: 1 };
    const replicas = this.osds.map(({ uuid }) => ({ osdUuids: [uuid], replicationFlags: 0, stripingPolicy }));
    return { xcap, xlocs: { readOnlyFileSize: 0, replicas, replicaUpdatePolicy: this.policy, version: 0 } };
  }

  /** A call over the network: lost ones fail after a while, and may have been carried out. */
  private async call<Request, Response>(
    from: SimulatedOsd | undefined,
    to: SimulatedOsd,
    procedure: Procedure<Request, Response>,
    request: Request,
    data: Buffer,
  ): Promise<{ response: Response; data: Buffer }> {
    return new Promise((resolve, reject) => {
      this.clock.after(callTimeoutMs, () => reject(ioError(`${to.uuid} does not answer`)));
      this.transmit(from, to, () => {
        const { life } = to;
        const found = life?.server.find(procedure.interfaceId, procedure.procId);
        if (life === undefined || found === undefined || typeof found === 'number') return;
        const context = {
          userCreds: { username: 'srv', groups: [] },
          auth: { authType: AuthType.NONE },
          peer: { address: 'simulated', port: 0, certificate: undefined },
          signal: new AbortController().signal,
        };
        const answer = (finish: () => void): void => {
          if (to.life === life) this.transmit(to, from, finish);
        };
        // Through the codecs, so that nothing is shared between OSDs.
        const copy = procedure.request.decode(procedure.request.encode(request));
        Promise.resolve()
          .then(() => found.handler(context, copy, Buffer.from(data)))
          .then(
            (reply) => {
              const bytes = reply.data === undefined ? [] : Buffer.isBuffer(reply.data) ? [reply.data] : reply.data;
              const response = procedure.response.decode(procedure.response.encode(reply.response as Response));
              answer(() => resolve({ response, data: Buffer.concat(bytes) }));
            },
            (error: unknown) => answer(() => reject(error instanceof Error ? error : new TypeError(String(error)))),
          );
      });
    });
  }

  private transmit(from: SimulatedOsd | undefined, to: SimulatedOsd | undefined, arrive: () => void): void {
    if (this.random.next() < this.lossRate) return;
    this.clock.after(this.random.int(this.delayMaxMs), () => {
      if (from?.isCutOff !== true && to?.isCutOff !== true) arrive();
    });
  }
}

/** A clock that is ahead by some time, and whose timers and sleeps never end for an OSD that has crashed. */
function mortal(clock: VirtualClock, offsetMs: number, isAlive: () => boolean): Clock {
  return {
    now: () => clock.now() + offsetMs,
    monotonic: () => clock.monotonic(),
    after: (delayMs, fn) =>
      clock.after(delayMs, () => {
        if (isAlive()) fn();
      }),
    sleep: async (delayMs, signal) => {
      await clock.sleep(delayMs, signal);
      if (!isAlive()) await new Promise(() => undefined);
    },
  };
}

import { systemClock, type Clock } from '#common/clock.ts';
import { silentLogger } from '#common/logger.ts';
import { SeededRandom } from '#common/random.ts';
import {
  SnapConfig,
  StripingPolicyType,
  type FileCredentials,
  type Replica,
  type XCap,
  type XLocSet,
} from '#proto/generated/xtreemfs/global-types.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import type { Procedure } from '#proto/wire.ts';
import { RpcClient, type CallOptions } from '#xtreemfs/rpc/client.ts';
import { ioError } from '#xtreemfs/rpc/errors.ts';
import { RpcServer } from '#xtreemfs/rpc/server.ts';
import { createDialer, listen, type Listening } from '#xtreemfs/rpc/transport.ts';
import { CapabilityKeys } from '#xtreemfs/service/capability.ts';
import type { FileFate, VolumeService } from '../cluster.ts';
import { OsdCore, type OsdCoreOptions } from '../osd-core.ts';
import type { PeerOsds } from '../peer-osds.ts';
import type { Disk } from '../store/disk.ts';

/** Open modes with upstream's numbers. */
export const openMode = { read: 0x0, write: 0x1, readWrite: 0x2, sync: 0x10, truncate: 0x200, delete: 0x200000 };

/** An MRC that knows what a test tells it. */
export class FakeVolumes implements VolumeService {
  /** By file id; `registered` when absent. */
  readonly files = new Map<string, FileFate>();
  readonly complete: string[] = [];
  readonly restored: { path: string; fileBytes: number }[] = [];
  snapshots: number[] = [];

  async fates(volumeId: string, numbers: readonly string[]): Promise<FileFate[]> {
    return numbers.map((number) => this.files.get(`${volumeId}:${number}`) ?? 'registered');
  }

  async restore(_volumeId: string, path: string, _fileId: string, fileBytes: number): Promise<void> {
    this.restored.push({ path, fileBytes });
  }

  async markComplete(fileId: string): Promise<void> {
    this.complete.push(fileId);
  }

  async snapshotTimes(): Promise<number[]> {
    return this.snapshots;
  }
}

interface Member {
  /** One a life of the OSD: a new life may get the port of an old one whose connections still stand. */
  readonly client: RpcClient;
  readonly core: OsdCore;
  readonly server: RpcServer;
  readonly listening: Listening;
}

/** Several OSDs that talk through real RPC, and a client that makes its own capabilities. */
export class OsdCluster {
  readonly keys = new CapabilityKeys({ secrets: ['a secret for these tests'] });
  readonly volumes = new FakeVolumes();
  readonly clock: Clock;
  private readonly members = new Map<string, Member>();
  private readonly extra: Partial<OsdCoreOptions>;

  constructor(options: { clock?: Clock; osd?: Partial<OsdCoreOptions> } = {}) {
    this.clock = options.clock ?? systemClock;
    this.extra = options.osd ?? {};
  }

  /** Starts an OSD on a disk. */
  async start(uuid: string, disk: Disk): Promise<OsdCore> {
    const core = await OsdCore.open({
      osdUuid: uuid,
      clock: this.clock,
      logger: silentLogger,
      random: new SeededRandom(1),
      disk,
      keys: this.keys,
      globalTimeMs: () => this.clock.now(),
      peers: this.peers(),
      volumes: this.volumes,
      adminPassword: 'admin',
      scrubIntervalMs: 0,
      flushIntervalMs: 0,
      self: () => ({ host: uuid, port: 0 }),
      shutdown: () => undefined,
      ...this.extra,
    });
    const server = new RpcServer({
      clock: systemClock,
      logger: silentLogger,
      unknownProcedureErrno: PosixErrno.EINVAL,
    });
    core.register(server);
    const listening = await listen(server, { scheme: 'pbrpc', port: 0, host: '127.0.0.1', logger: silentLogger });
    const client = new RpcClient({ clock: systemClock, logger: silentLogger, dialer: createDialer('pbrpc') });
    this.members.set(uuid, { client, core, server, listening });
    return core;
  }

  /** Stops one OSD's network without a word to its disk. */
  async cutOff(uuid: string): Promise<void> {
    const member = this.members.get(uuid);
    this.members.delete(uuid);
    member?.client.close();
    member?.listening.close();
    await member?.server.stop(0);
  }

  /** Stops everything, gracefully. */
  async stop(): Promise<void> {
    for (const { client, server, listening, core } of this.members.values()) {
      client.close();
      listening.close();
      await server.stop(0);
      await core.stop();
    }
    this.members.clear();
  }

  core(uuid: string): OsdCore {
    const member = this.members.get(uuid);
    if (member === undefined) throw new Error(`${uuid} is not running`);
    return member.core;
  }

  async call<Request, Response>(
    uuid: string,
    procedure: Procedure<Request, Response>,
    request: Request,
    options: CallOptions = {},
  ): Promise<{ response: Response; data: Buffer }> {
    const member = this.members.get(uuid);
    if (member === undefined) throw ioError(`${uuid} is not running`);
    const address = { host: '127.0.0.1', port: member.listening.port };
    return member.client.call(address, procedure, request, options);
  }

  /** A signed capability with everything that a test does not care about. */
  cap(changes: Partial<XCap> & { fileId: string }): XCap {
    const nowMs = this.clock.now();
    return this.keys.sign({
      accessMode: openMode.readWrite,
      clientIdentity: '127.0.0.1',
      expireTimeS: Math.floor(nowMs / 1000) + 600,
      expireTimeoutS: 600,
      replicateOnClose: false,
      truncateEpoch: 0,
      snapConfig: SnapConfig.SNAPS_DISABLED,
      snapTimestamp: 0,
      voucherSize: 0,
      expireTimeMs: nowMs + 600_000,
      ...changes,
    });
  }

  private peers(): PeerOsds {
    return {
      call: async (uuid, procedure, request, data, timeoutMs) =>
        this.call(uuid, procedure, request, { data, timeoutMs }),
    };
  }
}

/** A replica over OSDs with objects of `stripeKb` kB. */
export function aReplica(osdUuids: string[], stripeKb: number, replicationFlags = 0): Replica {
  const stripingPolicy = { type: StripingPolicyType.RAID0, stripeSize: stripeKb, width: osdUuids.length };
  return { osdUuids, replicationFlags, stripingPolicy };
}

/** A replica set; one replica and no policy by default. */
export function xlocsOf(replicas: Replica[], changes: Partial<XLocSet> = {}): XLocSet {
  return { readOnlyFileSize: 0, replicas, replicaUpdatePolicy: '', version: 0, ...changes };
}

/** Reads and writes whole byte ranges of one file as a client does, object by object. */
export class TestFile {
  readonly cluster: OsdCluster;
  readonly fileId: string;
  xlocs: XLocSet;
  epoch = 0;
  /** Added to every capability. */
  terms: Partial<XCap> = {};

  constructor(cluster: OsdCluster, fileId: string, xlocs: XLocSet) {
    this.cluster = cluster;
    this.fileId = fileId;
    this.xlocs = xlocs;
  }

  credentials(accessMode = openMode.readWrite, changes: Partial<XCap> = {}): FileCredentials {
    const { fileId, epoch: truncateEpoch, terms } = this;
    const xcap = this.cluster.cap({ accessMode, truncateEpoch, ...terms, ...changes, fileId });
    return { xcap, xlocs: this.xlocs };
  }

  /** @returns the greatest size that an answer told of. */
  async write(offset: number, data: Buffer, accessMode = openMode.readWrite): Promise<number | undefined> {
    let told: number | undefined;
    for (const { object, at, length, start } of this.parts(offset, data.length)) {
      const { response } = await this.cluster.call(
        this.osdOf(object),
        osdProcedures.write,
        {
          fileCredentials: this.credentials(accessMode),
          fileId: this.fileId,
          objectNumber: object,
          objectVersion: 0,
          offset: at,
          leaseTimeout: 0,
          objectData: { checksum: 0, invalidChecksumOnOsd: false, zeroPadding: 0 },
        },
        { data: data.subarray(start, start + length) },
      );
      if (response.sizeInBytes !== undefined) told = Math.max(told ?? 0, response.sizeInBytes);
    }
    return told;
  }

  /** Reads until `length` bytes or the end of the file. */
  async read(offset: number, length: number, replica = 0, accessMode = openMode.read): Promise<Buffer> {
    const found: Buffer[] = [];
    for (const { object, at, length: wanted } of this.parts(offset, length)) {
      const { response, data } = await this.cluster.call(this.osdOf(object, replica), osdProcedures.read, {
        fileCredentials: this.credentials(accessMode),
        fileId: this.fileId,
        objectNumber: object,
        objectVersion: 0,
        offset: at,
        length: wanted,
      });
      found.push(data, Buffer.alloc(response.zeroPadding));
      if (data.length + response.zeroPadding < wanted) break;
    }
    return Buffer.concat(found);
  }

  /** Truncates with the next epoch, as the MRC would hand it out. */
  async truncate(
    newFileSize: number,
  ): Promise<{ sizeInBytes?: number | undefined; truncateEpoch?: number | undefined }> {
    this.epoch++;
    const { response } = await this.cluster.call(this.osdOf(0), osdProcedures.truncate, {
      fileCredentials: this.credentials(openMode.readWrite | openMode.truncate),
      fileId: this.fileId,
      newFileSize,
    });
    return response;
  }

  async size(): Promise<number> {
    const request = { fileCredentials: this.credentials(), fileId: this.fileId };
    const { response } = await this.cluster.call(this.osdOf(0), osdProcedures.internalGetFileSize, request);
    return response.fileSize;
  }

  async unlink(): Promise<void> {
    const request = { fileCredentials: this.credentials(openMode.delete), fileId: this.fileId };
    await this.cluster.call(this.osdOf(0), osdProcedures.unlink, request);
  }

  private osdOf(object: number, replica = 0): string {
    const { osdUuids } = this.xlocs.replicas[replica] ?? { osdUuids: [] };
    return osdUuids[object % osdUuids.length] ?? '';
  }

  private *parts(
    offset: number,
    length: number,
  ): Generator<{ object: number; at: number; length: number; start: number }> {
    const objectBytes = 1024 * (this.xlocs.replicas[0]?.stripingPolicy.stripeSize ?? 0);
    for (let start = 0; start < length;) {
      const object = Math.floor((offset + start) / objectBytes);
      const at = offset + start - object * objectBytes;
      const part = Math.min(length - start, objectBytes - at);
      yield { object, at, length: part, start };
      start += part;
    }
  }
}

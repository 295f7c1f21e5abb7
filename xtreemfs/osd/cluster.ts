import type { Clock } from '#common/clock.ts';
import { ServiceType } from '#proto/generated/xtreemfs/dir.ts';
import { FileState, mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import { AuthType, PosixErrno, type Auth, type UserCredentials } from '#proto/generated/xtreemfs/rpc.ts';
import type { Procedure } from '#proto/wire.ts';
import { parseAddress } from '#xtreemfs/rpc/address.ts';
import type { RpcClient } from '#xtreemfs/rpc/client.ts';
import { errnoError, isErrno } from '#xtreemfs/rpc/errors.ts';
import { callWithRetries, ServerList, type AddressResolver } from '#xtreemfs/rpc/retry.ts';
import type { DirClient } from '#xtreemfs/service/dir-client.ts';
import type { PeerOsds } from './peer-osds.ts';

/** How servers call each other. Source: protocol reference, 2.5. */
const serverCreds: UserCredentials = { username: 'srv', groups: ['xtreemfs'] };

/** What the MRC says of a file that lies on this OSD. */
export type FileFate = 'registered' | 'deleted' | 'abandoned' | 'volume-unknown';

/** What the OSD asks of MRCs. */
export interface VolumeService {
  /** What became of files of one volume, in the order asked. */
  fates(volumeId: string, fileNumbers: readonly string[]): Promise<FileFate[]>;
  /** Registers an orphan below `lost+found`. */
  restore(volumeId: string, path: string, fileId: string, fileBytes: number, stripeKb: number): Promise<void>;
  /** Says that this OSD holds all of its part of a replica. */
  markComplete(fileId: string): Promise<void>;
  /** Times of a volume's snapshots, also of those that are being made, milliseconds; undefined when the volume is not known. */
  snapshotTimes(volumeId: string): Promise<number[] | undefined>;
}

/** What {@link Cluster} needs. */
export interface ClusterOptions {
  readonly osdUuid: string;
  readonly client: RpcClient;
  readonly clock: Clock;
  readonly resolver: AddressResolver;
  readonly dir: DirClient;
  /** Proves to other OSDs that capabilities of clients come by way of a server (`CapabilityKeys.relayProof`). */
  readonly relayProof?: () => Buffer | undefined;
  /** Sent to MRCs, which may ask for the administrator's password. */
  readonly auth?: Auth | undefined;
}

const mrcsMax = 10_000;

/** The other servers of the installation as an OSD sees them. */
export class Cluster implements PeerOsds, VolumeService {
  private readonly options: ClusterOptions;
  /** MRCs of a volume. */
  private readonly mrcs = new Map<string, ServerList>();

  constructor(options: ClusterOptions) {
    this.options = options;
  }

  async call<Request, Response>(
    osdUuid: string,
    procedure: Procedure<Request, Response>,
    request: Request,
    data?: Buffer,
    timeoutMs?: number,
  ): Promise<{ response: Response; data: Buffer }> {
    const { client, resolver, relayProof } = this.options;
    const authData = relayProof?.();
    const auth = authData === undefined ? undefined : { authType: AuthType.NONE, authData };
    try {
      const isAddress = /:\d{1,5}$/.test(osdUuid);
      const address = isAddress ? parseAddress('osd', osdUuid) : await resolver.resolve(osdUuid);
      return await client.call(address, procedure, request, { data, userCreds: serverCreds, auth, timeoutMs });
    } catch (error) {
      resolver.forget(osdUuid);
      throw error;
    }
  }

  async fates(volumeId: string, fileNumbers: readonly string[]): Promise<FileFate[]> {
    const mrcs = await this.mrcsOf(volumeId);
    if (mrcs === undefined) return fileNumbers.map(() => 'volume-unknown');
    const { osdUuid } = this.options;
    const request = { volumeId, fileIds: [...fileNumbers], osdUuid };
    const answer = await this.callMrc(mrcs, mrcProcedures.checkFileExists, request);
    if (!answer.volumeExists) return fileNumbers.map(() => 'volume-unknown');
    if (answer.fileStates.length !== fileNumbers.length) {
      throw errnoError(PosixErrno.EIO, `The MRC told of ${answer.fileStates.length} files, not ${fileNumbers.length}`);
    }
    return answer.fileStates.map(fateOf);
  }

  async restore(volumeId: string, path: string, fileId: string, fileBytes: number, stripeKb: number): Promise<void> {
    const mrcs = await this.mrcsOf(volumeId);
    if (mrcs === undefined) throw errnoError(PosixErrno.ENOENT, `The DIR does not know volume ${volumeId}`);
    const { osdUuid } = this.options;
    const request = { filePath: path, fileId, fileSize: fileBytes, osdUuid, stripeSize: stripeKb };
    await this.callMrc(mrcs, mrcProcedures.restoreFile, request);
  }

  async markComplete(fileId: string): Promise<void> {
    const mrcs = await this.mrcsOf(volumeOf(fileId));
    if (mrcs === undefined) throw errnoError(PosixErrno.ENOENT, `The DIR does not know the volume of ${fileId}`);
    await this.callMrc(mrcs, mrcProcedures.replicaMarkComplete, { fileId, osdUuid: this.options.osdUuid });
  }

  async snapshotTimes(volumeId: string): Promise<number[] | undefined> {
    const mrcs = await this.mrcsOf(volumeId);
    const volumeName = (await this.options.dir.service(volumeId))?.name;
    if (mrcs === undefined || volumeName === undefined) return undefined;
    const read = async (volume: string, name: string): Promise<string> => {
      const request = { volumeName: volume, path: '', name };
      const { value, valueBytesString } = await this.callMrc(mrcs, mrcProcedures.getxattr, request);
      return Buffer.from(valueBytesString ?? value).toString('utf8');
    };
    try {
      const all = await read(volumeName, 'xtreemfs.snapshot_times');
      return all.split(',').filter(Boolean).map(Number);
    } catch (error) {
      // An MRC of upstream tells them one by one.
      if (!isErrno(error, PosixErrno.ENODATA)) throw error;
    }
    const names = (await read(volumeName, 'xtreemfs.snapshots')).split(',').filter((name) => name !== '');
    const times: number[] = [];
    for (const name of names) times.push(Number(await read(`${volumeName}@${name}`, 'xtreemfs.snapshot_time')));
    return times.every((time) => Number.isFinite(time)) ? times : undefined;
  }

  private async mrcsOf(volumeId: string): Promise<ServerList | undefined> {
    const known = this.mrcs.get(volumeId);
    if (known !== undefined) return known;
    const service = await this.options.dir.service(volumeId);
    if (service?.type !== ServiceType.VOLUME) return undefined;
    const uuids = service.data.data.filter(({ key }) => /^mrc\d*$/.test(key)).map(({ value }) => value);
    if (uuids.length === 0) return undefined;
    if (this.mrcs.size >= mrcsMax) this.mrcs.clear();
    const list = new ServerList(uuids);
    this.mrcs.set(volumeId, list);
    return list;
  }

  private async callMrc<Request, Response>(
    mrcs: ServerList,
    procedure: Procedure<Request, Response>,
    request: Request,
  ): Promise<Response> {
    const { client, clock, resolver, auth } = this.options;
    const policy = { triesMax: 3 * mrcs.all.length, retryDelayMs: 1_000 };
    const options = { userCreds: serverCreds, auth };
    return (await callWithRetries({ client, clock, resolver }, mrcs, procedure, request, policy, options)).response;
  }
}

/** Volume UUID of a file id (`<volume uuid>:<file number>`); the whole id when it has no colon. */
export function volumeOf(fileId: string): string {
  const colon = fileId.lastIndexOf(':');
  return colon === -1 ? fileId : fileId.slice(0, colon);
}

function fateOf(state: FileState): FileFate {
  switch (state) {
    case FileState.DELETED:
      return 'deleted';
    case FileState.REGISTERED:
      return 'registered';
    case FileState.ABANDONED:
      return 'abandoned';
  }
}

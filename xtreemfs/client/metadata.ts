import { randomUUID } from 'node:crypto';
import type {
  FileCredentials,
  OsdFinalizeVouchersResponse,
  OsdWriteResponse,
  XCap,
  XLocSet,
} from '#proto/generated/xtreemfs/global-types.ts';
import { SystemVFcntl } from '#proto/generated/xtreemfs/global-types.ts';
import type {
  ChangedDirectory,
  DirectoryEntry,
  OpenResponse,
  Stat,
  StatVfs,
  XAttr,
} from '#proto/generated/xtreemfs/mrc.ts';
import { mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import { PosixErrno, type UserCredentials } from '#proto/generated/xtreemfs/rpc.ts';
import type { Procedure } from '#proto/wire.ts';
import { isErrno, RpcError } from '../rpc/errors.ts';
import type { ServerList } from '../rpc/retry.ts';
import type { ServiceCall, Services } from './services.ts';

/** On whose behalf a call is made. */
export interface Caller {
  readonly user: UserCredentials;
  readonly signal?: AbortSignal | undefined;
  /**
   * The change may have been made before (a predecessor of this process asked for it and died): finding it done is
   * success.
   */
  readonly isRepeated?: boolean;
}

/** Permission bits of something new. */
export interface NewMode {
  readonly mode: number;
  /** The same before the caller's umask: counts below a directory with a default access control list. */
  readonly unmaskedMode?: number;
}

/** What the MRC tells of a change; nothing, when it is one of upstream's (`ChangedDirectory` in mrc.proto). */
export interface Changed {
  /** The object that was made, changed or opened. */
  readonly stbuf?: Stat | undefined;
  /** Directories that got or lost a name. */
  readonly directories: readonly ChangedDirectory[];
}

/** An open file, as the MRC answers. */
export interface Opened extends Changed {
  readonly creds: FileCredentials;
}

/** A name that is gone. */
export interface Unlinked extends Changed {
  /** What the caller needs to delete the file's objects, when its last link is gone and no other client may have it open. */
  readonly creds?: FileCredentials | undefined;
}

/** What OSDs and capability-authorised calls are told: nobody in particular (protocol reference, 2.5). */
export const serviceUser: UserCredentials = { username: 'xtreemfs', groups: [] };

/** Between questions whether a file's replicas are changed; doubled each time. */
const changePauseMs = { first: 10, max: 1_000 };

const emptyStat: Stat = {
  dev: 0,
  ino: 0,
  mode: 0,
  nlink: 0,
  userId: '',
  groupId: '',
  size: 0,
  atimeNs: 0n,
  mtimeNs: 0n,
  ctimeNs: 0n,
  blksize: 0,
  truncateEpoch: 0,
};

/**
 * The MRC's procedures for one volume, by path. Paths have no leading slash; the empty path is the volume's root.
 * Nothing is cached here. Changes that were repeated after a broken connection, or whose caller says that they may have
 * been made before, succeed when they are found done.
 * Every method throws `RpcError`.
 */
export class MetadataClient {
  readonly services: Services;
  readonly volumeName: string;
  readonly mrcs: ServerList;
  /** Names this client to the MRC, which spares files that other clients have open when this one deletes them. */
  private readonly clientUuid: string;

  constructor(services: Services, volumeName: string, mrcs: ServerList, clientUuid: string = randomUUID()) {
    this.services = services;
    this.volumeName = volumeName;
    this.mrcs = mrcs;
    this.clientUuid = clientUuid;
  }

  async getattr(caller: Caller, path: string): Promise<Stat> {
    const { response } = await this.call(caller, mrcProcedures.getattr, { ...this.at(path), knownEtag: 0 });
    return response.stbuf ?? emptyStat;
  }

  /** @param change - fields named by `toSet` (Setattrs bits) count. */
  async setattr(caller: Caller, path: string, change: Partial<Stat>, toSet: number): Promise<Changed> {
    const request = { ...this.at(path), stbuf: { ...emptyStat, ...change }, toSet, wantsStats: true };
    return (await this.call(caller, mrcProcedures.setattr, request)).response;
  }

  /**
   * Opens a file; with CREAT makes it.
   * @param flags - System V numbers (`SystemVFcntl`).
   */
  async open(caller: Caller, path: string, flags: number, mode: NewMode, attributes = 0): Promise<Opened> {
    const request = { ...this.at(path), flags, ...mode, attributes, wantsStats: true, clientUuid: this.clientUuid };
    const isExclusive = (flags & SystemVFcntl.O_EXCL) !== 0;
    const reopen = async (error: unknown): Promise<OpenResponse> => {
      if (!isErrno(error, PosixErrno.EEXIST)) throw error;
      const again = { ...request, flags: flags & ~SystemVFcntl.O_EXCL };
      return (await this.call(caller, mrcProcedures.open, again)).response;
    };
    return await this.onceReplicasStay(caller.signal, async () =>
      isExclusive
        ? await this.change(caller, mrcProcedures.open, request, reopen)
        : (await this.call(caller, mrcProcedures.open, request)).response,
    );
  }

  /**
   * Entries of a directory, in the MRC's order: `..` and `.` first.
   * @param seen - how many entries to skip. @param limit - entries at most; fewer mean the end.
   */
  async readdir(
    caller: Caller,
    path: string,
    seen: number,
    limit: number,
    namesOnly: boolean,
  ): Promise<DirectoryEntry[]> {
    const { response } = await this.call(caller, mrcProcedures.readdir, {
      ...this.at(path),
      knownEtag: 0,
      limitDirectoryEntriesCount: limit,
      namesOnly,
      seenDirectoryEntriesCount: seen,
    });
    return response.entries;
  }

  async mkdir(caller: Caller, path: string, mode: NewMode): Promise<Changed> {
    const request = { ...this.at(path), ...mode, wantsStats: true };
    return await this.change(caller, mrcProcedures.mkdir, request, done(PosixErrno.EEXIST, noTime));
  }

  async rmdir(caller: Caller, path: string): Promise<Changed> {
    const request = { ...this.at(path), wantsStats: true };
    return await this.change(caller, mrcProcedures.rmdir, request, done(PosixErrno.ENOENT, noTime));
  }

  /** @param erases - whether the objects shall go from under clients that have the file open. */
  async unlink(caller: Caller, path: string, erases = false): Promise<Unlinked> {
    const gone = done(PosixErrno.ENOENT, noTime);
    const request = { ...this.at(path), wantsStats: true, clientUuid: this.clientUuid, erases };
    return await this.change(caller, mrcProcedures.unlink, request, gone);
  }

  /** @returns as `unlink`, for a file that was overwritten. */
  async rename(caller: Caller, path: string, newPath: string): Promise<Unlinked> {
    const paths = { sourcePath: path, targetPath: newPath };
    const request = { volumeName: this.volumeName, ...paths, wantsStats: true, clientUuid: this.clientUuid };
    return await this.change(caller, mrcProcedures.rename, request, async (error) => {
      if (!isErrno(error, PosixErrno.ENOENT)) throw error;
      await this.getattr(caller, newPath);
      return noTime;
    });
  }

  /**
   * A rename that replaces nothing, or lets two names change places. Safe to repeat.
   * @param flags - as renameat2(2): 1 or 2. @param sourceIno - what is renamed.
   */
  async renameFlagged(
    caller: Caller,
    path: string,
    newPath: string,
    flags: number,
    sourceIno: number,
  ): Promise<Changed> {
    const request = { volumeName: this.volumeName, sourcePath: path, targetPath: newPath, flags, sourceIno };
    return (await this.call(caller, mrcProcedures.renameFlagged, request)).response;
  }

  async link(caller: Caller, path: string, newPath: string): Promise<Changed> {
    const request = { volumeName: this.volumeName, targetPath: path, linkPath: newPath, wantsStats: true };
    return await this.change(caller, mrcProcedures.link, request, done(PosixErrno.EEXIST, noTime));
  }

  async symlink(caller: Caller, target: string, path: string): Promise<Changed> {
    const request = { volumeName: this.volumeName, targetPath: target, linkPath: path, wantsStats: true };
    return await this.change(caller, mrcProcedures.symlink, request, done(PosixErrno.EEXIST, noTime));
  }

  async readlink(caller: Caller, path: string): Promise<string> {
    const { response } = await this.call(caller, mrcProcedures.readlink, this.at(path));
    return response.linkTargetPath[0] ?? '';
  }

  async statvfs(caller: Caller): Promise<StatVfs> {
    const request = { volumeName: this.volumeName, knownEtag: 0 };
    return (await this.call(caller, mrcProcedures.statvfs, request)).response;
  }

  async access(caller: Caller, path: string, flags: number): Promise<void> {
    await this.call(caller, mrcProcedures.access, { ...this.at(path), flags });
  }

  async getxattr(caller: Caller, path: string, name: string): Promise<Buffer> {
    const { response } = await this.call(caller, mrcProcedures.getxattr, { ...this.at(path), name });
    return Buffer.from(response.valueBytesString ?? response.value);
  }

  async setxattr(caller: Caller, path: string, name: string, value: Buffer, flags: number): Promise<void> {
    const request = { ...this.at(path), name, value, valueBytesString: value, flags };
    await this.call(caller, mrcProcedures.setxattr, request);
  }

  async listxattr(caller: Caller, path: string, namesOnly: boolean): Promise<XAttr[]> {
    return (await this.call(caller, mrcProcedures.listxattr, { ...this.at(path), namesOnly })).response.xattrs;
  }

  async removexattr(caller: Caller, path: string, name: string): Promise<void> {
    await this.call(caller, mrcProcedures.removexattr, { ...this.at(path), name });
  }

  /** A capability that allows the next truncation. */
  async ftruncate(cap: XCap, signal?: AbortSignal): Promise<XCap> {
    return (await this.call({ user: serviceUser, signal }, mrcProcedures.ftruncate, cap)).response;
  }

  async renew(cap: XCap, increaseVoucher: boolean, signal?: AbortSignal): Promise<XCap> {
    const request = { xcap: cap, increaseVoucher };
    const caller = { user: serviceUser, signal };
    return (await this.call(caller, mrcProcedures.renewCapabilityAndVoucher, request)).response;
  }

  async updateFileSize(cap: XCap, size: OsdWriteResponse, closeFile: boolean, signal?: AbortSignal): Promise<Changed> {
    const request = { xcap: cap, osdWriteResponse: size, closeFile, wantsStats: true };
    return (await this.call({ user: serviceUser, signal }, mrcProcedures.updateFileSize, request)).response;
  }

  /** The file's replicas, once no change of them is under way. */
  async getXlocSet(cap: XCap, signal?: AbortSignal): Promise<XLocSet> {
    return await this.onceReplicasStay(
      signal,
      async () => (await this.call({ user: serviceUser, signal }, mrcProcedures.getXlocset, { xcap: cap })).response,
    );
  }

  /** The file's replicas if the MRC tells them at once. */
  async peekXlocSet(cap: XCap, signal?: AbortSignal): Promise<XLocSet | undefined> {
    const retry = { ...this.services.retry, triesMax: 1 };
    const options = { user: serviceUser, signal, retry };
    try {
      return (await this.services.call(this.mrcs, mrcProcedures.getXlocset, { xcap: cap }, options)).response;
    } catch (error) {
      if (error instanceof RpcError) return undefined;
      throw error;
    }
  }

  /** The MRC answers EAGAIN while the replicas of a file are changed: a large file may be copied meanwhile. */
  private async onceReplicasStay<T>(signal: AbortSignal | undefined, ask: () => Promise<T>): Promise<T> {
    const { clock, retry } = this.services;
    for (let tries = 1, pauseMs = changePauseMs.first; ; tries++, pauseMs = Math.min(2 * pauseMs, changePauseMs.max)) {
      try {
        return await ask();
      } catch (error) {
        if (!isErrno(error, PosixErrno.EAGAIN) || (retry.triesMax > 0 && tries >= retry.triesMax)) throw error;
      }
      await clock.sleep(pauseMs, signal);
    }
  }

  async clearVouchers(
    creds: FileCredentials,
    answers: OsdFinalizeVouchersResponse[],
    expireTimeMs: number[],
  ): Promise<void> {
    const request = { creds, osdFinalizeVouchersResponse: answers, expireTimeMs };
    await this.call({ user: serviceUser }, mrcProcedures.clearVouchers, request);
  }

  private at(path: string): { volumeName: string; path: string } {
    return { volumeName: this.volumeName, path };
  }

  private async call<Request, Response>(
    caller: Caller,
    procedure: Procedure<Request, Response>,
    request: Request,
  ): Promise<{ readonly response: Response }> {
    return await this.services.call(this.mrcs, procedure, request, callOf(caller));
  }

  private async change<Request, Response>(
    caller: Caller,
    procedure: Procedure<Request, Response>,
    request: Request,
    accept: (error: unknown) => Promise<Response> | Response,
  ): Promise<Response> {
    if (caller.isRepeated !== true) {
      return await this.services.callOnce(this.mrcs, procedure, request, callOf(caller), accept);
    }
    try {
      return (await this.services.call(this.mrcs, procedure, request, callOf(caller))).response;
    } catch (error) {
      return await accept(error);
    }
  }
}

const callOf = (caller: Caller): ServiceCall => ({ user: caller.user, signal: caller.signal });

const noTime = { timestampS: 0, directories: [] };

/** Takes one errno for the sign that the change was made before. */
function done<T>(errno: PosixErrno, response: T): (error: unknown) => T {
  return (error) => {
    if (isErrno(error, errno)) return response;
    throw error;
  };
}

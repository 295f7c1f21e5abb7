import { timingSafeEqual } from 'node:crypto';
import type { FileCredentials, XCap, XLocSet } from '#proto/generated/xtreemfs/global-types.ts';
import { AuthType, PosixErrno, type Auth } from '#proto/generated/xtreemfs/rpc.ts';
import { errnoError, invalidViewError } from '#xtreemfs/rpc/errors.ts';
import type { RequestContext } from '#xtreemfs/rpc/server.ts';
import type { CapabilityKeys } from '#xtreemfs/service/capability.ts';
import { setAttributes, viewOf } from './file-attributes.ts';
import type { ObjectStore } from './store/object-store.ts';
import { localReplica, type LocalReplica } from './striping.ts';

/** What a caller wants to do; decides which open modes of the capability will do (protocol reference, 4.3). */
export type Purpose = 'read' | 'write' | 'truncate' | 'unlink' | 'other';

const mode = { wronly: 0x1, rdwr: 0x2, creat: 0x100, trunc: 0x200, delete: 0x200000 };

/** A checked request: who may do what to which file, and where this OSD stands in it. */
export interface FileAccess extends LocalReplica {
  readonly fileId: string;
  readonly xcap: XCap;
  readonly xlocs: XLocSet;
}

/** What {@link AccessControl} needs. */
export interface AccessControlOptions {
  readonly osdUuid: string;
  readonly keys: CapabilityKeys;
  /** Global time, milliseconds. */
  readonly globalTimeMs: () => number;
  readonly store: ObjectStore;
  /** Accepts any capability, as upstream's `ignore_capabilities`. */
  readonly ignoreCapabilities?: boolean;
  readonly adminPassword?: string;
}

/** The gate of every request: location, capability and view checks, in upstream's order (13.1). */
export class AccessControl {
  private readonly options: AccessControlOptions;

  constructor(options: AccessControlOptions) {
    this.options = options;
  }

  /**
   * Checks everything but the view.
   * @throws {RpcError} EINVAL for a malformed request, EACCES for a capability that does not allow it.
   */
  authorize(context: RequestContext, credentials: FileCredentials, fileId: string, purpose: Purpose): FileAccess {
    const { xcap, xlocs } = credentials;
    const { osdUuid } = this.options;
    const local = localReplica(xlocs, osdUuid);
    if (xcap.fileId === '' || xcap.truncateEpoch < 0) {
      throw errnoError(PosixErrno.EINVAL, 'file_credentials.xcap has no file_id or a negative truncate_epoch');
    }
    if (this.options.ignoreCapabilities !== true) this.checkCapability(context, credentials, fileId, purpose);
    return { ...local, fileId, xcap, xlocs };
  }

  /** `authorize`, then the view check (13.2). A newer view is stored durably before this resolves. */
  async admit(
    context: RequestContext,
    credentials: FileCredentials,
    fileId: string,
    purpose: Purpose,
  ): Promise<FileAccess> {
    const access = this.authorize(context, credentials, fileId, purpose);
    await this.checkView(access);
    return access;
  }

  /** @throws {RpcError} EACCES unless the call carries the administrator's password, if there is one. */
  checkAdmin(auth: Auth): void {
    const { adminPassword } = this.options;
    if (adminPassword === undefined || adminPassword === '') return;
    const given = auth.authType === AuthType.PASSWORD ? (auth.authPasswd?.password ?? '') : '';
    const [a, b] = [Buffer.from(given), Buffer.from(adminPassword)];
    if (a.length !== b.length || !timingSafeEqual(a, b)) {
      throw errnoError(PosixErrno.EACCES, 'The administrator password is wrong: give it with --admin_password');
    }
  }

  private checkCapability(
    context: RequestContext,
    { xcap, xlocs }: FileCredentials,
    fileId: string,
    purpose: Purpose,
  ): void {
    const verdict = this.options.keys.check(xcap, this.options.globalTimeMs());
    if (verdict !== 'valid') {
      throw errnoError(PosixErrno.EACCES, `The capability is ${verdict}: get a new one from the MRC`);
    }
    if (xcap.fileId !== fileId) {
      throw errnoError(PosixErrno.EACCES, `The capability is for file ${xcap.fileId}, not for ${fileId}`);
    }
    if (!isAllowed(xcap.accessMode, purpose)) {
      throw errnoError(PosixErrno.EACCES, `Access mode 0x${xcap.accessMode.toString(16)} does not allow to ${purpose}`);
    }
    if (xcap.holder !== undefined && !this.isHolder(xcap.holder, context)) {
      throw errnoError(PosixErrno.EACCES, 'The capability was given to another client: get one from the MRC yourself');
    }
    if (xcap.locationsSigned === true && !this.options.keys.checkLocations(fileId, xlocs)) {
      throw errnoError(PosixErrno.EACCES, 'file_credentials.xlocs is not what the MRC gave out for this file');
    }
  }

  /** The client that got it, or another server that passes it on. */
  private isHolder(holder: string, { peer, auth }: RequestContext): boolean {
    const shown = peer.certificate?.holder;
    if (shown === undefined) return false;
    return (
      shown === holder || (auth.authData !== undefined && this.options.keys.isRelay(shown, Buffer.from(auth.authData)))
    );
  }

  private async checkView(access: FileAccess): Promise<void> {
    const { fileId } = access;
    const { version } = access.xlocs;
    // Most files never change their replicas: no view is stored for version 0, and none stored means −1.
    const open = this.options.store.peek(fileId);
    const known = open === undefined ? undefined : viewOf(open);
    if (known?.version === version && !known.isInvalidated) return;
    if (known?.version === -1 && version === 0) return;
    await this.options.store.use(fileId, async (log) => {
      const stored = viewOf(log);
      if (stored.version === version && !stored.isInvalidated) return;
      if (version <= stored.version) {
        const state = stored.isInvalidated ? 'invalidated' : 'older';
        throw invalidViewError(`View ${version} of ${fileId} is ${state}, this OSD has ${stored.version}`);
      }
      if (version === 0) return;
      await setAttributes(log, { view: { version, isInvalidated: false } });
      await log.sync();
    });
  }
}

function isAllowed(accessMode: number, purpose: Purpose): boolean {
  switch (purpose) {
    case 'read':
      return (accessMode & mode.wronly) === 0;
    case 'write':
      return (accessMode & (mode.creat | mode.wronly | mode.rdwr)) !== 0;
    case 'truncate':
      return (accessMode & mode.trunc) !== 0;
    case 'unlink':
      return (accessMode & mode.delete) !== 0;
    case 'other':
      return true;
  }
}

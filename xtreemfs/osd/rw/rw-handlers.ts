import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { LeaseState, SystemVFcntl } from '#proto/generated/xtreemfs/global-types.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { errnoError } from '#xtreemfs/rpc/errors.ts';
import type { RpcServer } from '#xtreemfs/rpc/server.ts';
import type { Flease, LeaseView } from '#xtreemfs/replication/flease.ts';
import type { AccessControl, FileAccess } from '../access.ts';
import { answering } from '../answers.ts';
import { objectReply } from '../file-handlers.ts';
import type { FileOperations } from '../file-operations.ts';
import type { ReadOnlyReplication } from '../read-only-replication.ts';
import { isReadWriteReplicated } from '../replicated-files.ts';
import { invalidateView } from '../replica-handlers.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { cellOf, versionsPerEpoch, type ReadWriteReplication } from './read-write-replication.ts';
import { checkEpoch, putVersion } from './replica-sync.ts';

/** What the procedures between replicas need. */
export interface RwHandlersOptions {
  readonly osdUuid: string;
  readonly access: AccessControl;
  readonly store: ObjectStore;
  readonly files: FileOperations;
  readonly flease: Flease;
  readonly replication: ReadWriteReplication;
  readonly readOnlyFiles: ReadOnlyReplication;
}

const done = { response: {} };
const leaseStates: Readonly<Record<LeaseView['role'], LeaseState>> = {
  primary: LeaseState.PRIMARY,
  backup: LeaseState.BACKUP,
  none: LeaseState.IDLE,
};

/** Registers what the replicas of a file call at each other, and what the MRC calls when it changes their set. */
export function registerRwHandlers(server: RpcServer, options: RwHandlersOptions): void {
  registerChanges(server, options);
  registerStates(server, options);
  registerViews(server, options);
}

function registerChanges(server: RpcServer, options: RwHandlersOptions): void {
  const { access, store, files } = options;
  server.handle(
    osdProcedures.rwrUpdate,
    answering(async (context, request, data) => {
      const file = await access.admit(context, request.fileCredentials, request.fileId, 'write');
      const { objectNumber, objectVersion } = request;
      checkIsBackup(options, file);
      checkObject(file, objectNumber, data.length);
      await store.use(file.fileId, async (log) => {
        checkEpoch(log, file, epochOf(objectVersion));
        const isStored = await putVersion(log, objectNumber, objectVersion, data);
        if (!isStored) throw outdated(file, objectVersion);
        if ((file.xcap.accessMode & SystemVFcntl.O_SYNC) !== 0) await log.sync();
      });
      store.tidyObject(file.fileId, objectNumber);
      return done;
    }),
  );
  server.handle(
    osdProcedures.rwrTruncate,
    answering(async (context, request) => {
      const file = await access.admit(context, request.fileCredentials, request.fileId, 'truncate');
      checkIsBackup(options, file);
      const { newFileSize, objectVersion } = request;
      await store.use(file.fileId, async (log) => {
        checkEpoch(log, file, epochOf(objectVersion));
        // A write that came after this truncate has overtaken it: only a reset can put that right.
        for (const entry of log.state.objects.values())
          if (entry.version > objectVersion) throw outdated(file, objectVersion);
      });
      await files.truncateLocally(file, newFileSize, objectVersion);
      return done;
    }),
  );
  server.handle(
    osdProcedures.rwrFetch,
    answering(async (context, request) => {
      const file = access.authorize(context, request.fileCredentials, request.fileId, 'other');
      const { objectNumber, objectVersion } = request;
      return store.use(file.fileId, async (log) => {
        const entry = log.state.objects.get(objectNumber);
        if (entry?.version !== objectVersion) {
          throw errnoError(PosixErrno.EIO, `Version ${objectVersion} of object ${objectNumber} is not here`);
        }
        const bytes = await log.read(objectNumber, 0, file.stripe.objectBytes);
        return objectReply(bytes ?? { data: Buffer.alloc(0), zeros: 0 });
      });
    }),
  );
}

function registerStates(server: RpcServer, options: RwHandlersOptions): void {
  const { access, replication, osdUuid } = options;
  server.handle(
    osdProcedures.rwrStatus,
    answering(async (context, request) => {
      const file = await access.admit(context, request.fileCredentials, request.fileId, 'other');
      return { response: await replication.replicas.status(file, request.masterEpoch) };
    }),
  );
  server.handle(
    osdProcedures.rwrAuthState,
    answering(async (context, request) => {
      const file = await access.admit(context, request.fileCredentials, request.fileId, 'other');
      checkIsBackup(options, file);
      await replication.replicas.applyState(file, request.state, request.masterEpoch);
      return done;
    }),
  );
  server.handle(
    osdProcedures.rwrNotify,
    answering((context, request) => {
      const { fileId } = request.xcap;
      const isMember = request.xlocs.replicas.some(({ osdUuids }) => osdUuids.includes(osdUuid));
      if (isMember) access.authorize(context, request, fileId, 'other');
      // Upstream deletes the objects of a file whose set this OSD has left. The set is not signed, so anybody with a
      // capability could have them deleted: that is left to clean-up, which asks the MRC.
      if (isMember) replication.forceReset(fileId);
      return done;
    }),
  );
}

function registerViews(server: RpcServer, options: RwHandlersOptions): void {
  const { access, store, flease, replication } = options;
  /** States that new members of a set are fetching, by file. */
  const installing = new Map<string, Promise<void>>();
  server.handle(
    osdProcedures.xlocSetInvalidate,
    answering(async (context, request) => {
      const file = access.authorize(context, request.fileCredentials, request.fileId, 'other');
      const cell = cellOf(file.fileId);
      const { role } = flease.lease(cell);
      await invalidateView(store, file);
      options.readOnlyFiles.forget(file.fileId);
      const isReplicated = isReadWriteReplicated(file);
      if (isReplicated) flease.invalidate(cell);
      if (isReplicated) replication.forget(file.fileId);
      const leaseState: LeaseState = isReplicated ? leaseStates[role] : LeaseState.NONE;
      // Upstream tells it of replicated files only; our MRC needs it of all that it moves.
      const replicaStatus = await replication.replicas.status(file);
      return { response: { leaseState, replicaStatus } };
    }),
  );
  server.handle(
    osdProcedures.rwrAuthStateInvalidated,
    answering((context, request) => {
      const file = access.authorize(context, request.fileCredentials, request.fileId, 'other');
      if (!installing.has(file.fileId)) {
        const task = replication.replicas.applyState(file, request.state);
        const ended = (): void => void installing.delete(file.fileId);
        installing.set(file.fileId, task.then(ended, ended));
      }
      return { response: { running: true, complete: false } };
    }),
  );
  server.handle(
    osdProcedures.rwrResetStatus,
    answering(async (context, request) => {
      const file = access.authorize(context, request.fileCredentials, request.fileId, 'other');
      const running = installing.has(file.fileId);
      const complete = !running && (await replication.replicas.isAtState(file, request.state));
      return { response: { running, complete } };
    }),
  );
}

/** A primary takes no changes from another OSD: one of the two is wrong. */
function checkIsBackup(options: RwHandlersOptions, file: FileAccess): void {
  if (options.flease.lease(cellOf(file.fileId)).role !== 'primary') return;
  throw errnoError(PosixErrno.EIO, `This OSD is the primary of ${file.fileId}: it takes changes from clients only`);
}

/** The master epoch of the primary that gave a version out. */
function epochOf(version: number): number {
  return Math.floor(version / versionsPerEpoch);
}

function outdated(file: FileAccess, version: number): Error {
  return errnoError(PosixErrno.EIO, `Version ${version} of ${file.fileId} is outdated here`);
}

function checkObject(file: FileAccess, object: number, length: number): void {
  if (!(object >= 0 && Number.isInteger(object)) || length > file.stripe.objectBytes) {
    throw errnoError(
      PosixErrno.EINVAL,
      `object_number ${object} with ${length} bytes does not fit the striping policy`,
    );
  }
}

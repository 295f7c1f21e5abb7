import { osdProcedures, type ObjectData } from '#proto/generated/xtreemfs/osd.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { blocks } from '#xtreemfs/rpc/blocks.ts';
import { errnoError } from '#xtreemfs/rpc/errors.ts';
import type { Reply, RpcServer } from '#xtreemfs/rpc/server.ts';
import type { CapabilityKeys } from '#xtreemfs/service/capability.ts';
import type { AccessControl, FileAccess } from './access.ts';
import { answering } from './answers.ts';
import { osdSyncLocalProcedure, osdSyncProcedure } from './extensions.ts';
import { finalizedVouchersOf, setAttributes, truncateEpochOf } from './file-attributes.ts';
import type { FileOperations } from './file-operations.ts';
import { laterEnd, localEnd, toGmax } from './file-size.ts';
import { encodeObjectList } from './object-list.ts';
import type { OpenFiles } from './open-files.ts';
import { isReadOnly, isReadWriteReplicated, type ReplicatedFiles } from './replicated-files.ts';
import type { ObjectBytes } from './store/log-reader.ts';
import type { ObjectStore } from './store/object-store.ts';

/** What the handlers of file procedures work with. */
export interface FileHandlersOptions {
  readonly osdUuid: string;
  readonly access: AccessControl;
  readonly files: FileOperations;
  readonly store: ObjectStore;
  readonly openFiles: OpenFiles;
  readonly keys: CapabilityKeys;
  readonly globalTimeMs: () => number;
  readonly readOnlyFiles: ReplicatedFiles;
  readonly readWriteFiles: ReplicatedFiles & Pick<FileOperations, 'sync'>;
  /** Syncs a file when a client gives its vouchers back, which upstream's client does on each close after writing. */
  readonly syncOnClose?: boolean;
}

const empty = { response: {} };
/** File ids are answered up to this many, about 24 MiB. */
const fileIdsMax = 400_000;

/** Registers the procedures that clients and other OSDs call for one file (protocol reference, sections 12 and 13). */
export function registerFileHandlers(server: RpcServer, options: FileHandlersOptions): void {
  registerData(server, options);
  registerSizes(server, options);
  registerInternal(server, options);
  registerVouchers(server, options);
}

function registerData(server: RpcServer, options: FileHandlersOptions): void {
  const { access, files, openFiles } = options;
  server.handle(
    osdProcedures.read,
    answering(async (context, request) => {
      const file = await access.admit(context, request.fileCredentials, request.fileId, 'read');
      openFiles.touch(file.fileId);
      const { objectNumber, offset, length } = request;
      const bytes = await (replicatedFiles(options, file) ?? files).read(file, objectNumber, offset, length);
      return objectReply(bytes);
    }),
  );
  server.handle(
    osdProcedures.write,
    answering(async (context, request, data) => {
      const file = await access.admit(context, request.fileCredentials, request.fileId, 'write');
      const target = replicatedFiles(options, file) ?? files;
      const whole = withPadding(data, request.objectData.zeroPadding, file);
      const response = await target.write(file, request.objectNumber, request.offset, whole);
      // A replicated write may still be on its way to a slow replica.
      return { response, isRequestDone: target === files };
    }),
  );
  server.handle(
    osdProcedures.unlink,
    answering(async (context, request) => {
      const file = access.authorize(context, request.fileCredentials, request.fileId, 'unlink');
      options.readOnlyFiles.forget(file.fileId);
      options.readWriteFiles.forget(file.fileId);
      await files.unlink(file);
      return empty;
    }),
  );
  server.handle(
    osdProcedures.checkObject,
    answering(async (context, request) => {
      const file = await access.admit(context, request.fileCredentials, request.fileId, 'other');
      const reader = replicatedFiles(options, file);
      const { bytes, isDamaged } = await files.checkObject(file, request.objectNumber, reader);
      return { response: { checksum: 0, invalidChecksumOnOsd: isDamaged, zeroPadding: bytes } };
    }),
  );
  server.handle(
    osdSyncProcedure,
    answering(async (context, request) => {
      const file = await access.admit(context, request.fileCredentials, request.fileId, 'other');
      await (isReadWriteReplicated(file) ? options.readWriteFiles : files).sync(file);
      return empty;
    }),
  );
  server.handle(
    osdSyncLocalProcedure,
    answering(async (context, request) => {
      await files.sync(await access.admit(context, request.fileCredentials, request.fileId, 'other'));
      return empty;
    }),
  );
}

function registerSizes(server: RpcServer, options: FileHandlersOptions): void {
  const { access, files, openFiles } = options;
  server.handle(
    osdProcedures.truncate,
    answering(async (context, request) => {
      const file = await access.admit(context, request.fileCredentials, request.fileId, 'truncate');
      const target = replicatedFiles(options, file) ?? files;
      return { response: await target.truncate(file, request.newFileSize) };
    }),
  );
  server.handle(
    osdProcedures.internalTruncate,
    answering(async (context, request) => {
      const file = await access.admit(context, request.fileCredentials, request.fileId, 'truncate');
      return { response: await files.truncateLocally(file, request.newFileSize) };
    }),
  );
  server.handle(
    osdProcedures.internalGetGmax,
    answering(async (context, request) => {
      const file = await access.admit(context, request.fileCredentials, request.fileId, 'other');
      return { response: toGmax(await files.localEnd(file)) };
    }),
  );
  server.handle(
    osdProcedures.internalGetFileSize,
    answering(async (context, request) => {
      const file = await access.admit(context, request.fileCredentials, request.fileId, 'other');
      openFiles.touch(file.fileId);
      const target = replicatedFiles(options, file) ?? files;
      return { response: { fileSize: await target.fileBytes(file) } };
    }),
  );
}

function registerInternal(server: RpcServer, options: FileHandlersOptions): void {
  const { access, store } = options;
  server.handle(
    osdProcedures.internalGetObjectSet,
    answering(async (context, request) => {
      const file = await access.admit(context, request.fileCredentials, request.fileId, 'other');
      return { response: await store.use(file.fileId, async (log) => objectsOf(file, log.state.objects.keys())) };
    }),
  );
  server.handle(
    osdProcedures.internalReadLocal,
    answering(async (context, request) => {
      const file = await access.admit(context, request.fileCredentials, request.fileId, 'other');
      return store.use(file.fileId, async (log) => {
        const { objectNumber, offset, length, attachObjectList } = request;
        const bytes = await log.read(objectNumber, offset, Math.max(0, length));
        const objectSet = attachObjectList ? [objectsOf(file, log.state.objects.keys())] : [];
        const { response, ...reply } = objectReply(bytes ?? { data: Buffer.alloc(0), zeros: 0 });
        return { response: { data: response, objectSet }, ...reply };
      });
    }),
  );
  server.handle(
    osdProcedures.internalGetFileidList,
    answering(async () => {
      const fileIds: string[] = [];
      for await (const fileId of store.fileIds()) {
        fileIds.push(fileId);
        if (fileIds.length >= fileIdsMax) break;
      }
      return { response: { fileIds } };
    }),
  );
}

function registerVouchers(server: RpcServer, options: FileHandlersOptions): void {
  const { access, keys, store, osdUuid, openFiles } = options;
  server.handle(
    osdProcedures.finalizeVouchers,
    answering(async (context, request) => {
      const { xcap } = request.fileCredentials;
      const file = await access.admit(context, request.fileCredentials, xcap.fileId, 'other');
      const times = new Set([...request.expireTimeMs, xcap.expireTimeMs]);
      if (times.size > 4096) throw errnoError(PosixErrno.EINVAL, `expire_time_ms: at most 4096, not ${times.size}`);
      return store.use(file.fileId, async (log) => {
        if (xcap.voucherSize !== 0) {
          // Capabilities that ran out are refused anyway: only those that are still good must be remembered.
          const now = options.globalTimeMs();
          const finalized = [...finalizedVouchersOf(log), ...times].filter((time) => time >= now);
          await setAttributes(log, { finalizedVouchers: [...new Set(finalized)] });
          await log.sync();
          openFiles.peek(file.fileId)?.vouchers.forget(times);
        } else if (options.syncOnClose === true) {
          await log.sync();
        }
        const local = localEnd(log, file.stripe.objectBytes);
        const known = openFiles.peek(file.fileId)?.knownSize(local.epoch);
        const end = known === undefined ? local : laterEnd(local, known);
        const statement = { osdUuid, sizeInBytes: end.fileBytes, truncateEpoch: truncateEpochOf(log) };
        const covered = { expireTimesMs: request.expireTimeMs, capExpireTimeMs: xcap.expireTimeMs };
        return { response: keys.signVouchers({ ...statement, ...covered }) };
      });
    }),
  );
}

/** Who serves a file that has, or had, several replicas; undefined for all others. */
function replicatedFiles(options: FileHandlersOptions, file: FileAccess): ReplicatedFiles | undefined {
  if (isReadWriteReplicated(file)) return options.readWriteFiles;
  return isReadOnly(file) ? options.readOnlyFiles : undefined;
}

function objectsOf(file: FileAccess, objects: Iterable<number>): ReturnType<typeof encodeObjectList> {
  return encodeObjectList(objects, file.stripe.index, file.stripe.width);
}

/** An answer that carries bytes of an object. */
export function objectReply(bytes: ObjectBytes): Reply<ObjectData> & { data: Buffer } {
  const response = { checksum: 0, invalidChecksumOnOsd: false, zeroPadding: bytes.zeros };
  const { data, block } = bytes;
  return { response, data, ...(block === undefined ? {} : { sent: () => blocks.give(block) }) };
}

/** A write may carry zeros as a number: nobody sends them, but the message has the field. */
function withPadding(data: Buffer, zeros: number, file: FileAccess): Buffer {
  if (zeros === 0) return data;
  if (zeros < 0 || data.length + zeros > file.stripe.objectBytes) {
    throw errnoError(PosixErrno.EINVAL, `object_data.zero_padding ${zeros} does not fit in an object`);
  }
  return Buffer.concat([data, Buffer.alloc(zeros)]);
}

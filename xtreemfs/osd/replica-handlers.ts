import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { invalidViewError } from '#xtreemfs/rpc/errors.ts';
import type { RpcServer } from '#xtreemfs/rpc/server.ts';
import type { AccessControl, FileAccess } from './access.ts';
import { answering } from './answers.ts';
import { setAttributes, viewOf } from './file-attributes.ts';
import type { ReadOnlyReplication } from './read-only-replication.ts';
import type { ObjectStore } from './store/object-store.ts';

/** What repair needs. */
export interface ReplicaHandlersOptions {
  readonly access: AccessControl;
  readonly readOnlyFiles: ReadOnlyReplication;
}

/** Registers the repair of read-only replicas (protocol reference, section 12, procedure 36). */
export function registerReplicaHandlers(server: RpcServer, options: ReplicaHandlersOptions): void {
  const { access, readOnlyFiles } = options;
  server.handle(
    osdProcedures.repairObject,
    answering(async (context, request) => {
      const file = await access.admit(context, request.fileCredentials, request.fileId, 'other');
      await readOnlyFiles.repair(file, request.objectNumber);
      return { response: {} };
    }),
  );
}

/**
 * Marks the view of a file as invalidated, durably: requests with it are refused until a newer one comes.
 * @throws {RpcError} INVALID_VIEW when this OSD knows a newer view already.
 */
export function invalidateView(store: ObjectStore, file: FileAccess): Promise<void> {
  return store.use(file.fileId, async (log) => {
    const stored = viewOf(log);
    const { version } = file.xlocs;
    if (version < stored.version) {
      throw invalidViewError(`View ${version} of ${file.fileId} is older than ${stored.version}`);
    }
    await setAttributes(log, { view: { version, isInvalidated: true } });
    await log.sync();
  });
}

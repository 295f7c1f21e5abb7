import { ErrorType } from '#proto/generated/xtreemfs/rpc.ts';
import { RpcError } from '#xtreemfs/rpc/errors.ts';
import type { FileAccess } from '../access.ts';
import { updatePolicy } from '../replicated-files.ts';

/** What a call between the replicas of a file begins with. */
export function requestOf(access: FileAccess): {
  fileCredentials: Pick<FileAccess, 'xcap' | 'xlocs'>;
  fileId: string;
} {
  const { xcap, xlocs, fileId } = access;
  return { fileCredentials: { xcap, xlocs }, fileId };
}

/** The other replicas; read/write replicated files are not striped. */
export function remotesOf(access: FileAccess, osdUuid: string): string[] {
  return access.xlocs.replicas.map((replica) => replica.osdUuids[0] ?? '').filter((uuid) => uuid !== osdUuid);
}

/** How many others have to take part. Source: protocol reference, 15.2. */
function neededOf(access: FileAccess, remotes: number): number {
  return access.xlocs.replicaUpdatePolicy === updatePolicy.quorum ? Math.ceil(remotes / 2) : remotes;
}

/**
 * Runs `task` for every other replica and resolves at the last success that is needed; the rest goes on.
 * @throws {RpcError} INTERNAL_SERVER_ERROR when too many fail.
 */
export function quorum(
  access: FileAccess,
  remotes: readonly string[],
  task: (uuid: string) => Promise<unknown>,
): Promise<void> {
  const needed = neededOf(access, remotes.length);
  if (needed === 0) return Promise.resolve();
  return new Promise((resolve, reject) => {
    let succeeded = 0;
    let failed = 0;
    for (const uuid of remotes) {
      task(uuid).then(
        () => {
          if (++succeeded === needed) resolve();
        },
        (error: unknown) => {
          if (++failed === remotes.length - needed + 1) {
            reject(unavailable(`Fewer than ${needed} other replicas of ${access.fileId} answer`, error));
          }
        },
      );
    }
  });
}

/** The request can't be served here and now: clients ask another replica. */
export function unavailable(message: string, cause?: unknown): RpcError {
  return new RpcError(message, { errorType: ErrorType.INTERNAL_SERVER_ERROR, cause });
}

import type { OsdWriteResponse } from '#proto/generated/xtreemfs/global-types.ts';
import type { FileAccess } from './access.ts';
import type { ObjectBytes } from './store/log-reader.ts';

/** Reads and changes of files that have several replicas; each update policy has one. */
export interface ReplicatedFiles {
  read(access: FileAccess, object: number, offset: number, length: number): Promise<ObjectBytes>;
  /** @throws {RpcError} EPERM where replicas are read-only, REDIRECT where another OSD is the primary. */
  write(access: FileAccess, object: number, offset: number, data: Buffer): Promise<OsdWriteResponse>;
  truncate(access: FileAccess, newFileBytes: number): Promise<OsdWriteResponse>;
  /** The size that a reader may rely on. */
  fileBytes(access: FileAccess): Promise<number>;
  /** The file is being deleted: stop whatever goes on for it. */
  forget(fileId: string): void;
}

/** Replica update policies (protocol reference, section 3). */
export const updatePolicy = { none: '', readOnly: 'ronly', quorum: 'WqRq', all: 'WaR1', allOld: 'WaRa' } as const;

/** Whether a file is replicated and written in place. */
export function isReadWriteReplicated(access: FileAccess): boolean {
  const { replicaUpdatePolicy, replicas } = access.xlocs;
  if (replicas.length < 2) return false;
  return (
    replicaUpdatePolicy === updatePolicy.quorum ||
    replicaUpdatePolicy === updatePolicy.all ||
    replicaUpdatePolicy === updatePolicy.allOld
  );
}

/** Whether a file's replicas may not be changed any more. */
export function isReadOnly(access: FileAccess): boolean {
  return access.xlocs.replicaUpdatePolicy === updatePolicy.readOnly;
}

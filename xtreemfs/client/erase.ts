import type { FileCredentials } from '#proto/generated/xtreemfs/global-types.ts';
import type { DirectoryEntry } from '#proto/generated/xtreemfs/mrc.ts';
import { osdProcedures } from '#proto/generated/xtreemfs/osd.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { isErrno } from '../rpc/errors.ts';
import { ServerList } from '../rpc/retry.ts';
import { type Caller, type MetadataClient, serviceUser } from './metadata.ts';

/** Entries asked for at once. */
const pageSize = 256;
const typeBits = 0o170_000;
const directoryBits = 0o040_000;

/**
 * Deletes what is in a volume, file by file: names at the MRC, then contents at the OSDs. What an OSD that is away still holds is found by
 * xtfs_cleanup. May be stopped and repeated.
 * @param caller - somebody who may do everything.
 * @param limit - names to delete at most in this call.
 * @returns whether the volume is empty now.
 * @throws {RpcError} when the MRC can not be reached or refuses.
 */
export async function eraseContents(metadata: MetadataClient, caller: Caller, limit: number): Promise<boolean> {
  let left = limit;
  const empty = async (folder: string): Promise<boolean> => {
    for (;;) {
      const page = await metadata.readdir(caller, folder, 0, pageSize + 2, false);
      const entries = page.filter(({ name }) => name !== '.' && name !== '..');
      if (entries.length === 0) return true;
      for (const entry of entries) {
        if (left <= 0) return false;
        const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
        if (isDirectory(entry) && !(await empty(path))) return false;
        left--;
        await remove(metadata, caller, path, isDirectory(entry));
      }
    }
  };
  return await empty('');
}

const isDirectory = ({ stbuf }: DirectoryEntry): boolean => ((stbuf?.mode ?? 0) & typeBits) === directoryBits;

async function remove(metadata: MetadataClient, caller: Caller, path: string, isFolder: boolean): Promise<void> {
  if (isFolder) {
    await metadata.rmdir(caller, path);
    return;
  }
  const { creds } = await metadata.unlink(caller, path, true);
  if (creds !== undefined) await removeObjects(metadata, caller, creds);
}

/** Deletes the objects of a file that is gone. An OSD that does not answer keeps its objects until xtfs_cleanup; the name is gone already. */
export async function removeObjects(
  metadata: MetadataClient,
  { signal }: Caller,
  creds: FileCredentials,
): Promise<void> {
  const request = { fileCredentials: creds, fileId: creds.xcap.fileId };
  await Promise.all(
    creds.xlocs.replicas.map(async ({ osdUuids: [head] }) => {
      if (head === undefined) return;
      const options = { user: serviceUser, signal, retry: { triesMax: 2, retryDelayMs: 500 } };
      try {
        await metadata.services.call(new ServerList([head]), osdProcedures.unlink, request, options);
      } catch (error) {
        if (isErrno(error, PosixErrno.ENOENT)) return;
        metadata.services.logger.warn('Could not delete objects', { fileId: creds.xcap.fileId, osd: head, err: error });
      }
    }),
  );
}

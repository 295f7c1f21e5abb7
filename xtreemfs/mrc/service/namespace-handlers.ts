import { mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import type { FileCredentials } from '#proto/generated/xtreemfs/global-types.ts';
import type { RpcServer } from '../../rpc/server.ts';
import { access, type ChangedStats, changedStats, fsetattr, getattr, setattr } from '../core/attributes.ts';
import { deleteCredentials } from '../core/capabilities.ts';
import { ListingPositions, readdir } from '../core/listing.ts';
import { link, mkdir, readlink, rename, renameFlagged, rmdir, symlink, unlink } from '../core/names.ts';
import type { Operation } from '../core/operation.ts';
import type { Inode } from '../core/records.ts';
import type { Removed } from '../core/removal.ts';
import { statvfs } from '../core/volumes.ts';
import { getxattr, listxattr, removexattr, setxattr } from '../core/xattrs.ts';
import type { Call, Mrc } from './context.ts';
import { handle, hasAdminPassword } from './context.ts';
import { finishSystemWrite } from './system-writes.ts';

const stamp = (op: Operation): number => Math.floor(op.tx.nowMs / 1000);

function credentialsOf(op: Operation, removed: Removed): { creds?: FileCredentials } {
  const { file } = removed;
  return file === undefined ? {} : { creds: deleteCredentials(op, file.volume, file.inode) };
}

/** Procedures on names and attributes (protocol reference, sections 7 and 8). */
export function registerNamespace(server: RpcServer, mrc: Mrc): void {
  const positions = new ListingPositions();
  handle(server, mrc, mrcProcedures.getattr, (call, { volumeName, path, knownEtag }) =>
    call.run((op) => ({ stbuf: getattr(op, volumeName, path, knownEtag) })),
  );
  handle(server, mrc, mrcProcedures.setattr, (call, { volumeName, path, stbuf, toSet, wantsStats }) =>
    call.run((op) => {
      const inode = setattr(op, volumeName, path, stbuf, toSet);
      return { timestampS: stamp(op), ...changedStats(op, wantsStats, inode) };
    }),
  );
  handle(server, mrc, mrcProcedures.fsetattr, (call, { cap, stbuf, toSet }) =>
    call.runByCapability((op) => {
      fsetattr(op, cap, stbuf, toSet);
      return {};
    }),
  );
  handle(server, mrc, mrcProcedures.access, (call, { volumeName, path, flags }) =>
    call.run((op) => {
      access(op, volumeName, path, flags);
      return {};
    }),
  );
  handle(server, mrc, mrcProcedures.readdir, (call, request) =>
    call.run((op) => ({
      entries: readdir(
        op,
        {
          volumeName: request.volumeName,
          path: request.path,
          knownEtag: request.knownEtag,
          limit: request.limitDirectoryEntriesCount,
          namesOnly: request.namesOnly,
          seen: request.seenDirectoryEntriesCount,
        },
        positions,
      ),
    })),
  );
  handle(server, mrc, mrcProcedures.statvfs, (call, { volumeName }) => call.run((op) => statvfs(op, volumeName)));
  registerEntries(server, mrc);
  registerAttributes(server, mrc);
}

function registerEntries(server: RpcServer, mrc: Mrc): void {
  type Stamped = ChangedStats & { timestampS: number };
  const stamped = (
    call: Call,
    wantsStats: boolean | undefined,
    body: (op: Operation) => Inode | undefined,
  ): Stamped | Promise<Stamped> =>
    call.run((op) => {
      const inode = body(op);
      return { timestampS: stamp(op), ...changedStats(op, wantsStats, inode) };
    });
  handle(server, mrc, mrcProcedures.mkdir, (call, { volumeName, path, mode, unmaskedMode, wantsStats }) =>
    stamped(call, wantsStats, (op) => mkdir(op, volumeName, path, mode, unmaskedMode)),
  );
  handle(server, mrc, mrcProcedures.rmdir, (call, { volumeName, path, wantsStats }) =>
    stamped(call, wantsStats, (op) => {
      rmdir(op, volumeName, path);
      return undefined;
    }),
  );
  handle(server, mrc, mrcProcedures.link, (call, { volumeName, targetPath, linkPath, wantsStats }) =>
    stamped(call, wantsStats, (op) => link(op, volumeName, targetPath, linkPath)),
  );
  handle(server, mrc, mrcProcedures.symlink, (call, { volumeName, targetPath, linkPath, wantsStats }) =>
    stamped(call, wantsStats, (op) => symlink(op, volumeName, targetPath, linkPath)),
  );
  handle(server, mrc, mrcProcedures.readlink, (call, { volumeName, path }) =>
    call.run((op) => ({ linkTargetPath: [readlink(op, volumeName, path)] })),
  );
  handle(server, mrc, mrcProcedures.unlink, (call, { volumeName, path, wantsStats, clientUuid, erases }) =>
    call.run((op) => {
      const removed = unlink(op, volumeName, path, { client: clientUuid, erases });
      const stats = changedStats(op, wantsStats, removed.left);
      return { ...credentialsOf(op, removed), timestampS: stamp(op), ...stats };
    }),
  );
  handle(server, mrc, mrcProcedures.rename, (call, { volumeName, sourcePath, targetPath, wantsStats, clientUuid }) =>
    call.run((op) => {
      const removed = rename(op, volumeName, sourcePath, targetPath, { client: clientUuid });
      const stats = changedStats(op, wantsStats, removed.moved);
      return { ...credentialsOf(op, removed), timestampS: stamp(op), ...stats };
    }),
  );
  handle(server, mrc, mrcProcedures.renameFlagged, (call, { volumeName, sourcePath, targetPath, flags, sourceIno }) =>
    stamped(call, true, (op) =>
      renameFlagged(op, volumeName, { source: sourcePath, target: targetPath }, flags, sourceIno),
    ),
  );
}

function registerAttributes(server: RpcServer, mrc: Mrc): void {
  handle(server, mrc, mrcProcedures.getxattr, (call, { volumeName, path, name }) =>
    call.run((op) => {
      const value = getxattr(op, volumeName, path, name);
      return { value, valueBytesString: value };
    }),
  );
  handle(server, mrc, mrcProcedures.listxattr, (call, { volumeName, path, namesOnly }) =>
    call.run((op) => ({
      xattrs: listxattr(op, volumeName, path, namesOnly).map(({ name, value }) => ({
        name,
        ...(value === undefined ? {} : { value, valueBytesString: value }),
      })),
    })),
  );
  handle(server, mrc, mrcProcedures.setxattr, async (call, request) => {
    const value = Buffer.from(request.valueBytesString ?? request.value);
    const args = { value, flags: request.flags, isAdmin: hasAdminPassword(call) };
    const [later, timestampS] = await call.run((op) => [
      setxattr(op, request.volumeName, request.path, request.name, args),
      stamp(op),
    ]);
    await finishSystemWrite(mrc, later);
    return { timestampS, directories: [] };
  });
  handle(server, mrc, mrcProcedures.removexattr, async (call, { volumeName, path, name }) => {
    const [later, timestampS] = await call.run((op) => [
      removexattr(op, volumeName, path, name, hasAdminPassword(call)),
      stamp(op),
    ]);
    await finishSystemWrite(mrc, later);
    return { timestampS, directories: [] };
  });
}

import type { FileCredentials, XCap } from '#proto/generated/xtreemfs/global-types.ts';
import { FileState, mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import type { RpcServer } from '../../rpc/server.ts';
import { changedStats } from '../core/attributes.ts';
import { sortedXlocs, verifyCapability } from '../core/capabilities.ts';
import { isChangeHeld } from '../core/changes.ts';
import { refuse } from '../core/errno.ts';
import { clearVouchersOf, ftruncate, open, readCredentials, renewCapability, updateFileSize } from '../core/files.ts';
import type { Operation } from '../core/operation.ts';
import { fileById, fileIdOf, parseFileId, resolveExisting } from '../core/operation.ts';
import { isRegular } from '../core/records.ts';
import { restoreFile } from '../core/restore-file.ts';
import type { Mrc } from './context.ts';
import { demandAdmin, handle, hasAdminPassword } from './context.ts';

/** Procedures on open files, and those that OSDs and tools call (protocol reference, sections 7, 8.3, 8.4, 8.8). */
export function registerFiles(server: RpcServer, mrc: Mrc): void {
  handle(server, mrc, mrcProcedures.open, (call, request) =>
    call.run((op) => {
      const opened = open(op, {
        volumeName: request.volumeName,
        path: request.path,
        flags: request.flags,
        mode: request.mode,
        attributes: request.attributes,
        coordinates: request.coordinates,
        client: request.clientUuid,
        unmaskedMode: request.unmaskedMode,
      });
      const creds: FileCredentials = { xcap: opened.cap, xlocs: opened.xlocs };
      const timestampS = opened.changed ? Math.floor(op.tx.nowMs / 1000) : 0;
      return { creds, timestampS, ...changedStats(op, request.wantsStats, opened.inode) };
    }),
  );
  handle(server, mrc, mrcProcedures.ftruncate, (call, cap) => call.runByCapability((op) => ftruncate(op, cap)));
  handle(server, mrc, mrcProcedures.renewCapability, (call, cap) =>
    call.runByCapability((op) => oldForm(op, renewCapability(op, cap, false))),
  );
  handle(server, mrc, mrcProcedures.renewCapabilityAndVoucher, (call, { xcap, increaseVoucher }) =>
    call.runByCapability((op) => renewCapability(op, xcap, increaseVoucher)),
  );
  handle(server, mrc, mrcProcedures.updateFileSize, async (call, request) => {
    const { volume, inode, replicate, stats } = await call.runByCapability((op) => {
      const updated = updateFileSize(op, {
        cap: request.xcap,
        sizeBytes: request.osdWriteResponse.sizeInBytes,
        epoch: request.osdWriteResponse.truncateEpoch,
        closes: request.closeFile === true,
      });
      return { ...updated, stats: changedStats(op, request.wantsStats, updated.inode) };
    });
    if (replicate) await mrc.coordinator.replicateOnClose({ volume, ino: inode.ino });
    return { timestampS: Math.floor(Number(inode.ctimeNs / 1_000_000_000n)), ...stats };
  });
  handle(server, mrc, mrcProcedures.clearVouchers, (call, request) =>
    call.runByCapability((op) => {
      const { xcap } = request.creds;
      const closed = request.osdFinalizeVouchersResponse.map((answer) => ({
        sizeBytes: answer.sizeInBytes,
        epoch: answer.truncateEpoch,
        isGenuine: op.env.signer.checkVouchers(
          {
            osdUuid: answer.osdUuid,
            sizeInBytes: answer.sizeInBytes,
            truncateEpoch: answer.truncateEpoch,
            expireTimesMs: request.expireTimeMs,
            capExpireTimeMs: xcap.expireTimeMs,
          },
          answer.serverSignature,
        ),
      }));
      clearVouchersOf(op, xcap, closed, request.expireTimeMs);
      return {};
    }),
  );
  handle(server, mrc, mrcProcedures.getXlocset, (call, request) => {
    const { xcap, fileId, path, volumeName, coordinates } = request;
    const find = (op: Operation): ReturnType<typeof fileById> => {
      if (xcap !== undefined) {
        verifyCapability(op, xcap);
        return fileById(op, xcap.fileId);
      }
      return findFile(op, { fileId, path, volumeName });
    };
    const run = xcap === undefined ? call.run : call.runByCapability;
    return run((op) => {
      const { volume, inode } = find(op);
      // Who has the file open was refused by an OSD, and an old set would only lead back there; others watch the change.
      if (xcap !== undefined && isChangeHeld(op, inode))
        refuse('EAGAIN', `The replicas of ${fileIdOf(volume, inode)} are being changed`);
      return sortedXlocs(op, volume, inode, coordinates);
    });
  });
  registerInternal(server, mrc);
}

/** Upstream's old renewal knows no vouchers: the field is 0, and so the signature is made again. */
function oldForm(op: Operation, cap: XCap): XCap {
  return op.env.signer.sign({ ...cap, expireTimeMs: 0 });
}

function registerInternal(server: RpcServer, mrc: Mrc): void {
  handle(server, mrc, mrcProcedures.getFileCredentials, (call, { fileId }) => {
    if (!hasAdminPassword(call)) demandAdmin(call);
    return call.runByCapability((op) => {
      const { cap, xlocs } = readCredentials(op, fileId);
      return { xcap: cap, xlocs };
    });
  });
  handle(server, mrc, mrcProcedures.checkFileExists, (call, { volumeId, fileIds, osdUuid }) =>
    call.runByCapability((op) => {
      const volume = op.env.findVolumeById(volumeId);
      if (volume === undefined) return { volumeExists: false, fileStates: [] };
      const fileStates = fileIds.map((number) => {
        const { ino } = parseFileId(op, number.includes(':') ? number : `${volumeId}:${number}`);
        const inode = op.tx.findInode(volume.number, ino);
        if (inode === undefined || !isRegular(inode)) return FileState.DELETED;
        const holds = inode.xlocs?.replicas.some((replica) => replica.osds.includes(osdUuid)) ?? false;
        return holds ? FileState.REGISTERED : FileState.ABANDONED;
      });
      return { volumeExists: true, fileStates };
    }),
  );
  handle(server, mrc, mrcProcedures.restoreFile, (call, request) => {
    demandAdmin(call);
    return call.runByCapability((op) => {
      restoreFile(op, {
        path: request.filePath,
        fileId: request.fileId,
        sizeBytes: request.fileSize,
        osd: request.osdUuid,
        stripeSizeKb: request.stripeSize,
      });
      return {};
    });
  });
}

/** A file that a request names by id or by volume and path. */
export function findFile(
  op: Operation,
  request: { fileId?: string | undefined; path?: string | undefined; volumeName?: string | undefined },
): ReturnType<typeof fileById> {
  const { fileId, path, volumeName } = request;
  if (fileId !== undefined && fileId !== '') return fileById(op, fileId);
  if (path === undefined || volumeName === undefined) refuse('EINVAL', 'Give file_id, or volume_name and path');
  return resolveExisting(op, volumeName, path);
}

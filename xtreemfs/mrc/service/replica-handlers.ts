import { mrcProcedures } from '#proto/generated/xtreemfs/mrc.ts';
import type { RpcServer } from '../../rpc/server.ts';
import type { Caller } from '../core/access.ts';
import { demandWritable, isOwner } from '../core/access.ts';
import { wireXlocs } from '../core/capabilities.ts';
import { refuse } from '../core/errno.ts';
import { nameBytesMax } from '../core/keys.ts';
import type { Operation } from '../core/operation.ts';
import { fileIdOf } from '../core/operation.ts';
import { replicaFlags, markComplete, suitableOsds } from '../core/replicas.ts';
import type { FileRef } from '../replication/coordinator.ts';
import type { Call, Mrc } from './context.ts';
import { demandAdmin, handle, hasAdminPassword } from './context.ts';
import { findFile } from './file-handlers.ts';

interface NamedFile {
  readonly fileId?: string | undefined;
  readonly path?: string | undefined;
  readonly volumeName?: string | undefined;
}

/** The file of a request whose caller may change its replicas: its owner, a superuser, or with the admin password. */
async function ownFile(call: Call, request: NamedFile): Promise<{ caller: Caller; file: FileRef; fileId: string }> {
  return call.run((op) => {
    const { volume, inode } = findFile(op, request);
    demandWritable(volume);
    if (!isOwner(inode, op.caller) && !hasAdminPassword(call))
      refuse('EPERM', `${op.caller.user} does not own the file`);
    return { caller: op.caller, file: { volume, ino: inode.ino }, fileId: fileIdOf(volume, inode) };
  });
}

/** Procedures on the replicas of a file (protocol reference, section 10.1). */
export function registerReplicas(server: RpcServer, mrc: Mrc): void {
  handle(server, mrc, mrcProcedures.replicaAdd, async (call, request) => {
    const { caller, file, fileId } = await ownFile(call, request);
    const { osdUuids, replicationFlags, stripingPolicy } = request.newReplica;
    const version = await mrc.coordinator.add(caller, file, {
      osds: osdUuids,
      flags: replicationFlags & ~replicaFlags.complete,
      striping: { stripeSizeKb: stripingPolicy.stripeSize, width: stripingPolicy.width },
    });
    return { fileId, expectedXlocsetVersion: version };
  });
  handle(server, mrc, mrcProcedures.replicaRemove, async (call, request) => {
    const { caller, file, fileId } = await ownFile(call, request);
    const { version, creds } = await mrc.coordinator.remove(caller, file, request.osdUuid);
    return { fileId, expectedXlocsetVersion: version, unlinkXloc: creds.xlocs, unlinkXcap: creds.xcap };
  });
  handle(server, mrc, mrcProcedures.replicaList, (call, request) =>
    call.run((op) => ({ replicas: wireXlocs(findFile(op, request).inode.xlocs, 0).replicas })),
  );
  handle(server, mrc, mrcProcedures.setReplicaUpdatePolicy, async (call, request) => {
    const { caller, file } = await ownFile(call, request);
    await mrc.coordinator.setPolicy(caller, file, request.updatePolicy);
    return {};
  });
  handle(server, mrc, mrcProcedures.reselectOsds, async (call, request) => {
    const { caller, file, fileId } = await ownFile(call, request);
    return { fileId, expectedXlocsetVersion: await mrc.coordinator.reselect(caller, file, request.coordinates) };
  });
  handle(server, mrc, mrcProcedures.replicaMarkComplete, (call, { fileId, osdUuid }) => {
    if (osdUuid === undefined || fileId === undefined) refuse('EINVAL', 'file_id and osd_uuid are needed');
    demandOsd(call);
    return call.runByCapability((op) => {
      markComplete(op, findFile(op, { fileId }).inode, osdUuid);
      return {};
    });
  });
  handle(server, mrc, mrcProcedures.drainOsd, (call, { osdUuid, wish }) => {
    demandAdmin(call);
    if (osdUuid === '' || osdUuid.length > nameBytesMax) {
      refuse('EINVAL', `osd_uuid: must have 1 to ${nameBytesMax} characters, not ${osdUuid.length}`);
    }
    return mrc.drains.ask(osdUuid, wish);
  });
  handle(server, mrc, mrcProcedures.getSuitableOsds, (call, request) =>
    call.run((op: Operation) => {
      const { volume, inode } = findFile(op, request);
      return { osdUuids: suitableOsds(op, volume, inode, Math.min(Math.max(request.numOsds, 0), 1024)) };
    }),
  );
}

/**
 * Marking a replica complete lets readers trust it: where peers have certificates, only a service may. On a plain network upstream's OSDs
 * call it without any credential, and so everyone may.
 */
function demandOsd(call: Call): void {
  if (call.context.peer.certificate !== undefined && !call.mrc.identities.isService(call.context.peer))
    demandAdmin(call);
}

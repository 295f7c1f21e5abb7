import { SnapConfig } from '#proto/generated/xtreemfs/global-types.ts';
import type { FileCredentials, VivaldiCoordinates, XCap, XLocSet } from '#proto/generated/xtreemfs/global-types.ts';
import type { CapabilityKeys } from '../../service/capability.ts';
import type { Caller } from './access.ts';
import { refuse } from './errno.ts';
import type { Operation } from './operation.ts';
import type { Opener } from './open-files.ts';
import { fileById, fileIdOf } from './operation.ts';
import type { Inode, XlocRecord } from './records.ts';
import type { Volume } from './volume.ts';

/** What the operations use of the installation's `CapabilityKeys`. */
export type CapabilitySigner = Pick<CapabilityKeys, 'sign' | 'signLocations' | 'check' | 'checkVouchers'>;

/** Open flags of the wire (System V numbers; protocol reference, section 3). */
export const openFlags = {
  writeOnly: 0x1,
  readWrite: 0x2,
  append: 0x8,
  sync: 0x10,
  create: 0x100,
  truncate: 0x200,
  exclusive: 0x400,
} as const;
/** Internal access bit of a delete capability (section 4.2). */
const deleteMode = 0x20_0000;
/** End of a delete capability, seconds: as upstream, the last second of a signed 32-bit clock. */
const deleteExpiryS = 0x7fff_ffff;

export function wantsWrite(flags: number): boolean {
  return (flags & (openFlags.writeOnly | openFlags.readWrite | openFlags.truncate | openFlags.append)) !== 0;
}

/** Makes and signs a capability. `voucherBytes` 0: no limit. */
export function issueCapability(
  op: Operation,
  volume: Volume,
  inode: Inode,
  terms: {
    accessMode: number;
    truncateEpoch: number;
    voucherBytes?: number;
    replicateOnClose?: boolean;
    expireMs?: number;
    opener?: Opener;
  },
): XCap {
  const { tx, env } = op;
  const expireMs = terms.expireMs ?? tx.nowMs + env.capabilityTimeoutS * 1000;
  const cap = env.signer.sign({
    accessMode: terms.accessMode,
    clientIdentity: op.caller.client,
    expireTimeS: Math.floor(tx.nowMs / 1000) + env.capabilityTimeoutS,
    expireTimeoutS: env.capabilityTimeoutS,
    fileId: fileIdOf(volume, inode),
    replicateOnClose: terms.replicateOnClose ?? false,
    truncateEpoch: terms.truncateEpoch,
    ...snapTerms(volume),
    voucherSize: terms.voucherBytes ?? 0,
    expireTimeMs: expireMs,
    ...boundTo(op.caller),
    ...(volume.tracing?.enabled === true
      ? {
          traceConfig: {
            traceRequests: true,
            tracingPolicy: volume.tracing.policy,
            tracingPolicyConfig: volume.tracing.config,
          },
        }
      : {}),
  });
  env.openFiles.noteIssued(cap.fileId, terms.opener);
  return cap;
}

function snapTerms(volume: Volume): { snapConfig: SnapConfig; snapTimestamp: number } {
  if (volume.snapshotOf !== undefined) {
    return { snapConfig: SnapConfig.ACCESS_SNAP, snapTimestamp: volume.snapshotOf.timeMs };
  }
  const config = volume.snapshotsEnabled ? SnapConfig.ACCESS_CURRENT : SnapConfig.SNAPS_DISABLED;
  return { snapConfig: config, snapTimestamp: volume.createdMs };
}

/** Credentials with which a client deletes the objects of a file that is gone. */
export function deleteCredentials(op: Operation, volume: Volume, inode: Inode): FileCredentials {
  const cap = op.env.signer.sign({
    accessMode: deleteMode,
    clientIdentity: op.caller.client,
    expireTimeS: deleteExpiryS,
    expireTimeoutS: op.env.capabilityTimeoutS,
    fileId: fileIdOf(volume, inode),
    replicateOnClose: false,
    truncateEpoch: inode.epoch,
    ...snapTerms(volume),
    voucherSize: 0,
    expireTimeMs: 0,
    ...boundTo(op.caller),
  });
  return { xcap: cap, xlocs: signedXlocs(op, volume, inode, inode.xlocs) };
}

/** A capability counts for who got it, and at the OSDs of its file. */
function boundTo({ holder }: Caller): Pick<XCap, 'holder' | 'locationsSigned'> {
  return { ...(holder === undefined ? {} : { holder }), locationsSigned: true };
}

/** Locations that OSDs take beside a capability of the file. */
export function signedXlocs(op: Operation, volume: Volume, inode: Inode, xlocs: XlocRecord | undefined): XLocSet {
  return op.env.signer.signLocations(fileIdOf(volume, inode), wireXlocs(xlocs, inode.size));
}

/** The replicas as the wire has them. */
export function wireXlocs(xlocs: XlocRecord | undefined, sizeBytes: number): XLocSet {
  return {
    readOnlyFileSize: sizeBytes,
    replicas: (xlocs?.replicas ?? []).map((replica) => ({
      osdUuids: [...replica.osds],
      replicationFlags: replica.flags,
      stripingPolicy: { type: 0, stripeSize: replica.striping.stripeSizeKb, width: replica.striping.width },
    })),
    replicaUpdatePolicy: xlocs?.policy ?? '',
    version: xlocs?.version ?? 0,
  };
}

/** The replicas in the order that is best for the asking client, by the volume's replica selection policies. */
export function sortedXlocs(
  op: Operation,
  volume: Volume,
  inode: Inode,
  coordinates: VivaldiCoordinates | undefined,
): XLocSet {
  const xlocs = inode.xlocs;
  if (xlocs === undefined || xlocs.replicas.length < 2 || volume.replicaPolicies.length === 0) {
    return signedXlocs(op, volume, inode, xlocs);
  }
  const heads = xlocs.replicas.map((replica) => replica.osds[0] ?? '');
  const order = op.env.placement.order(volume, heads, { client: op.caller.client, coordinates });
  const rank = (head: string | undefined): number => {
    const at = order.indexOf(head ?? '');
    return at < 0 ? order.length : at;
  };
  const replicas = [...xlocs.replicas].sort((a, b) => rank(a.osds[0]) - rank(b.osds[0]));
  return signedXlocs(op, volume, inode, { ...xlocs, replicas });
}

/**
 * Checks a capability that authorises a request.
 * @throws {PosixError} EPERM when it is forged, altered or expired (section 4.2), or was given to somebody else.
 */
export function verifyCapability(op: Operation, cap: XCap, options: { mayBeExpired?: boolean } = {}): void {
  const verdict = op.env.signer.check(cap, op.tx.nowMs);
  if (verdict === 'forged') refuse('EPERM', `The capability for ${cap.fileId} is not one of this installation`);
  if (verdict === 'expired' && options.mayBeExpired !== true) {
    refuse('EPERM', `The capability for ${cap.fileId} has expired; open the file again`);
  }
  if (cap.holder !== undefined && cap.holder !== op.caller.holder) {
    refuse('EPERM', `The capability for ${cap.fileId} was given to another client; open the file yourself`);
  }
}

/** The file that a verified capability names. */
export function fileOfCapability(op: Operation, cap: XCap): { volume: Volume; inode: Inode } {
  verifyCapability(op, cap);
  return fileById(op, cap.fileId);
}

import type { Replica, XLocSet } from '#proto/generated/xtreemfs/global-types.ts';
import { StripingPolicyType } from '#proto/generated/xtreemfs/global-types.ts';
import { PosixErrno } from '#proto/generated/xtreemfs/rpc.ts';
import { errnoError } from '#xtreemfs/rpc/errors.ts';

/** Largest object that one frame of the protocol can carry, with room for its header. */
export const objectBytesMax = 31 * 1024 * 1024;
const widthMax = 4096;
const replicasMax = 256;

/** Where an OSD stands in a file's stripe (protocol reference, 13.3). */
export interface Stripe {
  /** Bytes of one object. */
  readonly objectBytes: number;
  readonly width: number;
  /** Index of this OSD in the replica; 0 is the head OSD. */
  readonly index: number;
  /** OSDs of the replica in order. */
  readonly osdUuids: readonly string[];
}

/** The replica that an OSD belongs to, and its place in it. */
export interface LocalReplica {
  readonly replica: Replica;
  readonly stripe: Stripe;
}

/**
 * Finds an OSD in a file's replicas.
 * @throws {RpcError} EINVAL when it is in none, or the set is malformed.
 */
export function localReplica(xlocs: XLocSet, osdUuid: string): LocalReplica {
  if (xlocs.replicas.length > replicasMax)
    throw invalid(`has ${xlocs.replicas.length} replicas, at most ${replicasMax}`);
  for (const replica of xlocs.replicas) {
    const index = replica.osdUuids.indexOf(osdUuid);
    if (index !== -1) return { replica, stripe: stripeOf(replica, index) };
  }
  throw invalid(`does not name this OSD (${osdUuid}): ask the MRC for the locations of the file`);
}

/** The stripe of a replica as seen from one of its OSDs. @throws {RpcError} EINVAL when it is malformed. */
export function stripeOf(replica: Replica, index: number): Stripe {
  const { stripingPolicy, osdUuids } = replica;
  const objectBytes = stripingPolicy.stripeSize * 1024;
  if (stripingPolicy.type !== StripingPolicyType.RAID0) throw invalid('has a striping policy other than RAID0');
  if (!(objectBytes > 0 && objectBytes <= objectBytesMax)) {
    throw invalid(`has stripe_size ${stripingPolicy.stripeSize} kB, it must be 1 to ${objectBytesMax / 1024}`);
  }
  if (osdUuids.length === 0 || osdUuids.length > widthMax || osdUuids.length !== stripingPolicy.width) {
    throw invalid(`names ${osdUuids.length} OSDs for a width of ${stripingPolicy.width}`);
  }
  return { objectBytes, width: osdUuids.length, index, osdUuids };
}

function invalid(problem: string): Error {
  return errnoError(PosixErrno.EINVAL, `file_credentials.xlocs ${problem}`);
}

/** Number of the last object of a file with so many bytes, and that object's length. */
export function lastObjectOf(fileBytes: number, objectBytes: number): { object: number; length: number } {
  if (fileBytes === 0) return { object: -1, length: 0 };
  const object = Math.floor((fileBytes - 1) / objectBytes);
  return { object, length: fileBytes - object * objectBytes };
}

/** Whether an object lies on this OSD. */
export function isOwned(stripe: Stripe, object: number): boolean {
  return object >= 0 && object % stripe.width === stripe.index;
}

/** The other OSDs of the stripe. */
export function otherOsds(stripe: Stripe): string[] {
  return stripe.osdUuids.filter((_, index) => index !== stripe.index);
}

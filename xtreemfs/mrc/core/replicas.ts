import type { VivaldiCoordinates } from '#proto/generated/xtreemfs/global-types.ts';
import { refuse } from './errno.ts';
import { isChangeHeld } from './changes.ts';
import type { Operation } from './operation.ts';
import type { Inode, ReplicaRecord, XlocRecord } from './records.ts';
import { inodeFlags, isRegular } from './records.ts';
import type { ReplicaPolicy, Volume } from './volume.ts';
import { replicaPolicies } from './volume.ts';

/** REPL_FLAG bits. */
export const replicaFlags = { full: 1, complete: 2, random: 4, rarestFirst: 8, sequential: 16, prefetch: 32 } as const;
/** Replicas of one file at most. */
const replicasMax = 64;

/** Names of replica update policies as a request may spell them; `WaRa` is upstream's old name of WaR1. */
export function parsePolicy(text: string): ReplicaPolicy {
  const policy = replicaPolicies.find((known) => known === (text === 'WaRa' ? 'WaR1' : text));
  return policy ?? refuse('EINVAL', `There is no replica update policy ${text}`);
}

/** The replicas of a regular file. @throws {PosixError} EINVAL when it is none or has none yet. */
export function xlocsOf(inode: Inode): XlocRecord {
  if (!isRegular(inode)) refuse('EINVAL', 'Only a regular file has replicas');
  return inode.xlocs ?? refuse('EINVAL', 'The file was never written and has no replicas yet');
}

/** A file whose replica set may be changed now. @throws {PosixError} EAGAIN while another change is under way. */
export function changeableXlocs(op: Operation, inode: Inode): XlocRecord {
  if (isChangeHeld(op, inode)) refuse('EAGAIN', 'The replicas of the file are being changed');
  return xlocsOf(inode);
}

/**
 * The replica set with one more replica (procedure 39). An empty list of OSDs leaves the choice to the volume's policies.
 * @throws {PosixError} EPERM under no policy, EINVAL for an unsuitable replica, ENOSPC when no OSD is left.
 */
export function withReplica(op: Operation, volume: Volume, inode: Inode, wanted: ReplicaRecord): XlocRecord {
  const xlocs = changeableXlocs(op, inode);
  const first = xlocs.replicas[0];
  if (xlocs.policy === '') refuse('EPERM', 'Set a replica update policy first (xtfsutil --set-replication-policy)');
  if (xlocs.replicas.length >= replicasMax) refuse('EINVAL', `A file has at most ${replicasMax} replicas`);
  if (first !== undefined && first.striping.stripeSizeKb !== wanted.striping.stripeSizeKb) {
    refuse('EINVAL', `stripe_size: all replicas of the file have objects of ${first.striping.stripeSizeKb} kB`);
  }
  if (wanted.striping.width > 1 && xlocs.policy !== 'ronly')
    refuse('EINVAL', `${xlocs.policy} needs stripes of width 1`);
  const used = xlocs.replicas.flatMap((replica) => replica.osds);
  if (wanted.osds.some((osd) => used.includes(osd)) || new Set(wanted.osds).size !== wanted.osds.length) {
    refuse('EINVAL', 'osd_uuids: an OSD holds one replica of a file at most');
  }
  const osds = wanted.osds.length > 0 ? wanted.osds : suitableOsds(op, volume, inode, wanted.striping.width);
  if (osds.length !== wanted.striping.width) {
    refuse('EINVAL', `osd_uuids: a stripe of width ${wanted.striping.width} needs as many OSDs, not ${osds.length}`);
  }
  return { ...xlocs, version: xlocs.version + 1, replicas: [...xlocs.replicas, { ...wanted, osds }] };
}

/** Procedure 33: OSDs that could take a new replica, best first. */
export function suitableOsds(
  op: Operation,
  volume: Volume,
  inode: Inode,
  count: number,
  coordinates?: VivaldiCoordinates,
): string[] {
  const without = (inode.xlocs?.replicas ?? []).flatMap((replica) => replica.osds);
  return op.env.placement.choose(volume, { count, client: op.caller.client, coordinates, path: '', without });
}

/** The replica set without the replica that has `osd` (procedure 41), and that replica. */
export function withoutReplica(
  op: Operation,
  inode: Inode,
  osd: string,
): { xlocs: XlocRecord; removed: ReplicaRecord } {
  const xlocs = changeableXlocs(op, inode);
  const removed = xlocs.replicas.find((replica) => replica.osds.includes(osd));
  if (removed === undefined) refuse('EINVAL', `osd_uuid: no replica of the file is on ${osd}`);
  const replicas = xlocs.replicas.filter((replica) => replica !== removed);
  if (replicas.length === 0) refuse('EINVAL', 'The last replica of a file goes with the file');
  if (xlocs.policy === 'ronly' && !replicas.some((replica) => (replica.flags & replicaFlags.complete) !== 0)) {
    refuse('EINVAL', 'The only complete replica has to stay: wait until another one is complete');
  }
  return { xlocs: { ...xlocs, version: xlocs.version + 1, replicas }, removed };
}

/**
 * The replica set under another update policy (procedure 48).
 * @throws {PosixError} EINVAL when the policies don't fit the file.
 */
export function withPolicy(op: Operation, inode: Inode, text: string): XlocRecord {
  const policy = parsePolicy(text);
  const xlocs = changeableXlocs(op, inode);
  const isRw = (name: string): boolean => name === 'WqRq' || name === 'WaR1';
  if (policy === xlocs.policy) return xlocs;
  if ((isRw(policy) && xlocs.policy === 'ronly') || (policy === 'ronly' && isRw(xlocs.policy))) {
    refuse('EINVAL', `A file does not change from ${xlocs.policy} to ${policy}: set the policy to none between`);
  }
  if (policy === '' && xlocs.replicas.length > 1) refuse('EINVAL', 'Remove all replicas but one first');
  if (isRw(policy) && xlocs.replicas.some((replica) => replica.striping.width > 1)) {
    refuse('EINVAL', `${policy} needs stripes of width 1`);
  }
  const replicas =
    policy === 'ronly'
      ? xlocs.replicas.map((replica, at) =>
          at === 0 ? { ...replica, flags: replica.flags | replicaFlags.full | replicaFlags.complete } : replica,
        )
      : xlocs.replicas;
  return { version: xlocs.version + 1, policy, replicas };
}

/** Stores a replica set that is in force; `ronly` makes the file read-only, no policy makes it writable again. */
export function installXlocs(op: Operation, inode: Inode, xlocs: XlocRecord): void {
  if (xlocs.policy === 'ronly') inode.flags |= inodeFlags.readOnly;
  else if (inode.xlocs?.policy === 'ronly') inode.flags &= ~inodeFlags.readOnly;
  inode.xlocs = xlocs;
  inode.ctimeNs = op.tx.nowNs;
  op.tx.touch(inode);
}

/**
 * The replica set with other OSDs in the places of those that are to go; the same set when it has none of them.
 * @throws {PosixError} EBUSY when snapshots need the objects where they are, ENOSPC when too few other OSDs are usable.
 */
export function withOtherOsds(op: Operation, volume: Volume, inode: Inode, leaving: ReadonlySet<string>): XlocRecord {
  const xlocs = changeableXlocs(op, inode);
  const held = xlocs.replicas.flatMap((replica) => replica.osds);
  const count = held.filter((osd) => leaving.has(osd)).length;
  if (count === 0) return xlocs;
  if (op.env.snapshotsOf(volume).length > 0) {
    refuse('EBUSY', `Volume ${volume.name} has snapshots, and their files can not move: delete them first`);
  }
  const without = [...held, ...leaving];
  const request = { count, client: op.caller.client, coordinates: undefined, path: '', without };
  const fresh = op.env.placement.choose(volume, request);
  if (fresh.length < count) {
    refuse(
      'ENOSPC',
      `A file of volume ${volume.name} needs ${count} more OSDs with space, and ${fresh.length} are usable`,
    );
  }
  const replicas = xlocs.replicas.map((replica) => ({
    ...replica,
    osds: replica.osds.map((osd) => (leaving.has(osd) ? (fresh.shift() ?? osd) : osd)),
  }));
  return { ...xlocs, version: xlocs.version + 1, replicas };
}

/** Procedure 49: the replica with this OSD holds the whole file now. */
export function markComplete(op: Operation, inode: Inode, osd: string): void {
  const xlocs = xlocsOf(inode);
  if (!xlocs.replicas.some((replica) => replica.osds.includes(osd))) {
    refuse('EINVAL', `osd_uuid: no replica of the file is on ${osd}`);
  }
  inode.xlocs = {
    ...xlocs,
    replicas: xlocs.replicas.map((replica) =>
      replica.osds.includes(osd) ? { ...replica, flags: replica.flags | replicaFlags.complete } : replica,
    ),
  };
  op.tx.touch(inode);
}

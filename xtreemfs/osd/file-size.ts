import { osdProcedures, type InternalGmax } from '#proto/generated/xtreemfs/osd.ts';
import type { FileAccess } from './access.ts';
import { truncateEpochOf } from './file-attributes.ts';
import type { OpenFiles } from './open-files.ts';
import { forAllOsds, type PeerOsds } from './peer-osds.ts';
import type { FileLog } from './store/file-log.ts';
import type { FileVersion } from './store/file-state.ts';
import { otherOsds } from './striping.ts';

/** What one OSD, or all of a stripe, know of a file's end. */
export interface FileEnd {
  readonly epoch: number;
  /** Highest object number, −1 when there is none. */
  readonly lastObject: number;
  readonly fileBytes: number;
}

/** The end of a file as this OSD's objects show it. */
export function localEnd(log: FileLog, objectBytes: number, from: Pick<FileVersion, 'objects'> = log.state): FileEnd {
  const epoch = truncateEpochOf(log);
  let lastObject = log.state.lastObject;
  if (from !== log.state) lastObject = Math.max(-1, ...from.objects.keys());
  const entry = from.objects.get(lastObject);
  if (entry === undefined) return { epoch, lastObject: -1, fileBytes: 0 };
  return { epoch, lastObject, fileBytes: lastObject * objectBytes + entry.length };
}

/** The later of two ends: that of the newer epoch, or the greater one. */
export function laterEnd(a: FileEnd, b: FileEnd): FileEnd {
  if (a.epoch !== b.epoch) return a.epoch > b.epoch ? a : b;
  return a.fileBytes >= b.fileBytes ? a : b;
}

/**
 * Asks every OSD of the stripe for its local maximum ("gmax") and takes the latest end.
 * @throws {RpcError} when one does not answer: the end of the file is not known then.
 */
export async function globalEnd(
  access: FileAccess,
  local: FileEnd,
  openFiles: OpenFiles,
  peers: PeerOsds,
): Promise<FileEnd> {
  const { fileId, xcap, xlocs, stripe } = access;
  const others = otherOsds(stripe);
  if (others.length === 0) return local;
  const request = { fileCredentials: { xcap, xlocs }, fileId };
  const answers = await forAllOsds(others, async (uuid) => {
    const { response } = await peers.call(uuid, osdProcedures.internalGetGmax, request);
    return fromGmax(response);
  });
  const end = answers.reduce(laterEnd, local);
  openFiles.touch(fileId).learn(end);
  return end;
}

/** An end as the wire has it. */
export function toGmax(end: FileEnd): InternalGmax {
  return { epoch: end.epoch, fileSize: end.fileBytes, lastObjectId: end.lastObject };
}

function fromGmax(gmax: InternalGmax): FileEnd {
  return { epoch: gmax.epoch, fileBytes: gmax.fileSize, lastObject: gmax.fileSize === 0 ? -1 : gmax.lastObjectId };
}

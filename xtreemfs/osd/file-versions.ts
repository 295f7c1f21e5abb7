import type { XCap } from '#proto/generated/xtreemfs/global-types.ts';
import { SnapConfig } from '#proto/generated/xtreemfs/global-types.ts';
import type { FileLog } from './store/file-log.ts';
import type { FileVersion } from './store/file-state.ts';
import { recordType } from './store/record.ts';

/** A file that was quiet for so long gets a version of its own before its next change. */
const quietMs = 500;
/** Versions kept per file; beyond it the oldest ones go. */
const versionsMax = 1024;

/**
 * Keeps what a snapshot might need: freezes the present objects as a file version if they have stood unchanged for
 * {@link quietMs}. Called before each change under a capability of a volume with snapshots. Upstream freezes when a file
 * leaves its open-file table, 60 to 90 s after the last use (protocol reference, 10.3); freezing at the next change
 * instead keeps every state that stood for half a second, and files that are never changed again need no version.
 */
export async function freezeBeforeChange(log: FileLog, xcap: XCap, nowMs: number): Promise<void> {
  if (xcap.snapConfig !== SnapConfig.ACCESS_CURRENT) return;
  const { state } = log;
  if (state.beganMs === 0 || nowMs - state.modifiedMs < quietMs) return;
  const newest = state.versions.at(-1);
  const body = { flags: 0, version: 0, offset: 0, objectLength: 0 };
  const freezing = log.append({ ...body, type: recordType.freeze, object: (newest?.number ?? 0) + 1 });
  const oldest = state.versions[0];
  if (oldest !== undefined && state.versions.length >= versionsMax) {
    await log.append({ ...body, type: recordType.drop, object: oldest.number });
  }
  await freezing;
}

/**
 * The objects that a capability reads: the present ones, or those of the version that was current at its snapshot. A
 * version that was being written at that time is shown as its writer left it.
 * @returns undefined when the file had no data yet at that time.
 */
export function readableObjects(log: FileLog, xcap: XCap): Pick<FileVersion, 'objects'> | undefined {
  if (xcap.snapConfig !== SnapConfig.ACCESS_SNAP) return log.state;
  const { beganMs } = log.state;
  if (beganMs !== 0 && beganMs <= xcap.snapTimestamp) return log.state;
  return log.state.versions.findLast((version) => version.beganMs <= xcap.snapTimestamp);
}

/**
 * Drops the versions that no snapshot can show any more.
 * @param snapshotTimesMs - times of the volume's snapshots.
 * @returns how many were dropped.
 */
export async function dropUnusedVersions(log: FileLog, snapshotTimesMs: readonly number[]): Promise<number> {
  const { versions } = log.state;
  const unused = versions.filter((version, i) => {
    const next = versions[i + 1]?.beganMs ?? log.state.beganMs;
    return !snapshotTimesMs.some((time) => version.beganMs <= time && (next === 0 || next > time));
  });
  for (const { number } of unused) {
    await log.append({ type: recordType.drop, flags: 0, object: number, version: 0, offset: 0, objectLength: 0 });
  }
  return unused.length;
}

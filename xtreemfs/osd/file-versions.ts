import type { XCap } from '#proto/generated/xtreemfs/global-types.ts';
import { SnapConfig } from '#proto/generated/xtreemfs/global-types.ts';
import type { FileLog } from './store/file-log.ts';
import type { FileVersion } from './store/file-state.ts';
import { recordType } from './store/record.ts';

/** A file that was quiet for so long gets a version of its own before its next change. */
const quietMs = 500;
/** Versions kept per file; beyond it the oldest ones go. */
const versionsMax = 1024;
const noBytes = Buffer.alloc(0);

/** When a change comes, and when the OSD learnt of the volume's newest snapshot; undefined when it has none. */
export interface ChangeTimes {
  readonly nowMs: number;
  readonly snapshotMs: number | undefined;
}

/**
 * Keeps what a snapshot shows: freezes the present objects as a file version before the first change after a snapshot. Under a capability
 * of a volume that keeps versions at all times, it freezes them also if they have stood unchanged for {@link quietMs}. Upstream freezes
 * when a file leaves its open-file table, 60 to 90 s after the last use (protocol reference, 10.3); freezing at the next change
 * instead keeps every state that stood for half a second, and files that are never changed again need no version.
 */
export async function freezeBeforeChange(log: FileLog, xcap: XCap, times: ChangeTimes): Promise<void> {
  const { state } = log;
  const mustFreeze = (): boolean => {
    if (state.beganMs === 0) return false;
    if (times.snapshotMs !== undefined && state.beganMs <= times.snapshotMs) return true;
    return xcap.snapConfig === SnapConfig.ACCESS_CURRENT && times.nowMs - state.modifiedMs >= quietMs;
  };
  if (!mustFreeze()) return;
  // Of changes that come together the first freezes.
  await log.exclusive(async () => {
    if (!mustFreeze()) return;
    const [oldest, newest] = [state.versions[0], state.versions.at(-1)];
    const body = { flags: 0, version: 0, offset: 0, objectLength: 0 };
    const isFull = state.versions.length >= versionsMax;
    await log.appendNow({ ...body, type: recordType.freeze, object: (newest?.number ?? 0) + 1 }, noBytes);
    if (oldest !== undefined && isFull) {
      await log.appendNow({ ...body, type: recordType.drop, object: oldest.number }, noBytes);
    }
  });
}

/**
 * The objects that a capability reads: the present ones, or those of the version that was current at its snapshot. A
 * version that was being written at that time is shown as its writer left it.
 * @param snapshotMs - the time of the capability's snapshot by the clock of this OSD.
 * @returns undefined when the file had no data yet at that time.
 */
export function readableObjects(
  log: FileLog,
  xcap: XCap,
  snapshotMs: number,
): Pick<FileVersion, 'objects'> | undefined {
  if (xcap.snapConfig !== SnapConfig.ACCESS_SNAP) return log.state;
  const { beganMs } = log.state;
  if (beganMs !== 0 && beganMs <= snapshotMs) return log.state;
  return log.state.versions.findLast((version) => version.beganMs <= snapshotMs);
}

/**
 * Drops the versions that no snapshot can show any more.
 * @param snapshotTimesMs - times of the volume's snapshots by the clock of this OSD.
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

import { CorruptionError } from './disk.ts';
import type { ObjectEntry } from './extents.ts';
import type { FileLog } from './file-log.ts';
import { flagRewrite, flagWhole, recordType } from './record.ts';
import type { SegmentFile } from './segment-files.ts';

/** When a log is tidied. */
export interface CompactionLimits {
  /** Dead bytes that are always put up with. */
  readonly garbageBytes: number;
  /** Above that, dead bytes may be at most this multiple of the live ones. */
  readonly garbageRatio: number;
}

/** Defaults: at most twice the space of the data, plus 32 MiB a file. */
export const compactionDefaults: CompactionLimits = { garbageBytes: 32 * 1024 * 1024, garbageRatio: 1 };

/** Whether so much of a log is dead that {@link compact} should run. */
export function isCompactionDue(log: FileLog, limits: CompactionLimits): boolean {
  const { total, live } = log.usage();
  const garbage = total - live;
  return garbage > limits.garbageBytes && garbage > live * limits.garbageRatio;
}

/** How many extents an object may have before it is written anew in one piece. */
export function extentsMaxOf(entry: ObjectEntry): number {
  return Math.max(64, Math.ceil(entry.length / 8192));
}

/**
 * Writes an object anew as one record. Bytes that fail their checksum stay where they are, so that damage is never
 * given a fresh checksum.
 * @returns false when the object is damaged.
 */
export async function rewriteObject(log: FileLog, object: number): Promise<boolean> {
  return log.exclusive(() => rewriteNow(log, object));
}

async function rewriteNow(log: FileLog, object: number): Promise<boolean> {
  const entry = log.state.objects.get(object);
  if (entry === undefined || entry.extents.length === 0) return true;
  try {
    const bytes = await log.read(object, 0, entry.length);
    if (bytes === undefined) return true;
    const { version, length } = entry;
    await log.appendNow(
      { type: recordType.write, flags: flagWhole | flagRewrite, object, version, offset: 0, objectLength: length },
      bytes.data,
    );
    return true;
  } catch (error) {
    if (error instanceof CorruptionError) return false;
    throw error;
  }
}

/**
 * Gives back the space of dead bytes: moves what is still live out of the segments that are mostly dead, then writes a
 * checkpoint without them and removes them. Writers wait only for one object's move at a time, and for the checkpoint.
 * Segments that file versions or damaged objects point to are left alone.
 */
export async function compact(log: FileLog): Promise<void> {
  const { state } = log;
  if (state.isLiveStale || state.versions.length > 0) state.recountLive(log.segmentList);
  const pinned = new Set<unknown>();
  for (const version of state.versions) {
    for (const entry of version.objects.values()) for (const extent of entry.extents) pinned.add(extent.segment);
  }
  const victims = log.segmentList.filter((segment) => segment.live * 2 <= segment.size && !pinned.has(segment));
  const { tailSegment: tail } = log;
  if (tail !== undefined && victims.includes(tail) && isWorthRolling(tail)) {
    // What is moved must not come to lie in what is to go.
    await log.exclusive(async () => log.closeTail());
  }
  const isVictim = new Set<unknown>(victims);
  const moving = [...state.objects].filter(([, entry]) => entry.extents.some((extent) => isVictim.has(extent.segment)));
  for (const [object] of moving) await rewriteObject(log, object);
  await log.exclusive(async () => {
    state.recountLive(log.segmentList);
    const dead = victims.filter(
      (segment) => segment.live === 0 && (segment !== log.tailSegment || isWorthRolling(segment)),
    );
    if (dead.length > 0) await log.checkpoint(dead);
  });
}

function isWorthRolling(segment: SegmentFile): boolean {
  return segment.size > 64 * 1024;
}

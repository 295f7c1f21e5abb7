/** Keeps the snapshots of a Volume at the MRC as its spec names them. */
import { describeError } from '#common/errors.ts';
import { snapshotNameOf, snapshotOfName, type Volume, volumeNameOf, type VolumeStatus } from '#crds/volume.ts';
import type { Installation, VolumeReport } from '#operator/storage/installation.ts';
import type { Stored } from '#runtime/types.ts';

/** A snapshot in the status of a Volume. */
export type SnapshotStatus = NonNullable<VolumeStatus['snapshots']>[number];

/**
 * Takes what is missing and removes what is there and was not asked for, or no more. Safe to repeat at any time: the MRC is asked what there
 * is. Snapshots that were made by hand are left alone.
 * @param report - of the volume, for the space that a snapshot of now takes.
 */
export async function keepSnapshots(
  volume: Stored<Volume>,
  installation: Installation,
  report: VolumeReport,
  signal: AbortSignal,
): Promise<readonly SnapshotStatus[]> {
  const { spec, status, metadata } = volume;
  const before = status?.snapshots ?? [];
  if (spec.snapshots.length === 0 && before.length === 0) return [];
  const name = volumeNameOf(metadata.uid);
  const isWanted = (snapshot: string): boolean => spec.snapshots.some((each) => each.name === snapshot);
  const there = async (): Promise<Map<string, number>> => {
    const found = await installation.snapshots(name, signal);
    return new Map(found.flatMap(({ name: at, timeMs }) => entryOf(snapshotOfName(at), timeMs)));
  };
  let found = await there();
  const problems = new Map<string, string>();
  const attempt = async (snapshot: string, act: () => Promise<void>): Promise<void> => {
    try {
      await act();
    } catch (error) {
      if (!(error instanceof Error) || error.name !== 'RpcError') throw error;
      problems.set(snapshot, describeError(error).slice(0, 512));
    }
  };
  const missing = spec.snapshots.filter((each) => !found.has(each.name));
  const surplus = [...found.keys()].filter((snapshot) => !isWanted(snapshot));
  for (const each of missing) {
    if (spec.replication.policy === 'None') {
      await attempt(each.name, async () => installation.takeSnapshot(name, snapshotNameOf(each.name), signal));
    } else problems.set(each.name, replicated);
  }
  for (const each of surplus) {
    await attempt(each, async () => installation.removeSnapshot(name, snapshotNameOf(each), signal));
  }
  if (missing.length > 0 || surplus.length > 0) found = await there();
  const names = [...spec.snapshots.map((each) => each.name), ...[...found.keys()].filter((each) => !isWanted(each))];
  return names.map((each) => {
    const timeMs = found.get(each);
    const message = problems.get(each);
    return {
      name: each,
      ready: timeMs !== undefined,
      ...(timeMs === undefined ? {} : { takenAt: new Date(timeMs).toISOString() }),
      ...(timeMs === undefined ? {} : { sizeBytes: sizeOf(before, each) ?? report.usedBytes }),
      ...(message === undefined ? {} : { message }),
    };
  });
}

const replicated =
  'Files of this Volume are kept in several copies, and a copy that was made anew does not know what they were: only Volumes with replication policy None have snapshots.';

const entryOf = (name: string | undefined, timeMs: number): [string, number][] =>
  name === undefined ? [] : [[name, timeMs]];

const sizeOf = (before: readonly SnapshotStatus[], name: string): number | undefined =>
  before.find((each) => each.name === name)?.sizeBytes;

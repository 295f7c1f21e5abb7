import type {
  AuthoritativeReplicaState,
  ObjectVersionMapping,
  ReplicaStatus,
  TruncateRecord,
} from '#proto/generated/xtreemfs/osd.ts';
import { masterEpochOf, truncateEpochOf, truncateLogOf } from '../file-attributes.ts';
import { localEnd } from '../file-size.ts';
import type { FileLog } from '../store/file-log.ts';

/** What one replica holds (protocol reference, 15.2 and 15.3). */
export function statusOf(log: FileLog, objectBytes: number): ReplicaStatus {
  const objectVersions = [...log.state.objects].map(([objectNumber, { version }]) => ({
    objectNumber,
    objectVersion: version,
  }));
  const records = truncateLogOf(log).map(({ version, lastObject }) => ({ version, lastObjectNumber: lastObject }));
  return {
    truncateEpoch: truncateEpochOf(log),
    fileSize: localEnd(log, objectBytes).fileBytes,
    maxObjVersion: objectVersions.reduce((max, { objectVersion }) => Math.max(max, objectVersion), 0),
    primaryEpoch: masterEpochOf(log),
    objectVersions,
    truncateLog: { records },
  };
}

/**
 * What the file is, from what a quorum of its replicas hold: of each object the newest version, unless a truncate that
 * came after it cut it off. Protocol reference, 15.3.
 */
export function authoritativeState(statuses: ReadonlyMap<string, ReplicaStatus>): AuthoritativeReplicaState {
  const truncates = new Map<number, TruncateRecord>();
  const newest = new Map<number, ObjectVersionMapping>();
  let truncateEpoch = 0;
  let maxObjVersion = 0;
  for (const [uuid, status] of statuses) {
    truncateEpoch = Math.max(truncateEpoch, status.truncateEpoch);
    for (const record of status.truncateLog.records) truncates.set(record.version, record);
    for (const { objectNumber, objectVersion } of status.objectVersions) {
      maxObjVersion = Math.max(maxObjVersion, objectVersion);
      const known = newest.get(objectNumber);
      if (known === undefined || objectVersion > known.objectVersion) {
        newest.set(objectNumber, { objectNumber, objectVersion, osdUuids: [uuid] });
      } else if (objectVersion === known.objectVersion) known.osdUuids.push(uuid);
    }
  }
  const records = [...truncates.values()].sort((a, b) => a.version - b.version);
  const objectVersions = [...newest.values()].filter(
    ({ objectNumber, objectVersion }) =>
      !records.some((record) => record.lastObjectNumber < objectNumber && record.version > objectVersion),
  );
  return { truncateEpoch, objectVersions, truncateLog: { records }, maxObjVersion };
}

/** What a replica has to do to match a state. */
export interface ResetPlan {
  readonly remove: readonly number[];
  readonly fetch: readonly ObjectVersionMapping[];
  /** The truncate epoch is lower, or the log differs where the state knows of it. */
  readonly isLogDifferent: boolean;
}

/** The newest version that a state knows of: anything newer at a replica came after it. */
export function newestOf(state: AuthoritativeReplicaState): number {
  return state.truncateLog.records.reduce((newest, { version }) => Math.max(newest, version), state.maxObjVersion);
}

/** Compares a replica with a state. What is newer than all of the state is left alone: it came after it. */
export function planReset(status: ReplicaStatus, state: AuthoritativeReplicaState): ResetPlan {
  const newest = newestOf(state);
  const local = new Map(status.objectVersions.map(({ objectNumber, objectVersion }) => [objectNumber, objectVersion]));
  const wanted = new Set(state.objectVersions.map(({ objectNumber }) => objectNumber));
  const remove = [...local]
    .filter(([object, version]) => !wanted.has(object) && version <= newest)
    .map(([object]) => object);
  const fetch = state.objectVersions.filter(({ objectNumber, objectVersion }) => {
    const version = local.get(objectNumber);
    return version === undefined || (version !== objectVersion && version <= newest);
  });
  const versions = (records: readonly TruncateRecord[]): string =>
    records.flatMap(({ version }) => (version <= newest ? [version] : [])).join();
  const isLogDifferent =
    status.truncateEpoch < state.truncateEpoch ||
    versions(status.truncateLog.records) !== versions(state.truncateLog.records);
  return { remove, fetch, isLogDifferent };
}

/** Whether a replica has nothing to do. */
export function isMatching(plan: ResetPlan): boolean {
  return plan.remove.length === 0 && plan.fetch.length === 0 && !plan.isLogDifferent;
}

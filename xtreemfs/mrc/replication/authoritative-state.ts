import type { AuthoritativeReplicaState, ReplicaStatus, TruncateRecord } from '#proto/generated/xtreemfs/osd.ts';

/**
 * What a read/write replicated file must look like, from what its replicas hold (protocol reference, section 15.3): the
 * newest version of every object that no later truncation cut off.
 * @param statuses - by OSD uuid.
 */
export function authoritativeState(statuses: ReadonlyMap<string, ReplicaStatus>): AuthoritativeReplicaState {
  const log = new Map<number, TruncateRecord>();
  const newest = new Map<number, { version: number; osdUuids: string[] }>();
  let truncateEpoch = 0;
  let maxObjVersion = 0;
  for (const [osd, status] of statuses) {
    truncateEpoch = Math.max(truncateEpoch, status.truncateEpoch);
    for (const record of status.truncateLog.records) log.set(record.version, record);
    for (const { objectNumber, objectVersion } of status.objectVersions) {
      maxObjVersion = Math.max(maxObjVersion, objectVersion);
      const held = newest.get(objectNumber);
      if (held === undefined || objectVersion > held.version) {
        newest.set(objectNumber, { version: objectVersion, osdUuids: [osd] });
      } else if (objectVersion === held.version) held.osdUuids.push(osd);
    }
  }
  const records = [...log.values()].sort((a, b) => a.version - b.version);
  const objectVersions = [...newest]
    .filter(([number, { version }]) => !records.some((cut) => cut.lastObjectNumber < number && cut.version > version))
    .sort(([a], [b]) => a - b)
    .map(([objectNumber, { version, osdUuids }]) => ({ objectNumber, objectVersion: version, osdUuids }));
  return { truncateEpoch, objectVersions, truncateLog: { records }, maxObjVersion };
}

/** Whether a replica holds exactly the authoritative state. */
export function isCurrent(state: AuthoritativeReplicaState, status: ReplicaStatus | undefined): boolean {
  if (status?.truncateEpoch !== state.truncateEpoch) return false;
  const held = new Map(status.objectVersions.map((object) => [object.objectNumber, object.objectVersion]));
  return (
    held.size === state.objectVersions.length &&
    state.objectVersions.every((object) => held.get(object.objectNumber) === object.objectVersion)
  );
}

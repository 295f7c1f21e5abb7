import type { AuthoritativeReplicaState, ReplicaStatus } from '#proto/generated/xtreemfs/osd.ts';
import type { ReplicaState, TruncateRecord } from './replica-store.ts';

/** The newest state that replicas together hold, and who holds which object (protocol reference, 15.3). */
export interface AuthoritativeState {
  readonly truncateEpoch: number;
  readonly truncates: readonly TruncateRecord[];
  /** Highest object version seen. */
  readonly maxVersion: number;
  readonly objects: ReadonlyMap<number, { readonly version: number; readonly holders: readonly string[] }>;
}

/** Truncates remembered per file; the oldest go first. */
const truncatesMax = 512;

/** Merges the states of replicas. @param states - by UUID of the OSD. */
export function mergeStates(states: ReadonlyMap<string, ReplicaState>): AuthoritativeState {
  const truncates = mergeTruncates([...states.values()].map((state) => state.truncates));
  const objects = new Map<number, { version: number; holders: string[] }>();
  let maxVersion = 0;
  let truncateEpoch = 0;
  for (const [uuid, state] of states) {
    truncateEpoch = Math.max(truncateEpoch, state.truncateEpoch);
    for (const [object, version] of state.objects) {
      maxVersion = Math.max(maxVersion, version);
      const best = objects.get(object);
      if (best === undefined || version > best.version) objects.set(object, { version, holders: [uuid] });
      else if (version === best.version) best.holders.push(uuid);
    }
  }
  for (const [object, { version }] of objects) if (isTruncated(object, version, truncates)) objects.delete(object);
  return { truncateEpoch, truncates, maxVersion, objects };
}

/** Whether a later truncate removed this version of the object. */
export function isTruncated(object: number, version: number, truncates: readonly TruncateRecord[]): boolean {
  return truncates.some((record) => record.lastObject < object && record.version > version);
}

/** All truncates of several logs, oldest first. */
export function mergeTruncates(logs: readonly (readonly TruncateRecord[])[]): TruncateRecord[] {
  const byVersion = new Map(logs.flat().map((record) => [record.version, record]));
  return [...byVersion.values()].sort((a, b) => a.version - b.version).slice(-truncatesMax);
}

/** Whether a replica holds all of the state, and nothing that the state dropped. */
export function holdsState(replica: ReplicaState, state: AuthoritativeState): boolean {
  if (replica.truncateEpoch < state.truncateEpoch) return false;
  const known = new Set(replica.truncates.map(({ version }) => version));
  if (!state.truncates.every(({ version }) => known.has(version))) return false;
  const { remove, fetch } = planRepair(replica, state);
  return remove.length === 0 && fetch.length === 0;
}

/** What has to be done to a replica so that it holds the state. */
export function planRepair(
  replica: ReplicaState,
  state: AuthoritativeState,
): { readonly remove: readonly number[]; readonly fetch: readonly number[] } {
  const remove = [...replica.objects]
    .filter(([object, version]) => version <= state.maxVersion && !state.objects.has(object))
    .map(([object]) => object);
  const fetch = [...state.objects]
    .filter(([object, { version }]) => {
      const own = replica.objects.get(object) ?? -1;
      return own < version || (own > version && own <= state.maxVersion);
    })
    .map(([object]) => object);
  return { remove, fetch };
}

/** As sent in rwr_auth_state. @param primaryEpoch - fences off primaries that were replaced; upstream skips it. */
export function toAuthoritativeMessage(state: AuthoritativeState, primaryEpoch: number): AuthoritativeReplicaState {
  return {
    truncateEpoch: state.truncateEpoch,
    maxObjVersion: state.maxVersion,
    truncateLog: toLog(state.truncates),
    objectVersions: [...state.objects].map(([objectNumber, { version, holders }]) => ({
      objectNumber,
      objectVersion: version,
      osdUuids: [...holders],
    })),
    primaryEpoch,
  };
}

/** From rwr_auth_state. */
export function fromAuthoritativeMessage(message: AuthoritativeReplicaState): AuthoritativeState {
  return {
    truncateEpoch: message.truncateEpoch,
    maxVersion: message.maxObjVersion,
    truncates: fromLog(message.truncateLog),
    objects: new Map(
      message.objectVersions.map(({ objectNumber, objectVersion, osdUuids }) => [
        objectNumber,
        { version: objectVersion, holders: osdUuids },
      ]),
    ),
  };
}

/** As answered to rwr_status. */
export function toStatusMessage(state: ReplicaState, primaryEpoch: number): ReplicaStatus {
  let maxObjVersion = 0;
  for (const version of state.objects.values()) maxObjVersion = Math.max(maxObjVersion, version);
  return {
    truncateEpoch: state.truncateEpoch,
    fileSize: state.fileBytes,
    maxObjVersion,
    primaryEpoch,
    objectVersions: [...state.objects].map(([objectNumber, objectVersion]) => ({ objectNumber, objectVersion })),
    truncateLog: toLog(state.truncates),
  };
}

/** From the answer to rwr_status. */
export function fromStatusMessage(message: ReplicaStatus): ReplicaState {
  return {
    truncateEpoch: message.truncateEpoch,
    fileBytes: message.fileSize,
    objects: new Map(message.objectVersions.map(({ objectNumber, objectVersion }) => [objectNumber, objectVersion])),
    truncates: fromLog(message.truncateLog),
  };
}

function toLog(truncates: readonly TruncateRecord[]): ReplicaStatus['truncateLog'] {
  return { records: truncates.map(({ version, lastObject }) => ({ version, lastObjectNumber: lastObject })) };
}

function fromLog(log: ReplicaStatus['truncateLog']): TruncateRecord[] {
  return log.records.map(({ version, lastObjectNumber }) => ({ version, lastObject: lastObjectNumber }));
}

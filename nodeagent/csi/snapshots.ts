import { createHash } from 'node:crypto';
import { status } from '@grpc/grpc-js';
import { ownerLabel } from '#crds/policies/tenants.ts';
import { formatVolumeHandle, parseVolumeHandle, snapshotsMax, volumes, type Volume } from '#crds/volume.ts';
import type { ControllerMethods } from '#proto/csi/schema.ts';
import type {
  CreateSnapshotRequest,
  ListSnapshotsRequest,
  ListSnapshotsResponse,
  Snapshot,
  VolumeContentSource,
} from '#proto/csi/wire.ts';
import { ConflictError, InvalidError } from '#runtime/errors.ts';
import { defineKind } from '#runtime/kind.ts';
import { isDeleting, keyOf, type KubeObject, type Stored } from '#runtime/types.ts';
import { CsiError, required } from './errors.ts';
import { readSnapshotParameters } from './parameters.ts';
import type { Handlers } from './server.ts';
import { type ControllerParts, demandOwner, idBytesMax, notFound, poll } from './volume-waits.ts';

/** What users make to have a snapshot: of external-snapshotter. */
export const volumeSnapshots = defineKind<KubeObject>({
  group: 'snapshot.storage.k8s.io',
  version: 'v1',
  kind: 'VolumeSnapshot',
  plural: 'volumesnapshots',
  namespaced: true,
});

type SnapshotMethods = Pick<ControllerMethods, 'CreateSnapshot' | 'DeleteSnapshot' | 'ListSnapshots'>;
type Entry = NonNullable<NonNullable<Volume['status']>['snapshots']>[number];

const conflictsMax = 8;
/** The handle of a volume, `@` and the name of the snapshot. */
const idForm = /^([^@]+)@([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)$/;
const nameMax = 48;

/** What a new volume begins with. */
export interface SnapshotSource {
  readonly snapshotId: string;
  readonly named: NonNullable<Volume['spec']['source']>;
  readonly sizeBytes: number;
}

/**
 * Snapshots: external-snapshotter asks for them. A snapshot is an entry in the Volume that it is of; the operator has the MRC take and remove it.
 */
export function snapshotMethods(parts: ControllerParts): Handlers<SnapshotMethods> {
  return {
    CreateSnapshot: async (request) => ({ snapshot: await create(request, parts) }),
    DeleteSnapshot: async ({ snapshotId }) => {
      await remove(required('snapshot_id', snapshotId, idBytesMax), parts);
      return {};
    },
    ListSnapshots: async (request) => list(request, parts),
  };
}

/** The name of a snapshot for a request: the request's own where it can be one. */
function nameFor(requestName: string): string {
  const isUsable = requestName.length <= nameMax && /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(requestName);
  return isUsable ? requestName : `csi-${createHash('sha256').update(requestName).digest('hex').slice(0, 40)}`;
}

const handleOf = ({ metadata, status: seen }: Stored<Volume>): string =>
  formatVolumeHandle({ fileSystemUid: seen?.fileSystemUID ?? '', volumeUid: metadata.uid });

function toWire(volume: Stored<Volume>, { name, takenAt, sizeBytes, ready }: Entry): Snapshot {
  const takenMs = Date.parse(takenAt ?? '');
  const sourceVolumeId = handleOf(volume);
  return {
    sizeBytes: sizeBytes ?? 0,
    snapshotId: `${sourceVolumeId}@${name}`,
    sourceVolumeId,
    creationTime: { seconds: Math.floor(takenMs / 1000), nanos: (takenMs % 1000) * 1_000_000 },
    readyToUse: ready,
  };
}

/** Snapshots that are there, of Volumes that are not on their way out, in the order of their ids. */
function snapshotsOf(all: readonly Stored<Volume>[]): Snapshot[] {
  const found = all.flatMap((volume) =>
    (volume.status?.snapshots ?? [])
      .filter(({ name, takenAt }) => takenAt !== undefined && hasEntry(volume, name))
      .map((entry) => toWire(volume, entry)),
  );
  return found.sort((a, b) => (a.snapshotId < b.snapshotId ? -1 : 1));
}

const hasEntry = ({ spec }: Volume, name: string): boolean => spec.snapshots.some((each) => each.name === name);

async function allVolumes({ client }: ControllerParts): Promise<readonly Stored<Volume>[]> {
  return (await client.of(volumes).list()).items;
}

async function create(request: CreateSnapshotRequest, parts: ControllerParts): Promise<Snapshot> {
  const name = nameFor(required('name', request.name, idBytesMax));
  const handle = required('source_volume_id', request.sourceVolumeId, idBytesMax);
  const all = await allVolumes(parts);
  const volume = byHandle(all, handle);
  const other = all.find((each) => each.metadata.uid !== volume?.metadata.uid && hasEntry(each, name));
  if (other !== undefined) {
    throw new CsiError(status.ALREADY_EXISTS, `snapshot ${name} is one of another Volume, ${other.metadata.name}`);
  }
  if (volume === undefined) throw notFound(handle);
  await demandRight(volume, readSnapshotParameters(request.parameters), parts);
  if (!hasEntry(volume, name)) {
    demandPossible(volume);
    await changeEntries(volume, parts, (entries) => [...entries, { name }]);
  }
  const ready = await entryOf(volume, name, parts);
  return toWire(volume, ready);
}

function byHandle(all: readonly Stored<Volume>[], handle: string): Stored<Volume> | undefined {
  const uids = parseVolumeHandle(handle);
  return all.find(
    ({ metadata, status: seen }) => metadata.uid === uids?.volumeUid && seen?.fileSystemUID === uids.fileSystemUid,
  );
}

/** A VolumeSnapshot names a claim of its own namespace; that one may be of a Volume that was granted by another organization. */
async function demandRight(
  volume: Stored<Volume>,
  { namespace, name }: { readonly namespace: string; readonly name: string },
  { client }: ControllerParts,
): Promise<void> {
  if (volume.metadata.namespace !== namespace) {
    throw new CsiError(
      status.PERMISSION_DENIED,
      `Volume ${volume.metadata.name} lies in namespace ${volume.metadata.namespace ?? ''}, not in ${namespace}: a grant lets nobody take snapshots`,
    );
  }
  const asked = await client.of(volumeSnapshots).find({ namespace, name });
  if (asked === undefined) throw new CsiError(status.ABORTED, `VolumeSnapshot ${namespace}/${name} is gone`);
  demandOwner(volume, asked.metadata.labels?.[ownerLabel], 'take snapshots of it');
}

function demandPossible(volume: Stored<Volume>): void {
  const refuse = (message: string, code = status.FAILED_PRECONDITION): never => {
    throw new CsiError(code, `Volume ${volume.metadata.name} ${message}`);
  };
  if (isDeleting(volume)) refuse('is being deleted');
  if (volume.spec.replication.policy !== 'None') {
    refuse('keeps files in several copies: only Volumes with replication policy None have snapshots');
  }
  if (volume.spec.source !== undefined && volume.status?.copied !== true) refuse('is not whole yet');
  if (volume.spec.snapshots.length >= snapshotsMax) {
    refuse(`has ${snapshotsMax} snapshots: delete old ones`, status.RESOURCE_EXHAUSTED);
  }
}

/** Changes the list as it is now, and again when somebody else changed it meanwhile. */
async function changeEntries(
  { metadata }: Stored<Volume>,
  { client }: ControllerParts,
  change: (entries: Volume['spec']['snapshots']) => Volume['spec']['snapshots'],
): Promise<void> {
  const key = { namespace: metadata.namespace, name: metadata.name };
  for (let tries = 1; ; tries++) {
    const now = await client.of(volumes).find(key);
    if (now?.metadata.uid !== metadata.uid) return;
    const { uid, resourceVersion } = now.metadata;
    const body = { metadata: { uid, resourceVersion }, spec: { snapshots: change(now.spec.snapshots) } };
    try {
      await client.of(volumes).patch(key, { type: 'merge', body });
      return;
    } catch (error) {
      if (error instanceof InvalidError) throw new CsiError(status.RESOURCE_EXHAUSTED, error.message, { cause: error });
      if (!(error instanceof ConflictError) || tries >= conflictsMax) throw error;
    }
  }
}

/** Waits until the operator has had the snapshot taken. */
async function entryOf(volume: Stored<Volume>, name: string, parts: ControllerParts): Promise<Entry> {
  let problem: string | undefined;
  try {
    return await poll(parts, `snapshot ${name} of Volume ${volume.metadata.name} to be taken`, async () => {
      const found = await parts.client.of(volumes).find(keyOf(volume));
      if (found?.metadata.uid !== volume.metadata.uid || !hasEntry(found, name)) {
        throw new CsiError(
          status.ABORTED,
          `Snapshot ${name} of Volume ${volume.metadata.name} was taken away meanwhile`,
        );
      }
      const entry = found.status?.snapshots?.find((each) => each.name === name);
      problem = entry?.message;
      return entry?.ready === true ? entry : undefined;
    });
  } catch (error) {
    if (!(error instanceof CsiError) || error.code !== status.DEADLINE_EXCEEDED || problem === undefined) throw error;
    throw new CsiError(status.DEADLINE_EXCEEDED, `${error.message}: ${problem}`, { cause: error });
  }
}

/** A snapshot that nobody has is removed already. */
async function remove(snapshotId: string, parts: ControllerParts): Promise<void> {
  const [, handle = '', name = ''] = idForm.exec(snapshotId) ?? [];
  const all = await allVolumes(parts);
  const volume = byHandle(all, handle);
  if (volume === undefined) return;
  const { namespace, name: volumeName } = volume.metadata;
  const filled = all.find(
    (each) =>
      each.metadata.namespace === namespace &&
      each.spec.source?.volume === volumeName &&
      each.spec.source.snapshot === name &&
      each.status?.copied !== true &&
      !isDeleting(each),
  );
  if (filled !== undefined) {
    throw new CsiError(
      status.FAILED_PRECONDITION,
      `snapshot ${name} is being copied into Volume ${filled.metadata.name}: wait for that, or delete it`,
    );
  }
  await changeEntries(volume, parts, (entries) => entries.filter((each) => each.name !== name));
  await poll(parts, `snapshot ${name} of Volume ${volumeName} to be removed`, async () => {
    const found = await parts.client.of(volumes).find(keyOf(volume));
    const isThere = found?.status?.snapshots?.some((each) => each.name === name) === true;
    // What is left of a Volume that goes is removed with it.
    return isThere && found.metadata.uid === volume.metadata.uid && !isDeleting(found) ? undefined : true;
  });
}

async function list(request: ListSnapshotsRequest, parts: ControllerParts): Promise<ListSnapshotsResponse> {
  const { maxEntries, startingToken, sourceVolumeId, snapshotId } = request;
  if (maxEntries < 0) throw new CsiError(status.INVALID_ARGUMENT, `max_entries: ${maxEntries} is negative`);
  const found = snapshotsOf(await allVolumes(parts)).filter(
    (each) =>
      (snapshotId === '' || each.snapshotId === snapshotId) &&
      (sourceVolumeId === '' || each.sourceVolumeId === sourceVolumeId),
  );
  // The token is the id of the first that is to come: it stays right while others come and go.
  const from = startingToken === '' ? 0 : found.findIndex((each) => each.snapshotId >= startingToken);
  if (startingToken !== '' && !idForm.test(startingToken)) {
    throw new CsiError(status.ABORTED, `starting_token: ${startingToken} is not one that was given out`);
  }
  const rest = from < 0 ? [] : found.slice(from);
  const page = maxEntries > 0 ? rest.slice(0, maxEntries) : rest;
  const next = rest[page.length]?.snapshotId ?? '';
  return { entries: page.map((snapshot) => ({ snapshot })), nextToken: next };
}

/**
 * What a claim is to begin with.
 * @throws {CsiError} NOT_FOUND, PERMISSION_DENIED for the snapshot of another namespace or member, INVALID_ARGUMENT for a volume.
 */
export async function sourceOf(
  content: VolumeContentSource | null | undefined,
  claim: { readonly namespace: string; readonly claimOwner: string | undefined },
  parts: ControllerParts,
): Promise<SnapshotSource | undefined> {
  if (content === null || content === undefined) return undefined;
  const snapshotId = content.snapshot?.snapshotId;
  if (snapshotId === undefined) {
    throw new CsiError(
      status.INVALID_ARGUMENT,
      'a claim is not cloned while others write to it: take a VolumeSnapshot of it, and name that in dataSource',
    );
  }
  const [, handle = '', snapshot = ''] = idForm.exec(required('snapshot_id', snapshotId, idBytesMax)) ?? [];
  const volume = byHandle(await allVolumes(parts), handle);
  const entry = volume?.status?.snapshots?.find(({ name }) => name === snapshot);
  if (volume === undefined || entry?.ready !== true || !hasEntry(volume, snapshot)) {
    throw new CsiError(status.NOT_FOUND, `no snapshot has the id ${JSON.stringify(snapshotId)}`);
  }
  const { namespace = '', name } = volume.metadata;
  if (namespace !== claim.namespace) {
    throw new CsiError(status.PERMISSION_DENIED, `snapshot ${snapshot} is one of namespace ${namespace}`);
  }
  demandOwner(volume, claim.claimOwner, 'copy its snapshots');
  return { snapshotId, named: { volume: name, snapshot }, sizeBytes: entry.sizeBytes ?? 0 };
}

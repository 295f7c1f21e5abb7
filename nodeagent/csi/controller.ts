import { createHash } from 'node:crypto';
import { status } from '@grpc/grpc-js';
import { ownerLabel } from '#crds/policies/tenants.ts';
import { wholeUnits } from '#crds/quantity.ts';
import { formatVolumeHandle, provisionedLabel, volumeReady, volumes, type Volume } from '#crds/volume.ts';
import type { ControllerMethods } from '#proto/csi/schema.ts';
import type { CapacityRange, CreateVolumeRequest, CreateVolumeResponse } from '#proto/csi/wire.ts';
import { persistentVolumeClaims } from '#runtime/builtin.ts';
import { isConditionTrue } from '#runtime/conditions.ts';
import { AlreadyExistsError, ForbiddenError, ignoreNotFound, InvalidError, NotFoundError } from '#runtime/errors.ts';
import { keyOf, type ObjectKey, type Stored } from '#runtime/types.ts';
import { checkContext } from '../kubernetes/access.ts';
import { reasonAgainst } from './capabilities.ts';
import { CsiError, required } from './errors.ts';
import { readParameters, type VolumeParameters } from './parameters.ts';
import type { Handlers } from './server.ts';
import { snapshotMethods, type SnapshotSource, sourceOf } from './snapshots.ts';
import { type ControllerParts, find, idBytesMax, notFound, poll, until } from './volume-waits.ts';

const capabilityTypes = [
  ...['CREATE_DELETE_VOLUME', 'EXPAND_VOLUME', 'SINGLE_NODE_MULTI_WRITER'],
  ...['CREATE_DELETE_SNAPSHOT', 'LIST_SNAPSHOTS'],
] as const;
const gibibyte = 2 ** 30;
const defaultBytes = gibibyte;
/** Beyond 2^53 a JSON number is not exact any more. */
const sizeBytesMax = 2 ** 52;

/**
 * The Controller service: external-provisioner asks it for volumes. It makes `Volume` objects and waits; what is at the MRC, and how
 * it comes there, is the operator's alone.
 */
export function controllerService(parts: ControllerParts): Handlers<ControllerMethods> {
  return {
    CreateVolume: async (request) => create(request, parts),
    DeleteVolume: async ({ volumeId }) => {
      const volume = await find(required('volume_id', volumeId, idBytesMax), parts);
      if (volume !== undefined) await remove(volume, parts);
      return {};
    },
    ValidateVolumeCapabilities: async ({ volumeId, volumeCapabilities, volumeContext, parameters }) => {
      const handle = required('volume_id', volumeId, idBytesMax);
      if (volumeCapabilities.length === 0)
        throw new CsiError(status.INVALID_ARGUMENT, 'volume_capabilities are missing');
      if ((await find(handle, parts)) === undefined) throw notFound(handle);
      checkContext(volumeContext);
      const reason = volumeCapabilities.map(reasonAgainst).find((each) => each !== undefined);
      return reason === undefined
        ? { confirmed: { volumeCapabilities, volumeContext, parameters }, message: '' }
        : { message: reason };
    },
    ControllerExpandVolume: async ({ volumeId, capacityRange }) => {
      const handle = required('volume_id', volumeId, idBytesMax);
      if (capacityRange === null || capacityRange === undefined) {
        throw new CsiError(status.INVALID_ARGUMENT, 'capacity_range is missing');
      }
      const volume = await find(handle, parts);
      if (volume === undefined) throw notFound(handle);
      return { capacityBytes: await expand(volume, sizeFor(capacityRange), parts), nodeExpansionRequired: false };
    },
    ...snapshotMethods(parts),
    ControllerGetCapabilities: async () =>
      Promise.resolve({
        capabilities: capabilityTypes.map((type) => ({ rpc: { type } })),
      }),
  };
}

/** The name of the Volume for a request: the request's own where it can be one. */
function nameFor(requestName: string): string {
  if (/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(requestName)) return requestName;
  return `csi-${createHash('sha256').update(requestName).digest('hex').slice(0, 40)}`;
}

/** @throws {CsiError} OUT_OF_RANGE when no size fits. */
function sizeFor(range: CapacityRange | null | undefined): number {
  const { requiredBytes = 0, limitBytes = 0 } = range ?? {};
  if (requiredBytes < 0 || limitBytes < 0) throw new CsiError(status.INVALID_ARGUMENT, 'capacity_range is negative');
  const size = requiredBytes > 0 ? requiredBytes : limitBytes > 0 ? Math.min(limitBytes, defaultBytes) : defaultBytes;
  if (size > sizeBytesMax || (limitBytes > 0 && size > limitBytes)) {
    throw new CsiError(
      status.OUT_OF_RANGE,
      `no size is at least ${requiredBytes} and at most ${limitBytes || sizeBytesMax} bytes`,
    );
  }
  return size;
}

const bytesOf = (size: string | number): number => wholeUnits(size, 1, 'down');

async function create(request: CreateVolumeRequest, parts: ControllerParts): Promise<CreateVolumeResponse> {
  const requestName = required('name', request.name, idBytesMax);
  if (request.volumeCapabilities.length === 0) {
    throw new CsiError(status.INVALID_ARGUMENT, 'volume_capabilities are missing');
  }
  const reason = request.volumeCapabilities.map(reasonAgainst).find((each) => each !== undefined);
  if (reason !== undefined) throw new CsiError(status.INVALID_ARGUMENT, reason);
  const parameters = readParameters(request.parameters);
  const claimOwner = await ownerOfClaim(requestName, parameters, parts);
  const source = await sourceOf(request.volumeContentSource, { ...parameters, claimOwner }, parts);
  const size = Math.max(sizeFor(request.capacityRange), source === undefined ? 0 : sizeWith(source, request));
  const volume = await ensure({ requestName, size, parameters, claimOwner, source: source?.named }, parts);
  const kept = bytesOf(volume.spec.size);
  const { requiredBytes = 0, limitBytes = 0 } = request.capacityRange ?? {};
  if (kept < requiredBytes || (limitBytes > 0 && kept > limitBytes)) {
    throw new CsiError(
      status.ALREADY_EXISTS,
      `Volume ${volume.metadata.name} exists with another size, ${volume.spec.size}`,
    );
  }
  const ready = await until(volume, parts, isReady, 'be Ready');
  const fileSystemUid = ready.status?.fileSystemUID ?? '';
  const volumeId = formatVolumeHandle({ fileSystemUid, volumeUid: ready.metadata.uid });
  const volumeContext = { volume: ready.metadata.name, namespace: ready.metadata.namespace ?? '' };
  const contentSource = source === undefined ? {} : { contentSource: { snapshot: { snapshotId: source.snapshotId } } };
  return { volume: { volumeId, capacityBytes: kept, volumeContext, ...contentSource } };
}

/** Room for what the snapshot shows. @throws {CsiError} OUT_OF_RANGE when the claim asks for less. */
function sizeWith({ named, sizeBytes }: SnapshotSource, { capacityRange }: CreateVolumeRequest): number {
  const { requiredBytes = 0, limitBytes = 0 } = capacityRange ?? {};
  const most = limitBytes > 0 ? limitBytes : requiredBytes > 0 ? requiredBytes : sizeBytesMax;
  if (most >= sizeBytes) return requiredBytes > 0 ? 0 : sizeBytes;
  throw new CsiError(
    status.OUT_OF_RANGE,
    `snapshot ${named.snapshot} shows ${sizeBytes} bytes: ask for that much at least`,
  );
}

/**
 * Whose the claim is, from the label that the API server writes. A claim that is gone is nobody's, not the site's: only a Volume that was made
 * while it was there is told of still.
 * @throws {CsiError} FAILED_PRECONDITION when the claim is gone, or another one has its name.
 */
async function ownerOfClaim(
  requestName: string,
  { namespace, claimName }: VolumeParameters,
  { client }: ControllerParts,
): Promise<string | undefined> {
  if (claimName === undefined) return undefined;
  const claim = await client.of(persistentVolumeClaims).find({ namespace, name: claimName });
  // external-provisioner names volumes so.
  if (claim !== undefined && requestName === `pvc-${claim.metadata.uid}`) return claim.metadata.labels?.[ownerLabel];
  const made = await client.of(volumes).find({ namespace, name: nameFor(requestName) });
  if (made?.metadata.labels?.[provisionedLabel] === 'true') return made.metadata.labels[ownerLabel];
  throw new CsiError(status.FAILED_PRECONDITION, `PersistentVolumeClaim ${namespace}/${claimName} is gone`);
}

interface Wanted {
  readonly requestName: string;
  readonly size: number;
  readonly parameters: VolumeParameters;
  readonly claimOwner: string | undefined;
  readonly source: Volume['spec']['source'];
}

/** The Volume of a request: made now, or by an earlier try of the same. */
async function ensure(wanted: Wanted, { client }: ControllerParts): Promise<Stored<Volume>> {
  const { requestName, size, parameters, claimOwner, source } = wanted;
  const labels = { [provisionedLabel]: 'true', ...(claimOwner === undefined ? {} : { [ownerLabel]: claimOwner }) };
  const key: ObjectKey = { namespace: parameters.namespace, name: nameFor(requestName) };
  try {
    return await client.of(volumes).create({
      metadata: { ...key, name: key.name, labels },
      // Defaults of the schema fill in what the class does not say.
      spec: {
        ...{ size: String(size), reclaimPolicy: 'Delete', ...parameters.spec },
        ...(source === undefined ? {} : { source }),
      } as Volume['spec'],
    });
  } catch (error) {
    if (error instanceof AlreadyExistsError) {
      const found = await client.of(volumes).get(key);
      const isSame = found.spec.source?.volume === source?.volume && found.spec.source?.snapshot === source?.snapshot;
      if (!isSame) {
        throw new CsiError(
          status.ALREADY_EXISTS,
          `Volume ${parameters.namespace}/${key.name} exists with another source`,
        );
      }
      if (found.metadata.labels?.[provisionedLabel] === 'true') return found;
      throw new CsiError(status.ALREADY_EXISTS, `Volume ${parameters.namespace}/${key.name} was not made for a claim`);
    }
    if (error instanceof InvalidError) throw new CsiError(status.INVALID_ARGUMENT, error.message, { cause: error });
    if (error instanceof ForbiddenError) throw new CsiError(status.RESOURCE_EXHAUSTED, error.message, { cause: error });
    if (error instanceof NotFoundError) throw new CsiError(status.INVALID_ARGUMENT, error.message, { cause: error });
    throw error;
  }
}

async function remove(volume: Stored<Volume>, parts: ControllerParts): Promise<void> {
  const key = keyOf(volume);
  const kept = volume.spec.snapshots.map(({ name }) => name);
  if (kept.length > 0) {
    throw new CsiError(
      status.FAILED_PRECONDITION,
      `Volume ${key.name} has snapshots: delete the VolumeSnapshots of ${kept.slice(0, 8).join(', ')} first`,
    );
  }
  const objects = parts.client.of(volumes);
  await ignoreNotFound(objects.delete(key, { preconditions: { uid: volume.metadata.uid } }));
  await poll(parts, `Volume ${key.name} to be deleted`, async () => {
    const found = await objects.find(key);
    return found?.metadata.uid === volume.metadata.uid ? undefined : true;
  });
}

async function expand(volume: Stored<Volume>, size: number, parts: ControllerParts): Promise<number> {
  const kept = bytesOf(volume.spec.size);
  if (kept >= size) return kept;
  await parts.client.of(volumes).patch(keyOf(volume), { type: 'merge', body: { spec: { size: String(size) } } });
  const isGrown = (found: Stored<Volume>): boolean => (found.status?.sizeBytes ?? 0) >= size;
  await until(volume, parts, isGrown, `have ${size} bytes`);
  return size;
}

function isReady({ status: seen }: Stored<Volume>): boolean {
  return isConditionTrue(seen?.conditions, volumeReady.type) && seen?.fileSystemUID !== undefined;
}

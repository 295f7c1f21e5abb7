import { createHash } from 'node:crypto';
import { status } from '@grpc/grpc-js';
import type { Clock } from '#common/clock.ts';
import { wholeUnits } from '#crds/quantity.ts';
import {
  formatVolumeHandle,
  parseVolumeHandle,
  provisionedLabel,
  volumeReady,
  volumes,
  type Volume,
} from '#crds/volume.ts';
import type { ControllerMethods } from '#proto/csi/schema.ts';
import type { CapacityRange, CreateVolumeRequest, CreateVolumeResponse } from '#proto/csi/wire.ts';
import { findCondition, isConditionTrue } from '#runtime/conditions.ts';
import type { Client } from '#runtime/contracts.ts';
import { AlreadyExistsError, ForbiddenError, ignoreNotFound, InvalidError, NotFoundError } from '#runtime/errors.ts';
import { keyOf, type ObjectKey, type Stored } from '#runtime/types.ts';
import { checkContext } from '../kubernetes/access.ts';
import { reasonAgainst } from './capabilities.ts';
import { CsiError, required } from './errors.ts';
import { readParameters, type VolumeParameters } from './parameters.ts';
import type { Handlers } from './server.ts';

/** What the Controller service stands on. */
export interface ControllerParts {
  readonly client: Client;
  readonly clock: Clock;
  /** How long a call waits for the operator to do its part; the caller asks again. */
  readonly waitMs: number;
}

const idBytesMax = 128;
const gibibyte = 2 ** 30;
const defaultBytes = gibibyte;
/** Beyond 2^53 a JSON number is not exact any more. */
const sizeBytesMax = 2 ** 52;
const pollMs = { first: 100, max: 1_000 };

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
    ControllerGetCapabilities: async () =>
      Promise.resolve({
        capabilities: ['CREATE_DELETE_VOLUME', 'EXPAND_VOLUME', 'SINGLE_NODE_MULTI_WRITER'].map((type) => ({
          rpc: { type },
        })),
      }),
  };
}

const notFound = (handle: string): CsiError =>
  new CsiError(status.NOT_FOUND, `no Volume has the handle ${JSON.stringify(handle)}`);

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
  if (request.volumeContentSource !== null && request.volumeContentSource !== undefined) {
    throw new CsiError(status.INVALID_ARGUMENT, 'new volumes are empty: leave dataSource out of the claim');
  }
  const size = sizeFor(request.capacityRange);
  const volume = await ensure({ requestName, size, parameters: readParameters(request.parameters) }, parts);
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
  return { volume: { volumeId, capacityBytes: kept, volumeContext } };
}

interface Wanted {
  readonly requestName: string;
  readonly size: number;
  readonly parameters: VolumeParameters;
}

/** The Volume of a request: made now, or by an earlier try of the same. */
async function ensure({ requestName, size, parameters }: Wanted, { client }: ControllerParts): Promise<Stored<Volume>> {
  const key: ObjectKey = { namespace: parameters.namespace, name: nameFor(requestName) };
  try {
    return await client.of(volumes).create({
      metadata: { ...key, name: key.name, labels: { [provisionedLabel]: 'true' } },
      // Defaults of the schema fill in what the class does not say.
      spec: { size: String(size), reclaimPolicy: 'Delete', ...parameters.spec } as Volume['spec'],
    });
  } catch (error) {
    if (error instanceof AlreadyExistsError) {
      const found = await client.of(volumes).get(key);
      if (found.metadata.labels?.[provisionedLabel] === 'true') return found;
      throw new CsiError(status.ALREADY_EXISTS, `Volume ${parameters.namespace}/${key.name} was not made for a claim`);
    }
    if (error instanceof InvalidError) throw new CsiError(status.INVALID_ARGUMENT, error.message, { cause: error });
    if (error instanceof ForbiddenError) throw new CsiError(status.RESOURCE_EXHAUSTED, error.message, { cause: error });
    if (error instanceof NotFoundError) throw new CsiError(status.INVALID_ARGUMENT, error.message, { cause: error });
    throw error;
  }
}

/** The Volume behind a handle, among those that were made for claims; no other can be deleted or changed this way. */
async function find(handle: string, { client }: ControllerParts): Promise<Stored<Volume> | undefined> {
  const uids = parseVolumeHandle(handle);
  if (uids === undefined) return undefined;
  const { items } = await client.of(volumes).list({ labelSelector: `${provisionedLabel}=true` });
  return items.find(({ metadata }) => metadata.uid === uids.volumeUid);
}

async function remove(volume: Stored<Volume>, parts: ControllerParts): Promise<void> {
  const key = keyOf(volume);
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

/** Waits for the operator. */
async function until(
  volume: Stored<Volume>,
  parts: ControllerParts,
  isThere: (volume: Stored<Volume>) => boolean,
  what: string,
): Promise<Stored<Volume>> {
  let reason: string | undefined;
  try {
    return await poll(parts, `Volume ${volume.metadata.name} to ${what}`, async () => {
      const found = await parts.client.of(volumes).find(keyOf(volume));
      if (found?.metadata.uid !== volume.metadata.uid) {
        throw new CsiError(status.ABORTED, `Volume ${volume.metadata.name} was deleted meanwhile`);
      }
      reason = findCondition(found.status?.conditions, volumeReady.type)?.message;
      return isThere(found) ? found : undefined;
    });
  } catch (error) {
    if (!(error instanceof CsiError) || error.code !== status.DEADLINE_EXCEEDED || reason === undefined) throw error;
    throw new CsiError(status.DEADLINE_EXCEEDED, `${error.message}: ${reason}`, { cause: error });
  }
}

async function poll<T>(
  { clock, waitMs }: ControllerParts,
  what: string,
  ask: () => Promise<T | undefined>,
): Promise<T> {
  const end = clock.monotonic() + waitMs;
  for (let pauseMs = pollMs.first; ; pauseMs = Math.min(pollMs.max, pauseMs * 1.5)) {
    const found = await ask();
    if (found !== undefined) return found;
    if (clock.monotonic() >= end) throw new CsiError(status.DEADLINE_EXCEEDED, `waited ${waitMs / 1000} s for ${what}`);
    await clock.sleep(pauseMs);
  }
}

import { status } from '@grpc/grpc-js';
import type { Clock } from '#common/clock.ts';
import { ownerLabel } from '#crds/policies/tenants.ts';
import { parseVolumeHandle, provisionedLabel, volumeReady, volumes, type Volume } from '#crds/volume.ts';
import { findCondition } from '#runtime/conditions.ts';
import type { Client } from '#runtime/contracts.ts';
import { keyOf, type Stored } from '#runtime/types.ts';
import { CsiError } from './errors.ts';

/** What the Controller service stands on. */
export interface ControllerParts {
  readonly client: Client;
  readonly clock: Clock;
  /** How long a call waits for the operator to do its part; the caller asks again. */
  readonly waitMs: number;
}

/** Bytes that the specification allows for an id or a name. */
export const idBytesMax = 128;
const pollMs = { first: 100, max: 1_000 };

/** The refusal of a handle that no Volume has. */
export const notFound = (handle: string): CsiError =>
  new CsiError(status.NOT_FOUND, `no Volume has the handle ${JSON.stringify(handle)}`);

/** The Volume behind a handle, among those that were made for claims; no other can be deleted or changed this way. */
export async function find(handle: string, { client }: ControllerParts): Promise<Stored<Volume> | undefined> {
  const uids = parseVolumeHandle(handle);
  if (uids === undefined) return undefined;
  const { items } = await client.of(volumes).list({ labelSelector: `${provisionedLabel}=true` });
  return items.find(({ metadata }) => metadata.uid === uids.volumeUid);
}

/** Whose a Volume is: of the member who made it, or the claim that it was made for. */
export function ownerOf({ spec, metadata }: Volume): string | undefined {
  return spec.owner ?? metadata.labels?.[ownerLabel];
}

/**
 * Refuses what only the owner of a Volume, and administrators, may have of it.
 * @param requester - the member who asks, from the label that the API server writes; undefined for administrators and the site.
 * @throws {CsiError} PERMISSION_DENIED
 */
export function demandOwner(volume: Volume, requester: string | undefined, what: string): void {
  const owner = ownerOf(volume);
  if (requester === undefined || requester === owner) return;
  throw new CsiError(
    status.PERMISSION_DENIED,
    `Volume ${volume.metadata.name} belongs to ${owner ?? 'nobody'}, not to ${requester}: only its owner and administrators of the virtual organization ${what}`,
  );
}

/** Waits for the operator. */
export async function until(
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

/** Asks until there is an answer. @throws {CsiError} DEADLINE_EXCEEDED */
export async function poll<T>(
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

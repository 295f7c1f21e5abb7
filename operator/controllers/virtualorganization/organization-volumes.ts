/** The Volumes of a virtual organization, homes among them, and their end with it. */
import { tryAll } from '#common/parallel.ts';
import { fileSystems } from '#crds/file-system.ts';
import { volumeReady, type Volume, volumeNameOf, volumes } from '#crds/volume.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { isProvisioned } from '#operator/controllers/volume/status.ts';
import { findCondition } from '#runtime/conditions.ts';
import type { Client } from '#runtime/contracts.ts';
import { ignoreNotFound } from '#runtime/errors.ts';
import { isDeleting, keyOf, type Stored } from '#runtime/types.ts';
import { namespaceOf } from './tenancy.ts';

/** Changes in flight at the same time. */
const concurrency = 16;

/** What becomes of one Volume. */
export interface VolumeFate {
  readonly outcome: 'Erased' | 'Retained';
  /** Where files that stay are found. */
  readonly location?: string;
}

/** Ends Volumes. What becomes of each is its reclaim policy, unless all data is to be erased. */
export class OrganizationVolumes {
  private readonly client: Client;

  constructor(client: Client) {
    this.client = client;
  }

  /** Every Volume in the namespace. */
  async list({ metadata }: Stored<VirtualOrganization>, signal: AbortSignal): Promise<Stored<Volume>[]> {
    return (await this.client.of(volumes).list({ namespace: namespaceOf(metadata.name), signal })).items;
  }

  /** What is to become of a Volume: known before anything is touched, for afterwards nobody could tell. */
  async fateOf(volume: Stored<Volume>, data: 'Erase' | 'Export', signal: AbortSignal): Promise<VolumeFate> {
    const { metadata, spec, status } = volume;
    const { fileSystem } = spec;
    if (fileSystem === undefined) return { outcome: 'Erased' };
    const found = await this.client.of(fileSystems).find(fileSystem, { signal });
    // One that is gone, or was made anew, can not be asked to erase anything.
    const uid = status?.fileSystemUID ?? found?.metadata.uid;
    const isThere = uid !== undefined && found?.metadata.uid === uid;
    if (isThere && policyOf(volume, data) === 'Delete') return { outcome: 'Erased' };
    const where = `${volumeNameOf(metadata.uid)} on FileSystem ${fileSystem.namespace}/${fileSystem.name}`;
    return { outcome: 'Retained', location: isThere ? where : `${where}, which is gone` };
  }

  /**
   * Has every Volume go: erased, or kept at the MRC for the owner of the site.
   * @returns undefined once all are gone; otherwise a sentence on what is in the way.
   */
  async clear(
    vo: Stored<VirtualOrganization>,
    data: 'Erase' | 'Export',
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const client = this.client.of(volumes);
    const items = await this.list(vo, signal);
    await tryAll(items, concurrency, async (volume) => {
      const { uid } = volume.metadata;
      const reclaimPolicy = policyOf(volume, data);
      if (volume.spec.reclaimPolicy !== reclaimPolicy) {
        const body = { metadata: { uid }, spec: { reclaimPolicy } };
        await ignoreNotFound(client.patch(keyOf(volume), { type: 'merge', body }, { signal }));
      }
      if (!isDeleting(volume)) await ignoreNotFound(client.delete(keyOf(volume), { signal, preconditions: { uid } }));
    });
    const [first] = items;
    if (first === undefined) return undefined;
    const why = findCondition(first.status?.conditions, volumeReady.type);
    const reason = why?.reason === volumeReady.reasons.Deleting ? ` ${why.message}` : '';
    return `Volume ${first.metadata.name} is being removed.${reason}`;
  }
}

/** A Volume that was made for a claim belongs to the PersistentVolume of that, which is set aside with the files. */
function policyOf(volume: Stored<Volume>, data: 'Erase' | 'Export'): 'Retain' | 'Delete' {
  if (data === 'Erase') return 'Delete';
  return isProvisioned(volume) ? 'Retain' : volume.spec.reclaimPolicy;
}

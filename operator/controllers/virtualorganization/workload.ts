/** What runs and lies in the namespace of a virtual organization, and its end. */
import { inParallel, tryAll } from '#common/parallel.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { namedVolumesMax } from '#crds/tenancy.ts';
import { voMemberships } from '#crds/vo-membership.ts';
import { type Volume, volumes as volumeKind } from '#crds/volume.ts';
import { isProvisioned } from '#operator/controllers/volume/status.ts';
import { persistentVolumeNameOf, volumeUidLabel } from '#operator/controllers/volume/claims.ts';
import {
  configMaps,
  persistentVolumeClaims,
  persistentVolumes,
  type PersistentVolume,
  type PersistentVolumeClaim,
  hasEnded,
  type Pod,
  pods,
  serviceAccounts,
} from '#runtime/builtin.ts';
import type { Client } from '#runtime/contracts.ts';
import { ignoreNotFound } from '#runtime/errors.ts';
import { type Kind, resourceOf } from '#runtime/kind.ts';
import { isDeleting, keyOf, type KubeObject, type Stored } from '#runtime/types.ts';
import { OrganizationVolumes, type VolumeFate } from './organization-volumes.ts';
import { namespaceOf } from './tenancy.ts';

/** How long a pod gets to end by itself, whatever it asks for, seconds. */
const graceSeconds = 30;
/** Deletions in flight at the same time. */
const concurrency = 16;
/** Names that a message lists at most. */
const namesMax = 3;

/** Label of the account of a member. */
const memberSelector = 'xtreemos.io/member=true';
/** Label of a PersistentVolume that is being erased with its virtual organization; the value is the uid of that. */
const erasingLabel = 'xtreemos.io/erased-with';
/** Label of a PersistentVolume that was set aside for the owner of the site; the value is the name of the virtual organization. */
const exportedLabel = 'xtreemos.io/exported-from';

/** What there is, counted, and the volumes by name. */
export interface Inventory {
  readonly inventory: readonly { readonly resource: string; readonly count: number }[];
  readonly volumes: readonly ({
    readonly name: string;
    readonly claim: string;
    readonly size: string;
  } & Partial<VolumeFate>)[];
}

/** Reads and ends the work of virtual organizations. Works on what is there, so that it may be repeated and resumed. */
export class Workload {
  private readonly client: Client;
  private readonly volumes: OrganizationVolumes;

  constructor(client: Client) {
    this.client = client;
    this.volumes = new OrganizationVolumes(client);
  }

  /** Counts what is in the namespace, and says of each volume what becomes of it. */
  async takeInventory(
    vo: Stored<VirtualOrganization>,
    data: 'Erase' | 'Export',
    signal: AbortSignal,
  ): Promise<Inventory> {
    const namespace = namespaceOf(vo.metadata.name);
    const count = async (kind: Kind, labelSelector?: string): Promise<Inventory['inventory'][number]> => {
      let total = 0;
      let continueToken: string | undefined;
      do {
        const page = await this.client.of(kind).listPage({ namespace, labelSelector, continueToken, signal });
        total += page.items.length;
        ({ continueToken } = page);
      } while (continueToken !== undefined);
      return { resource: resourceOf(kind), count: total };
    };
    const { items: claims } = await this.client.of(persistentVolumeClaims).list({ namespace, signal });
    const own = await this.volumes.list(vo, signal);
    // Those made for a claim are told of by the PersistentVolume of that.
    const named = own.filter((volume) => !isProvisioned(volume));
    const described = await inParallel(named, concurrency, async (volume) => this.describe(volume, data, signal));
    const others = claims.filter((claim) => !isOfVolume(claim)).flatMap(describeVolume);
    return {
      inventory: [
        await count(voMemberships),
        await count(serviceAccounts, memberSelector),
        await count(pods),
        await count(configMaps),
        { resource: resourceOf(persistentVolumeClaims), count: claims.length },
        { resource: resourceOf(volumeKind), count: own.length },
      ],
      volumes: [...described, ...others].slice(0, namedVolumesMax),
    };
  }

  private async describe(
    volume: Stored<Volume>,
    data: 'Erase' | 'Export',
    signal: AbortSignal,
  ): Promise<Inventory['volumes'][number]> {
    const { name: claim, uid } = volume.metadata;
    const fate = await this.volumes.fateOf(volume, data, signal);
    return { name: persistentVolumeNameOf(uid), claim, size: String(volume.spec.size), ...fate };
  }

  /**
   * Ends every pod, and each at the latest after 30 s, whatever it asks for.
   * @returns names of pods that still run; empty once all have ended.
   */
  async endPods(vo: Stored<VirtualOrganization>, signal: AbortSignal): Promise<readonly string[]> {
    const client = this.client.of(pods);
    const { items } = await client.list({ namespace: namespaceOf(vo.metadata.name), signal });
    const running = items.filter((pod) => !hasEnded(pod));
    await tryAll(running.filter(isToBeDeleted), concurrency, async (pod) => {
      const gracePeriodSeconds = Math.min(graceSeconds, pod.spec?.terminationGracePeriodSeconds ?? graceSeconds);
      await ignoreNotFound(
        client.delete(keyOf(pod), { signal, gracePeriodSeconds, preconditions: { uid: pod.metadata.uid } }),
      );
    });
    return running.map(({ metadata }) => metadata.name);
  }

  /** Deletes the accounts of all members, which ends every token that Kubernetes gave them. */
  async removeAccounts(vo: Stored<VirtualOrganization>, signal: AbortSignal): Promise<void> {
    const client = this.client.of(serviceAccounts);
    const namespace = namespaceOf(vo.metadata.name);
    const { items } = await client.list({ namespace, labelSelector: memberSelector, signal });
    await tryAll(items, concurrency, async (account) => {
      await ignoreNotFound(client.delete(keyOf(account), { signal }));
    });
  }

  /**
   * Erases the volumes, or sets them aside: then they stay, released, labelled, and bound to a claim that never comes again.
   * @returns undefined once that is done; otherwise a sentence on what is in the way.
   */
  async clearData(
    vo: Stored<VirtualOrganization>,
    data: 'Erase' | 'Export',
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const client = this.client.of(persistentVolumeClaims);
    const { items: all } = await client.list({ namespace: namespaceOf(vo.metadata.name), signal });
    // Claims of Volumes go with these, or are of other virtual organizations, whose data this is not.
    const items = all.filter((claim) => !isOfVolume(claim));
    await tryAll(items, concurrency, async (claim) => {
      await this.markVolume(vo, claim, data, signal);
      if (!isDeleting(claim)) await ignoreNotFound(client.delete(keyOf(claim), { signal }));
    });
    if (items.length > 0) return `Claims are being deleted: ${listNames(items)}.`;
    const left = await this.volumes.clear(vo, data, signal);
    if (left !== undefined) return left;
    return this.awaitErased(vo, data, signal);
  }

  private async awaitErased(
    vo: Stored<VirtualOrganization>,
    data: 'Erase' | 'Export',
    signal: AbortSignal,
  ): Promise<string | undefined> {
    if (data === 'Export') return undefined;
    const labelSelector = `${erasingLabel}=${vo.metadata.uid}`;
    const { items: left } = await this.client.of(persistentVolumes).list({ labelSelector, signal });
    const [first] = left;
    if (first === undefined) return undefined;
    const failed = left.find(({ status }) => status?.phase === 'Failed');
    return failed === undefined
      ? `Volumes are being erased: ${listNames(left)}.`
      : `Volume ${failed.metadata.name} can not be erased by its provisioner (${failed.status?.message ?? 'no reason given'}): erase it by hand, then delete the PersistentVolume.`;
  }

  /** Says on the volume itself what becomes of it, before the claim goes: afterwards nothing else would tell whose it was. */
  private async markVolume(
    vo: Stored<VirtualOrganization>,
    claim: PersistentVolumeClaim,
    data: 'Erase' | 'Export',
    signal: AbortSignal,
  ): Promise<void> {
    const name = claim.spec?.volumeName;
    if (name === undefined || name === '') return;
    const client = this.client.of(persistentVolumes);
    const volume = await client.find({ name }, { signal });
    if (volume === undefined || !isBoundTo(volume, claim)) return;
    const isErased = data === 'Erase';
    const labels = isErased ? { [erasingLabel]: vo.metadata.uid } : { [exportedLabel]: vo.metadata.name };
    const persistentVolumeReclaimPolicy = isErased ? 'Delete' : 'Retain';
    const body = {
      metadata: { uid: volume.metadata.uid, labels },
      spec: { persistentVolumeReclaimPolicy },
    };
    await ignoreNotFound(client.patch({ name }, { type: 'merge', body }, { signal }));
  }
}

/** Made for a Volume, in its namespace or in one that it is granted to. */
function isOfVolume({ metadata }: PersistentVolumeClaim): boolean {
  return metadata.labels?.[volumeUidLabel] !== undefined;
}

/** Whether it has to be told: not yet, or with a longer grace than it gets. */
function isToBeDeleted(pod: Pod): boolean {
  return !isDeleting(pod) || (pod.metadata.deletionGracePeriodSeconds ?? 0) > graceSeconds;
}

/** A claim may name any volume; only the volume says whose it is. */
function isBoundTo(volume: PersistentVolume, claim: PersistentVolumeClaim): boolean {
  const uid = volume.spec?.claimRef?.uid;
  return uid !== undefined && uid === claim.metadata.uid;
}

function describeVolume(claim: PersistentVolumeClaim): Inventory['volumes'] {
  const name = claim.spec?.volumeName ?? '';
  return name === '' ? [] : [{ name, claim: claim.metadata.name, size: claim.status?.capacity?.storage ?? '0' }];
}

function listNames(objects: readonly KubeObject[]): string {
  const names = objects.map(({ metadata }) => metadata.name).sort();
  return names.length > namesMax
    ? `${names.slice(0, namesMax).join(', ')} and ${names.length - namesMax} more`
    : names.join(', ');
}

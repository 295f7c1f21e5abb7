import { parseQuantity } from '#crds/quantity.ts';
import { volumeClaimed, type Volume } from '#crds/volume.ts';
import {
  type PersistentVolume,
  persistentVolumeClaims,
  type PersistentVolumeClaim,
  persistentVolumes,
} from '#runtime/builtin.ts';
import type { Client, Lister } from '#runtime/contracts.ts';
import { AlreadyExistsError, ForbiddenError, ignoreNotFound, NotFoundError } from '#runtime/errors.ts';
import type { Stored } from '#runtime/types.ts';
import { keyOf } from '#runtime/types.ts';
import { claimOf, type ClaimPlan, persistentVolumeOf, planClaims, volumeUidLabel } from './claims.ts';

/** Index of claims and PersistentVolumes by the uid of their Volume. */
export const byVolumeUid = 'volumeUid';

/** How far the claims of a Volume are. */
export interface ClaimState {
  readonly plans: readonly ClaimPlan[];
  /** Plans whose claims are bound. */
  readonly bound: readonly ClaimPlan[];
  /** Why not all of them are: a reason of the condition `Claimed`, and a sentence. */
  readonly problem: { readonly reason: string; readonly message: string } | undefined;
}

/** What it works with. */
export interface ClaimParts {
  readonly client: Client;
  readonly claims: Lister<PersistentVolumeClaim>;
  readonly persistentVolumes: Lister<PersistentVolume>;
}

/** Keeps the claims of Volumes: makes, binds, lets grow, and takes away what is no longer granted. Safe to repeat at any time. */
export class ClaimWriter {
  private readonly parts: ClaimParts;

  constructor(parts: ClaimParts) {
    this.parts = parts;
  }

  /** Makes the claims as they are to be. @param fileSystemUid - of the FileSystem that keeps the Volume, here or elsewhere. */
  async ensure(volume: Stored<Volume>, fileSystemUid: string, signal: AbortSignal): Promise<ClaimState> {
    const plans = planClaims(volume);
    await this.remove(volume, plans, signal);
    const bound: ClaimPlan[] = [];
    let problem: ClaimState['problem'];
    for (const plan of plans) {
      const found = await this.ensureClaim(volume, plan, signal);
      if ('reason' in found) {
        problem ??= found;
        continue;
      }
      await this.ensurePersistentVolume(volume, fileSystemUid, plan, found, signal);
      if (found.status?.phase === 'Bound') bound.push(plan);
      else {
        const message = `PersistentVolumeClaim ${plan.namespace}/${plan.claimName} is being bound.`;
        problem ??= { reason: volumeClaimed.reasons.Binding, message };
      }
    }
    return { plans, bound, problem };
  }

  /**
   * Takes away claims and PersistentVolumes that are not in `keep`.
   * @returns claims that are still there: pods use them.
   */
  async remove(volume: Stored<Volume>, keep: readonly ClaimPlan[], signal: AbortSignal): Promise<readonly string[]> {
    const { client, claims, persistentVolumes: volumes } = this.parts;
    const { uid } = volume.metadata;
    const isKept = (name: string): boolean => keep.some((plan) => plan.persistentVolumeName === name);
    const left = claims.byIndex(byVolumeUid, uid).filter(({ spec }) => !isKept(spec?.volumeName ?? ''));
    for (const claim of left) {
      if (claim.metadata.deletionTimestamp !== undefined) continue;
      const preconditions = { uid: claim.metadata.uid };
      await ignoreNotFound(client.of(persistentVolumeClaims).delete(keyOf(claim), { signal, preconditions }));
    }
    for (const each of volumes.byIndex(byVolumeUid, uid)) {
      const isUsed = left.some(({ spec }) => spec?.volumeName === each.metadata.name);
      if (isKept(each.metadata.name) || isUsed || each.metadata.deletionTimestamp !== undefined) continue;
      await ignoreNotFound(client.of(persistentVolumes).delete(keyOf(each), { signal }));
    }
    return left.map(({ metadata }) => `${metadata.namespace ?? ''}/${metadata.name}`);
  }

  private async ensureClaim(
    volume: Stored<Volume>,
    plan: ClaimPlan,
    signal: AbortSignal,
  ): Promise<Stored<PersistentVolumeClaim> | { readonly reason: string; readonly message: string }> {
    const { reasons } = volumeClaimed;
    const client = this.parts.client.of(persistentVolumeClaims);
    const key = { namespace: plan.namespace, name: plan.claimName };
    const where = `${plan.namespace}/${plan.claimName}`;
    try {
      const known = this.parts.claims.get(key);
      const found = known ?? (await client.create(claimOf(volume, plan), { signal }));
      if (!isOf(found, volume)) return taken(where);
      return await this.grow(found, volume, signal);
    } catch (error) {
      if (error instanceof AlreadyExistsError) {
        // Made a moment ago, before the cache saw it, or somebody else's.
        const found = await client.find(key, { signal });
        return found === undefined || isOf(found, volume) ? binding(where) : taken(where);
      }
      if (error instanceof NotFoundError) {
        const message = `There is no namespace ${plan.namespace}: the virtual organization is not accepted here.`;
        return { reason: reasons.NotAcceptedHere, message };
      }
      if (error instanceof ForbiddenError) {
        const message = `PersistentVolumeClaim ${where} can not be made or grow: ${error.message}`;
        return { reason: reasons.QuotaOfNamespace, message };
      }
      throw error;
    }
  }

  /** A claim only grows; its status follows, which an external resizer does for other drivers. */
  private async grow(
    claim: Stored<PersistentVolumeClaim>,
    { spec }: Stored<Volume>,
    signal: AbortSignal,
  ): Promise<Stored<PersistentVolumeClaim>> {
    const client = this.parts.client.of(persistentVolumeClaims);
    const wanted = parseQuantity(spec.size).nano;
    const isLess = (amount: string | undefined): boolean => parseQuantity(amount ?? '0').nano < wanted;
    const resources = { requests: { storage: String(spec.size) } };
    let now = claim;
    if (isLess(claim.spec?.resources?.requests?.storage)) {
      now = await client.patch(keyOf(claim), { type: 'merge', body: { spec: { resources } } }, { signal });
    }
    if (now.status?.phase === 'Bound' && isLess(now.status.capacity?.storage)) {
      const body = { status: { capacity: resources.requests } };
      now = await client.status.patch(keyOf(claim), { type: 'merge', body }, { signal });
    }
    return now;
  }

  private async ensurePersistentVolume(
    volume: Stored<Volume>,
    fileSystemUid: string,
    plan: ClaimPlan,
    claim: Stored<PersistentVolumeClaim>,
    signal: AbortSignal,
  ): Promise<void> {
    const client = this.parts.client.of(persistentVolumes);
    const wanted = persistentVolumeOf(volume, fileSystemUid, plan, claim);
    const key = { name: plan.persistentVolumeName };
    const found = this.parts.persistentVolumes.get(key);
    if (found === undefined) {
      try {
        await client.create(wanted, { signal });
      } catch (error) {
        if (!(error instanceof AlreadyExistsError)) throw error;
      }
      return;
    }
    const { claimRef, capacity } = wanted.spec ?? {};
    const isSame =
      found.spec?.claimRef?.uid === claimRef?.uid &&
      parseQuantity(found.spec?.capacity?.storage ?? '0').nano === parseQuantity(volume.spec.size).nano;
    if (isSame || found.metadata.deletionTimestamp !== undefined) return;
    // A claim that was deleted and made anew has another uid.
    const body = { spec: { capacity, claimRef: { ...claimRef, resourceVersion: null } } };
    await client.patch(key, { type: 'merge', body }, { signal });
  }
}

function isOf(claim: PersistentVolumeClaim, volume: Stored<Volume>): boolean {
  return claim.metadata.labels?.[volumeUidLabel] === volume.metadata.uid;
}

function taken(where: string): { reason: string; message: string } {
  const message = `PersistentVolumeClaim ${where} exists and was not made for this Volume: delete it, or name the Volume otherwise.`;
  return { reason: volumeClaimed.reasons.NameTaken, message };
}

function binding(where: string): { reason: string; message: string } {
  return { reason: volumeClaimed.reasons.Binding, message: `PersistentVolumeClaim ${where} is being bound.` };
}

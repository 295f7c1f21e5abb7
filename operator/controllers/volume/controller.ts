import type { Clock } from '#common/clock.ts';
import { describeError, TerminalError } from '#common/errors.ts';
import type { Logger } from '#common/logger.ts';
import type { FileSystem } from '#crds/file-system.ts';
import { organizationOfNamespace } from '#crds/organization.ts';
import { wholeUnits } from '#crds/quantity.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import { snapshotNameOf, type Volume, volumeNameOf, volumeReady, volumes, type VolumeStatus } from '#crds/volume.ts';
import { conditionChanged } from '#operator/controllers/events.ts';
import { changedConditions, isSame } from '#operator/controllers/status-change.ts';
import type { Installation, VolumeReport } from '#operator/storage/installation.ts';
import type { Installations } from '#operator/storage/installations.ts';
import {
  type Client,
  done,
  type EventRecorder,
  type Lister,
  type Reconciler,
  requeueAfter,
  type Result,
} from '#runtime/contracts.ts';
import { ignoreNotFound } from '#runtime/errors.ts';
import type { Finalizers } from '#runtime/finalizers.ts';
import { isDeleting, keyOf, type ObjectKey, type Stored } from '#runtime/types.ts';
import type { ClaimWriter } from './claim-writer.ts';
import type { VolumeCopies } from './copies.ts';
import { erased, retained } from './events.ts';
import { chooseFileSystem, ownershipOf, type Refusal, refusalOf, sourceRefusal } from './resolve.ts';
import { keepSnapshots } from './snapshots.ts';
import { computeStatus, isProvisioned, type VolumeScope } from './status.ts';

/** How often the MRC is asked what is used, milliseconds. */
const observeMs = 60_000;
/** How often while something is missing, milliseconds. */
const settleMs = 5_000;
/** How often a copy is looked at, milliseconds. */
const copyMs = 1_000;
/** Files erased before others get their turn. */
const eraseMax = 500;

/** What the reconciler works with. */
export interface VolumeParts {
  readonly volumes: Lister<Volume>;
  readonly fileSystems: Lister<FileSystem>;
  readonly organizations: Lister<VirtualOrganization>;
  readonly members: Lister<VOMembership>;
  readonly installations: Installations;
  readonly claims: ClaimWriter;
  /** Whether a peer site can be reached. */
  readonly isConnected: (site: string) => boolean;
  readonly copies: VolumeCopies;
  /** Ends with the process, and with its turn as the leader. */
  readonly life: AbortSignal;
  readonly client: Client;
  readonly finalizers: Finalizers<Volume>;
  readonly events: EventRecorder;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Keeps Volumes at the MRC and their claims in namespaces. Every step may be cut off and is found again: names are made of uids, and what
 * was made is looked for before it is made.
 */
export class VolumeReconciler implements Reconciler {
  private readonly parts: VolumeParts;

  constructor(parts: VolumeParts) {
    this.parts = parts;
  }

  async reconcile(key: ObjectKey, signal: AbortSignal): Promise<Result> {
    const volume = this.parts.volumes.get(key);
    if (volume === undefined) return done;
    if (isDeleting(volume)) return this.finalize(volume, signal);
    if (await this.parts.finalizers.ensure(volume, signal)) return done;
    if (volume.spec.remote === undefined && volume.spec.fileSystem === undefined) return this.choose(volume, signal);
    const scope = await (volume.spec.remote === undefined ? this.serve(volume, signal) : this.stand(volume, signal));
    await this.report(scope, signal);
    const isKnown = scope.report !== undefined || volume.spec.remote !== undefined;
    const isSettled = scope.refusal === undefined && isKnown && scope.claims?.problem === undefined;
    if (scope.copy !== undefined) return requeueAfter(copyMs);
    const areSnapshotsThere = scope.snapshots?.every(({ ready }) => ready) !== false;
    return requeueAfter(isSettled && areSnapshotsThere ? observeMs : settleMs);
  }

  /** Writes the choice into the spec, so that it stays when others come. */
  private async choose(volume: Stored<Volume>, signal: AbortSignal): Promise<Result> {
    const { client, fileSystems } = this.parts;
    const chosen = chooseFileSystem(volume.metadata.namespace, fileSystems.list());
    if ('reason' in chosen) {
      await this.report({ ...this.emptyScope(volume), refusal: chosen }, signal);
      return requeueAfter(settleMs);
    }
    const { name, namespace } = chosen.metadata;
    const { resourceVersion } = volume.metadata;
    const body = { metadata: { resourceVersion }, spec: { fileSystem: { name, namespace } } };
    await client.of(volumes).patch(keyOf(volume), { type: 'merge', body }, { signal });
    return done;
  }

  /** One that another site keeps has nothing here but its claim. */
  private async stand(volume: Stored<Volume>, signal: AbortSignal): Promise<VolumeScope> {
    const { site = '', fileSystemUID = '' } = volume.spec.remote ?? {};
    const claims = await this.parts.claims.ensure(volume, fileSystemUID, signal);
    const scope = { ...this.emptyScope(volume), claims };
    if (this.parts.isConnected(site)) return scope;
    const message = `Site ${site} keeps it and can not be reached: see the Site of that name.`;
    return { ...scope, refusal: { reason: volumeReady.reasons.SiteAway, message } };
  }

  private async serve(volume: Stored<Volume>, signal: AbortSignal): Promise<VolumeScope> {
    const fileSystem = this.fileSystemOf(volume);
    const scope = { ...this.emptyScope(volume), fileSystem };
    const refusal = refusalOf(volume, fileSystem) ?? this.replacementOf(volume, fileSystem);
    if (refusal !== undefined || fileSystem === undefined) return { ...scope, refusal };
    const { installations, claims, log } = this.parts;
    try {
      const installation = installations.of(fileSystem);
      const found = await this.make(volume, installation, scope.sizeBytes, signal);
      if ('reason' in found) return { ...scope, refusal: found };
      const claimState = isProvisioned(volume)
        ? undefined
        : await claims.ensure(volume, fileSystem.metadata.uid, signal);
      // Growth is asked of the namespace first: only it knows its quota.
      const mayGrow = claimState?.problem === undefined || claimState.problem.reason === 'Binding';
      const report = await this.resize(volume, installation, found, { sizeBytes: scope.sizeBytes, mayGrow }, signal);
      const snapshots = await keepSnapshots(volume, installation, report, signal);
      const copying = this.fill(volume, fileSystem, installation);
      return { ...scope, report, claims: claimState, snapshots, ...copying };
    } catch (error) {
      if (!(error instanceof Error) || error.name !== 'RpcError') throw error;
      log.warn('The installation does not answer', { Volume: volume.metadata.name, problem: describeError(error) });
      const message = `Its FileSystem does not answer: ${describeError(error).slice(0, 512)}`;
      return { ...scope, refusal: { reason: volumeReady.reasons.FileSystemUnreachable, message } };
    }
  }

  private async make(
    volume: Stored<Volume>,
    installation: Installation,
    quotaBytes: number,
    signal: AbortSignal,
  ): Promise<VolumeReport | Refusal> {
    const { metadata, spec, status } = volume;
    const name = volumeNameOf(metadata.uid);
    const { width, stripeSizeKiB: stripeKib } = spec.striping;
    const layout = { width, stripeKib, ...spec.replication };
    const found = await installation.volume(name, signal);
    if (found !== undefined) {
      if (status?.observedGeneration !== metadata.generation) await installation.setLayout(name, layout, signal);
      return found;
    }
    if (status?.sizeBytes !== undefined) {
      const message = `The MRC no longer knows ${name}, which it had: restore its database from a backup.`;
      return { reason: volumeReady.reasons.Lost, message };
    }
    const ownership = this.ownershipOf(volume);
    if ('reason' in ownership) return ownership;
    this.parts.log.info('Making volume', { Volume: metadata.name, namespace: metadata.namespace, name });
    const mode = Number.parseInt(spec.mode, 8);
    await installation.make({ name, ...ownership, mode, quotaBytes, layout }, signal);
    return (
      (await installation.volume(name, signal)) ?? {
        reason: volumeReady.reasons.Creating,
        message: 'It is being made at the MRC.',
      }
    );
  }

  /** Has the files of its source copied into it, until that is done once. */
  private fill(
    volume: Stored<Volume>,
    fileSystem: Stored<FileSystem>,
    installation: Installation,
  ): Pick<VolumeScope, 'refusal' | 'copy'> {
    const { spec, status, metadata } = volume;
    const { copies, volumes: known, life } = this.parts;
    if (spec.source === undefined) return { refusal: undefined, copy: undefined };
    if (status?.copied === true) {
      copies.forget(metadata.uid);
      return { refusal: undefined, copy: undefined };
    }
    const source = known.get({ namespace: metadata.namespace, name: spec.source.volume });
    const refusal = sourceRefusal(volume, source, fileSystem);
    if (source === undefined || refusal !== undefined) return { refusal, copy: undefined };
    const from = { name: volumeNameOf(source.metadata.uid), snapshot: snapshotNameOf(spec.source.snapshot) };
    const order = { uid: metadata.uid, from, to: volumeNameOf(metadata.uid) };
    return { refusal: undefined, copy: copies.ask(order, installation, life) };
  }

  private async resize(
    volume: Stored<Volume>,
    installation: Installation,
    found: VolumeReport,
    wanted: { readonly sizeBytes: number; readonly mayGrow: boolean },
    signal: AbortSignal,
  ): Promise<VolumeReport> {
    const { sizeBytes, mayGrow } = wanted;
    const isRefused = sizeBytes > found.quotaBytes ? !mayGrow : sizeBytes < found.usedBytes;
    if (sizeBytes === found.quotaBytes || isRefused) return found;
    await installation.setQuota(volumeNameOf(volume.metadata.uid), sizeBytes, signal);
    return { ...found, quotaBytes: sizeBytes };
  }

  private async finalize(volume: Stored<Volume>, signal: AbortSignal): Promise<Result> {
    const { claims, finalizers, events, installations } = this.parts;
    if (!finalizers.has(volume)) return done;
    const used = await claims.remove(volume, [], signal);
    const deleting = async (message: string): Promise<Result> => {
      const refusal = { reason: volumeReady.reasons.Deleting, message };
      await this.report({ ...this.emptyScope(volume), refusal }, signal);
      return requeueAfter(settleMs);
    };
    if (used.length > 0) return deleting(`Pods still use ${used.join(', ')}.`);
    this.parts.copies.forget(volume.metadata.uid);
    const kept = volume.spec.snapshots.map(({ name: snapshot }) => snapshot);
    if (kept.length > 0 && !this.isDissolving(volume)) {
      return deleting(`Its snapshots are kept: delete the VolumeSnapshots of ${kept.slice(0, 8).join(', ')} first.`);
    }
    const fileSystem = this.fileSystemOf(volume);
    const name = volumeNameOf(volume.metadata.uid);
    // Without its FileSystem, or on one that was made anew, there is nothing that could be erased.
    const isThere = fileSystem !== undefined && this.replacementOf(volume, fileSystem) === undefined;
    if (volume.spec.reclaimPolicy === 'Delete' && isThere) {
      try {
        const isGone = await installations.of(fileSystem).erase(name, eraseMax, signal);
        if (!isGone) return requeueAfter(1);
        events.publish(erased(volume));
      } catch (error) {
        if (!(error instanceof Error) || error.name !== 'RpcError') throw error;
        return deleting(`Its files can not be erased now: ${describeError(error).slice(0, 512)}`);
      }
    } else if (volume.status?.sizeBytes !== undefined) events.publish(retained(volume, name));
    await finalizers.remove(volume, signal);
    return done;
  }

  private fileSystemOf({ spec }: Stored<Volume>): Stored<FileSystem> | undefined {
    return spec.fileSystem === undefined ? undefined : this.parts.fileSystems.get(spec.fileSystem);
  }

  /** Another FileSystem of the same name is not the one that it lies on. */
  private replacementOf({ status }: Stored<Volume>, fileSystem: Stored<FileSystem> | undefined): Refusal | undefined {
    const uid = status?.fileSystemUID;
    if (uid === undefined || fileSystem === undefined || uid === fileSystem.metadata.uid) return undefined;
    const message = `FileSystem ${fileSystem.metadata.name} was made anew, and this Volume lay on the former one.`;
    return { reason: volumeReady.reasons.FileSystemMissing, message };
  }

  /** With their organization, all Volumes go, and their snapshots with them. */
  private isDissolving({ metadata }: Stored<Volume>): boolean {
    const name = organizationOfNamespace(metadata.namespace);
    const organization = name === undefined ? undefined : this.parts.organizations.get({ name });
    return organization?.spec.state === 'Dissolved';
  }

  private ownershipOf(volume: Stored<Volume>): ReturnType<typeof ownershipOf> {
    const { namespace } = volume.metadata;
    const name = organizationOfNamespace(namespace);
    const organization = name === undefined ? undefined : this.parts.organizations.get({ name });
    return ownershipOf(volume, organization, this.parts.members.list(namespace));
  }

  private emptyScope(volume: Stored<Volume>): VolumeScope {
    return {
      volume,
      ...{ fileSystem: undefined, refusal: undefined, report: undefined, claims: undefined },
      ...{ snapshots: undefined, copy: undefined },
      sizeBytes: bytesOf(volume.spec.size),
      now: this.parts.clock.now(),
    };
  }

  private async report(scope: VolumeScope, signal: AbortSignal): Promise<void> {
    const { volume } = scope;
    const status = computeStatus(scope);
    if (isSame(volume.status, status)) return;
    const { name, namespace, uid } = volume.metadata;
    const client = this.parts.client.of(volumes);
    const written = client.status.apply({ metadata: { name, namespace, uid }, status }, { signal });
    if ((await ignoreNotFound(written)) !== undefined) this.tell(volume, status);
  }

  private tell(volume: Stored<Volume>, status: VolumeStatus): void {
    for (const condition of changedConditions(volume.status, status)) {
      const isPassing = ['Creating', 'Copying', 'Binding', 'Waiting', 'NotClaimed', 'Deleting'].includes(
        condition.reason,
      );
      this.parts.events.publish(conditionChanged(volumes, volume, condition, condition.status === 'True' || isPassing));
    }
  }
}

/** @throws {TerminalError} when it is beyond what can be counted exactly. */
function bytesOf(size: string | number): number {
  const bytes = wholeUnits(size, 1, 'up');
  if (!Number.isSafeInteger(bytes)) throw new TerminalError(`size: ${size} is too much: use at most 8Pi`);
  return bytes;
}

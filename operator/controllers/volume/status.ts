/** The status of a Volume, computed in one pure place. */
import type { FileSystem } from '#crds/file-system.ts';
import {
  provisionedLabel,
  type Volume,
  volumeClaimed,
  volumeNameOf,
  volumeReady,
  volumeSized,
  type VolumeStatus,
} from '#crds/volume.ts';
import type { VolumeReport } from '#operator/storage/installation.ts';
import { type ConditionUpdate, updateConditions } from '#runtime/conditions.ts';
import type { Stored } from '#runtime/types.ts';
import type { ClaimState } from './claim-writer.ts';
import type { CopyState } from './copies.ts';
import type { Refusal } from './resolve.ts';
import type { SnapshotStatus } from './snapshots.ts';

type Finding = Pick<ConditionUpdate, 'type' | 'status' | 'reason' | 'message'>;

/** What a status is computed from. */
export interface VolumeScope {
  readonly volume: Stored<Volume>;
  readonly fileSystem: Stored<FileSystem> | undefined;
  /** Why it can not be served; it is being deleted when that is the reason. */
  readonly refusal: Refusal | undefined;
  /** Undefined while it was not asked, or is not there. */
  readonly report: VolumeReport | undefined;
  /** Quota that it is to have. */
  readonly sizeBytes: number;
  readonly claims: ClaimState | undefined;
  /** Undefined while it was not asked. */
  readonly snapshots: readonly SnapshotStatus[] | undefined;
  /** How far its source is copied; undefined when it has none, or that is done. */
  readonly copy: CopyState | undefined;
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
}

/** Whether the claims of a Volume are somebody else's work. */
export function isProvisioned({ metadata }: Volume): boolean {
  return metadata.labels?.[provisionedLabel] === 'true';
}

/** What the status should be. */
export function computeStatus(scope: VolumeScope): VolumeStatus {
  const { volume, fileSystem, report, claims, now } = scope;
  const { generation, uid } = volume.metadata;
  const { remote } = volume.spec;
  const [own, ...granted] = claims?.plans ?? [];
  const before = volume.status;
  const numbers = {
    sizeBytes: report?.quotaBytes ?? before?.sizeBytes,
    usedBytes: report?.usedBytes ?? before?.usedBytes,
    files: report?.files ?? before?.files,
    copiedBytes: scope.copy?.progress.bytes ?? before?.copiedBytes,
  };
  const snapshots = scope.snapshots ?? before?.snapshots ?? [];
  const isCopied = before?.copied === true || scope.copy?.isDone === true;
  const grants = granted.map(({ grantedTo = '', claimName, persistentVolumeName }) => {
    return { virtualOrganization: grantedTo, claimName, persistentVolumeName };
  });
  const claim = own === undefined ? {} : { claimName: own.claimName, persistentVolumeName: own.persistentVolumeName };
  const fileSystemUID = remote?.fileSystemUID ?? fileSystem?.metadata.uid ?? before?.fileSystemUID;
  return {
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    conditions: updateConditions(
      before?.conditions,
      findings(scope).map((finding) => ({ ...finding, observedGeneration: generation })),
      now,
    ),
    volumeName: volumeNameOf(remote?.volumeUID ?? uid),
    ...(fileSystemUID === undefined ? {} : { fileSystemUID }),
    ...claim,
    ...(grants.length === 0 ? {} : { grants }),
    ...(snapshots.length === 0 ? {} : { snapshots: [...snapshots] }),
    ...(isCopied ? { copied: true } : {}),
    ...Object.fromEntries(Object.entries(numbers).filter(([, value]) => value !== undefined)),
  };
}

function findings(scope: VolumeScope): Finding[] {
  const claimed = isProvisioned(scope.volume) ? [] : [claimedFinding(scope)];
  // How much is kept of one that another site keeps is told there.
  const sized = scope.volume.spec.remote === undefined ? [sizedFinding(scope)] : [];
  return [readyFinding(scope), ...sized, ...claimed];
}

function readyFinding({ volume, refusal, report, claims, copy }: VolumeScope): Finding {
  const { type, reasons } = volumeReady;
  if (refusal !== undefined) return { type, status: 'False', ...refusal };
  if (report === undefined && volume.spec.remote === undefined) {
    return { type, status: 'False', reason: reasons.Creating, message: 'It is being made at the MRC.' };
  }
  if (copy?.problem !== undefined) {
    return {
      type,
      status: 'False',
      reason: reasons.CopyFailed,
      message: `Its files can not be copied: ${copy.problem}`,
    };
  }
  if (copy?.isDone === false) {
    return { type, status: 'False', reason: reasons.Copying, message: 'Its files are being copied from the snapshot.' };
  }
  // A grant that can not be had elsewhere is no reason not to serve the own members.
  const isClaimed = isProvisioned(volume) || claims?.bound.some(({ grantedTo }) => grantedTo === undefined) === true;
  if (!isClaimed) {
    return { type, status: 'False', reason: reasons.NotClaimed, message: 'Its claim is not bound; see Claimed.' };
  }
  return { type, status: 'True', reason: reasons.Available, message: 'Pods can mount it.' };
}

function sizedFinding({ report, sizeBytes }: VolumeScope): Finding {
  const { type, reasons } = volumeSized;
  if (report === undefined) {
    return { type, status: 'Unknown', reason: reasons.Waiting, message: 'The MRC was not asked yet.' };
  }
  if (report.quotaBytes === sizeBytes) {
    return { type, status: 'True', reason: reasons.AsDeclared, message: 'The quota is as size says.' };
  }
  if (report.usedBytes > sizeBytes) {
    const message = 'More is used than size allows; the quota stays as it was. Delete files, or raise size.';
    return { type, status: 'False', reason: reasons.SmallerThanUsed, message };
  }
  const message = 'It does not grow: see Claimed.';
  return { type, status: 'False', reason: reasons.QuotaOfNamespace, message };
}

function claimedFinding({ claims }: VolumeScope): Finding {
  const { type, reasons } = volumeClaimed;
  if (claims === undefined) {
    return { type, status: 'False', reason: reasons.Binding, message: 'Claims are made once it exists.' };
  }
  if (claims.problem !== undefined) return { type, status: 'False', ...claims.problem };
  return { type, status: 'True', reason: reasons.Bound, message: 'Every claim is bound.' };
}

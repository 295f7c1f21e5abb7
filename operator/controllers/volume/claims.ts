/** What pods name a Volume by: a PersistentVolumeClaim in each namespace, bound to a PersistentVolume of its own. Pure. */
import { createHash } from 'node:crypto';
import { organizationNamespace, organizationOfNamespace } from '#crds/organization.ts';
import { ownerLabel } from '#crds/policies/tenants.ts';
import { csiDriverName, formatVolumeHandle, type Volume, volumeClaimClass, volumes } from '#crds/volume.ts';
import type { PersistentVolume, PersistentVolumeClaim } from '#runtime/builtin.ts';
import { controllerReference } from '#runtime/kind.ts';
import type { Stored } from '#runtime/types.ts';

/** On claims and PersistentVolumes of a Volume: its uid. */
export const volumeUidLabel = 'xtreemos.io/volume-uid';
const nameMax = 63;
const hashLength = 6;

/** One namespace where a Volume is to be had. */
export interface ClaimPlan {
  /** The virtual organization that it is granted to; undefined in the Volume's own namespace. */
  readonly grantedTo: string | undefined;
  readonly namespace: string;
  readonly claimName: string;
  readonly persistentVolumeName: string;
  readonly isReadOnly: boolean;
}

/** Name of the PersistentVolume for the own namespace of a Volume with this uid. */
export function persistentVolumeNameOf(uid: string): string {
  return `xtreemos-${uid}`;
}

/** Where claims are to be: in the Volume's own namespace and in those of the virtual organizations it is granted to. */
export function planClaims({ metadata, spec }: Stored<Volume>): ClaimPlan[] {
  const { namespace = '', name, uid } = metadata;
  const own: ClaimPlan = {
    grantedTo: undefined,
    namespace,
    claimName: name,
    persistentVolumeName: persistentVolumeNameOf(uid),
    isReadOnly: false,
  };
  const granted = spec.grants
    .filter(({ virtualOrganization }) => organizationNamespace(virtualOrganization) !== namespace)
    .map(({ virtualOrganization, access }): ClaimPlan => {
      return {
        grantedTo: virtualOrganization,
        namespace: organizationNamespace(virtualOrganization),
        claimName: grantedName(namespace, name),
        persistentVolumeName: `${persistentVolumeNameOf(uid)}-${digest(virtualOrganization)}`,
        isReadOnly: access === 'Read',
      };
    });
  return [own, ...granted];
}

/** `physics-results` for Volume `results` of virtual organization physics. */
function grantedName(namespace: string, name: string): string {
  const full = `${organizationOfNamespace(namespace) ?? namespace}-${name}`;
  return full.length <= nameMax ? full : `${full.slice(0, nameMax - hashLength - 1)}-${digest(full)}`;
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, hashLength);
}

/** The claim as it is made. */
export function claimOf(volume: Stored<Volume>, plan: ClaimPlan): PersistentVolumeClaim {
  const { spec, metadata } = volume;
  return {
    metadata: {
      name: plan.claimName,
      namespace: plan.namespace,
      labels: {
        [volumeUidLabel]: metadata.uid,
        ...(spec.owner === undefined || plan.grantedTo !== undefined ? {} : { [ownerLabel]: spec.owner }),
      },
      ...(plan.grantedTo === undefined ? { ownerReferences: [controllerReference(volumes, volume)] } : {}),
    },
    spec: {
      accessModes: ['ReadWriteMany'],
      storageClassName: volumeClaimClass,
      volumeName: plan.persistentVolumeName,
      resources: { requests: { storage: String(spec.size) } },
    },
  };
}

/** The PersistentVolume: for this claim alone, by its uid. */
export function persistentVolumeOf(
  volume: Stored<Volume>,
  fileSystemUid: string,
  plan: ClaimPlan,
  claim: Stored<PersistentVolumeClaim>,
): PersistentVolume {
  return {
    metadata: { name: plan.persistentVolumeName, labels: { [volumeUidLabel]: volume.metadata.uid } },
    spec: {
      capacity: { storage: String(volume.spec.size) },
      accessModes: ['ReadWriteMany'],
      persistentVolumeReclaimPolicy: 'Retain',
      storageClassName: volumeClaimClass,
      claimRef: {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        namespace: plan.namespace,
        name: plan.claimName,
        uid: claim.metadata.uid,
      },
      csi: {
        driver: csiDriverName,
        volumeHandle: formatVolumeHandle({ fileSystemUid, volumeUid: volume.metadata.uid }),
        readOnly: plan.isReadOnly,
      },
    },
  };
}

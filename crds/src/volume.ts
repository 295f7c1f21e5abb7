import type { z } from 'zod';
import type { Kind } from '#runtime/kind.ts';
import type { KubeObject } from '#runtime/types.ts';
import { conditions, defineCondition } from './conditions.ts';
import { fileSystemNameMax } from './file-system.ts';
import { ownerName } from './grid-job.ts';
import { describeKind, group, runtimeKind } from './kind.ts';
import { groupPath, virtualOrganizationNameMax } from './organization.ts';
import {
  choice,
  dnsLabel,
  flag,
  generation,
  integer,
  listMap,
  object,
  quantity,
  text,
  timestamp,
} from './vocabulary.ts';

/** Name of the CSI driver, in PersistentVolumes and StorageClasses. */
export const csiDriverName = 'csi.xtreemos.io';
/** StorageClass of the claims that Volumes get; it makes none by itself. */
export const volumeClaimClass = 'xtreemos-volumes';
/** On Volumes that were made for a claim: the value is `true`, and no other claim is made. */
export const provisionedLabel = 'xtreemos.io/provisioned';
const snapshotPrefix = 'k8s-';
/** What the names of home volumes begin with; the user name follows. */
const homePrefix = 'home-';
/** Bounds of striping, as the MRC has them. */
export const stripeWidthMax = 64;
const stripeSizeMaxKiB = 65_536;
const replicasMax = 16;
const grantsMax = 32;
/** Snapshots that a Volume has at most. */
export const snapshotsMax = 32;

/** The summary of a Volume. */
export const volumeReady = defineCondition('Ready', 'Summary: pods can mount it.', {
  Available: 'Surfaces when it exists at the MRC and its claims are bound.',
  FileSystemMissing:
    'Surfaces when the FileSystem that it names, or a default one, does not exist; name one in `fileSystem`.',
  FileSystemAmbiguous:
    'Surfaces when it names no FileSystem and several may be used: name one in `fileSystem`, or let the owner of the site mark a default one.',
  FileSystemNotReady: 'Surfaces while its FileSystem does not serve; see the conditions of that.',
  NotAllowed:
    'Surfaces when the FileSystem does not let this namespace have Volumes: its owner adds the virtual organization to `allowedVirtualOrganizations`.',
  OwnerUnknown: 'Surfaces when `owner` or `group` is nobody of this virtual organization.',
  FileSystemUnreachable: 'Surfaces when its FileSystem says that it serves and does not answer the operator.',
  Lost: 'Surfaces when the MRC no longer knows a volume that it had. It is not made anew: restore the database of the MRC from a backup.',
  Creating: 'Surfaces while it is being made at the MRC.',
  SiteAway: 'Surfaces while the site that keeps it can not be reached; see the Site of that name.',
  SourceMissing:
    'Surfaces when the Volume or the snapshot in `source` is gone, or lies on another FileSystem: take another snapshot, and make another claim.',
  Copying: 'Surfaces while files are copied from the snapshot in `source`; `status.copiedBytes` tells how far that is.',
  CopyFailed: 'Surfaces when files could not be copied; it is tried again. The message says why.',
  NotClaimed: 'Surfaces while its claims are not bound; `Claimed` says why.',
  Deleting: 'Surfaces while it is being deleted; the message says what is waited for.',
});

/** Whether the MRC has it as it is to be. */
export const volumeSized = defineCondition('Sized', 'The MRC keeps it at its size.', {
  AsDeclared: 'Surfaces when the quota at the MRC is `size`.',
  SmallerThanUsed: 'Surfaces when `size` is less than what is used: delete files, or raise `size`.',
  QuotaOfNamespace:
    'Surfaces when a ResourceQuota of the namespace does not let it grow: ask for more, or lower `size`.',
  Waiting: 'Surfaces while the MRC was not told yet.',
});

/** Whether pods can name it. */
export const volumeClaimed = defineCondition('Claimed', 'It has a bound PersistentVolumeClaim in each namespace.', {
  Bound: 'Surfaces when every claim is bound to its PersistentVolume.',
  Binding: 'Surfaces while a claim is being bound; the message names it.',
  QuotaOfNamespace: 'Surfaces when a ResourceQuota of a namespace does not let a claim be made.',
  NameTaken:
    'Surfaces when a PersistentVolumeClaim of its name exists that was not made for it: delete that, or name the Volume otherwise.',
  NotAcceptedHere: 'Surfaces when a virtual organization in `grants` has no namespace on this site.',
});

const grant = object('A virtual organization that may use it too.', {
  virtualOrganization: dnsLabel('Its name.', { maxLength: virtualOrganizationNameMax }),
  access: choice('How far.', { Read: 'its members may read.', Write: 'its members may read and write.' }).default(
    'Read',
  ),
});

const replication = object(
  'How many copies of each file there are.',
  {
    policy: choice('How they are kept.', {
      None: 'one copy.',
      ReadOnly: 'files that no longer change are copied.',
      Quorum: 'a write is done when most copies have it; serves while most are there (WqRq).',
      All: 'a write is done when every copy has it; a read needs one (WaR1).',
    }).default('None'),
    replicas: integer('Number of copies.', { min: 1, max: replicasMax }).default(1),
  },
  {
    rules: [
      {
        rule: "(self.policy == 'None') == (self.replicas == 1)",
        message: 'replicas must be 1 with policy None and at least 2 with every other one',
        fieldPath: '.replicas',
      },
      {
        rule: "self.policy != 'Quorum' || self.replicas >= 3",
        message: 'most of 2 copies are both: use at least 3 with Quorum, or All',
        fieldPath: '.replicas',
      },
    ],
  },
);

const fixed = (field: string): { rule: string; message: string; fieldPath: string } => ({
  rule: `!has(oldSelf.${field}) || has(self.${field}) && self.${field} == oldSelf.${field}`,
  message: `${field} can not change: make another Volume and copy`,
  fieldPath: `.${field}`,
});

const spec = object(
  'What the volume is.',
  {
    fileSystem: object(
      'The installation that keeps it. Filled in when absent: the default one, or the only one that may be used. Can not change.',
      {
        name: dnsLabel('Name of the FileSystem.', { maxLength: fileSystemNameMax }),
        namespace: dnsLabel(
          'Its namespace. The FileSystem says in `allowedVirtualOrganizations` who may name it from elsewhere.',
        ),
      },
    ).optional(),
    remote: object(
      'The Volume of another site that this one stands for. Written by the operator alone, for Volumes of virtual organizations that are at home elsewhere. Can not change.',
      {
        site: dnsLabel('Name of the Site that keeps the files.'),
        volumeUID: text('Uid of the Volume there.', { minLength: 36, maxLength: 36 }),
        fileSystemUID: text('Uid of its FileSystem there.', { minLength: 36, maxLength: 36 }),
      },
    ).optional(),
    size: quantity('How much may be kept on it, for example `10Gi`. May grow, and shrink down to what is used.'),
    striping: object('How files are spread over OSDs. Holds for new files.', {
      width: integer('OSDs that one file is spread over.', { min: 1, max: stripeWidthMax }).default(1),
      stripeSizeKiB: integer('Size of one stripe, KiB.', { min: 1, max: stripeSizeMaxKiB }).default(128),
    }).default({ width: 1, stripeSizeKiB: 128 }),
    replication: replication.default({ policy: 'None', replicas: 1 }),
    owner: ownerName(
      'Member whom its root folder belongs to, by user name. Filled in with who makes it, when that is a member. Can not change: use chown.',
    ).optional(),
    group: groupPath(
      'Group of the virtual organization that its root folder belongs to; all its members when absent. Can not change: use chgrp.',
    ).optional(),
    mode: text('Permissions of its root folder, octal. Can not change: use chmod.', {
      minLength: 3,
      maxLength: 4,
      pattern: /^[0-7]{3,4}$/,
      patternMeans: 'use three or four octal digits such as 0770',
    }).default('0770'),
    source: object(
      'What it begins with: a copy of a snapshot, with owners and permissions. Written for claims that name a VolumeSnapshot. Can not change.',
      {
        volume: dnsLabel('Name of the Volume in the same namespace.'),
        snapshot: dnsLabel('Name of its snapshot.'),
      },
    ).optional(),
    snapshots: listMap(
      'Snapshots to keep. Written for VolumeSnapshots; one that is taken out is removed.',
      object('A snapshot.', { name: dnsLabel('Its name.') }),
      { maxItems: snapshotsMax, keys: ['name'] },
    ).default([]),
    grants: listMap(
      'Other virtual organizations that may use it. Each finds a PersistentVolumeClaim in its namespace.',
      grant,
      { maxItems: grantsMax, keys: ['virtualOrganization'] },
    ).default([]),
    reclaimPolicy: choice('What becomes of the files when the Volume is deleted.', {
      Retain: 'they stay at the MRC under `status.volumeName`, for the owner of the site.',
      Delete: 'they are erased.',
    }).default('Retain'),
  },
  {
    rules: [
      ...['fileSystem', 'owner', 'group', 'mode', 'remote', 'source'].map(fixed),
      {
        rule: '!has(self.remote) || !has(self.fileSystem) && self.grants.size() == 0',
        message: 'a Volume of another site has its FileSystem and its grants there',
        fieldPath: '.remote',
      },
      {
        rule: 'has(self.source) == has(oldSelf.source)',
        message: 'source is set when a Volume is made, or never',
        fieldPath: '.source',
      },
      {
        rule: "!(self.replication.policy in ['Quorum', 'All']) || self.striping.width == 1",
        message:
          'files that are kept in several copies at every write have no stripes: use width 1 with Quorum and All',
        fieldPath: '.striping.width',
      },
    ],
  },
);

const claimed = object('A claim on it for another virtual organization.', {
  virtualOrganization: dnsLabel('The virtual organization.', { maxLength: virtualOrganizationNameMax }),
  claimName: dnsLabel('Name of the PersistentVolumeClaim in its namespace.'),
  persistentVolumeName: text('Name of the PersistentVolume.', { maxLength: 253 }),
});

const status = object('What the operator observes. Only the operator writes it.', {
  observedGeneration: generation('The `metadata.generation` that this status is about.').optional(),
  conditions: conditions.optional(),
  volumeName: text('Its name at the MRC: `vol-` and the uid of the Volume.', { maxLength: 64 }).optional(),
  fileSystemUID: text('Uid of its FileSystem.', { maxLength: 64 }).optional(),
  claimName: dnsLabel('Name of its PersistentVolumeClaim.').optional(),
  persistentVolumeName: text('Name of its PersistentVolume.', { maxLength: 253 }).optional(),
  grants: listMap('Claims for other virtual organizations.', claimed, {
    maxItems: grantsMax,
    keys: ['virtualOrganization'],
  }).optional(),
  snapshots: listMap(
    'Snapshots that are there, or in the making.',
    object('A snapshot.', {
      name: dnsLabel('Its name.'),
      ready: flag('Whether it is whole.'),
      takenAt: timestamp('When it was taken.').optional(),
      sizeBytes: generation('Space that its files took when it was taken, bytes.').optional(),
      message: text('Why it is not there yet.', { maxLength: 512 }).optional(),
    }),
    { maxItems: 2 * snapshotsMax, keys: ['name'] },
  ).optional(),
  copied: flag('Whether all of `source` was copied.').optional(),
  copiedBytes: generation('Bytes that were copied by now.').optional(),
  sizeBytes: generation('Quota in force, bytes.').optional(),
  usedBytes: generation('Space that its files take, bytes, as last asked.').optional(),
  files: generation('Number of files.').optional(),
});

/** A volume of files. */
export const volumeDefinition = describeKind({
  group,
  version: 'v1alpha1',
  kind: 'Volume',
  plural: 'volumes',
  singular: 'volume',
  shortNames: ['gvol'],
  categories: ['xtreemos'],
  namespaced: true,
  about: `A Volume keeps files on a FileSystem: the same tree under the same names and owners in every pod that mounts it, on every node. It belongs to the virtual organization whose namespace it lies in, and has a PersistentVolumeClaim of its own name there, which the CSI driver \`${csiDriverName}\` mounts. With the label \`${provisionedLabel}: "true"\` it was made for a claim that is there already.`,
  spec,
  status,
  rules: [
    {
      rule: "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 63",
      message: 'the name must have at most 63 lower-case letters, digits and hyphens',
    },
    {
      rule: `!self.metadata.name.startsWith('${homePrefix}u-') || has(self.spec.owner) && self.metadata.name == '${homePrefix}' + self.spec.owner && self.spec.mode == '0700' && self.spec.grants.size() == 0`,
      message: `${homePrefix} and a user name is the home of that member: make it with that owner, mode 0700 and no grants, or choose another name`,
    },
  ],
  columns: [
    {
      name: 'Ready',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Ready")].status',
      description: 'Whether pods can mount it.',
    },
    {
      name: 'Reason',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Ready")].reason',
      description: 'Why they can or can not.',
    },
    { name: 'Size', type: 'string', jsonPath: '.spec.size', description: 'How much may be kept on it.' },
    { name: 'Used', type: 'integer', jsonPath: '.status.usedBytes', description: 'Space in use, bytes.' },
    { name: 'Owner', type: 'string', jsonPath: '.spec.owner', description: 'Member whom it belongs to.' },
    { name: 'FileSystem', type: 'string', jsonPath: '.spec.fileSystem.name', description: 'What keeps it.' },
    {
      name: 'Site',
      type: 'string',
      jsonPath: '.spec.remote.site',
      description: 'Site that keeps it, when that is another one.',
      priority: 1,
    },
    {
      name: 'Replication',
      type: 'string',
      jsonPath: '.spec.replication.policy',
      description: 'How copies are kept.',
      priority: 1,
    },
    {
      name: 'Reclaim',
      type: 'string',
      jsonPath: '.spec.reclaimPolicy',
      description: 'What becomes of the files.',
      priority: 1,
    },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'When it was made.' },
  ],
  conditions: [volumeReady, volumeSized, volumeClaimed],
});

/** The desired state of a Volume. */
export type VolumeSpec = z.infer<typeof spec>;
/** The observed state of a Volume. */
export type VolumeStatus = z.infer<typeof status>;

/** A Volume object. */
export interface Volume extends KubeObject {
  spec: VolumeSpec;
  status?: VolumeStatus | undefined;
}

/** The kind Volume, for the runtime. */
export const volumes: Kind<Volume> = runtimeKind<Volume>(volumeDefinition);

/** Name of the Volume that is the home of a member. @param userName - as issued by the virtual organization. */
export function homeVolumeOf(userName: string): string {
  return `${homePrefix}${userName}`;
}

/** Whose home a Volume of this name is, by user name; undefined when it is nobody's. */
export function homeOwnerOf(volume: string): string | undefined {
  return volume.startsWith(`${homePrefix}u-`) ? volume.slice(homePrefix.length) : undefined;
}

/** Name of a volume at the MRC: nobody chooses it. @param uid - of the Volume. */
export function volumeNameOf(uid: string): string {
  return `vol-${uid}`;
}

/** Name of a snapshot at the MRC; others there were made by hand and are left alone. @param name - in the Volume. */
export function snapshotNameOf(name: string): string {
  return `${snapshotPrefix}${name}`;
}

/** Name in the Volume of a snapshot at the MRC; undefined when it is no Volume's. */
export function snapshotOfName(name: string): string | undefined {
  return name.startsWith(snapshotPrefix) ? name.slice(snapshotPrefix.length) : undefined;
}

/** What a volume is called in PersistentVolumes: by uids, which are never given twice. */
export interface VolumeHandle {
  readonly fileSystemUid: string;
  readonly volumeUid: string;
}

const uidForm = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}';
const handleForm = new RegExp(`^(${uidForm})/(${uidForm})$`);

/** Writes `<uid of the FileSystem>/<uid of the Volume>`. */
export function formatVolumeHandle({ fileSystemUid, volumeUid }: VolumeHandle): string {
  return `${fileSystemUid}/${volumeUid}`;
}

/** Reads `<uid of the FileSystem>/<uid of the Volume>`; undefined for anything else. */
export function parseVolumeHandle(text: string): VolumeHandle | undefined {
  const [, fileSystemUid, volumeUid] = handleForm.exec(text) ?? [];
  return fileSystemUid === undefined || volumeUid === undefined ? undefined : { fileSystemUid, volumeUid };
}

import type { z } from 'zod';
import type { Kind } from '#runtime/kind.ts';
import type { KubeObject, Stored } from '#runtime/types.ts';
import { conditions, defineCondition } from './conditions.ts';
import { describeKind, group, runtimeKind } from './kind.ts';
import { organizationOfNamespace, virtualOrganizationNameMax } from './organization.ts';
import {
  choice,
  dictionary,
  dnsLabel,
  flag,
  generation,
  integer,
  listMap,
  listSet,
  object,
  quantity,
  text,
} from './vocabulary.ts';

/** OSDs of one installation; the MRC's list of them and the status stay small. */
export const osdsMax = 256;
/** Names of pods are made of it, for example `NAME-osd-255`. */
export const fileSystemNameMax = 40;
/** On a FileSystem, with the value `true`: Volumes that name none take this one. */
export const defaultFileSystemAnnotation = 'xtreemos.io/is-default-file-system';

/** The summary of a FileSystem. */
export const fileSystemReady = defineCondition('Ready', 'Summary: Volumes on it can be made, read and written.', {
  Serving: 'Surfaces when DIR, MRC and at least one OSD serve.',
  Starting: 'Surfaces while servers start for the first time.',
  CertificatesMissing: 'Surfaces while servers can not start for want of certificates; see `CertificatesIssued`.',
  StorageMissing:
    'Surfaces while a PersistentVolumeClaim of a server has no volume; the message says which. Set `storageClassName`, or make a StorageClass the default one.',
  ServersDown: 'Surfaces when the DIR, the MRC or every OSD does not answer; the message says which.',
  OtherNamespace:
    'Surfaces when it does not lie in the namespace of the operator, where certificates and rights for servers are: make it there.',
  InUse: 'Surfaces when it is to be deleted and Volumes are still on it: delete them first.',
  Deleting: 'Surfaces while it is being deleted.',
});

/** Whether the servers have what they prove themselves with. */
export const certificatesIssued = defineCondition(
  'CertificatesIssued',
  'Servers and clients have certificates of the authority of this file system.',
  {
    Issued: 'Surfaces when every certificate is there.',
    NotNeeded: 'Surfaces when `tls` is Disabled.',
    Awaiting: 'Surfaces while cert-manager makes certificates; the message names the first that is missing.',
    CertManagerMissing: 'Surfaces while cert-manager is not installed: the owner of the site installs it.',
  },
);

/** Whether there are as many OSDs as declared. */
export const fileSystemScaled = defineCondition('Scaled', 'There are as many OSDs as `osds.count` says.', {
  AsDeclared: 'Surfaces when there are as many as declared.',
  Growing: 'Surfaces while further OSDs start.',
  Draining:
    'Surfaces while the files of the last OSDs are moved to the others, since `osds.count` is lower than before; `status.osds` tells how many are left. Set `osds.count` back to stop that.',
  DrainBlocked:
    'Surfaces when files can not be moved off the last OSDs; the message says why. They stay, and it is tried again. Set `osds.count` back, or mend what the message says.',
  Shrinking: 'Surfaces while OSDs that are empty are taken away, with their PersistentVolumeClaims.',
});

/** Whether something of it is away that should be there. */
export const fileSystemDegraded = defineCondition(
  'Degraded',
  'Something is wrong that need not stop it from serving: an OSD is away, or space runs out.',
  {
    Whole: 'Surfaces as False when every server serves and there is space.',
    OsdsDown: 'Surfaces when some OSDs do not answer: files that lie on them alone wait until they are back.',
    SpaceLow:
      'Surfaces when an OSD has less than a tenth of its space left: raise `osds.count`, or delete what is not needed.',
    Updating: 'Surfaces while servers are replaced one by one.',
    Unknown: 'Surfaces as Unknown while the servers can not be asked.',
  },
);

const storage = (about: string, size: string): z.ZodDefault<ReturnType<typeof storageObject>> =>
  storageObject(about).default({ size });

function storageObject(about: string) {
  return object(about, {
    size: quantity('Size of the PersistentVolumeClaim, for example `100Gi`.'),
    storageClassName: text('StorageClass of it; the default class of the cluster when absent.', {
      minLength: 1,
      maxLength: 253,
    }).optional(),
  });
}

const amounts = (about: string) =>
  dictionary(about, quantity('Amount, as a Kubernetes quantity.'), { maxProperties: 4, keyMaxLength: 63 }).optional();

const resources = object('CPU and memory of each server, as for a container.', {
  requests: amounts('What is kept for it.'),
  limits: amounts('What it may take at most.'),
}).default({ requests: { cpu: '100m', memory: '256Mi' } });

const osds = object('The servers of file contents.', {
  count: integer(
    'How many there are. With more, new OSDs start; with fewer, the files of the last ones move to the others first.',
    { min: 1, max: osdsMax },
  ).default(1),
  storage: storage('Where each keeps its objects. Can not change.', '10Gi'),
  resources,
});

const unchangeable = (field: string, remedy: string): { rule: string; message: string; fieldPath: string } => ({
  rule: `self.${field} == oldSelf.${field}`,
  message: `${field} can not change: ${remedy}`,
  fieldPath: `.${field}`,
});

const defaultServer = { storage: { size: '10Gi' }, resources: { requests: { cpu: '100m', memory: '256Mi' } } };

const spec = object(
  'What servers there are and who may keep data on them.',
  {
    dir: object('The directory service.', {
      storage: storage('Where it keeps its database. Can not change.', '1Gi'),
      resources,
    }).default({ ...defaultServer, storage: { size: '1Gi' } }),
    mrc: object('The metadata and replica catalogue.', {
      storage: storage('Where it keeps its database. Can not change.', '10Gi'),
      resources,
    }).default(defaultServer),
    osds: osds.default({ ...defaultServer, count: 1 }),
    store: choice('Where DIR and MRC keep their state. Can not change.', {
      Embedded: 'in a database of their own, one server each.',
      Etcd: 'in etcd, several servers each. Not in this version.',
    }).default('Embedded'),
    tls: choice('How connections to the servers are protected. Can not change.', {
      Required: 'TLS with certificates on both sides.',
      AuthenticationOnly: 'certificates on both sides; what follows the handshake is not encrypted.',
      Disabled:
        'not at all: whoever reaches the servers may call themselves whoever they like. NetworkPolicy alone keeps others away.',
    }).default('Required'),
    engine: object('Other programs than the own ones.', {
      image: text('Image of the servers; when absent, that of the operator.', {
        minLength: 1,
        maxLength: 512,
        pattern: /^[A-Za-z0-9][A-Za-z0-9._:@/-]*$/,
        patternMeans: 'use name, name:tag or name@digest',
      }).optional(),
    }).default({}),
    allowedVirtualOrganizations: listSet(
      'Virtual organizations that may have Volumes on it; `*` means every one that the site accepts. In the namespace of the FileSystem itself Volumes are always allowed.',
      text('Name of a VirtualOrganization, or `*`.', {
        minLength: 1,
        maxLength: virtualOrganizationNameMax,
        pattern: /^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$/,
        patternMeans: 'use the name of a virtual organization, or *',
      }),
      { maxItems: 256 },
    ).default([]),
  },
  {
    rules: [
      {
        rule: "self.store != 'Etcd'",
        message: 'this version keeps the state of DIR and MRC in a database of their own only: use Embedded',
        fieldPath: '.store',
      },
      unchangeable('store', 'make another FileSystem'),
      unchangeable('tls', 'the addresses that are handed out hold it; make another FileSystem'),
      ...['dir', 'mrc', 'osds'].map((server) => ({
        rule: `self.${server}.storage == oldSelf.${server}.storage`,
        message: `${server}.storage can not change: for more space raise osds.count, or make another FileSystem`,
        fieldPath: `.${server}.storage`,
      })),
    ],
  },
);

const bytes = generation;
const address = (about: string): z.ZodString => text(about, { maxLength: 320 });

const server = object('One server.', {
  address: address('Name and port that clients reach it under.'),
  ready: flag('Whether it serves.'),
});

const osd = object('One OSD.', {
  name: dnsLabel('Name of its pod.'),
  uuid: text('UUID that it is registered under at the DIR.', { maxLength: 128 }),
  ready: flag('Whether it serves.'),
  state: choice('What it is there for.', {
    Available: 'new files are put on it.',
    Draining: 'no new files are put on it, and those that are there move to others: it is to go.',
  }),
  filesLeft: generation('Files that are still to be moved off it, while it is to go.').optional(),
  freeBytes: bytes('Space left, bytes, as it reported last.').optional(),
  totalBytes: bytes('Space in all, bytes.').optional(),
});

const status = object('What the operator observes. Only the operator writes it.', {
  observedGeneration: generation('The `metadata.generation` that this status is about.').optional(),
  conditions: conditions.optional(),
  dir: server.optional(),
  mrc: server.optional(),
  osds: listMap('The OSDs.', osd, { maxItems: osdsMax, keys: ['name'] }).optional(),
  osdsReady: integer('How many OSDs serve.', { min: 0, max: osdsMax }).optional(),
  capacityBytes: bytes('Space of all OSDs that reported, bytes.').optional(),
  freeBytes: bytes('Space left on them, bytes.').optional(),
  volumes: integer('Volumes on it.', { min: 0, max: 1_000_000 }).optional(),
});

/** An installation of XtreemFS. */
export const fileSystemDefinition = describeKind({
  group,
  version: 'v1alpha1',
  kind: 'FileSystem',
  plural: 'filesystems',
  singular: 'filesystem',
  shortNames: ['xfs'],
  categories: ['xtreemos'],
  namespaced: true,
  about: `A FileSystem is an installation of XtreemFS on this site: a directory (DIR), a catalogue of metadata (MRC) and servers of file contents (OSDs). The owner of the site makes it and says which virtual organizations may have Volumes on it. The annotation \`${defaultFileSystemAnnotation}: "true"\` makes it the one for Volumes that name none.`,
  spec,
  status,
  rules: [
    {
      rule: `self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= ${fileSystemNameMax}`,
      message: `the name makes names of Services, so it must start with a letter and have at most ${fileSystemNameMax} lower-case letters, digits and hyphens`,
    },
  ],
  columns: [
    {
      name: 'Ready',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Ready")].status',
      description: 'Whether Volumes on it can be used.',
    },
    {
      name: 'Reason',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Ready")].reason',
      description: 'Why they can or can not.',
    },
    { name: 'OSDs', type: 'integer', jsonPath: '.spec.osds.count', description: 'How many OSDs there are to be.' },
    { name: 'Serving', type: 'integer', jsonPath: '.status.osdsReady', description: 'How many OSDs serve.' },
    { name: 'Volumes', type: 'integer', jsonPath: '.status.volumes', description: 'How many Volumes are on it.' },
    { name: 'Free', type: 'integer', jsonPath: '.status.freeBytes', description: 'Space left, bytes.' },
    {
      name: 'Degraded',
      type: 'string',
      jsonPath: '.status.conditions[?(@.type=="Degraded")].status',
      description: 'Whether something is wrong that does not stop it.',
      priority: 1,
    },
    { name: 'TLS', type: 'string', jsonPath: '.spec.tls', description: 'How connections are protected.', priority: 1 },
    {
      name: 'Capacity',
      type: 'integer',
      jsonPath: '.status.capacityBytes',
      description: 'Space in all, bytes.',
      priority: 1,
    },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'When it was made.' },
  ],
  conditions: [fileSystemReady, certificatesIssued, fileSystemScaled, fileSystemDegraded],
});

/** The desired state of a FileSystem. */
export type FileSystemSpec = z.infer<typeof spec>;
/** The observed state of a FileSystem. */
export type FileSystemStatus = z.infer<typeof status>;

/** A FileSystem object. */
export interface FileSystem extends KubeObject {
  spec: FileSystemSpec;
  status?: FileSystemStatus | undefined;
}

/** The kind FileSystem, for the runtime. */
export const fileSystems: Kind<FileSystem> = runtimeKind<FileSystem>(fileSystemDefinition);

/** What the protocol of XtreemFS calls each way to protect connections. */
export const fileSystemSchemes = { Required: 'pbrpcs', AuthenticationOnly: 'pbrpcg', Disabled: 'pbrpc' } as const;

/** Whether the owner of the FileSystem lets a namespace have Volumes on it (threat 57). */
export function isLetIn(namespace: string | undefined, fileSystem: Stored<FileSystem>): boolean {
  if (namespace === fileSystem.metadata.namespace) return true;
  const organization = organizationOfNamespace(namespace);
  const allowed = fileSystem.spec.allowedVirtualOrganizations;
  return organization !== undefined && (allowed.includes(organization) || allowed.includes('*'));
}

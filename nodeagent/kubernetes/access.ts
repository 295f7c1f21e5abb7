import { status } from '@grpc/grpc-js';
import { type FileSystem, fileSystemSchemes, isLetIn } from '#crds/file-system.ts';
import { organizationOfNamespace } from '#crds/organization.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { homeOwnerOf, parseVolumeHandle, type Volume, volumeNameOf } from '#crds/volume.ts';
import type { Namespace, Pod } from '#runtime/builtin.ts';
import type { Stored } from '#runtime/types.ts';
import { CsiError } from '../csi/errors.ts';
import { parseSource, sourceText, type VolumeSource } from '../holder/protocol.ts';

/** What the API server has, as the node agent sees it. */
export interface AccessView {
  volume(uid: string): Stored<Volume> | undefined;
  fileSystem(uid: string): Stored<FileSystem> | undefined;
  organization(name: string): Stored<VirtualOrganization> | undefined;
  /** A pod of this node, by the uid that the kubelet names. */
  pod(namespace: string, name: string, uid: string): Promise<Stored<Pod> | undefined>;
  namespace(name: string): Promise<Stored<Namespace> | undefined>;
  /** Where the gateway of this site takes mounts of volumes of other sites, `host:port`; empty for nowhere. */
  readonly relay: string;
}

/** Of the pod, filled in by the kubelet (`podInfoOnMount`). */
const podKeys = {
  name: 'csi.storage.k8s.io/pod.name',
  namespace: 'csi.storage.k8s.io/pod.namespace',
  uid: 'csi.storage.k8s.io/pod.uid',
} as const;
/** What may be there besides: of the kubelet, of external-provisioner, and hints for people. None is believed. */
const otherKeys = [
  'csi.storage.k8s.io/serviceAccount.name',
  'storage.kubernetes.io/csiProvisionerIdentity',
  'volume',
  'namespace',
  'fileSystem',
];
const ephemeralKey = 'csi.storage.k8s.io/ephemeral';
const knownKeys: ReadonlySet<string> = new Set([...Object.values(podKeys), ...otherKeys, ephemeralKey]);

const denied = (message: string): CsiError => new CsiError(status.PERMISSION_DENIED, message);

/**
 * Checks the attributes that come with a volume. They are hints: nothing in them says who or where something is, so one that
 * would (`server`, `user`, `mountOptions` …) is a mistake or an attempt.
 * @throws {CsiError} INVALID_ARGUMENT naming the key.
 */
export function checkContext(context: Readonly<Record<string, string>>): void {
  const unknown = Object.keys(context).find((key) => !knownKeys.has(key));
  if (unknown !== undefined) {
    throw new CsiError(
      status.INVALID_ARGUMENT,
      `volume attribute ${JSON.stringify(unknown)} is not known: leave it out`,
    );
  }
  if (context[ephemeralKey] === 'true') {
    throw new CsiError(status.INVALID_ARGUMENT, 'inline volumes are not served: name a PersistentVolumeClaim');
  }
}

/**
 * The Volume and the FileSystem behind a handle.
 * @throws {CsiError} NOT_FOUND, and PERMISSION_DENIED where the two do not belong together or the owner of the site does not
 * let the organization have Volumes there.
 */
export function findVolume(handle: string, view: AccessView): { volume: Stored<Volume>; source: VolumeSource } {
  const uids = parseVolumeHandle(handle);
  const volume = uids === undefined ? undefined : view.volume(uids.volumeUid);
  if (uids === undefined || volume === undefined) {
    throw new CsiError(status.NOT_FOUND, `no Volume has the handle ${JSON.stringify(handle.slice(0, 128))}`);
  }
  const where = `Volume ${volume.metadata.namespace ?? ''}/${volume.metadata.name}`;
  const { remote } = volume.spec;
  if (remote !== undefined) {
    if (remote.fileSystemUID !== uids.fileSystemUid) throw denied(`${where} is not on the FileSystem of its handle`);
    return { volume, source: remoteSource(where, remote, view.relay) };
  }
  const fileSystem = view.fileSystem(uids.fileSystemUid);
  if (fileSystem === undefined) throw new CsiError(status.NOT_FOUND, `the FileSystem of ${where} is gone`);
  const named = volume.spec.fileSystem;
  if (named?.name !== fileSystem.metadata.name || named.namespace !== fileSystem.metadata.namespace) {
    throw denied(`${where} is not on FileSystem ${fileSystem.metadata.namespace ?? ''}/${fileSystem.metadata.name}`);
  }
  if (!isLetIn(volume.metadata.namespace, fileSystem)) {
    throw denied(
      `FileSystem ${named.namespace}/${named.name} does not let namespace ${volume.metadata.namespace ?? ''} have Volumes`,
    );
  }
  return { volume, source: sourceOf(volume, fileSystem) };
}

/** Its directory has no name that this site knows: the relay does. */
function remoteSource(
  where: string,
  { site, volumeUID }: NonNullable<Volume['spec']['remote']>,
  relay: string,
): VolumeSource {
  const source = parseSource(`xtreemfs@pbrpcs://dir:32638/${volumeNameOf(volumeUID)}@${relay}`);
  if (source !== undefined) return source;
  throw new CsiError(
    status.FAILED_PRECONDITION,
    `${where} is kept by site ${site}, and this node agent was not told where the gateway takes such mounts: set --relay`,
  );
}

function sourceOf(volume: Stored<Volume>, fileSystem: Stored<FileSystem>): VolumeSource {
  const address = fileSystem.status?.dir?.address;
  if (address === undefined) {
    throw new CsiError(
      status.UNAVAILABLE,
      `FileSystem ${fileSystem.metadata.namespace ?? ''}/${fileSystem.metadata.name} has no address yet: its servers are starting`,
    );
  }
  const text = `xtreemfs@${fileSystemSchemes[fileSystem.spec.tls]}://${address}/${volumeNameOf(volume.metadata.uid)}`;
  const source = parseSource(text);
  if (source === undefined || sourceText(source) !== text) {
    throw new CsiError(status.INTERNAL, `the address ${address} of the FileSystem is not HOST:PORT`);
  }
  return source;
}

/** How a pod gets a volume. */
export interface Access {
  readonly pod: Stored<Pod>;
  readonly isReadOnly: boolean;
}

/**
 * Decides whether a pod may have a volume: the pod is the one of this node with that uid; its namespace is that of the Volume,
 * or belongs to an organization that the Volume grants itself to; a home goes to pods of its owner only. Names of namespaces prove nothing, the uid of their owner does.
 * @throws {CsiError} PERMISSION_DENIED with the reason.
 */
export async function decideAccess(
  volume: Stored<Volume>,
  context: Readonly<Record<string, string>>,
  view: AccessView,
): Promise<Access> {
  const name = context[podKeys.name] ?? '';
  const namespaceName = context[podKeys.namespace] ?? '';
  const uid = context[podKeys.uid] ?? '';
  if (name === '' || namespaceName === '' || uid === '') {
    throw denied('the kubelet did not say which pod it is for: the CSIDriver object must have podInfoOnMount');
  }
  const pod = await view.pod(namespaceName, name, uid);
  if (pod === undefined) throw denied(`pod ${namespaceName}/${name} with uid ${uid} does not run on this node`);
  if (volume.metadata.deletionTimestamp !== undefined) {
    throw new CsiError(status.FAILED_PRECONDITION, `Volume ${volume.metadata.name} is being deleted`);
  }
  const organization = await organizationOf(namespaceName, view);
  const home = homeOwnerOf(volume.metadata.name);
  // Admission pins the account of a pod, and its uid to the account.
  if (home !== undefined && pod.spec?.serviceAccountName !== home) {
    throw denied(`Volume ${volume.metadata.name} is the home of ${home}: only their own pods may have it`);
  }
  if (volume.metadata.namespace === namespaceName) return { pod, isReadOnly: false };
  const grant = volume.spec.grants.find((each) => each.virtualOrganization === organization);
  if (organization === undefined || grant === undefined) {
    throw denied(
      `Volume ${volume.metadata.name} of namespace ${volume.metadata.namespace ?? ''} is not granted to ${organization ?? `namespace ${namespaceName}`}`,
    );
  }
  return { pod, isReadOnly: grant.access === 'Read' };
}

/**
 * Refuses a pod that does not say that it only reads what may only be read. A mount that is read-only on the node is made writable by the
 * container runtime (runc mounts anew with `rw`) unless the kubelet tells it otherwise, and the kubelet goes by the pod.
 * @param isSaid - `readonly` of the request: the pod says `readOnly: true` at its `persistentVolumeClaim`.
 * @throws {CsiError} PERMISSION_DENIED with the remedy.
 */
export function demandReadOnly({ metadata }: Volume, isSaid: boolean, isNeeded: boolean): void {
  if (isSaid || !isNeeded) return;
  throw denied(
    `Volume ${metadata.name} may only be read here: write readOnly: true at persistentVolumeClaim in the volumes of the pod, or at the volume in the GridJob`,
  );
}

/** Name of the organization that a namespace was made for; undefined when for none. @throws {CsiError} when it only looks so. */
async function organizationOf(name: string, view: AccessView): Promise<string | undefined> {
  const organizationName = organizationOfNamespace(name);
  if (organizationName === undefined) return undefined;
  const namespace = await view.namespace(name);
  const organization = view.organization(organizationName);
  const isOwned =
    organization !== undefined &&
    namespace?.metadata.ownerReferences?.some(
      ({ uid, controller }) => controller === true && uid === organization.metadata.uid,
    ) === true;
  if (!isOwned) throw denied(`namespace ${name} was not made for a virtual organization of that name`);
  const state = organization.status?.state;
  if (state !== 'Operational' && state !== 'Frozen') {
    throw denied(`virtual organization ${organizationName} is ${state ?? 'not there yet'}: its pods get no volumes`);
  }
  return organizationName;
}

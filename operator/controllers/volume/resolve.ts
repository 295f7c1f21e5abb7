/** Which FileSystem keeps a Volume, and whether it may: pure. */
import { defaultFileSystemAnnotation, type FileSystem, fileSystemReady, isLetIn } from '#crds/file-system.ts';
import { organizationNamespace } from '#crds/organization.ts';
import { volumeReady, type Volume } from '#crds/volume.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import { isConditionTrue } from '#runtime/conditions.ts';
import type { Stored } from '#runtime/types.ts';

/** Why a Volume can not be served: a reason of its condition `Ready`, and a sentence with the remedy. */
export interface Refusal {
  readonly reason: string;
  readonly message: string;
}

/** Who bears the root folder of a Volume whose owner nobody named: no member can be called that. */
const nobodyInParticular = 'root';

/** The FileSystem of a Volume that names none: the default one of those that let it in, or the only one. */
export function chooseFileSystem(
  namespace: string | undefined,
  fileSystems: readonly Stored<FileSystem>[],
): Stored<FileSystem> | Refusal {
  const { reasons } = volumeReady;
  const open = fileSystems.filter((each) => isLetIn(namespace, each) && each.metadata.deletionTimestamp === undefined);
  const preferred = open.filter(({ metadata }) => metadata.annotations?.[defaultFileSystemAnnotation] === 'true');
  const [only, ...others] = preferred.length > 0 ? preferred : open;
  if (only === undefined) {
    const message =
      fileSystems.length === 0
        ? 'This site has no FileSystem: its owner makes one.'
        : 'No FileSystem of this site lets this namespace have Volumes: its owner adds the virtual organization to allowedVirtualOrganizations.';
    return { reason: fileSystems.length === 0 ? reasons.FileSystemMissing : reasons.NotAllowed, message };
  }
  if (others.length > 0) {
    const names = [only, ...others].map(({ metadata }) => `${metadata.namespace ?? ''}/${metadata.name}`).sort();
    return { reason: reasons.FileSystemAmbiguous, message: `Name one of ${names.join(', ')} in fileSystem.` };
  }
  return only;
}

/** Why the FileSystem that a Volume names does not take it now; undefined when it does. */
export function refusalOf(volume: Stored<Volume>, fileSystem: Stored<FileSystem> | undefined): Refusal | undefined {
  const { reasons } = volumeReady;
  const named = volume.spec.fileSystem;
  const where = `FileSystem ${named?.namespace ?? ''}/${named?.name ?? ''}`;
  if (fileSystem === undefined) {
    return { reason: reasons.FileSystemMissing, message: `${where} does not exist: its owner makes it.` };
  }
  if (!isLetIn(volume.metadata.namespace, fileSystem)) {
    const message = `${where} does not let namespace ${volume.metadata.namespace ?? ''} have Volumes: its owner adds the virtual organization to allowedVirtualOrganizations.`;
    return { reason: reasons.NotAllowed, message };
  }
  if (!isConditionTrue(fileSystem.status?.conditions, fileSystemReady.type)) {
    return { reason: reasons.FileSystemNotReady, message: `${where} does not serve: see its conditions.` };
  }
  return undefined;
}

/** Why a Volume can not be filled from the snapshot that it names; undefined when it can. */
export function sourceRefusal(
  { spec }: Stored<Volume>,
  source: Stored<Volume> | undefined,
  fileSystem: Stored<FileSystem>,
): Refusal | undefined {
  const { reasons } = volumeReady;
  const { volume = '', snapshot = '' } = spec.source ?? {};
  const what = `Snapshot ${snapshot} of Volume ${volume}`;
  const found = source?.status?.snapshots?.find(({ name }) => name === snapshot);
  if (found === undefined) {
    return { reason: reasons.SourceMissing, message: `${what} is gone: take another one, and make another claim.` };
  }
  if (source?.status?.fileSystemUID !== fileSystem.metadata.uid) {
    const message = `${what} lies on another FileSystem than ${fileSystem.metadata.name}: use a StorageClass of that one.`;
    return { reason: reasons.SourceMissing, message };
  }
  return found.ready ? undefined : { reason: reasons.Copying, message: `${what} is being made.` };
}

/** Names that the root folder bears at the MRC. */
export interface Ownership {
  readonly owner: string;
  readonly group: string;
}

/** Owner and group as the MRC knows them; a refusal when there is no such member or group. */
export function ownershipOf(
  { metadata, spec }: Stored<Volume>,
  organization: Stored<VirtualOrganization> | undefined,
  members: readonly Stored<VOMembership>[],
): Ownership | Refusal {
  const { reasons } = volumeReady;
  const { owner = nobodyInParticular, group } = spec;
  if (organization === undefined) {
    if (spec.owner === undefined && group === undefined) return { owner, group: nobodyInParticular };
    const message = `Namespace ${metadata.namespace ?? ''} belongs to no virtual organization: leave owner and group out.`;
    return { reason: reasons.OwnerUnknown, message };
  }
  const { name } = organization.metadata;
  if (spec.owner !== undefined && !members.some(({ status }) => status?.userName === spec.owner)) {
    return { reason: reasons.OwnerUnknown, message: `owner: ${owner} is no member of ${name}.` };
  }
  if (group !== undefined && !organization.spec.groups.some((each) => each.name === group)) {
    return { reason: reasons.OwnerUnknown, message: `group: ${group} is no group of ${name}.` };
  }
  const everybody = organizationNamespace(name);
  return { owner, group: group === undefined ? everybody : `${everybody}/${group}` };
}

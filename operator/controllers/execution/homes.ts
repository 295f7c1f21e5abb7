import { describeError } from '#common/errors.ts';
import type { ExecutionSpec } from '#crds/execution.ts';
import { homeElsewhere } from '#crds/organization.ts';
import type { VirtualOrganization } from '#crds/virtual-organization.ts';
import { type VOMembership, voMemberships } from '#crds/vo-membership.ts';
import {
  homeOwnerOf,
  homeVolumeOf,
  type Volume,
  volumeClaimed,
  volumeDefinition,
  volumeReady,
  volumes as volumeKind,
} from '#crds/volume.ts';
import { findCondition } from '#runtime/conditions.ts';
import type { Client, Lister } from '#runtime/contracts.ts';
import { AlreadyExistsError, ForbiddenError, InvalidError } from '#runtime/errors.ts';
import { apiVersionOf, controllerReference } from '#runtime/kind.ts';
import type { Stored } from '#runtime/types.ts';
import type { Home } from './pod.ts';
import type { SurroundingsAnswer } from './surroundings.ts';

/** The home for a task, once it can be mounted; none where the virtual organization gives none. */
export type HomeAnswer =
  | { readonly status: 'ready'; readonly home: Home | undefined }
  | Exclude<SurroundingsAnswer, { readonly status: 'ready' }>;

/** Gives members their homes: makes each before its first use. It is owned by the membership, so that it goes with that. */
export class Homes {
  private readonly client: Client;
  private readonly volumes: Lister<Volume>;
  private readonly localSite: string;

  constructor(client: Client, volumes: Lister<Volume>, localSite: string) {
    this.client = client;
    this.volumes = volumes;
    this.localSite = localSite;
  }

  /** The home of the member whose tasks these are; also refuses tasks that name the home of somebody else. */
  async of(
    membership: Stored<VOMembership>,
    organization: Stored<VirtualOrganization>,
    { owner, volumes }: Pick<ExecutionSpec, 'owner' | 'volumes'>,
    signal: AbortSignal,
  ): Promise<HomeAnswer> {
    const foreign = volumes.find(({ volume }) => (homeOwnerOf(volume) ?? owner) !== owner);
    if (foreign !== undefined) {
      return refused(`volumes: ${foreign.volume} is the home of another member: leave it out.`);
    }
    const { homeVolumes } = organization.spec;
    if (homeVolumes === undefined) return { status: 'ready', home: undefined };
    const name = homeVolumeOf(owner);
    const volume = this.volumes.get({ namespace: membership.metadata.namespace ?? '', name });
    // Homes are where the organization is; one of that name that is made here would have other files.
    if (homeElsewhere(organization, this.localSite) !== undefined && volume?.spec.remote === undefined)
      return { status: 'ready', home: undefined };
    if (volume === undefined) return this.make(membership, owner, homeVolumes, signal);
    return answerOf(volume, { volume: name, mountPath: `/home/${owner}` });
  }

  private async make(
    membership: Stored<VOMembership>,
    owner: string,
    wanted: NonNullable<VirtualOrganization['spec']['homeVolumes']>,
    signal: AbortSignal,
  ): Promise<HomeAnswer> {
    const { namespace } = membership.metadata;
    const name = homeVolumeOf(owner);
    const reference = { ...controllerReference(voMemberships, membership), blockOwnerDeletion: false };
    const volume: Volume = {
      apiVersion: apiVersionOf(volumeDefinition),
      kind: volumeDefinition.kind,
      metadata: { name, namespace, ownerReferences: [reference] },
      spec: volumeDefinition.spec.parse({ ...wanted, owner, mode: '0700' }),
    };
    try {
      await this.client.of(volumeKind).create(volume, { signal });
    } catch (error) {
      if (error instanceof ForbiddenError || error instanceof InvalidError) {
        return refused(`Home volume ${name} can not be made: ${describeError(error).slice(0, 512)}`);
      }
      if (!(error instanceof AlreadyExistsError)) throw error;
    }
    return { status: 'waiting' };
  }
}

const refused = (reason: string): HomeAnswer => ({ status: 'refused', reason });

function answerOf({ metadata, status }: Stored<Volume>, home: Home): HomeAnswer {
  const ready = findCondition(status?.conditions, volumeReady.type);
  // Deleted and not gone yet: a pod that started now would keep it from going.
  const isDeleting = metadata.deletionTimestamp !== undefined;
  if (ready?.status === 'True' && !isDeleting) return { status: 'ready', home };
  const claimed = findCondition(status?.conditions, volumeClaimed.type);
  const { reasons } = volumeReady;
  const isClaimMissing = ready?.reason === reasons.NotClaimed;
  const isComing =
    ready === undefined ||
    ready.reason === reasons.Creating ||
    (isClaimMissing && claimed?.reason === volumeClaimed.reasons.Binding);
  if (isComing && !isDeleting) return { status: 'waiting' };
  const why = isClaimMissing ? claimed?.message : ready?.message;
  return refused(`Home volume ${home.volume} can not be mounted: ${why ?? 'it is being deleted.'}`);
}

import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '#common/clock.ts';
import { apiVersionOf } from '#crds/kind.ts';
import { type IdentitySlice, identitySliceDefinition, identitySlices } from '#crds/identity-slice.ts';
import { homeElsewhere, organizationNamespace } from '#crds/organization.ts';
import {
  statePublished,
  type VirtualOrganization,
  virtualOrganizationDefinition,
  virtualOrganizations,
} from '#crds/virtual-organization.ts';
import { type VOMembership, voMembershipDefinition, voMemberships } from '#crds/vo-membership.ts';
import { type Volume, volumeDefinition, volumes as volumeKind, type VolumeSpec } from '#crds/volume.ts';
import { setCondition, findCondition } from '#runtime/conditions.ts';
import type { Client, Lister } from '#runtime/contracts.ts';
import type { Stored } from '#runtime/types.ts';
import type { FollowedSlice } from './documents.ts';
import type { Told } from './told.ts';

/** The same fields are those of the authority where an organization is at home. */
const fieldManager = 'xtreemos-authority';
/** Writes of members at the same time. */
const writesAtOnce = 8;

const awayMessage = 'Its home was not heard of for too long, or tells this site nothing more: nothing new starts here.';

/** What writing takes. */
export interface MirrorParts {
  readonly organizations: Lister<VirtualOrganization>;
  readonly memberships: Lister<VOMembership>;
  readonly volumes: Lister<Volume>;
  readonly client: Client;
  readonly clock: Clock;
  readonly localSite: string;
}

/** Why a virtual organization can't be followed here, for its condition. */
export class NotFollowableError extends Error {
  override readonly name = 'NotFollowableError';
}

/**
 * Makes the objects of this site say what the home tells: then everything here, accounts, policies and pods, works as for one that was formed here, with the same
 * names and ids. Level-based: what somebody changed here is put right. Nothing is written where nothing differs.
 */
export class Mirror {
  private readonly parts: MirrorParts;

  constructor(parts: MirrorParts) {
    this.parts = parts;
  }

  /** @param isFresh - whether the home was heard of lately; else nothing new starts. @throws {NotFollowableError} */
  async write(name: string, told: Told, isFresh: boolean, signal: AbortSignal): Promise<void> {
    const { organization } = told;
    if (organization === undefined) return;
    const spec = isFresh ? organization.spec : frozen(organization.spec);
    const vo = await this.writeOrganization(name, spec, signal);
    for (const slice of told.slices.values()) await this.writeSlice(vo, slice, signal);
    await this.report(vo, told, isFresh, signal);
    await this.writeMembers(organizationNamespace(name), told, signal);
    await this.writeVolumes(organizationNamespace(name), told, signal);
  }

  /** Nothing new starts for one whose home was not heard of since this process began. */
  async freeze(name: string, signal: AbortSignal): Promise<void> {
    const vo = this.parts.organizations.get({ name });
    if (vo === undefined || homeElsewhere(vo, this.parts.localSite) === undefined) return;
    await this.writeOrganization(name, frozen(vo.spec), signal);
    await this.condition(vo, 'HomeAway', awayMessage, {}, signal);
  }

  /** Tells why nothing is taken, where there is something to tell it on. */
  async refuse(name: string, message: string, signal: AbortSignal): Promise<void> {
    const vo = this.parts.organizations.get({ name });
    if (vo === undefined || homeElsewhere(vo, this.parts.localSite) === undefined) return;
    // One that was followed once stays accepted on its last state, until that is too old.
    const before = findCondition(vo.status?.conditions, statePublished.type)?.reason;
    if (before === statePublished.reasons.Followed || before === statePublished.reasons.HomeAway) return;
    await this.condition(vo, 'NotFollowed', message, {}, signal);
  }

  private async writeOrganization(
    name: string,
    spec: VirtualOrganization['spec'],
    signal: AbortSignal,
  ): Promise<Stored<VirtualOrganization>> {
    const known = this.parts.organizations.get({ name });
    const client = this.parts.client.of(virtualOrganizations);
    if (known === undefined) {
      const about = {
        apiVersion: apiVersionOf(virtualOrganizationDefinition),
        kind: virtualOrganizationDefinition.kind,
      };
      return client.create({ ...about, metadata: { name }, spec }, { signal });
    }
    if (known.spec.homeSite !== spec.homeSite)
      throw new NotFollowableError(`A virtual organization ${name} with another home is here already.`);
    if (known.spec.state === 'Dissolved')
      throw new NotFollowableError(`${name} was dissolved at this site: delete it to follow it anew.`);
    if (isDeepStrictEqual(plain(known.spec), plain(spec))) return known;
    return client.update({ ...known, spec: plain(spec) }, { signal });
  }

  /** The range may belong to somebody else here: then nothing of it may run (a number would name two people). */
  private async writeSlice(vo: Stored<VirtualOrganization>, slice: FollowedSlice, signal: AbortSignal): Promise<void> {
    const client = this.parts.client.of(identitySlices);
    const name = `slice-${String(slice.number).padStart(4, '0')}`;
    const { name: owner, uid } = vo.metadata;
    const known = await client.find({ name }, { signal });
    if (known === undefined) {
      const about = { apiVersion: apiVersionOf(identitySliceDefinition), kind: identitySliceDefinition.kind };
      const spec: IdentitySlice['spec'] = {
        ...slice,
        virtualOrganization: { name: owner, uid },
        state: 'InUse',
        users: 0,
      };
      await client.create({ ...about, metadata: { name }, spec }, { signal });
      return;
    }
    if (known.spec.virtualOrganization.uid !== uid)
      throw new NotFollowableError(
        `SliceConflict: its ids lie in ${name}, which belongs to ${known.spec.virtualOrganization.name} at this site.`,
      );
    const groups = { ...known.spec.groups, ...slice.groups };
    if (isDeepStrictEqual(groups, known.spec.groups)) return;
    await client.update({ ...known, spec: { ...known.spec, groups } }, { signal });
  }

  private async report(
    vo: Stored<VirtualOrganization>,
    { state, rootKid }: Told,
    isFresh: boolean,
    signal: AbortSignal,
  ): Promise<void> {
    if (state === undefined) return;
    const { epoch, genesis } = state.content;
    const fields = { epoch, stateDigest: state.digest, genesis, authority: rootKid };
    if (isFresh)
      await this.condition(vo, 'Followed', 'Its newest state came from its home and was verified.', fields, signal);
    else await this.condition(vo, 'HomeAway', awayMessage, fields, signal);
  }

  private async condition(
    { metadata: { name, uid, generation }, status }: Stored<VirtualOrganization>,
    reason: keyof typeof statePublished.reasons,
    message: string,
    fields: Partial<NonNullable<VirtualOrganization['status']>>,
    signal: AbortSignal,
  ): Promise<void> {
    const before = findCondition(status?.conditions, statePublished.type);
    const update = {
      type: statePublished.type, status: reason === 'Followed' ? 'True' : 'False', reason, message, observedGeneration: generation,
    } as const; // prettier-ignore
    const conditions = [...setCondition(before === undefined ? [] : [before], update, this.parts.clock.now())];
    const { epoch, stateDigest, genesis, authority } = status ?? {};
    const kept = { epoch, stateDigest, genesis, authority };
    const after = JSON.parse(JSON.stringify({ ...kept, ...fields })) as typeof fields;
    if (conditions[0] === before && isDeepStrictEqual(after, JSON.parse(JSON.stringify(kept)))) return;
    await this.parts.client
      .of(virtualOrganizations)
      .status.apply({ metadata: { name, uid }, status: { ...after, conditions } }, { signal, fieldManager });
  }

  private async writeMembers(namespace: string, told: Told, signal: AbortSignal): Promise<void> {
    const here = new Map(this.parts.memberships.list(namespace).map((each) => [each.metadata.name, each]));
    const writes: (() => Promise<unknown>)[] = [];
    for (const [name, spec] of told.members) {
      const known = here.get(name);
      here.delete(name);
      if (known === undefined || !isDeepStrictEqual(plain(known.spec), plain(spec)))
        writes.push(async () => this.writeMember(namespace, name, known, spec, signal));
    }
    const client = this.parts.client.of(voMemberships);
    for (const [name, { metadata }] of here) {
      if (metadata.deletionTimestamp !== undefined) continue;
      writes.push(async () => client.delete({ namespace, name }, { signal, preconditions: { uid: metadata.uid } }));
    }
    for (let index = 0; index < writes.length; index += writesAtOnce)
      await Promise.all(writes.slice(index, index + writesAtOnce).map(async (write) => write()));
  }

  /** Volumes of the home by the same names; one that was made here keeps its name. */
  private async writeVolumes(namespace: string, told: Told, signal: AbortSignal): Promise<void> {
    const here = new Map(this.parts.volumes.list(namespace).map((each) => [each.metadata.name, each]));
    const client = this.parts.client.of(volumeKind);
    const about = { apiVersion: apiVersionOf(volumeDefinition), kind: volumeDefinition.kind };
    const remove = async (volume: Stored<Volume>): Promise<void> => {
      const { name, uid, deletionTimestamp } = volume.metadata;
      if (deletionTimestamp === undefined) await client.delete({ namespace, name }, { signal, preconditions: { uid } });
    };
    for (const [name, spec] of told.volumes) {
      const known = here.get(name);
      here.delete(name);
      if (known === undefined) await client.create({ ...about, metadata: { namespace, name }, spec }, { signal });
      else if (known.spec.remote === undefined) continue;
      // Another Volume under the name of a former one: the next look makes it.
      else if (!isSameVolume(known.spec, spec)) await remove(known);
      else if (!isDeepStrictEqual(plain(known.spec), plain(spec)))
        await client.update({ ...known, spec: plain(spec) }, { signal });
    }
    for (const volume of here.values()) if (volume.spec.remote !== undefined) await remove(volume);
  }

  private async writeMember(
    namespace: string,
    name: string,
    known: Stored<VOMembership> | undefined,
    spec: VOMembership['spec'],
    signal: AbortSignal,
  ): Promise<void> {
    const client = this.parts.client.of(voMemberships);
    if (known === undefined) {
      const about = { apiVersion: apiVersionOf(voMembershipDefinition), kind: voMembershipDefinition.kind };
      await client.create({ ...about, metadata: { namespace, name }, spec }, { signal });
      return;
    }
    const isSameMember =
      isDeepStrictEqual(known.spec.principal, spec.principal) && isDeepStrictEqual(known.spec.identity, spec.identity);
    // Another member under the name of a former one: the next look makes it.
    if (!isSameMember) await client.delete({ namespace, name }, { signal, preconditions: { uid: known.metadata.uid } });
    else await client.update({ ...known, spec: plain(spec) }, { signal });
  }
}

function frozen(spec: VirtualOrganization['spec']): VirtualOrganization['spec'] {
  return spec.state === 'Operational' ? { ...spec, state: 'Frozen' } : spec;
}

/** Fields that can not change tell Volumes apart. */
function isSameVolume(known: VolumeSpec, told: VolumeSpec): boolean {
  const fixed = ({ remote, owner, group, mode }: VolumeSpec): unknown => plain({ remote, owner, group, mode });
  return isDeepStrictEqual(fixed(known), fixed(told));
}

/** Without what is undefined, as the API server gives it back. */
function plain<T>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T;
}

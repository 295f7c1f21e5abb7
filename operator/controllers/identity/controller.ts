import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { globalId } from '#common/identity/ids.ts';
import { homeElsewhere } from '#crds/organization.ts';
import { type IdentitySlice, identitySlices } from '#crds/identity-slice.ts';
import {
  identityAllocated,
  type VirtualOrganization,
  virtualOrganizations,
  type VirtualOrganizationStatus,
} from '#crds/virtual-organization.ts';
import type { IdIssuer } from '#operator/identity/id-issuer.ts';
import { ownerOf } from '#operator/identity/member-view.ts';
import type { MemberCounter } from '#operator/identity/membership-index.ts';
import { IdsExhaustedError, type SliceBook } from '#operator/identity/slice-book.ts';
import { type ConditionUpdate, findCondition, setCondition } from '#runtime/conditions.ts';
import {
  type Client,
  done,
  type EventRecorder,
  type Lister,
  type Reconciler,
  type Result,
} from '#runtime/contracts.ts';
import { NotFoundError } from '#runtime/errors.ts';
import { referenceTo } from '#runtime/events.ts';
import { isDeleting, keyOf, type ObjectKey, type Stored } from '#runtime/types.ts';

/** What the reconciler works with. */
export interface IdentityParts {
  readonly organizations: Lister<VirtualOrganization>;
  readonly slices: Lister<IdentitySlice>;
  readonly book: SliceBook;
  readonly localSite: string;
  readonly issuer: IdIssuer;
  readonly counter: MemberCounter;
  readonly client: Client;
  readonly events: EventRecorder;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Index of slices by the name of the virtual organization that owned them when they were made. */
export const ownerNameIndex = 'identity/owner-name';

/** Owner of the status fields that this controller writes; others write theirs. */
const fieldManager = 'xtreemos-operator/identity';
/** The owner of the site may free a range; nothing else wakes for it. */
const exhaustedRetryMs = 5 * 60_000;

type OwnStatus = Pick<VirtualOrganizationStatus, 'conditions' | 'slices' | 'groups' | 'members'>;

/**
 * Gives each VirtualOrganization its slice and its groups their ids, keeps count of its members, and retires the slices of those that are gone.
 */
export class IdentityReconciler implements Reconciler {
  private readonly parts: IdentityParts;

  constructor(parts: IdentityParts) {
    this.parts = parts;
  }

  async reconcile(key: ObjectKey, signal: AbortSignal): Promise<Result> {
    const organization = this.parts.organizations.get(key);
    await this.retire(key.name, organization, signal);
    if (organization === undefined || isDeleting(organization)) return done;
    if (isOver(organization)) {
      await this.writeStatus(organization, this.computeLastStatus(organization), signal);
      return done;
    }
    const problem = await this.issue(organization, signal);
    await this.writeStatus(organization, this.computeStatus(organization, problem), signal);
    return problem === undefined ? done : { requeueAfterMs: exhaustedRetryMs };
  }

  /** Slices of one of this name that is over, or was another one: what they gave out is never given again. */
  private async retire(
    name: string,
    current: Stored<VirtualOrganization> | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    for (const slice of this.parts.slices.byIndex(ownerNameIndex, name)) {
      const isOwned = slice.spec.virtualOrganization.uid === current?.metadata.uid;
      if (slice.spec.state === 'Retired' || (isOwned && !isOver(current))) continue;
      this.parts.log.info('Retiring IdentitySlice', { IdentitySlice: slice.metadata.name, VirtualOrganization: name });
      const body = { metadata: { uid: slice.metadata.uid }, spec: { state: 'Retired' } };
      await this.parts.client.of(identitySlices).patch(keyOf(slice), { type: 'merge', body }, { signal });
    }
  }

  /** @returns what is missing, as a condition; undefined when nothing is. */
  private async issue(
    organization: Stored<VirtualOrganization>,
    signal: AbortSignal,
  ): Promise<ConditionUpdate | undefined> {
    if (homeElsewhere(organization, this.parts.localSite) !== undefined) return this.followed(organization);
    const paths = organization.spec.groups.map(({ name }) => name);
    try {
      await this.parts.issuer.issueGroupIds(ownerOf(organization), paths, { signal });
      return undefined;
    } catch (error) {
      if (!(error instanceof IdsExhaustedError)) throw error;
      const hasSlice = this.parts.book.slicesOf(ownerOf(organization)).length > 0;
      const { GroupIdsExhausted, NoFreeSlice } = identityAllocated.reasons;
      const reason = hasSlice ? GroupIdsExhausted : NoFreeSlice;
      return { type: identityAllocated.type, status: 'False', reason, message: `Can not give ids: ${error.message}.` };
    }
  }

  /** Ids are given out at its home, and its records come from there. */
  private followed(organization: Stored<VirtualOrganization>): ConditionUpdate | undefined {
    if (this.parts.book.slicesOf(ownerOf(organization)).length > 0) return undefined;
    const reason = identityAllocated.reasons.AwaitingHome;
    return { type: identityAllocated.type, status: 'False', reason, message: 'Its home has not told its slices yet.' };
  }

  private async writeStatus(
    organization: Stored<VirtualOrganization>,
    status: OwnStatus,
    signal: AbortSignal,
  ): Promise<void> {
    if (!isChanged(organization.status, status)) return;
    const { name, uid } = organization.metadata;
    try {
      await this.parts.client
        .of(virtualOrganizations)
        .status.apply({ metadata: { name, uid }, status }, { signal, fieldManager });
    } catch (error) {
      if (error instanceof NotFoundError) return;
      throw error;
    }
    const now = findCondition(status.conditions, identityAllocated.type);
    const before = findCondition(organization.status?.conditions, identityAllocated.type);
    if (now === undefined || now.reason === before?.reason) return;
    this.parts.events.publish({
      object: referenceTo(virtualOrganizations, organization),
      type: now.status === 'True' ? 'Normal' : 'Warning',
      reason: now.reason,
      action: 'Allocate',
      note: now.message,
    });
  }

  /** What is left of one that is over: ids are given to nobody any more, and its members go one by one. */
  private computeLastStatus({ metadata, status }: Stored<VirtualOrganization>): OwnStatus {
    return {
      conditions: (status?.conditions ?? []).filter(({ type }) => type === identityAllocated.type),
      slices: status?.slices ?? [],
      groups: status?.groups ?? [],
      members: this.parts.counter.of(metadata.name),
    };
  }

  private computeStatus(organization: Stored<VirtualOrganization>, problem: ConditionUpdate | undefined): OwnStatus {
    const owner = ownerOf(organization);
    const numbers = this.parts.book.slicesOf(owner).map(({ spec }) => spec.number);
    const ids = this.parts.issuer.groupIds(owner);
    const update = problem ?? {
      type: identityAllocated.type,
      status: 'True',
      reason: identityAllocated.reasons.Allocated,
      message: `Ids come from slice ${numbers.join(', ')}.`,
    };
    const own = (organization.status?.conditions ?? []).filter(({ type }) => type === identityAllocated.type);
    const observedGeneration = organization.metadata.generation ?? 0;
    return {
      conditions: [...setCondition(own, { ...update, observedGeneration }, this.parts.clock.now())],
      slices: numbers,
      groups: organization.spec.groups.flatMap(({ name }) => {
        const id = ids.get(name);
        return id === undefined ? [] : [{ name, gid: globalId(id) }];
      }),
      members: this.parts.counter.of(organization.metadata.name),
    };
  }
}

function isOver(organization: VirtualOrganization): boolean {
  return organization.spec.state === 'Dissolved' || isDeleting(organization);
}

function isChanged(before: VirtualOrganizationStatus | undefined, after: OwnStatus): boolean {
  const own = ({ conditions, slices, groups, members }: OwnStatus): string => {
    const { status, reason, message, observedGeneration } = findCondition(conditions, identityAllocated.type) ?? {};
    const ids = groups?.map(({ name, gid }) => [name, gid]);
    const counts = [members?.active, members?.requested, members?.suspended, members?.expired, members?.banned];
    return JSON.stringify([status, reason, message, observedGeneration, slices, ids, counts]);
  };
  return own(before ?? {}) !== own(after);
}

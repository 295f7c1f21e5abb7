import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import { membershipReady, type VOMembership, voMemberships } from '#crds/vo-membership.ts';
import type { IdIssuer } from '#operator/identity/id-issuer.ts';
import { type MemberFacts, type MemberView, ownerOf } from '#operator/identity/member-view.ts';
import { IdsExhaustedError } from '#operator/identity/slice-book.ts';
import { findCondition } from '#runtime/conditions.ts';
import {
  type Client,
  done,
  type EventRecorder,
  type Lister,
  type Reconciler,
  type Result,
} from '#runtime/contracts.ts';
import { ConflictError, InvalidError, NotFoundError } from '#runtime/errors.ts';
import { isDeleting, keyOf, type ObjectKey, type Stored } from '#runtime/types.ts';
import type { Decisions } from '../decisions.ts';
import { decisionOn } from './decisions.ts';
import { standingChanged } from './events.ts';
import type { MembershipMetrics } from './metrics.ts';
import { computeStatus, isStatusChanged } from './status.ts';

/** What the reconciler of memberships works with. */
export interface MembershipParts {
  readonly memberships: Lister<VOMembership>;
  readonly view: MemberView;
  readonly issuer: IdIssuer;
  readonly client: Client;
  readonly events: EventRecorder;
  readonly decisions: Decisions;
  readonly metrics: MembershipMetrics;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Owner of the status fields that this controller writes; others write theirs (`acceptance`). */
const fieldManager = 'xtreemos-operator/members';
/** Slices come free when the owner of the site frees a range; seldom. */
const exhaustedRetryMs = 5 * 60_000;
/** A timer can't be armed for longer than 24 days; looking daily is enough until the moment is near. */
const timerMaxMs = 86_400_000;

/**
 * Issues the id of each member once, and keeps in its status what is in force. What follows from that, accounts and pods, is the business of
 * the controller of accounts.
 */
export class MembershipReconciler implements Reconciler {
  private readonly parts: MembershipParts;

  constructor(parts: MembershipParts) {
    this.parts = parts;
  }

  async reconcile(key: ObjectKey, signal: AbortSignal): Promise<Result> {
    const found = this.parts.memberships.get(key);
    if (found === undefined || isDeleting(found)) return done;
    this.tellDecision(found);
    try {
      const approved = await this.approve(this.parts.view.of(found), signal);
      const { facts, exhausted } = await this.identify(approved, signal);
      await this.writeStatus(facts, exhausted, signal);
      if (exhausted !== undefined) return { requeueAfterMs: exhaustedRetryMs };
      return this.untilNextChange(facts);
    } catch (error) {
      if (error instanceof NotFoundError) return done;
      throw error;
    }
  }

  /** What somebody decided on the member since it was looked at last. */
  private tellDecision(membership: Stored<VOMembership>): void {
    const change = this.parts.decisions.changeOf(membership, membership.status?.observedGeneration);
    if (change !== undefined) this.parts.decisions.recordChange(decisionOn(membership, change));
  }

  /** Where enrolment is Open, whoever asks is in. */
  private async approve(facts: MemberFacts, signal: AbortSignal): Promise<MemberFacts> {
    if (!facts.standing.isSelfApproved) return facts;
    const { namespace, name } = facts.membership.metadata;
    this.parts.decisions.record(facts.membership, {
      who: 'operator',
      what: 'membership.approve',
      on: { VOMembership: `${namespace ?? ''}/${name}` },
      outcome: 'Allowed',
      why: 'Active',
      policy: 'vo/enrolment',
    });
    return this.parts.view.of(await this.patchSpec(facts.membership, { state: 'Active' }, signal));
  }

  /** The id is in the record of the slice first, then in the membership; one that is there already is confirmed. */
  private async identify(
    facts: MemberFacts,
    signal: AbortSignal,
  ): Promise<{ readonly facts: MemberFacts; readonly exhausted: string | undefined }> {
    const { membership, organization, standing, conflict } = facts;
    if (organization === undefined) return { facts, exhausted: undefined };
    const owner = ownerOf(organization);
    const { identity, principal } = membership.spec;
    if (identity !== undefined) {
      if (conflict === undefined) await this.parts.issuer.confirmUserId(owner, identity, { signal });
      return { facts, exhausted: undefined };
    }
    if (!standing.mayHaveId) return { facts, exhausted: undefined };
    try {
      const issued = await this.parts.issuer.issueUserId(owner, principal, { signal });
      const written = this.parts.view.of(await this.patchSpec(membership, { identity: issued }, signal));
      this.parts.metrics.issued.inc();
      return { facts: written, exhausted: undefined };
    } catch (error) {
      if (error instanceof IdsExhaustedError) return { facts, exhausted: error.message };
      throw error;
    }
  }

  /** The uid makes sure that it is still the same object. @throws ConflictError when another leader was faster. */
  private async patchSpec(
    membership: Stored<VOMembership>,
    spec: Partial<VOMembership['spec']>,
    signal: AbortSignal,
  ): Promise<Stored<VOMembership>> {
    const { namespace, name, uid } = membership.metadata;
    const body = { metadata: { uid }, spec };
    try {
      const objects = this.parts.client.of(voMemberships);
      const patched = await objects.patch({ namespace, name }, { type: 'merge', body }, { signal });
      this.parts.decisions.noteOwnChange(membership, patched);
      return patched;
    } catch (error) {
      // Only its rules can refuse this: another process issued an id, or an administrator decided, since we read it.
      if (error instanceof InvalidError) {
        throw new ConflictError({ method: 'PATCH', path: name }, 409, { message: error.message });
      }
      throw error;
    }
  }

  private async writeStatus(facts: MemberFacts, exhausted: string | undefined, signal: AbortSignal): Promise<void> {
    const { membership } = facts;
    const status = computeStatus(facts, exhausted, this.parts.clock.now());
    if (!isStatusChanged(membership.status, status)) return;
    const { namespace, name, uid } = membership.metadata;
    const ready = findCondition(status.conditions, membershipReady.type);
    const before = findCondition(membership.status?.conditions, membershipReady.type);
    const isTold = ready === undefined || (ready.reason === before?.reason && ready.status === before.status);
    if (!isTold) {
      this.parts.decisions.record(membership, {
        who: 'operator',
        what: 'membership.decide',
        on: { VOMembership: `${namespace ?? ''}/${name}` },
        outcome: ready.status === 'True' ? 'Allowed' : 'Refused',
        why: ready.reason,
        message: ready.message,
        policy: 'vo/membership',
      });
    }
    await this.parts.client
      .of(voMemberships)
      .status.apply({ metadata: { namespace, name, uid }, status }, { signal, fieldManager });
    if (isTold) return;
    this.parts.events.publish(standingChanged(membership, ready));
    this.parts.log.debug('Standing of a member changed', { VOMembership: keyOf(membership), reason: ready.reason });
  }

  private untilNextChange({ standing }: MemberFacts): Result {
    if (standing.changesAtMs === undefined) return done;
    return { requeueAfterMs: Math.min(timerMaxMs, Math.max(1, standing.changesAtMs - this.parts.clock.now())) };
  }
}

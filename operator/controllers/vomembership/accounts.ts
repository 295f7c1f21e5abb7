import type { AuditLog } from '#common/audit.ts';
import type { Clock } from '#common/clock.ts';
import type { Logger } from '#common/logger.ts';
import type { VOMembership } from '#crds/vo-membership.ts';
import { type AccountWriter, membershipAnnotation, untilAnnotation } from '#operator/identity/accounts.ts';
import type { MemberFacts, MemberView } from '#operator/identity/member-view.ts';
import type { ServiceAccount } from '#runtime/builtin.ts';
import {
  done,
  type EventRecorder,
  type Informer,
  type Lister,
  type Reconciler,
  type RequestOptions,
  type Result,
} from '#runtime/contracts.ts';
import type { Finalizers } from '#runtime/finalizers.ts';
import { formatKey, isDeleting, type ObjectKey, type Stored } from '#runtime/types.ts';
import { podsEnded } from './events.ts';
import type { MembershipMetrics } from './metrics.ts';

/** What the reconciler of accounts works with. */
export interface AccountParts {
  readonly memberships: Lister<VOMembership>;
  /** ServiceAccounts of members only. */
  readonly accounts: Informer<ServiceAccount>;
  readonly view: MemberView;
  readonly writer: AccountWriter;
  readonly finalizers: Finalizers<VOMembership>;
  readonly events: EventRecorder;
  readonly audit: AuditLog;
  readonly metrics: MembershipMetrics;
  readonly clock: Clock;
  readonly log: Logger;
}

const membershipIndex = 'accounts/membership';
/** How often pods that are ending are looked at. */
const endingMs = 1000;
/**
 * So long after the account went, a pod may still get in: an API server that hasn't seen it go yet (its cache is some milliseconds behind,
 * under load some hundred). The pods are looked at once more then.
 */
const settleMs = 3000;
/** How often the account of pods that run on, while nobody needs it otherwise, is looked at. */
const inUseMs = 10 * 60_000;
/** A timer can't be armed for longer than 24 days; looking daily is enough until the moment is near. */
const timerMaxMs = 86_400_000;

/**
 * Keeps for each member exactly the account that is due: made when somebody asks for it, removed when nobody needs it any more, and removed at
 * once, with the member's pods, when the member may not act. A finalizer marks memberships that may have an account or pods, so that looking at
 * all others costs no request, also after a restart.
 */
export class AccountReconciler implements Reconciler {
  private readonly parts: AccountParts;
  /** When the account of a key was seen gone, monotonic. Lost with the process, which then waits once more. */
  private readonly goneSince = new Map<string, number>();

  constructor(parts: AccountParts) {
    this.parts = parts;
    parts.accounts.addIndex(membershipIndex, byMembership);
  }

  async reconcile(key: ObjectKey, signal: AbortSignal): Promise<Result> {
    const membership = this.parts.memberships.get(key);
    if (membership === undefined) return this.removeOrphans(key, { signal });
    const facts = this.parts.view.of(membership);
    const { standing, identity, organization } = facts;
    const until = membership.metadata.annotations?.[untilAnnotation];
    const neededMs = until === undefined ? NaN : Date.parse(until) - this.parts.clock.now();
    const mayAct = standing.mayAct && !isDeleting(membership) && identity !== undefined && organization !== undefined;
    if (!mayAct) return this.withdraw(facts, { signal });
    this.goneSince.delete(formatKey(key));
    if (!(neededMs > 0) || until === undefined) return this.removeWhenUnused(facts, { signal });
    await this.parts.finalizers.ensure(membership, signal);
    await this.parts.writer.ensure({ membership, organization, identity, until }, this.accountOf(facts), { signal });
    const changeMs = (standing.changesAtMs ?? Infinity) - this.parts.clock.now();
    return { requeueAfterMs: Math.max(1, Math.min(timerMaxMs, neededMs, changeMs)) };
  }

  /** The one account that the member has by the name that it bears now. */
  private accountOf({ membership, identity }: MemberFacts): Stored<ServiceAccount> | undefined {
    if (identity === undefined) return undefined;
    return this.parts.accounts.get({ namespace: membership.metadata.namespace, name: identity.userName });
  }

  /** Every account that says it is the member's, by whatever name. */
  private accountsOf(key: ObjectKey): Stored<ServiceAccount>[] {
    return this.parts.accounts.byIndex(membershipIndex, formatKey(key));
  }

  /** Nobody needs it any more: it goes as soon as no pod bears it. */
  private async removeWhenUnused(facts: MemberFacts, options: RequestOptions): Promise<Result> {
    const { membership } = facts;
    const account = this.accountOf(facts);
    if (account !== undefined) {
      if (await this.parts.writer.hasPods(keyOfAccount(account), options)) return { requeueAfterMs: inUseMs };
      await this.parts.writer.remove(keyOfAccount(account), options);
    }
    await this.parts.finalizers.remove(membership, options.signal);
    return this.untilNextChange(facts);
  }

  /** The member may not act: account first, so that nothing new starts, then the pods, until none is left. */
  private async withdraw(facts: MemberFacts, options: RequestOptions): Promise<Result> {
    const { membership, standing } = facts;
    const { namespace, name } = membership.metadata;
    const key = { namespace, name };
    const accounts = this.accountsOf(key);
    if (accounts.length === 0 && !this.parts.finalizers.has(membership)) return this.untilNextChange(facts);
    // These go before the writes of whatever else happens: they take rights away.
    const urgent = { ...options, priority: 'read' } as const;
    const held = this.heldBy(facts, accounts);
    const areGone = accounts.length === 0;
    for (const account of held) await this.parts.writer.remove(account, urgent);
    if (!standing.endsPods && facts.conflict === undefined) return this.waitForPods(facts, held, options);
    if (!areGone || !this.goneSince.has(formatKey(key))) this.tellEnd(facts, held);
    for (const account of held) await this.parts.writer.endPods(account, urgent);
    return this.settle(facts, held, urgent);
  }

  /**
   * The accounts to withdraw: those that say they are the member's, and the one that the member would have, should the cache not know it yet.
   * Never that of somebody else, who has the id by right.
   */
  private heldBy(
    { membership, identity, conflict }: MemberFacts,
    accounts: readonly Stored<ServiceAccount>[],
  ): ObjectKey[] {
    const { namespace } = membership.metadata;
    const held = accounts.map(keyOfAccount);
    const name = identity?.userName ?? membership.status?.userName;
    if (name === undefined || conflict !== undefined) return held;
    const isKnown = this.parts.accounts.get({ namespace, name }) !== undefined;
    return isKnown ? held : [...held, { namespace, name }];
  }

  /** Until no pod is left, some time after the account went. */
  private async settle(facts: MemberFacts, held: readonly ObjectKey[], options: RequestOptions): Promise<Result> {
    const id = formatKey({ namespace: facts.membership.metadata.namespace, name: facts.membership.metadata.name });
    const now = this.parts.clock.monotonic();
    const since = this.goneSince.get(id) ?? now;
    this.goneSince.set(id, since);
    if (now - since < settleMs) return { requeueAfterMs: endingMs };
    for (const account of held)
      if (await this.parts.writer.hasPods(account, options)) return { requeueAfterMs: endingMs };
    await this.parts.finalizers.remove(facts.membership, options.signal);
    this.goneSince.delete(id);
    return this.untilNextChange(facts);
  }

  /** Someone who has to accept a new text, say, starts nothing new; what runs may end by itself. */
  private async waitForPods(facts: MemberFacts, held: readonly ObjectKey[], options: RequestOptions): Promise<Result> {
    for (const account of held)
      if (await this.parts.writer.hasPods(account, options)) return { requeueAfterMs: inUseMs };
    await this.parts.finalizers.remove(facts.membership, options.signal);
    return this.untilNextChange(facts);
  }

  /** The membership is gone, as after a deletion that didn't wait for the finalizer: nothing of it may stay. */
  private async removeOrphans(key: ObjectKey, options: RequestOptions): Promise<Result> {
    const accounts = this.accountsOf(key);
    for (const account of accounts) {
      await this.parts.writer.endPods(keyOfAccount(account), options);
      await this.parts.writer.remove(keyOfAccount(account), options);
      await this.parts.writer.endPods(keyOfAccount(account), options);
    }
    this.goneSince.delete(formatKey(key));
    return done;
  }

  private tellEnd({ membership, standing }: MemberFacts, held: readonly ObjectKey[]): void {
    const { namespace, name } = membership.metadata;
    const userName = held[0]?.name ?? '';
    this.parts.metrics.podsEnded.inc();
    this.parts.events.publish(podsEnded(membership, userName));
    this.parts.audit.record({
      who: 'operator',
      what: 'account.withdraw',
      on: { VOMembership: `${namespace ?? ''}/${name}`, ServiceAccount: userName },
      outcome: 'Allowed',
      why: isDeleting(membership) ? 'Deleted' : standing.ready.reason,
      policy: 'vo/membership',
    });
    this.parts.log.info('Ending pods of a member', { VOMembership: name, namespace, reason: standing.ready.reason });
  }

  private untilNextChange({ standing }: MemberFacts): Result {
    if (standing.changesAtMs === undefined) return done;
    return { requeueAfterMs: Math.max(1, Math.min(timerMaxMs, standing.changesAtMs - this.parts.clock.now())) };
  }
}

const byMembership = ({ metadata }: Stored<ServiceAccount>): readonly string[] => {
  const name = metadata.annotations?.[membershipAnnotation];
  return name === undefined ? [] : [formatKey({ namespace: metadata.namespace, name })];
};

function keyOfAccount({ metadata }: Stored<ServiceAccount>): ObjectKey {
  return { namespace: metadata.namespace, name: metadata.name };
}

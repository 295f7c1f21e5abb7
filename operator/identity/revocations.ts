import type { Clock } from '#common/clock.ts';
import type { VoState } from '#common/identity/vo-state.ts';
import { membershipReady, type VOMembership } from '#crds/vo-membership.ts';
import { findCondition } from '#runtime/conditions.ts';
import type { Informer, InformerEvent, Source } from '#runtime/contracts.ts';
import { isDeleting, type Stored } from '#runtime/types.ts';
import { type Revocation, revocationSeconds } from './state-content.ts';

const namespacePrefix = 'vo-';

/**
 * Notes which members lost something that their tokens still say: they were suspended, expired, banned or removed, or left a group or a role. Each
 * change costs the same, however many members there are. Every replica notes, so that a new leader knows what the old one had not yet signed; after
 * a start of all, who is cut is known from the memberships, and what else was lost in between holds for the hour that tokens live.
 */
export class Revocations implements Source {
  readonly name = 'revocations';
  private readonly informer: Informer<VOMembership>;
  private readonly clock: Clock;
  /** By name of the organization, then by user id: until when older tokens may live, seconds since the Unix epoch. */
  private readonly pending = new Map<string, Map<number, number>>();
  private readonly wakers = new Set<(organization: string, initial: boolean) => void>();

  constructor(informer: Informer<VOMembership>, clock: Clock) {
    this.informer = informer;
    this.clock = clock;
    informer.onEvent((event) => this.note(event));
  }

  async synced(signal?: AbortSignal): Promise<void> {
    return this.informer.synced(signal);
  }

  attach(enqueue: (key: { name: string }, initial: boolean) => void): () => void {
    const wake = (name: string, initial: boolean): void => enqueue({ name }, initial);
    this.wakers.add(wake);
    for (const name of this.pending.keys()) wake(name, true);
    return () => void this.wakers.delete(wake);
  }

  /** What is not signed yet, of one organization. */
  of(organization: string): Revocation[] {
    return [...(this.pending.get(organization) ?? [])].map(([uid, until]) => ({ uid, until }));
  }

  /** Forgets what a published state says. */
  settle(organization: string, noted: readonly Revocation[], state: VoState): void {
    const pending = this.pending.get(organization);
    if (pending === undefined) return;
    const signed = new Map(state.revoked.map(({ uid, until }) => [uid, until]));
    const now = this.clock.now() / 1000;
    for (const { uid, until } of noted) {
      const isSigned = (signed.get(uid) ?? 0) >= until || state.minEpoch === state.epoch || until <= now;
      if (isSigned && pending.get(uid) === until) pending.delete(uid);
    }
    if (pending.size === 0) this.pending.delete(organization);
  }

  private note(event: InformerEvent<VOMembership>): void {
    const { object } = event;
    const { namespace } = object.metadata;
    const uid = object.status?.uid ?? (event.type === 'updated' ? event.old.status?.uid : undefined);
    if (uid === undefined || namespace?.startsWith(namespacePrefix) !== true) return;
    const until = Math.ceil(this.untilMs(event) / 1000);
    if (until <= this.clock.now() / 1000) return;
    const organization = namespace.slice(namespacePrefix.length);
    const pending = this.pending.get(organization) ?? new Map<number, number>();
    if ((pending.get(uid) ?? 0) >= until) return;
    this.pending.set(organization, pending.set(uid, until));
    for (const wake of this.wakers) wake(organization, event.type === 'added' && event.initial);
  }

  /** Until when tokens from before may live; in the past when nothing was lost. */
  private untilMs(event: InformerEvent<VOMembership>): number {
    const fromNow = this.clock.now() + revocationSeconds * 1000;
    switch (event.type) {
      case 'deleted':
        return fromNow;
      case 'added':
        return isCut(event.object) ? this.cutAtMs(event.object) + revocationSeconds * 1000 : 0;
      case 'updated':
        return (isCut(event.object) && !isCut(event.old)) || hasLost(event.old, event.object) ? fromNow : 0;
    }
  }

  /** When a member was cut who is found so: now, if nobody has noticed it yet. */
  private cutAtMs({ metadata, status }: Stored<VOMembership>): number {
    if (metadata.deletionTimestamp !== undefined) return Date.parse(metadata.deletionTimestamp);
    const ready = findCondition(status?.conditions, membershipReady.type);
    return ready?.status === 'False' ? Date.parse(ready.lastTransitionTime) : this.clock.now();
  }
}

/** Whether the member may do nothing any more. Who still waits for approval never had a token. */
function isCut(membership: Stored<VOMembership>): boolean {
  const isOut = (state: string | undefined): boolean =>
    state === 'Suspended' || state === 'Expired' || state === 'Banned';
  return isDeleting(membership) || isOut(membership.spec.state) || isOut(membership.status?.state);
}

/** Whether tokens from before say more than new ones would. */
function hasLost(old: Stored<VOMembership>, now: Stored<VOMembership>): boolean {
  const lacks = (before: readonly string[] = [], after: readonly string[] = []): boolean =>
    before.some((word) => !after.includes(word));
  const groups = ({ status }: VOMembership): string[] | undefined => status?.gids?.map(({ group }) => group);
  return (
    lacks(old.spec.roles, now.spec.roles) ||
    lacks(old.spec.capabilities, now.spec.capabilities) ||
    lacks(groups(old), groups(now)) ||
    lacks(
      old.spec.groups.map(({ name }) => name),
      now.spec.groups.map(({ name }) => name),
    )
  );
}

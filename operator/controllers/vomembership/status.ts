/** The status of a membership, computed in one place. */
import { membershipReady, type VOMembershipStatus } from '#crds/vo-membership.ts';
import type { MemberFacts } from '#operator/identity/member-view.ts';
import { setCondition } from '#runtime/conditions.ts';

/** The fields that the controller of memberships owns. */
type OwnStatus = Pick<
  VOMembershipStatus,
  'observedGeneration' | 'conditions' | 'state' | 'userName' | 'uid' | 'gid' | 'gids'
>;

/**
 * What the status has to be. Pure.
 * @param exhausted - why there is no id; undefined when there is one, or none is due.
 */
export function computeStatus(facts: MemberFacts, exhausted: string | undefined, nowMs: number): OwnStatus {
  const { membership, standing, identity, conflict } = facts;
  const { generation = 0 } = membership.metadata;
  const update = {
    type: membershipReady.type,
    observedGeneration: generation,
    ...readyOf(standing.ready, conflict, exhausted),
  };
  const own = (membership.status?.conditions ?? []).filter(({ type }) => type === membershipReady.type);
  return {
    observedGeneration: generation,
    conditions: [...setCondition(own, update, nowMs)],
    state: standing.state,
    ...(identity === undefined
      ? {}
      : { userName: identity.userName, uid: identity.uid, gid: identity.gid, gids: [...identity.gids] }),
  };
}

type Ready = MemberFacts['standing']['ready'];

function readyOf(ready: Ready, conflict: string | undefined, exhausted: string | undefined): Ready {
  if (ready.status !== 'True') return ready;
  if (conflict !== undefined) {
    return { status: 'False', reason: membershipReady.reasons.IdentityConflict, message: conflict };
  }
  if (exhausted === undefined) return ready;
  return { status: 'False', reason: membershipReady.reasons.IdsExhausted, message: `There is no id: ${exhausted}.` };
}

/** Whether a write is needed. */
export function isStatusChanged(before: VOMembershipStatus | undefined, after: OwnStatus): boolean {
  const own = ({ observedGeneration, state, userName, uid, gid, gids }: OwnStatus): unknown => [
    observedGeneration,
    state,
    userName,
    uid,
    gid,
    gids?.map((each) => [each.group, each.gid]),
  ];
  if (before === undefined || JSON.stringify(own(before)) !== JSON.stringify(own(after))) return true;
  const old = before.conditions?.find(({ type }) => type === membershipReady.type);
  const [now] = after.conditions ?? [];
  return old?.status !== now?.status || old?.reason !== now?.reason || old?.message !== now?.message;
}
